"""Models whose arithmetic is exact, so that batching cannot change a bit."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def interacting_model(n_features: int, seed: int) -> Callable[[Tensor], Tensor]:
    """Score (B, N) inputs by integer weights of features and of neighbouring pairs.

    Pairs make the response neither additive nor monotone. All sums are of multiples of
    1/32 below 2^15, exact in float32.
    """
    generator = torch.Generator().manual_seed(seed)
    single = torch.randint(1, 200, (n_features,), generator=generator).float()
    pair = torch.randint(-150, 150, (n_features, n_features), generator=generator)
    pair = pair.float() / 2

    def model(inputs: Tensor) -> Tensor:
        pairs = (inputs[:, :, None] * inputs[:, None, :] * pair).sum((1, 2))
        return (inputs * single).sum(1) * 20 + pairs

    return model
