"""TIS: tokens that are really dropped, the published masks' scores, and the rest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn, Tensor
from vit_models import build_model, BY_NAME, Case, images, PARAMETERS, shared_model

from captum_mda import TransformerInputSampling
from captum_mda.vit import resolve, TokenStream

VIT = BY_NAME["timm ViT"]
# Their attention has positions of its own.
CANNOT_DROP = {"timm BEiT", "transformers BEiT"}


@pytest.mark.parametrize("case", PARAMETERS)
def test_all_patches_kept_score_as_the_image(case: Case) -> None:
    model, x = shared_model(case.name), images(case, n=1)
    tis = TransformerInputSampling(
        model, n_masks=5, keep_ratio=1.0, normalize=False, score="identity"
    )
    grid = tis.attribute(x, target=1, interpolate_mode=None)
    with torch.no_grad():
        whole = resolve(model)(x)[:, 1]
    torch.testing.assert_close(grid, whole.view(1, 1, 1, 1).expand_as(grid))


@pytest.mark.parametrize("case", PARAMETERS)
def test_half_the_patches(case: Case) -> None:
    tis = TransformerInputSampling(shared_model(case.name), n_masks=6)
    if case.name in CANNOT_DROP:
        with pytest.raises(ValueError, match="positions of its own"):
            tis.attribute(images(case), target=1)
        return
    grid = tis.attribute(images(case), target=1, interpolate_mode=None)
    assert grid.shape == (2, 1, *case.grid)
    assert float(grid.min()) == 0.0
    assert float(grid.max()) == 1.0


@pytest.mark.parametrize("name", ["timm ViT", "timm EVA-02", "timm DINOv3"])
def test_a_dropped_token_is_not_there(name: str) -> None:
    """Masked keys in every block are what a dropped token amounts to."""
    case = BY_NAME[name]
    model, x = shared_model(name), images(case, n=1)
    adapter = resolve(model)
    stream = TokenStream(adapter, x, places=[0])
    n_prefix, n_patches = adapter.n_prefix_tokens, 16
    patches = torch.tensor([[0, 3, 4, 9, 15]])
    kept = torch.cat([torch.arange(n_prefix)[None], patches + n_prefix], dim=1)
    dropped = stream.run(stream.tokens[0][0][kept], 0, torch.tensor([0]), kept=kept)
    mask = torch.zeros(n_prefix + n_patches, dtype=torch.bool)
    mask[kept[0]] = True
    attention = torch.nn.functional.scaled_dot_product_attention

    def masked(q: Tensor, k: Tensor, v: Tensor, **options: object) -> Tensor:
        return attention(q, k, v, attn_mask=mask[None, None, None])

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", masked)
        tokens = stream.tokens[0]
        for block, call in zip(adapter.blocks, stream._calls, strict=True):
            call = call.replaced(tokens)
            tokens = block(*call.args, **call.kwargs)
        wanted = adapter.tail(tokens[:, mask])
    torch.testing.assert_close(dropped, wanted, rtol=0, atol=1e-5)


def test_seeds_and_chunks() -> None:
    tis, x = TransformerInputSampling(shared_model(VIT.name), n_masks=12), images(VIT)
    first = tis.attribute(x, target=[1, 2])
    assert torch.equal(first, tis.attribute(x, target=[1, 2]))
    split = tis.attribute(x, target=[1, 2], internal_batch_size=3)
    torch.testing.assert_close(split, first, rtol=0, atol=1e-5)
    other = tis.attribute(x, [1, 2], generator=torch.Generator().manual_seed(5))
    assert not torch.equal(first, other)
    with pytest.raises(TypeError, match="generator"):
        tis.attribute(x, 1, generator=3)  # type: ignore[arg-type]


def test_a_constant_model_gives_a_map_of_zeros() -> None:
    tis = TransformerInputSampling(
        shared_model(VIT.name), n_masks=6, score=lambda out: torch.ones_like(out)
    )
    assert not tis.attribute(images(VIT), target=1).any()


def test_empty_clusters_keep_the_lower_half_or_are_avoided() -> None:
    channels = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    model = shared_model(VIT.name)
    keeps = TransformerInputSampling(model, n_masks=40)._kept_patches(channels, 1)
    avoids = TransformerInputSampling(model, n_masks=40, empty_clusters="avoid")
    lower = torch.arange(8, 16)
    assert len(keeps) == 40
    assert int((keeps == lower).all(1).sum()) > 5
    masks = avoids._kept_patches(channels, 1)
    assert len(masks) == 40
    assert not (masks == lower).all(1).any()
    # As many clusters as channels: each is its own centroid.
    own = channels.argsort(dim=1, descending=True)[:, :8].sort(1).values
    assert sorted(masks.tolist()) == sorted(own.tolist())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_masks": 0}, "n_masks"),
        ({"keep_ratio": 0.0}, "keep_ratio"),
        ({"keep_ratio": 1.5}, "keep_ratio"),
        ({"empty_clusters": "none"}, "empty_clusters"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransformerInputSampling(shared_model(VIT.name), **options)


@pytest.mark.real_model
def test_published_masks_get_their_published_scores(
    deit_tiny: nn.Module, oracle_maps: Mapping[str, np.ndarray]
) -> None:
    for photo in ("1", "937"):
        x = torch.from_numpy(oracle_maps[f"{photo}/x"])[None]
        target = int(oracle_maps[f"{photo}/target"])
        packed = oracle_maps[f"{photo}/tis_s0_masks_packed"][:48]
        masks = torch.from_numpy(np.unpackbits(packed, axis=1)[:, :196]).bool()
        kept = torch.stack([mask.nonzero().flatten() + 1 for mask in masks])
        kept = torch.nn.functional.pad(kept, (1, 0))
        stream = TokenStream(resolve(deit_tiny), x, places=[0])
        rows = torch.zeros(len(kept), dtype=torch.int64)
        outputs = stream.run(stream.tokens[0][0][kept], 0, rows, kept=kept)
        scores = outputs.softmax(1)[:, target].numpy()
        stored = oracle_maps[f"{photo}/tis_s0_scores"][:48]
        np.testing.assert_allclose(scores, stored, rtol=0, atol=2e-5)


@pytest.mark.real_model
@pytest.mark.extended
def test_the_published_map_up_to_its_own_seeds(
    deit_tiny: nn.Module, oracle_maps: Mapping[str, np.ndarray]
) -> None:
    x = torch.from_numpy(oracle_maps["207/x"])[None]
    tis = TransformerInputSampling(deit_tiny)
    grid = tis.attribute(x, int(oracle_maps["207/target"]), interpolate_mode=None)
    for seed in (0, 1):
        stored = oracle_maps[f"207/tis_s{seed}"]
        rank = spearmanr(grid.flatten().numpy(), stored.ravel()).statistic
        assert rank >= float(oracle_maps["207/tis_seed_spearman"]) - 0.02


def test_gradients_and_hooks_are_left_alone() -> None:
    model = build_model(VIT)
    TransformerInputSampling(model, n_masks=4).attribute(images(VIT), target=1)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())
