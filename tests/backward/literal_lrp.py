"""The rules of layer-wise relevance propagation, one number after the other.

Chefer, Gur and Wolf (CVPR 2021), Sec. 3.1, for one example in float64; shares no code
with the package. The published code divides by (z + 1e-9), and by nothing where z = 0.
"""

from __future__ import annotations

import torch
from torch import Tensor


def share(relevance: Tensor, z: Tensor) -> float:
    return 0.0 if z == 0 else float(relevance / (z + 1e-9))


def linear(x: Tensor, weight: Tensor, relevance: Tensor) -> Tensor:
    """Eq. 3: x_i w_ji gets its part of R_j among those that are positive."""
    to_x = torch.zeros_like(x)
    for t in range(x.shape[0]):
        for j in range(weight.shape[0]):
            parts = [max(float(x[t, i] * w), 0.0) for i, w in enumerate(weight[j])]
            one = share(relevance[t, j], torch.tensor(sum(parts)))
            for i, part in enumerate(parts):
                to_x[t, i] += part * one
    return to_x


def matmul(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 8 and 9 for products: each factor gets a half of what it contributed."""
    to_a, to_b = torch.zeros_like(a), torch.zeros_like(b)
    for i in range(a.shape[0]):
        for k in range(b.shape[1]):
            one = share(relevance[i, k], sum(a[i, j] * b[j, k] for j in range(len(b))))
            for j in range(len(b)):
                to_a[i, j] += a[i, j] * b[j, k] * one / 2
                to_b[j, k] += a[i, j] * b[j, k] * one / 2
    return to_a, to_b


def add(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 8 and 10: by value, then to the shares of the absolute totals."""
    to_a, to_b = torch.zeros_like(a), torch.zeros_like(b)
    for index in torch.cartesian_prod(*[torch.arange(size) for size in a.shape]):
        i = tuple(index.tolist())
        to_a[i] = a[i] * share(relevance[i], a[i] + b[i])
        to_b[i] = b[i] * share(relevance[i], a[i] + b[i])
    total, sum_a, sum_b = relevance.sum(), to_a.sum(), to_b.sum()
    size = sum_a.abs() + sum_b.abs()
    to_a = to_a * share(sum_a.abs() / size * total, sum_a)
    to_b = to_b * share(sum_b.abs() / size * total, sum_b)
    return to_a, to_b
