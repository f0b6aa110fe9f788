"""A small transformer of exchangeable parts, each in every spelling of PyTorch's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn, Tensor
from torch.nn import functional as F

B, T, D, H, C = 2, 5, 12, 3, 7

Parts = dict[str, Callable[..., Any]]


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.linear(x, weight, bias)


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.layer_norm(x, (D,), weight, bias, 1e-6)


DEFAULT: Parts = {
    "linear": linear,
    "attention": attention,
    "norm": norm,
    "activation": F.gelu,
    "residual": lambda x, branch: x + branch,
    "pool": lambda x: x.mean(dim=1),
    "heads": lambda x: x.unflatten(-1, (H, -1)).transpose(1, 2),
    "merge": lambda x: x.transpose(1, 2).flatten(2),
}


class Network(nn.Module):
    """Two blocks, pooling and a head, made of exchangeable parts."""

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        self.parts = DEFAULT | parts
        generator = torch.Generator().manual_seed(3)
        sizes = {"q": D, "k": D, "v": D, "o": D, "up": 2 * D, "down": D}
        self.weights = nn.ParameterDict()
        for block in range(2):
            for name, n_out in sizes.items():
                n_in = 2 * D if name == "down" else D
                self._add(f"{name}{block}", (n_out, n_in), generator)
            for name in ("n", "m"):
                self._add(f"{name}{block}", (D,), generator)
        self._add("head", (C, D), generator)
        self.double()

    def _add(self, name: str, shape: tuple[int, ...], generator: Any) -> None:
        weight = torch.randn(shape, generator=generator) / math.sqrt(shape[-1])
        self.weights[name] = nn.Parameter(weight + (len(shape) == 1))
        bias = torch.randn(shape[:1], generator=generator) * 0.2
        self.weights[f"{name}_bias"] = nn.Parameter(bias)

    def use(self, part: str, x: Tensor, name: str) -> Tensor:
        weights = self.weights[name], self.weights[f"{name}_bias"]
        result: Tensor = self.parts[part](x, *weights)
        return result

    def forward(self, x: Tensor) -> Tensor:
        parts = self.parts
        for i in range(2):
            y = self.use("norm", x, f"n{i}")
            q, k, v = (
                parts["heads"](self.use("linear", y, f"{name}{i}")) for name in "qkv"
            )
            y = parts["merge"](parts["attention"](q, k, v))
            x = parts["residual"](x, self.use("linear", y, f"o{i}"))
            y = self.use("linear", self.use("norm", x, f"m{i}"), f"up{i}")
            y = self.use("linear", parts["activation"](y), f"down{i}")
            x = parts["residual"](x, y)
        pooled = parts["pool"](x)
        return F.linear(pooled, self.weights["head"], self.weights["head_bias"])


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])


def explicit(
    multiply: Callable[[Tensor, Tensor], Tensor],
    mix: Callable[[Tensor, Tensor], Tensor],
    softmax: Callable[[Tensor], Tensor] = lambda x: x.softmax(-1),
) -> Callable[..., Tensor]:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return mix(softmax(multiply(q, k) * q.shape[-1] ** -0.5), v)

    return attend


def with_softmax(softmax: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return explicit(lambda q, k: q @ k.mT, lambda a, v: a @ v, softmax)


def by_bmm(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    shape = q.shape
    q, k, v = (each.reshape(-1, *each.shape[2:]) for each in (q, k, v))
    return torch.bmm((torch.bmm(q, k.mT) * q.shape[-1] ** -0.5).softmax(-1), v).view(
        shape
    )


def by_baddbmm(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    shape = q.shape
    q, k, v = (each.reshape(-1, *each.shape[2:]) for each in (q, k, v))
    position = torch.zeros(1, 1, 1).to(q)
    logits = torch.baddbmm(position, q, k.mT, beta=1.0, alpha=q.shape[-1] ** -0.5)
    return torch.bmm(logits.softmax(-1), v).view(shape)


def head_by_head(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    found = [attention(q[:, h], k[:, h], v[:, h]) for h in range(H)]
    return torch.stack(found, dim=1)


def three_operands(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scale = torch.tensor(q.shape[-1] ** -0.5).to(q)
    logits = torch.einsum("bhqd,bhkd,->bhqk", q, k, scale)
    return torch.einsum("...qk,...kd->...qd", logits.softmax(-1), v)


def exp_sum(x: Tensor) -> Tensor:
    weights = torch.exp(x - x.amax(dim=-1, keepdim=True))
    return weights / weights.sum(dim=-1, keepdim=True)


def max_exp_sum(x: Tensor) -> Tensor:
    weights = (x - x.max(dim=-1, keepdim=True).values).exp()
    return weights.div(weights.sum(-1).unsqueeze(-1))


def rotated(x: Tensor) -> Tensor:
    """Complex rotary positions."""
    steps = torch.arange(x.shape[-2])[:, None] * torch.ones(x.shape[-1] // 2)
    turns = torch.polar(torch.ones_like(steps), steps)
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turns).flatten(-2)


def rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def centred(x: Tensor) -> Tensor:
    return x - x.mean(dim=-1, keepdim=True)


def in_place_residual(x: Tensor, branch: Tensor) -> Tensor:
    x = x.clone()
    x += branch
    return x


def variance(x: Tensor) -> Tensor:
    return x.var(dim=-1, keepdim=True, unbiased=False)


def written_gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))


def var_mean_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    spread, mean = torch.var_mean(x, dim=-1, keepdim=True, correction=0)
    return (x - mean) / torch.sqrt(spread + 1e-6) * w + b


def moment_norm(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    shifted = centred(x)
    return shifted * torch.pow(shifted.pow(2).mean(-1, True) + 1e-6, -0.5) * w + b


LINEARS: dict[str, Callable[..., Tensor]] = {
    "x @ w.T": lambda x, w, b: x @ w.T + b,
    "b + x @ w.T": lambda x, w, b: b + x @ w.t(),
    "matmul": lambda x, w, b: torch.matmul(x, w.transpose(0, 1)).add(b),
    "w @ x.T": lambda x, w, b: (w @ x.mT).mT + b,
    "__rmatmul__": lambda x, w, b: x.mT.__rmatmul__(w).mT + b,
    "w[None] @ x.T": lambda x, w, b: (w[None] @ x.mT).mT + b,
    "bmm": lambda x, w, b: torch.bmm(x, w.T.expand(len(x), -1, -1)) + b,
    "bmm of copies": lambda x, w, b: torch.bmm(x, w.T.repeat(len(x), 1, 1)) + b,
    "baddbmm": lambda x, w, b: torch.baddbmm(b[None, None], x, w.T.expand(B, -1, -1)),
    "mm": lambda x, w, b: torch.mm(rows(x), w.T).view(*x.shape[:2], -1) + b,
    "addmm": lambda x, w, b: torch.addmm(b, rows(x), w.T).view(*x.shape[:2], -1),
    "addmm by name": lambda x, w, b: torch.addmm(
        input=b, mat1=rows(x), mat2=w.T, beta=1, alpha=1
    ).view(*x.shape[:2], -1),
    "mv": lambda x, w, b: torch.stack(
        [torch.stack([torch.mv(w, t) + b for t in row]) for row in x]
    ),
    "addmv": lambda x, w, b: torch.stack(
        [torch.stack([torch.addmv(b, w, t) for t in row]) for row in x]
    ),
    "inner": lambda x, w, b: torch.inner(x, w) + b,
    "tensordot": lambda x, w, b: torch.tensordot(x, w, dims=([2], [1])) + b,
    "tensordot by number": lambda x, w, b: torch.tensordot(x, w.T, 1) + b,
    "einsum": lambda x, w, b: torch.einsum("btd,ed->bte", x, w) + b,
    "einsum, weights first": lambda x, w, b: torch.einsum("ed,btd->bte", w, x) + b,
    "einsum, ellipsis": lambda x, w, b: torch.einsum("...d,ed->...e", x, w) + b,
    "einsum, implicit": lambda x, w, b: torch.einsum("abd,dc", x, w.T).add(b),
    "einsum, lists": lambda x, w, b: (
        torch.einsum(x, [0, 1, 2], w, [3, 2], [0, 1, 3]) + b
    ),
    "conv1d": lambda x, w, b: F.conv1d(x.mT, w[:, :, None], b).mT,
    "conv2d": lambda x, w, b: (
        F.conv2d(x.mT[..., None], w[:, :, None, None], bias=b)[..., 0].mT
    ),
    "conv_transpose1d": lambda x, w, b: F.conv_transpose1d(x.mT, w.T[:, :, None], b).mT,
    "aten.linear": lambda x, w, b: torch.ops.aten.linear(x, w, b),
    "aten.addmm": lambda x, w, b: torch.ops.aten.addmm.default(b, rows(x), w.T).view(
        *x.shape[:2], -1
    ),
    "linalg.matmul": lambda x, w, b: torch.linalg.matmul(x, w.T) + b,
    "arguments by name": lambda x, w, b: F.linear(bias=b, weight=w, input=x),
}
ATTENTIONS: dict[str, Callable[..., Tensor]] = {
    "explicit": with_softmax(lambda x: F.softmax(x, dim=-1)),
    "einsum": explicit(
        lambda q, k: torch.einsum("bhqd,bhkd->bhqk", q, k),
        lambda a, v: torch.einsum("bhqk,bhkd->bhqd", a, v),
    ),
    "einsum of three": three_operands,
    "bmm": by_bmm,
    "baddbmm": by_baddbmm,
    "each head": head_by_head,
    "aten": lambda q, k, v: torch.ops.aten.scaled_dot_product_attention(q, k, v),
    "exp, amax, sum": with_softmax(exp_sum),
    "exp, max, sum": with_softmax(max_exp_sum),
    "log_softmax": with_softmax(lambda x: x.log_softmax(-1).exp()),
    "logsumexp": with_softmax(lambda x: (x - x.logsumexp(-1, True)).exp()),
    "special.softmax": with_softmax(lambda x: torch.special.softmax(x, dim=-1)),
    "dropout": lambda q, k, v: F.dropout(attention(q, k, v), 0.5, training=False),
}
NORMS: dict[str, Callable[..., Tensor]] = {
    "/ sqrt(var)": lambda x, w, b: centred(x) / torch.sqrt(variance(x) + 1e-6) * w + b,
    "* rsqrt(var)": lambda x, w, b: (
        w * (centred(x) * torch.rsqrt(variance(x) + 1e-6)) + b
    ),
    "* (1 / sqrt)": lambda x, w, b: (
        centred(x) * (1 / (variance(x) + 1e-6).sqrt()) * w + b
    ),
    "* reciprocal": lambda x, w, b: torch.addcmul(
        b, centred(x) * (variance(x) + 1e-6).sqrt().reciprocal(), w
    ),
    "var_mean": var_mean_norm,
    "moments, pow": moment_norm,
    "torch.layer_norm": lambda x, w, b: torch.layer_norm(x, (D,), w, b, 1e-6),
    "std": lambda x, w, b: w * centred(x) / (x.std(-1, keepdim=True) + 1e-6) + b,
    "group_norm": lambda x, w, b: F.group_norm(rows(x), 1, w, b, 1e-6).view_as(x),
}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "written GELU": written_gelu,
    "tanh GELU": lambda x: F.gelu(x, approximate="tanh"),
    "x sigmoid": lambda x: x * torch.sigmoid(1.702 * x),
    "x / (1 + exp)": lambda x: x / (1 + torch.exp(-x)),
    "x * (1 / (1 + exp))": lambda x: x * (1 / (1 + (-x).exp())),
    "ELU": F.elu,
    "leaky ReLU in place": lambda x: F.leaky_relu(x * 1.0, 0.1, inplace=True),
    "softplus": F.softplus,
    "exp_": lambda x: (x * 1.0).exp_(),
    "clamp": lambda x: x.clamp(-5, 5),
    "abs": torch.abs,
    "square": lambda x: x**2,
    "torch.pow": lambda x: torch.pow(x, 3),
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
}
RESIDUALS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "+=": in_place_residual,
    "torch.add": lambda x, y: torch.add(x, y, alpha=1),
    "alpha": lambda x, y: torch.add(x, y / 2, alpha=2),
    "sum of a list": lambda x, y: sum([x, y]),  # type: ignore[return-value]
    "x - (-y)": lambda x, y: x - (-y),
    "rsub": lambda x, y: torch.rsub(-y, x),
    "aten.add": lambda x, y: torch.ops.aten.add.Tensor(x, y),
    "add_": lambda x, y: x.clone().add_(y),
    "lerp": lambda x, y: torch.lerp(x * 2, y * 2, 0.5),
    "addcmul": lambda x, y: torch.addcmul(x, y, torch.full((D,), 1.0).to(x)),
}
POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum / T": lambda x: x.sum(1) / T,
    "sum of dim": lambda x: torch.sum(x, dim=1, keepdim=True).squeeze(1).div(T),
    "ones @ x": lambda x: (torch.full((1, T), 1 / T).to(x) @ x).squeeze(1),
    "einsum": lambda x: torch.einsum("btd->bd", x) / T,
    "weights by einsum": lambda x: torch.einsum(
        "t,btd->bd", torch.full((T,), 1 / T).to(x), x
    ),
    "adaptive_avg_pool1d": lambda x: F.adaptive_avg_pool1d(x.mT, 1).squeeze(-1),
    "avg_pool1d": lambda x: F.avg_pool1d(x.mT, T)[..., 0],
}


def tokens() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(B, T, D, generator=generator).double().requires_grad_()
