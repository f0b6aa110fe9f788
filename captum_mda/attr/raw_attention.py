"""Raw attention: what the last block's class token looks at."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_mda.attr.vit_attribution import ViTAttribution
from captum_mda.attr.vit_batch import Batch, full_precision


class RawAttention(ViTAttribution):
    r"""The last block's attention, averaged over heads, in the row that is classified.

    .. math:: a = \langle A_L \rangle_h [q^*]

    The row :math:`q^*` is that of the class token; models without one are read by the
    mean over their pooled tokens or by their attention pooler. The map does not depend
    on the target, which is accepted and checked for the sake of comparisons.

    Args:
        model (nn.Module or ViTAdapter): See `ViTAttribution`, as for all arguments.
        score (str or callable, optional): Not used. Default: "identity"

    Example::

        >>> from captum_mda import demo, RawAttention
        >>> images, labels, _ = demo.make_samples(n=2, seed=2)
        >>> RawAttention(demo.load_model()).attribute(images, target=labels).shape
        torch.Size([2, 1, 64, 64])
    """

    _uses_target = False

    def _token_map(self, batch: Batch, **options: Any) -> Tensor:
        with torch.no_grad():
            seen = batch.observe(first_block=-1)
        attention = full_precision(seen.maps[-1]).mean(dim=1)  # <A_L>_h (B, T, T)
        return batch.read_row(attention, seen)
