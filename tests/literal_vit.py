"""A Vision Transformer and its attribution methods, written out for one image.

Slow and obvious on purpose, in float64; shares no code with the package. `LiteralVit`
takes the numbers of a timm VisionTransformer and computes with explicit variables;
the methods are their papers' formulas over what it keeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import nn, Tensor
from vit_models import build_model, BY_NAME

# Poolings, prefixes, LayerScale and a grid that is not square; each has three blocks of
# three heads, and five classes.
LITERAL_CASES = (
    "timm ViT",
    "timm ViT average",
    "timm ViT not square",
    "timm DINOv2 registers",
    "timm DeiT distilled",
    "timm SigLIP",
)

Score = Callable[[Tensor], Tensor]
"""From the outputs (classes,) of one image to what is explained."""


@dataclass
class Pass:
    """What one image left behind; lists go from the first block to the last."""

    outputs: Tensor = field(default_factory=lambda: torch.empty(0))
    tokens: list[Tensor] = field(default_factory=list)  # z_0 to z_L, (T, D)
    maps: list[Tensor] = field(default_factory=list)  # A_l (H, T, T)
    blocks: list[dict[str, Tensor]] = field(default_factory=list)  # by name
    biases: list[Tensor] = field(default_factory=list)  # each as it was added
    normed: Tensor = field(default_factory=lambda: torch.empty(0))  # (T, D), then
    pooled: Tensor = field(default_factory=lambda: torch.empty(0))  # (D,), read by head
    read: Tensor = field(default_factory=lambda: torch.empty(0))  # q* as weights (T,)
    pooler: Tensor = field(default_factory=lambda: torch.empty(0))  # (H, T)


class LiteralVit:
    """timm's VisionTransformer, with the four rules of LibraGrad on request."""

    def __init__(self, model: nn.Module, libra: bool = False) -> None:
        vit: Any = model
        self.p = {name: t.detach().double() for name, t in vit.state_dict().items()}
        self.n_heads = vit.blocks[0].attn.num_heads
        self.depth, self.n_prefix = len(vit.blocks), vit.num_prefix_tokens
        self.pooling = "map" if "attn_pool.latent" in self.p else vit.global_pool
        self.libra = libra
        self.seen = Pass()

    def constant(self, x: Tensor) -> Tensor:
        """What LibraGrad does not differentiate."""
        return x.detach() if self.libra else x

    def plus_bias(self, x: Tensor, name: str) -> Tensor:
        bias = self.p[f"{name}.bias"].expand_as(x).clone().requires_grad_()
        self.seen.biases.append(bias)
        return x + bias

    def linear(self, x: Tensor, name: str) -> Tensor:
        return self.plus_bias(x @ self.p[f"{name}.weight"].T, name)

    def norm(self, x: Tensor, name: str) -> Tensor:
        if f"{name}.weight" not in self.p:
            return x
        centered = x - x.mean(-1, keepdim=True)
        deviation = (centered.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        scaled = centered / self.constant(deviation) * self.p[f"{name}.weight"]
        return self.plus_bias(scaled, name)

    def gelu(self, x: Tensor) -> Tensor:
        return x * self.constant((1 + torch.erf(x / math.sqrt(2))) / 2)

    def heads(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), self.n_heads, -1).transpose(0, 1)  # (H, T, d)

    def attend(self, q: Tensor, k: Tensor) -> Tensor:
        logits = self.constant(q) @ self.constant(k).transpose(1, 2)
        return torch.softmax(logits / math.sqrt(q.shape[-1]), dim=-1)

    def embed(self, image: Tensor) -> Tensor:
        kernel, bias = (self.p[f"patch_embed.proj.{end}"] for end in ("weight", "bias"))
        side = kernel.shape[-1]
        patches = torch.stack(
            [
                kernel.flatten(1) @ image[:, i : i + side, j : j + side].flatten()
                for i in range(0, image.shape[1], side)
                for j in range(0, image.shape[2], side)
            ]
        )
        names = ("cls_token", "dist_token", "reg_token")
        prefix = [self.p[name][0] for name in names if name in self.p]
        position = self.p["pos_embed"][0]
        if len(position) == len(patches):
            return torch.cat([*prefix, patches + bias + position])
        return torch.cat([*prefix, patches + bias]) + position

    def block(self, z: Tensor, name: str) -> Tensor:
        b: dict[str, Tensor] = {"in": z, "norm1": self.norm(z, f"{name}.norm1")}
        qkv = self.linear(b["norm1"], f"{name}.attn.qkv").chunk(3, dim=1)
        b["q"], b["k"], b["v"] = (self.heads(part) for part in qkv)
        b["A"] = self.attend(b["q"], b["k"])
        b["mixed"] = (b["A"] @ b["v"]).transpose(0, 1).flatten(1)
        b["out1"] = self.linear(b["mixed"], f"{name}.attn.proj")
        b["out1"] = b["out1"] * self.p.get(f"{name}.ls1.gamma", 1.0)
        b["mid"] = z + b["out1"]
        b["norm2"] = self.norm(b["mid"], f"{name}.norm2")
        b["hidden"] = self.gelu(self.linear(b["norm2"], f"{name}.mlp.fc1"))
        b["out2"] = self.linear(b["hidden"], f"{name}.mlp.fc2")
        b["out2"] = b["out2"] * self.p.get(f"{name}.ls2.gamma", 1.0)
        self.seen.blocks.append(b)
        self.seen.maps.append(b["A"])
        return b["mid"] + b["out2"]

    def readout(self, n_tokens: int) -> Tensor:
        """What share of the pooled vector each token has."""
        read = torch.zeros(n_tokens, dtype=torch.float64)
        if self.pooling == "map":
            read += self.seen.pooler.detach().mean(0)
        elif self.pooling == "avg":
            read[self.n_prefix :] = 1 / (n_tokens - self.n_prefix)
        elif "dist_token" in self.p:
            read[:2] = 1 / 2
        else:
            read[0] = 1
        return read

    def pool_by_attention(self, z: Tensor) -> Tensor:
        latent, pool = self.p["attn_pool.latent"][0], "attn_pool"
        k, v = (self.heads(x) for x in self.linear(z, f"{pool}.kv").chunk(2, dim=1))
        weight, bias = (self.p[f"{pool}.q.{end}"] for end in ("weight", "bias"))
        attention = self.attend(self.heads(latent @ weight.T + bias), k)
        self.seen.pooler = attention[:, 0]
        x = self.linear((self.seen.pooler[:, None] @ v).flatten(), f"{pool}.proj")
        hidden = self.gelu(self.linear(self.norm(x, f"{pool}.norm"), f"{pool}.mlp.fc1"))
        return x + self.linear(hidden, f"{pool}.mlp.fc2")

    def head(self, pooled: Tensor) -> Tensor:
        return self.linear(self.norm(pooled, "fc_norm"), "head")

    def tail(self, z: Tensor) -> Tensor:
        seen = self.seen
        seen.normed = self.norm(z, "norm")
        if self.pooling == "map":
            return self.head(self.pool_by_attention(seen.normed))
        if "dist_token" in self.p:
            class_token, distillation = seen.normed[:2]
            return (self.head(class_token) + self.linear(distillation, "head_dist")) / 2
        seen.pooled = self.readout(len(z)) @ seen.normed
        return self.head(seen.pooled)

    def __call__(self, image: Tensor) -> Pass:
        self.seen = Pass()
        z = self.embed(image.double()).requires_grad_()
        self.seen.tokens.append(z)
        for index in range(self.depth):
            z = self.block(z, f"blocks.{index}")
            self.seen.tokens.append(z)
        self.seen.outputs = self.tail(z)
        self.seen.read = self.readout(len(z))
        return self.seen


