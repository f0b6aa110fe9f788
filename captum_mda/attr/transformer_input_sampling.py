"""TIS: scores of a model that runs on subsets of its tokens."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Literal

import torch
from torch import nn, Tensor

from captum_mda import _checks
from captum_mda._captum import log_usage
from captum_mda._docstrings import documented
from captum_mda.attr import vit_arguments
from captum_mda.attr._clustering import require_scikit_learn
from captum_mda.attr.vit_attribution import ViTAttribution
from captum_mda.attr.vit_batch import full_precision, ModelBatch, scale_patches
from captum_mda.perturbation import Score
from captum_mda.perturbation.targets import Target
from captum_mda.vit import ViTAdapter


@documented(vit_arguments)
class TransformerInputSampling(ViTAttribution):
    r"""TIS: the mean score of the model over the subsets that keep a token.

    The channels of all blocks' outputs, each a vector over the patches, are clustered
    by k-means. Each centroid gives a mask that keeps the patches with its highest
    values. All other patch tokens are dropped after the positions are added, and the
    model scores the shortened sequence:

    .. math:: a_p = \sum_k s_k m_{kp} \Big/ \sum_k m_{kp}

    A patch that no mask keeps gets the mean score of all masks. Prefix tokens are
    always kept. Models with positions inside their attention (BEiT) cannot drop tokens
    and are refused.

    In the published code two clusters may start at the same channel. One of them stays
    empty, and its mask keeps the last patches in raster order, the lower half of the
    image; with the defaults that is about one mask in six. ``empty_clusters="keep"``
    repeats this; "avoid" draws no channel twice, so that no half of the image is
    preferred.

    Clusters start at random channels, which a ``generator`` draws.

    Args:
        model: ...
        n_masks (int, optional): K, the number of clusters and masks; at most the number
            of channels. Default: 1024
        keep_ratio (float, optional): The share of patches that a mask keeps, in (0, 1].
            Default: 0.5
        empty_clusters (str, optional): "keep" or "avoid", see above. Default: "keep"
        normalize (bool, optional): Whether each map is scaled to [0, 1], as published.
            Default: True
        score (str or callable, optional): "softmax" for the published probabilities,
            "identity", or a callable. Default: "softmax"

    Raises:
        ImportError: scikit-learn, which computes the clusters, is not installed.

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

    _reads_attention = False  # any model with blocks is accepted

    def __init__(
        self,
        model: nn.Module | ViTAdapter,
        n_masks: int = 1024,
        keep_ratio: float = 0.5,
        empty_clusters: Literal["keep", "avoid"] = "keep",
        normalize: bool = True,
        score: Score = "softmax",
    ) -> None:
        """Check the model, the masks, and that scikit-learn is installed."""
        self.n_masks = _checks.require_positive_integer("n_masks", n_masks)
        keep_ratio = _checks.require_in_unit_interval("keep_ratio", keep_ratio)
        if keep_ratio == 0.0:
            raise ValueError("keep_ratio: got 0.0, takes a number above 0, at most 1")
        _checks.require_choice("empty_clusters", empty_clusters, ("keep", "avoid"))
        self.normalize = _checks.require_flag("normalize", normalize)
        require_scikit_learn("TransformerInputSampling")
        ViTAttribution.__init__(self, model, score)
        self.keep_ratio = keep_ratio
        self.empty_clusters = empty_clusters

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
        """Attribute the score of the target to the patches of the inputs.

        Args:
            inputs: ...
            target: ...
            additional_forward_args: ...
            generator: ...
            interpolate_mode: ...
            internal_batch_size: ...
            show_progress: ...

        Returns:
            *Tensor* of **attributions**: (B, 1, H, W), or (B, 1, h, w) with
            ``interpolate_mode=None``; in [0, 1] unless ``normalize`` is off.

        Raises:
            TypeError, ValueError: As `ViTAttribution.attribute`.
        """
        _checks.require_generator(generator)
        seed = int(torch.randint(2**31 - 1, (1,), generator=_own(generator)))
        return self._attribute(
            inputs,
            target,
            additional_forward_args,
            interpolate_mode,
            internal_batch_size,
            show_progress,
            partial(self._token_map, seed=seed),
        )

    def _n_forwards(self, images: Tensor) -> int:
        """Count the masks, the run that keeps the tokens, and its check."""
        return self.n_masks + 2

    @torch.no_grad()
    def _token_map(self, batch: ModelBatch, seed: int = 0) -> Tensor:
        depth, n_prefix = self.adapter.depth, self.adapter.n_prefix_tokens
        stream = batch.stream(batch.inputs, places=range(depth + 1))
        batch.require_own_outputs(stream, 0, dropping=True)
        masks, copies = [], []  # per image: int64 (K', k), equal masks once; counts
        for index in range(len(batch)):
            channels = [
                full_precision(stream.tokens[place][index, n_prefix:])
                for place in range(1, depth + 1)
            ]
            channels_of_image = torch.cat(channels, dim=1).T
            patches = self._kept_patches(channels_of_image, seed)
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
        """Choose the patches of each mask: int64 (K, k), ascending, counted from 0.

        Args:
            channels (Tensor): (L D, P), every channel of every block over the patches.
            seed (int): The seed of the clusters' starting points.
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
        scores (Tensor): (K,), the score of each mask.
        copies (Tensor): int64 (K,), how often each mask counts.
        kept (Tensor): int64 (K, k), the tokens that each mask keeps.
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
        n_clusters (int): The largest number of clusters, K.
        seed (int): The seed of the draw of the vectors at which clusters start.
        distinct (bool): Whether no vector is drawn twice. Otherwise there are as many
            clusters as different vectors were drawn.

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
