"""ViT-CX: scores of masks that are clusters of the model's feature maps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn, Tensor

from captum_mda._captum import log_usage
from captum_mda._checks import (
    require_choice,
    require_generator,
    require_in_unit_interval,
)
from captum_mda._docstrings import documented
from captum_mda._state import remove_hooks, undone
from captum_mda.attr import vit_arguments, vit_attribution
from captum_mda.attr._clustering import require_scikit_learn
from captum_mda.attr.vit_batch import full_precision, ModelBatch
from captum_mda.perturbation import Score
from captum_mda.perturbation.targets import Target
from captum_mda.vit import paint, PatchLayout, ViTAdapter

# Feature maps that are resized together: 64 of 224 x 224 pixels are 13 MB.
_MAPS_AT_ONCE = 64


@documented(vit_arguments)
class VitCx(vit_attribution.ViTAttribution):
    r"""ViT-CX: causal explanation by masks from the last block's features.

    1. The features after the first norm of the last block give one map for each
       channel, resized to the image and scaled to [0, 1].
    2. Maps are clustered by cosine similarity (complete linkage); a mask M is the sum
       of a cluster's maps, scaled to [0, 1].
    3. With Gaussian noise :math:`\epsilon`, the target's score on
       :math:`x \odot M + \epsilon (1 - M)` less that on :math:`x + \epsilon (1 - M)`
       plus that on x is the mask's score :math:`s`.
    4. The map is :math:`\frac 1 N \sum_i s_i M_i / \sum_j M_j`, pixel by pixel.

    The number N of masks depends on the image; it is usually below a hundred. Pixels
    that no mask covers get 0. Channels with one value everywhere are left out; an image
    whose features are all constant gets a map of zeros.

    Args:
        model: ...
        threshold (float, optional): The cosine distance up to which maps are one
            cluster, in [0, 1]. Default: 0.1
        noise (float, optional): The standard deviation of the noise, in the inputs' own
            units, in [0, 1]. Default: 0.1
        score (str or callable, optional): "softmax" for the published probabilities,
            "identity", or a callable. Default: "softmax"

    Raises:
        ImportError: scikit-learn, which computes the clusters, is not installed.

    Reference:
        Xie, Li, Cao, Zhang, "ViT-CX: Causal Explanation of Vision Transformers",
        IJCAI 2023.

    Example::

        >>> from captum_mda import demo, VitCx
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> VitCx(demo.load_model()).attribute(images, target=labels).shape
        torch.Size([1, 1, 64, 64])
    """

    _reads_attention = False  # any model with blocks is accepted

    def __init__(
        self,
        model: nn.Module | ViTAdapter,
        threshold: float = 0.1,
        noise: float = 0.1,
        score: Score = "softmax",
    ) -> None:
        """Check the model and the numbers."""
        self.threshold = require_in_unit_interval("threshold", threshold)
        self.noise = require_in_unit_interval("noise", noise)
        require_scikit_learn("VitCx")
        vit_attribution.ViTAttribution.__init__(self, model, score)

    @log_usage(part_of_slo=True)
    @documented(vit_arguments)
    def attribute(  # type: ignore[override]
        self,
        inputs: Tensor,
        target: Target = None,
        additional_forward_args: object = None,
        generator: torch.Generator | None = None,
        interpolate_mode: str | None = "bilinear",
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Tensor:
        """Attribute the score of the target to the pixels of the inputs.

        Args:
            inputs: ...
            target: ...
            additional_forward_args: ...
            generator: ...
            interpolate_mode (str, optional): How the features are resized to the image;
                the map has the image's pixels. None: bilinear, and the mean of each
                patch is returned. Default: "bilinear"
            internal_batch_size: ...
            show_progress (bool, optional): Show a progress bar of the images.
                Default: False

        Returns:
            *Tensor* of **attributions**: (B, 1, H, W), or (B, 1, h, w) with
            ``interpolate_mode=None``.

        Raises:
            TypeError, ValueError: As `ViTAttribution.attribute`.
        """
        if interpolate_mode is not None:
            require_choice(
                "interpolate_mode", interpolate_mode, vit_attribution.INTERPOLATE_MODES
            )
        require_generator(generator)
        draw = _Draws(generator or torch.Generator().manual_seed(0))
        images = self.adapter.as_images(vit_attribution.unwrapped(inputs))
        resize_mode = interpolate_mode or "bilinear"
        maps = self._in_batches(
            partial(self._pixel_maps, draw=draw, mode=resize_mode),
            images,
            target,
            additional_forward_args,
            internal_batch_size,
            show_progress,
        )
        draw.move_on()
        if interpolate_mode is None:
            maps = self.adapter.patch_means(maps, images)
        else:
            maps = vit_attribution.like_inputs(maps, vit_attribution.unwrapped(inputs))
        return vit_attribution.wrapped(maps, inputs)

    @torch.no_grad()
    def _pixel_maps(self, batch: ModelBatch, draw: _Draws, mode: str) -> Tensor:
        """Explain each image by masks of its own features: (B, 1, H, W)."""
        quiet = batch.without_progress()
        outputs, features = self._features(quiet)
        whole = batch.scorer.score(outputs, batch.examples)  # p_c(x)
        size = batch.inputs.shape[-2:]
        layout = self.adapter.layout(batch.inputs)
        # A callable target scores all images at once; one at a time saves memory.
        n_together = len(batch) if batch.scorer.whole_batch else 1
        maps = []
        for start in range(0, len(batch), n_together):
            part = quiet.select(slice(start, start + n_together))
            masks, noise = [], []
            for index, example in enumerate(part.examples.tolist(), start):
                masks.append(
                    feature_masks(features[index], size, self.threshold, mode, layout)
                )
                shape = (len(masks[-1]), *batch.inputs.shape[1:])
                noise.append(self.noise * draw(example, shape).to(batch.inputs))
            for index, scores in enumerate(_mask_scores(part, masks, noise)):
                scores = scores + whole[start + index]
                maps.append(_mean_mask(scores, masks[index]))
                batch.progress.update(1)
        return torch.stack(maps)[:, None]

    def _features(self, batch: ModelBatch) -> tuple[Tensor, Tensor]:
        """Run the model: its outputs, and the features of patches (B, D, h, w)."""
        seen: list[Tensor] = []
        thread = threading.get_ident()

        def note(module: nn.Module, args: Any, output: Tensor) -> None:
            if threading.get_ident() == thread:
                # A copy: the next layer may write on it.
                seen.append(output.detach().clone())

        layer = self.adapter.feature_layer
        with undone(partial(remove_hooks, [layer], note)):
            layer.register_forward_hook(note)
            outputs = batch.stream(batch.inputs).outputs
        height, width = self.adapter.patch_grid(batch.inputs)
        patches = full_precision(seen[-1])[:, self.adapter.n_prefix_tokens :]
        return outputs, self.adapter.on_grid(patches.transpose(1, 2), height, width)


class _Draws:
    """Draws the noise of each example, so that equal images get equal noise.

    Args:
        generator (torch.Generator): Every example's noise begins at its state.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self._generator = generator
        self._start = self._end = generator.get_state()

    def __call__(self, example: int, shape: Sequence[int]) -> Tensor:
        own = torch.Generator()
        own.set_state(self._start)
        noise = torch.randn(shape, generator=own)
        if example == 0:
            self._end = own.get_state()
        return noise

    def move_on(self) -> None:
        """Set the generator to its state after the first example's noise."""
        self._generator.set_state(self._end)


