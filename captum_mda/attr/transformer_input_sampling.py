"""TIS: which patches a model can do without, by dropping tokens for real."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import torch
from torch import nn, Tensor

from captum_mda._captum import log_usage
from captum_mda.attr._clustering import require_scikit_learn
from captum_mda.attr.vit_attribution import ViTAttribution
from captum_mda.attr.vit_batch import Batch, full_precision, scale_patches
from captum_mda.perturbation import Score
from captum_mda.perturbation.inputs import (
    require_choice,
    require_flag,
    require_generator,
    require_in_unit_interval,
    require_positive_integer,
)
from captum_mda.perturbation.targets import Target
from captum_mda.vit import ViTAdapter


class TransformerInputSampling(ViTAttribution):
    r"""TIS: scores of the model on subsets of its tokens, credited to the tokens kept.

    The channels of all blocks' outputs, each a vector over the patches, are clustered
    by k-means; the patches with the highest values of a centroid are kept, all other
    patch tokens are dropped behind the positions, and the shortened sequence is scored:

    .. math:: a_p = \sum_k s_k m_{kp} \Big/ \sum_k m_{kp}

    A patch that no mask keeps gets the mean score of all masks, so that it stands out
    in no direction. Prefix tokens, any number of them, are always kept. Models whose
    attention carries positions of its own (BEiT) cannot drop tokens and are refused.

    In the published code a cluster may start at a channel where another one starts
    already; it stays empty, and its mask keeps the last patches in raster order, the
    lower half of the image: about one mask in six with the defaults. With
    ``empty_clusters="keep"`` that is so here, too; with "avoid" no channel is drawn
    twice, and no half of the image is preferred.

    Clusters start at random: pass a ``generator`` to choose them. Without one the same
    ones are drawn each time.

    Args:
        model (nn.Module or ViTAdapter): See `ViTAttribution`.
        n_masks (int, optional): K, the number of clusters and masks; at most as many as
            there are channels. Default: 1024
        keep_ratio (float, optional): The share of patches that a mask keeps, in (0, 1].
            Default: 0.5
        empty_clusters (str, optional): "keep" or "avoid", see above. Default: "keep"
        normalize (bool, optional): Whether each map is scaled to [0, 1], as published.
            Default: True
        score (str or callable, optional): "softmax" for the published probabilities,
            "identity", or a callable. Default: "softmax"

    Raises:
        ImportError: scikit-learn is not installed, which clusters.

    Reference:
        Englebert, Stassin, Nanfack, Mahmoudi, Siebert, Cornu, De Vleeschouwer,
        "Explaining through Transformer Input Sampling", ICCV workshops 2023.

    Example::

        >>> from captum_mda import demo, TransformerInputSampling
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> tis = TransformerInputSampling(demo.load_model(), n_masks=32)
        >>> tis.attribute(images, target=labels).shape
        torch.Size([1, 1, 64, 64])
    """

    def __init__(
        self,
        model: nn.Module | ViTAdapter,
        n_masks: int = 1024,
        keep_ratio: float = 0.5,
        empty_clusters: Literal["keep", "avoid"] = "keep",
        normalize: bool = True,
        score: Score = "softmax",
    ) -> None:
        """Check the model, the masks and that scikit-learn is there."""
        n_masks = require_positive_integer("n_masks", n_masks)
        keep_ratio = require_in_unit_interval("keep_ratio", keep_ratio)
        if keep_ratio == 0.0:
            raise ValueError("keep_ratio: got 0.0, takes a number above 0, at most 1")
        require_choice("empty_clusters", empty_clusters, ("keep", "avoid"))
        normalize = require_flag("normalize", normalize)
        require_scikit_learn("TransformerInputSampling")
        ViTAttribution.__init__(self, model, score)
        self.n_masks = n_masks
        self.keep_ratio = keep_ratio
        self.empty_clusters = empty_clusters
        self.normalize = normalize

    def _reads_attention(self) -> bool:
        """Tell that no attention map is read: any model with blocks will do."""
        return False

    @log_usage(part_of_slo=True)
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
        """Attribute the score of the target to patches; see `ViTAttribution.attribute`.

        Args:
            inputs (Tensor): (B, C, H, W).
            target (int, tuple, Tensor, list, callable, optional): Default: None
            additional_forward_args (any, optional): Default: None
            generator (torch.Generator, optional): Draws where the clusters start,
                alike for all images. None: the same each time. Default: None
            interpolate_mode (str, optional): Default: "bilinear"
            internal_batch_size (int, optional): The most images or shortened sequences
                in one forward. Default: None
            show_progress (bool, optional): Default: False

        Returns:
            *Tensor* of **attributions**: (B, 1, H, W), or (B, 1, h, w) with
            ``interpolate_mode=None``; in [0, 1] unless ``normalize`` is off.

        Raises:
            TypeError, ValueError: As `ViTAttribution.attribute`.
        """
        require_generator(generator)
        seed = int(torch.randint(2**31 - 1, (1,), generator=_own(generator)))
        return self._attribute(
            inputs,
            target,
            additional_forward_args,
            interpolate_mode,
            internal_batch_size,
            show_progress,
            forwards_per_example=self.n_masks + 2,
            seed=seed,
        )

    @torch.no_grad()
    def _token_map(self, batch: Batch, **options: Any) -> Tensor:
        depth, n_prefix = self.adapter.depth, self.adapter.n_prefix_tokens
        stream = batch.stream(batch.inputs, places=range(depth + 1))
        batch.require_own_outputs(stream, 0, dropping=True)
        masks, copies = [], []  # of each image: int64 (K', k), equal ones once
        for index in range(len(batch)):
            channels = [
                full_precision(stream.tokens[place][index, n_prefix:])
                for place in range(1, depth + 1)
            ]
            channels_of_image = torch.cat(channels, dim=1).T
            patches = self._kept_patches(channels_of_image, options["seed"])
            patches, counts = patches.unique(dim=0, return_counts=True)
            masks.append(stream.keep(patches))
            copies.append(counts)

        def run(examples: Tensor, which: Tensor) -> Tensor:
            pairs = zip(examples.tolist(), which.tolist(), strict=True)
            kept = torch.stack([masks[index][row] for index, row in pairs])
            rows = examples.to(kept.device)[:, None]
            return stream.run(stream.tokens[0][rows, kept], 0, examples, kept=kept)

        scores = batch.score_each([len(kept) for kept in masks], run)
        n_tokens = stream.tokens[0].shape[1]
        maps = []
        for index, kept in enumerate(masks):
            maps.append(_mean_scores(scores[index], copies[index], kept, n_tokens))
            batch.progress.update(self.n_masks - len(kept))
        worth = torch.stack(maps)
        return scale_patches(worth, n_prefix)[0] if self.normalize else worth

    def _kept_patches(self, channels: Tensor, seed: int) -> Tensor:
        """Choose each mask's patches: int64 (K, k), ascending, from 0 on.

        Args:
            channels (Tensor): (L D, P), every channel of every block over the patches.
            seed (int): Of the clusters' starting points.
        """
        n_patches = channels.shape[1]
        n_kept = max(1, int(self.keep_ratio * n_patches))
        distinct = self.empty_clusters == "avoid"
        centroids = _centroids(channels, self.n_masks, seed, distinct)  # (K', P)
        order = centroids.argsort(dim=1, descending=True, stable=True)[:, :n_kept]
        if not distinct:
            last = torch.arange(n_patches - n_kept, n_patches)
            n_empty = self.n_masks - len(order)
            order = torch.cat([order, last.expand(n_empty, -1)])
        return order.sort(dim=1).values.to(channels.device)


def _mean_scores(scores: Tensor, copies: Tensor, kept: Tensor, n_tokens: int) -> Tensor:
    """Average the scores of the masks that keep a token: (T,).

    Args:
        scores (Tensor): (K,), of each mask.
        copies (Tensor): int64 (K,), how often it counts.
        kept (Tensor): int64 (K, k), the tokens it keeps.
        n_tokens (int): T.
    """
    masks = torch.zeros(len(kept), n_tokens, dtype=scores.dtype, device=scores.device)
    masks.scatter_(1, kept, 1.0)
    weights = copies.to(scores)
    counts = weights @ masks
    mean = ((scores * weights) @ masks) / counts.clamp(min=1)
    return torch.where(counts > 0, mean, (scores * weights).sum() / weights.sum())


def _centroids(vectors: Tensor, n_clusters: int, seed: int, distinct: bool) -> Tensor:
    """Cluster vectors (V, P) by Euclidean k-means.

    Args:
        vectors (Tensor): (V, P).
        n_clusters (int): K, at most.
        seed (int): Draws the vectors at which clusters start.
        distinct (bool): Whether no vector is drawn twice; else the clusters are as many
            as different ones were drawn.

    Returns:
        *Tensor*: float64 (K', P) on the CPU.
    """
    from sklearn.exceptions import ConvergenceWarning

    data = vectors.double().cpu().numpy()
    generator = torch.Generator().manual_seed(seed)
    if distinct:
        drawn = torch.randperm(len(data), generator=generator)[:n_clusters]
    else:
        drawn = torch.randint(len(data), (n_clusters,), generator=generator).unique()
    start = data[drawn.numpy()]
    clustering = require_scikit_learn("TransformerInputSampling")
    means = clustering.KMeans(len(start), init=start, n_init=1, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal vectors
        means.fit(data)
    centroids: Tensor = torch.from_numpy(means.cluster_centers_)
    return centroids


def _own(generator: torch.Generator | None) -> torch.Generator:
    return torch.Generator().manual_seed(0) if generator is None else generator