def gradients(seen: Pass, score: Score, of: list[Tensor]) -> list[Tensor]:
    """G = ds/dx."""
    return list(torch.autograd.grad(score(seen.outputs), of, retain_graph=True))


def raw_attention(seen: Pass) -> Tensor:
    """Sec. 4.6: <A_L>_h [q*]."""
    return seen.read @ seen.maps[-1].mean(0)


def rollout_matrix(maps: list[Tensor]) -> Tensor:
    """Sec. 4.6: the product of (<A_l>_h + I), rows normalised."""
    product = torch.eye(maps[0].shape[-1], dtype=torch.float64)
    for attention in maps:
        step = attention.mean(0) + torch.eye(len(product), dtype=torch.float64)
        product = (step / step.sum(1, keepdim=True)) @ product
    return product


def grad_cam(vit: LiteralVit, image: Tensor, score: Score, variant: str) -> Tensor:
    """Sec. 4.1, before min-max."""
    seen = vit(image)
    (gradient,) = gradients(seen, score, seen.maps[-1:])
    total = torch.zeros_like(seen.read)
    for attention, slope in zip(seen.maps[-1], gradient, strict=True):
        if variant == "mda":
            total += seen.read @ (attention * slope)
        else:
            alpha = (seen.read @ slope)[vit.n_prefix :].mean()
            total += seen.read @ (attention * alpha)
    return (total / vit.n_heads).clamp(min=0)


def path_gradient(vit: LiteralVit, image: Tensor, score: Score, steps: int) -> Tensor:
    """Sec. 4.2, W: the mean over the path, the positive part, the mean over heads."""
    total = torch.zeros(())
    for step in range(steps):
        seen = vit(image.double() * step / (steps - 1))
        total = total + gradients(seen, score, seen.maps[-1:])[0]
    return (total / steps).clamp(min=0).mean(0)


def transition_row(seen: Pass, variant: str, start: int) -> Tensor:
    """Sec. 4.3, r; "mda" applies the last block twice."""
    means = [attention.mean(0) for attention in seen.maps]
    row = seen.read @ means[-1]
    if variant == "mda":
        row = row @ means[-1] + row
    for mean in reversed(means[start:-1]):
        row = row @ mean + row
    return row