def _mask_scores(
    batch: ModelBatch, masks: Sequence[Tensor], noise: Sequence[Tensor]
) -> list[Tensor]:
    """Score masked images, minus the effect of the noise alone: (N,) per image.

    Args:
        batch (ModelBatch): The images.
        masks (sequence of Tensor): (N, H, W) per image.
        noise (sequence of Tensor): (N, C, H, W) per image.
    """

    def run(examples: Tensor, rows: Tensor) -> Tensor:
        inputs = []
        for example, row in zip(examples.tolist(), rows.tolist(), strict=True):
            image, pair = batch.inputs[example], row // 2
            if not len(masks[example]):  # features that are all constant
                inputs.append(image)
                continue
            mask = masks[example][pair].to(image)
            added = noise[example][pair] * (1 - mask)
            inputs.append((image if row % 2 else image * mask) + added)
        return batch.outputs(torch.stack(inputs), examples)

    counts = [2 * max(1, len(images_masks)) for images_masks in masks]
    scores = batch.score_each(counts, run)
    return [
        (of_image[0::2] - of_image[1::2])[: len(masks[index])]
        for index, of_image in enumerate(scores)
    ]


def _mean_mask(scores: Tensor, masks: Tensor) -> Tensor:
    """Average scores (N,) by masks (N, H, W) that sum to 1 at each pixel."""
    covered = masks.sum(dim=0)
    share = torch.where(covered > 0, masks / covered.clamp(min=1e-12), 0.0)
    return (scores[:, None, None] * share).sum(dim=0) / max(len(masks), 1)


