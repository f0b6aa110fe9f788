"""Raw attention: the class token's row of the last block's attention."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_mda._docstrings import documented
from captum_mda.attr import vit_arguments
from captum_mda.attr.vit_attribution import ViTAttribution
from captum_mda.attr.vit_batch import full_precision, ModelBatch


@documented(vit_arguments)
class RawAttention(ViTAttribution):
    r"""The last block's attention, averaged over heads, in the row that feeds the head.

    .. math:: a = \langle A_L \rangle_h [q^*]

    The row :math:`q^*` is that of the class token; for models without one it is the
    mean over the pooled tokens, or the mean weighted by the attention pooler. The map
    does not depend on the target, which is accepted and checked like in other methods.

    Args:
        model: ...
        score (str or callable, optional): Not used. Default: "identity"

    Example::

        >>> from captum_mda import demo, RawAttention
        >>> images, labels, _ = demo.make_samples(n=2, seed=2)
        >>> RawAttention(demo.load_model()).attribute(images, target=labels).shape
        torch.Size([2, 1, 64, 64])
    """

    _uses_target = False

    def _token_map(self, batch: ModelBatch) -> Tensor:
        with torch.no_grad():
            seen = batch.observe(first_block=-1)
        attention = full_precision(seen.maps[-1]).mean(dim=1)  # <A_L>_h (B, T, T)
        return self._head_row(attention, seen)
