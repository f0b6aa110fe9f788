"""Grad-CAM on the last block's attention."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn, Tensor

from captum_mda._checks import require_choice, require_flag
from captum_mda._docstrings import documented
from captum_mda._state import warn_caller
from captum_mda.attr import vit_arguments
from captum_mda.attr.vit_attribution import ViTAttribution
from captum_mda.attr.vit_batch import full_precision, ModelBatch, scale_patches
from captum_mda.attr.vit_gradients import score_gradients
from captum_mda.perturbation import Score
from captum_mda.vit import ViTAdapter


@documented(vit_arguments)
class AttentionGradCam(ViTAttribution):
    r"""The last block's attention, weighted by the gradient of the target's score.

    There are two forms, of the attention :math:`A` of the last block and its gradient
    :math:`G`, read in the row :math:`q^*` that feeds the head:

    - "mda", as in the tables of MDA: elementwise,
      :math:`( \langle A \odot G \rangle_h )^+`;
    - "chefer", as in the comparisons of Chefer et al.: each head weighted by its mean
      gradient over the patches, :math:`( \langle A\,\alpha_h \rangle_h )^+`.

    Both are scaled to [0, 1] per image. Where no value is positive, or all values are
    equal, the map is all zero and a warning names the image.

    Args:
        model: ...
        variant (str, optional): "mda" or "chefer". Default: "mda"
        normalize (bool, optional): Whether to scale to [0, 1]. Default: True
        score: ...

    Reference:
        Selvaraju et al., "Grad-CAM", ICCV 2017; Chefer, Gur, Wolf, "Transformer
        Interpretability Beyond Attention Visualization", CVPR 2021, Sec. 4.

    Example::

        >>> from captum_mda import AttentionGradCam, demo
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> grad_cam = AttentionGradCam(demo.load_model())
        >>> grid = grad_cam.attribute(images, target=labels, interpolate_mode=None)
        >>> grid.min().item(), grid.max().item()
        (0.0, 1.0)
    """

    def __init__(
        self,
        model: nn.Module | ViTAdapter,
        variant: Literal["mda", "chefer"] = "mda",
        normalize: bool = True,
        score: Score = "identity",
    ) -> None:
        """Check the model and the variant."""
        require_choice("variant", variant, ("mda", "chefer"))
        self.variant = variant
        self.normalize = require_flag("normalize", normalize)
        self._warns_of_zeros = not normalize  # scaling warns of them itself
        ViTAttribution.__init__(self, model, score)

    def _token_map(self, batch: ModelBatch) -> Tensor:
        seen = batch.observe(first_block=-1)
        (gradient,) = score_gradients(batch, seen.outputs, seen.maps[-1:])
        attention = full_precision(seen.maps[-1])  # A (B, H, T, T)
        gradient = full_precision(gradient)  # G
        if self.variant == "mda":
            tokens = self._head_row((attention * gradient).mean(dim=1), seen)
        else:
            n_prefix = self.adapter.n_prefix_tokens
            heads = [self._head_row(head, seen) for head in gradient.unbind(dim=1)]
            alpha = torch.stack(heads, dim=1)[:, :, n_prefix:].mean(dim=-1)  # (B, H)
            tokens = self._head_row(
                (attention * alpha[:, :, None, None]).mean(dim=1), seen
            )
        tokens = tokens.clamp(min=0)
        return self._normalized(tokens, batch) if self.normalize else tokens

    def _normalized(self, tokens: Tensor, batch: ModelBatch) -> Tensor:
        """Scale the patches of each image to [0, 1]."""
        scaled, flat = scale_patches(tokens, self.adapter.n_prefix_tokens)
        if bool(flat.any()):
            which = batch.examples[flat.cpu()].tolist()
            warn_caller(
                f"inputs: examples {which} have no positive attention gradient, or the "
                "same for all patches; their attributions are zero"
            )
        return scaled