def feature_masks(
    features: Tensor,
    size: Sequence[int],
    threshold: float,
    mode: str = "bilinear",
    layout: PatchLayout | None = None,
) -> Tensor:
    """Make masks from an image's features.

    Resizing is linear, so the similarities of the resized maps are computed from the
    small maps. Maps are resized only to find their ranges.

    Args:
        features (Tensor): (D, h, w).
        size (tuple[int, int]): Height and width of the masks.
        threshold (float): The cosine distance up to which maps are one cluster.
        mode (str, optional): How maps are resized. Default: "bilinear"
        layout (PatchLayout, optional): Where the patches lie in the image. None: they
            tile it. Default: None

    Returns:
        *Tensor*: (N, H, W) in [0, 1].
    """

    def resize(maps: Tensor) -> Tensor:
        return paint(maps[:, None], size, mode, layout)[:, 0]

    features = features.double()
    ranges = [
        torch.stack([part.amin(dim=(1, 2)), part.amax(dim=(1, 2))])
        for part in map(resize, features.split(_MAPS_AT_ONCE))
    ]
    low, high = torch.cat(ranges, dim=1)
    varies = high > low
    scaled = features[varies] - low[varies, None, None]
    scaled = scaled / (high - low)[varies, None, None]  # (D', h, w)
    if not len(scaled):
        return features.new_zeros(0, *size).float()
    clusters = _clusters(_cosines(scaled, resize), threshold)
    sums = torch.zeros(int(clusters.max()) + 1, *scaled.shape[1:], dtype=scaled.dtype)
    sums = sums.to(scaled.device).index_add(0, clusters.to(scaled.device), scaled)
    masks = resize(sums)
    low, high = masks.amin(dim=(1, 2), keepdim=True), masks.amax((1, 2), keepdim=True)
    return ((masks - low) / (high - low).clamp(min=1e-12)).float()


def _cosines(maps: Tensor, resize: Callable[[Tensor], Tensor]) -> Tensor:
    """Compare resized maps by the inner products of the resized unit maps."""
    n_patches = maps[0].numel()
    units = torch.eye(n_patches).to(maps).unflatten(1, maps.shape[1:])
    resized = resize(units).flatten(1)  # (P, H W)
    products = maps.flatten(1) @ (resized @ resized.T) @ maps.flatten(1).T
    lengths = products.diagonal().clamp(min=0).sqrt()
    return products / (lengths[:, None] * lengths).clamp(min=1e-30)


def _clusters(cosines: Tensor, threshold: float) -> Tensor:
    """Merge maps by complete linkage: int64 (D',), clusters from 0 on."""
    if len(cosines) == 1:
        return torch.zeros(1, dtype=torch.int64)
    distances = (1 - cosines).clamp(min=0).cpu().numpy()
    merging = require_scikit_learn("VitCx").AgglomerativeClustering(
        n_clusters=None,
        metric="precomputed",
        linkage="complete",
        distance_threshold=threshold,
    )
    return torch.from_numpy(merging.fit(distances).labels_).long()