def perception_by_heads(seen: Pass, score: Score, start: int) -> Tensor:
    """Sec. 4.5, head-wise: R <- R + (sum_h I_h A_h) R."""
    perception = torch.eye(len(seen.read), dtype=torch.float64)
    pairs = zip(seen.maps, gradients(seen, score, seen.maps), strict=True)
    for attention, gradient in list(pairs)[start:]:
        importance = [
            (a.T @ g).abs().mean().item()
            for a, g in zip(attention, gradient, strict=True)
        ]
        total = sum(importance)
        if total == 0:  # nothing is asked of this block: all heads alike
            importance, total = [1.0] * len(attention), float(len(attention))
        mixed = sum(i / total * a for i, a in zip(importance, attention, strict=True))
        perception = perception + mixed @ perception
    return perception


def perception_by_tokens(vit: LiteralVit, seen: Pass, start: int) -> Tensor:
    """Sec. 4.5, token-wise: columns weighed by the lengths of projected values."""
    perception = torch.eye(len(seen.read), dtype=torch.float64)
    for index, block in list(enumerate(seen.blocks))[start:]:
        values = block["v"].transpose(0, 1).flatten(1)
        projected = values @ vit.p[f"blocks.{index}.attn.proj.weight"].T
        outward = projected.norm(dim=1) / block["in"].norm(dim=1)
        perception = perception + block["A"].mean(0) @ outward.diag() @ perception
    return perception.abs()


def legrad(vit: LiteralVit, image: Tensor, score: Score, layers: list[int]) -> Tensor:
    """Sec. 1, summed over layers."""
    seen = vit(image)
    total = torch.zeros_like(seen.read)
    for layer in layers:
        z = seen.tokens[layer + 1]
        if vit.pooling == "map":
            outputs = vit.tail(z.detach().requires_grad_())
            (gradient,) = torch.autograd.grad(score(outputs), [seen.pooler])
            total += gradient.clamp(min=0).mean(0)
            continue
        mean = vit.norm(z.mean(0), "norm")
        outputs = vit.head(mean)
        if "dist_token" in vit.p:
            outputs = (outputs + vit.linear(mean, "head_dist")) / 2
        own = [seen.maps[layer]]
        (gradient,) = torch.autograd.grad(score(outputs), own, retain_graph=True)
        total += gradient.clamp(min=0).mean(0).mean(0)
    return total


def full_grad(
    vit: LiteralVit, image: Tensor, score: Score, blocks: list[int], biases: bool
) -> Tensor:
    """Sec. 2.3: z * ds/dz at the inputs of blocks, plus b * ds/db behind the first.

    Biases behind pooling go to the tokens as they were pooled.
    """
    seen = vit(image)
    inputs = [seen.tokens[index] for index in blocks]
    products = zip(inputs, gradients(seen, score, inputs), strict=True)
    total = sum((z * g).sum(1) for z, g in products)
    assert isinstance(total, Tensor)
    per_block = 6  # two norms and four linear maps each
    added = seen.biases[per_block * min(blocks) :]
    slopes = gradients(seen, score, added) if biases else []
    for bias, gradient in zip(added, slopes, strict=biases):
        if bias.dim() == 2:
            total = total + (bias * gradient).sum(1)
        else:
            total = total + (bias * gradient).sum() * seen.read
    return total.detach()


def min_max(patches: Tensor) -> Tensor:
    """Scale one map to [0, 1]; a constant one becomes zero."""
    low, high = patches.min(), patches.max()
    return (patches - low) / (high - low) if high > low else patches * 0


def class_score(index: int) -> Score:
    return lambda outputs: outputs[index]


@cache
def shared_vit(name: str) -> nn.Module:
    """A case's model in float64, built once; do not change it."""
    return build_model(BY_NAME[name], torch.float64)


def linear_vit(grid: tuple[int, int] = (2, 2), **options: Any) -> nn.Module:
    """A stock model that is linear but for its attention, in float64.

    Norms are identities; the MLPs, all constants and the logits of the attention are
    zero, so that each row of attention is uniform. What is left is random.
    """
    from timm.models import VisionTransformer

    settings = {"depth": 1, "num_heads": 1, "num_classes": 4, "embed_dim": 4} | options
    size = (8 * grid[0], 8 * grid[1])
    vit = VisionTransformer(
        img_size=size, patch_size=8, norm_layer=nn.Identity, **settings
    )
    with torch.no_grad():
        for name, parameter in vit.double().eval().named_parameters():
            generator = torch.Generator().manual_seed(0)
            parameter.normal_(generator=generator).div_(parameter.shape[-1])
            if any(part in name for part in ("bias", "mlp", "cls_token", "pos_embed")):
                parameter.zero_()
            if "qkv" in name:
                parameter[: 2 * settings["embed_dim"]].zero_()
    return vit
