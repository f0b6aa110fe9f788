"""Every kind of model in docs/models.md is explained by the line that stands there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import model_kinds

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "kind", [pytest.param(k, id=f"{k.library}: {k.name}") for k in model_kinds.KINDS]
)
def test_the_line_explains_the_model(kind: Any) -> None:
    pytest.importorskip(kind.library)
    scope: dict[str, Any] = {}
    imports = "timm, torchvision" + (
        "" if kind.library in ("timm", "torchvision") else f", {kind.library}"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        exec(f"import {imports}\n{model_kinds.PREAMBLE}", scope)
        scope["model"] = model = eval(kind.model, scope).eval()
        with torch.no_grad():  # else zeros in a fresh model hide mistakes
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        if kind.images:
            scope["images"] = eval(kind.images, scope)
        maps = eval(kind.line, scope)
    images = scope["images"]
    without_channels = images.dim() == 3
    assert maps.shape == (2, *[1] * (not without_channels), *images.shape[-2:])
    assert torch.isfinite(maps).all()
    values = maps.flatten(1)
    assert (values.std(dim=1) > 1e-3 * values.abs().mean(dim=1)).all()


def test_there_are_thirty_kinds_and_the_page_lists_each() -> None:
    names = [(kind.library, kind.name) for kind in model_kinds.KINDS]
    assert len(set(names)) == len(names) >= 30
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert model_kinds.section() in page
