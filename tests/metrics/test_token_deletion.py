"""MIF and LIF deletion: tokens are gone, or patches masked where they cannot be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers import Snapshot
from torch import nn, Tensor
from vit_models import build_model, BY_NAME, Case, images, PARAMETERS, shared_model

from captum_mda import metrics
from captum_mda.vit import find_adapter, TokenStream

VIT = BY_NAME["timm ViT"]


def grid_of(case: Case, n: int = 2, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, *case.grid, generator=generator)


@pytest.mark.parametrize("case", PARAMETERS)
def test_every_family(case: Case) -> None:
    model = shared_model(case.name)
    found = metrics.token_deletion(model, images(case), grid_of(case), target=[1, 2])
    assert found.hits.shape == found.probabilities.shape == (2, 9)
    assert found.removal == ("mask" if "BEiT" in case.name else "tokens")
    words = ("target not predicted", "ok")
    assert found.status == tuple(words[each] for each in found.target_predicted)
    assert set(found.hits.flatten().tolist()) <= {0.0, 1.0}
    assert float(found.probabilities.min()) > 0
    adapter = find_adapter(model)
    with torch.no_grad():
        full = adapter(images(case)).double().softmax(1)
    torch.testing.assert_close(
        found.full_probability, full[[0, 1], [1, 2]], rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("first", ["most", "least"])
def test_tokens_are_dropped_one_by_one(first: Any) -> None:
    """By a loop that runs the blocks on what is left, in float64."""
    model, x = build_model(VIT, torch.float64), images(VIT).double()
    grid, target = grid_of(VIT), [1, 2]
    found = metrics.token_deletion(model, x, grid, target=target, first=first)
    adapter = find_adapter(model)
    stream = TokenStream(adapter, x, places=[0])
    sign = -1 if first == "most" else 1
    for example in range(2):
        order = sorted(
            range(16), key=lambda p: sign * float(grid[example].flatten()[p])
        )
        for column in range(9):
            kept = sorted(order[16 * (column + 1) // 10 :])
            tokens = stream.tokens[0][
                example : example + 1, [0] + [1 + p for p in kept]
            ]
            with torch.no_grad():
                for block in model.blocks:
                    tokens = block(tokens)
                probabilities = model.forward_head(model.norm(tokens)).softmax(1)[0]
            wanted = float(probabilities[target[example]])
            assert float(found.probabilities[example, column]) == pytest.approx(wanted)
            hit = int(probabilities.argmax()) == target[example]
            assert bool(found.hits[example, column]) == hit
    torch.testing.assert_close(found.accuracy, found.hits.mean(1))
    falls = found.full_probability[:, None] - found.probabilities
    torch.testing.assert_close(found.aopc, falls.mean(1))


def test_the_two_scores() -> None:
    model, x, grid = shared_model(VIT.name), images(VIT), grid_of(VIT)
    for first, metric in (
        ("most", metrics.mif_deletion),
        ("least", metrics.lif_deletion),
    ):
        found = metrics.token_deletion(model, x, grid, target=1, first=first)
        assert torch.equal(metric(model, x, grid, target=1), found.accuracy)
    opposite = metrics.lif_deletion(model, x, -grid, target=1)
    assert torch.equal(opposite, metrics.mif_deletion(model, x, grid, target=1))


def test_maps_of_pixels_are_averaged_over_patches() -> None:
    model, x, grid = shared_model(VIT.name), images(VIT), grid_of(VIT)
    pixels = grid.repeat_interleave(8, 2).repeat_interleave(8, 3)
    one = metrics.token_deletion(model, x, grid, target=1)
    for values in (pixels, pixels.expand(-1, 3, -1, -1)):
        other = metrics.token_deletion(model, x, values, target=1)
        torch.testing.assert_close(other.probabilities, one.probabilities)


def test_masked_patches() -> None:
    model, x, grid = shared_model(VIT.name), images(VIT), grid_of(VIT)
    found = metrics.token_deletion(model, x, grid, 0.5, target=1, removal="mask")
    assert found.removal == "mask"
    patches = grid.flatten(1).argsort(dim=1, descending=True, stable=True)
    for column in range(9):
        masked = x.clone()
        for example in range(2):
            for patch in patches[example, : 16 * (column + 1) // 10].tolist():
                row, col = 8 * (patch // 4), 8 * (patch % 4)
                masked[example, :, row : row + 8, col : col + 8] = 0.5
        with torch.no_grad():
            wanted = model(masked).double().softmax(1)[:, 1]
        torch.testing.assert_close(
            found.probabilities[:, column], wanted, rtol=0, atol=1e-6
        )


def test_chunks_and_what_remains() -> None:
    model, x, grid = build_model(VIT), images(VIT, n=3), grid_of(VIT, 3)
    before = Snapshot(model)
    whole = metrics.token_deletion(model, x, grid, target=[0, 1, 2])
    for size in (1, 2):
        part = metrics.token_deletion(
            model, x, grid, target=[0, 1, 2], max_examples_per_batch=size
        )
        torch.testing.assert_close(part.probabilities, whole.probabilities)
        assert torch.equal(part.hits, whole.hits)
    before.assert_unchanged()


class LittleMemory(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        if len(tokens) > 1:
            raise RuntimeError("CUDA out of memory: not really")
        return tokens


def test_running_out_of_memory_halves_the_examples() -> None:
    model, x, grid = build_model(VIT), images(VIT, n=3), grid_of(VIT, 3)
    wanted = metrics.token_deletion(model, x, grid, target=1)
    model.norm_pre = LittleMemory()
    found = metrics.token_deletion(model, x, grid, target=1)
    torch.testing.assert_close(found.probabilities, wanted.probabilities)
    with pytest.raises(RuntimeError, match="out of memory"):
        metrics.token_deletion(model, x, grid, target=1, max_examples_per_batch=2)


def test_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    model, x, grid = shared_model(VIT.name), images(VIT), grid_of(VIT)
    metrics.token_deletion(model, x, grid, target=1, show_progress=True)
    # Nine shares, the whole model, and its blocks by themselves with all patches.
    assert "22/22" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"attributions": None}, TypeError, "attributions: got NoneType"),
        (
            {"attributions": torch.randn(2, 1, 5, 5)},
            ValueError,
            r"attributions: got shape \(2, 1, 5, 5\), takes a map of each of 2 images",
        ),
        ({"attributions": torch.ones(2, 1, 4, 4)}, ValueError, "constant map in exam"),
        ({"removal": "cut"}, ValueError, "removal: got 'cut'"),
        ({"first": "best"}, ValueError, "first: got 'best'"),
        ({"target": [1]}, ValueError, "target: got 1 entries for 2"),
        ({"model": nn.Linear(2, 2)}, ValueError, "model: got Linear"),
        ({"max_examples_per_batch": 0}, ValueError, "max_examples_per_batch: got 0"),
    ],
)
def test_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {
        "model": shared_model(VIT.name),
        "inputs": images(VIT),
        "attributions": grid_of(VIT),
        "target": 1,
    }
    with pytest.raises(error, match=message):
        metrics.token_deletion(**(arguments | changes))


def test_models_that_cannot_drop_tokens_say_so() -> None:
    case = BY_NAME["timm BEiT"]
    with pytest.raises(ValueError, match=r"positions of its own.*take removal='mask'"):
        metrics.token_deletion(
            shared_model(case.name),
            images(case),
            grid_of(case),
            target=1,
            removal="tokens",
        )


def test_outputs_that_are_not_finite() -> None:
    model = build_model(VIT)
    with torch.no_grad():
        model.head.bias[0] = torch.nan
    with pytest.raises(ValueError, match="model: its output for example 0 is NaN"):
        metrics.token_deletion(model, images(VIT), grid_of(VIT), target=1)


def test_a_constant_map_is_told() -> None:
    grid = grid_of(VIT)
    grid[1] = 0.0
    with pytest.warns(UserWarning, match=r"1 \(constant map\)"):
        found = metrics.token_deletion(
            shared_model(VIT.name), images(VIT), grid, target=1, on_degenerate="nan"
        )
    assert found.accuracy.isnan().tolist() == [False, True]
    assert not found.full_probability.isnan().any()


@pytest.mark.parametrize("removal", ["tokens", "mask"])
def test_a_target_that_is_not_predicted_is_told(removal: Any) -> None:
    from captum_mda import demo

    model = demo.load_model()
    x, _, _ = demo.make_samples(n=2, seed=2)
    target = model(x).argmax(1)
    target[1] = (target[1] + 1) % model(x).shape[1]
    grid = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="examples 1 \\(target") as caught:
        found = metrics.token_deletion(model, x, grid, target=target, removal=removal)
    assert len(caught) == 1
    assert found.status == ("ok", "target not predicted")
    assert found.target_predicted.tolist() == [True, False]
    for metric in (metrics.mif_deletion, metrics.lif_deletion):
        with pytest.warns(UserWarning, match="does not predict"):
            metric(model, x, grid, target=target, removal=removal)
