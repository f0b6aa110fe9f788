"""Fixtures shared by all tests: the real model and the stored reference results.

They need a folder with ``models/``, ``images/`` and ``oracles/``, which the environment
variable ``CAPTUM_MDA_DATA`` names; without it the tests that use them are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from torch import nn

VARIABLE = "CAPTUM_MDA_DATA"

# On a gate the same examples run each time; elsewhere hypothesis looks for new ones.
settings.register_profile("gate", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("gate")


# Parallel processes take whole files in this order, so what lasts longest comes first
# and the last ones to finish have little left. Durations: `pytest --durations=0`.
LONGEST = (
    "tests/contract/test_public_callables.py",
    "tests/metrics/test_published_curves.py",
    "tests/test_real_model.py",
    "tests/test_readme.py",
    "tests/contract/test_vit_methods.py",
    "tests/test_docs.py",
    "tests/attr/test_published_maps.py",
    "tests/contract/test_vit_method_arguments.py",
    "tests/contract/test_vit_method_traces.py",
    "tests/test_cli.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the files that last longest to the front; others keep their order."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.split("::")[0], len(LONGEST)))


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder with the pretrained weights, the photos and the oracles."""
    name = os.environ.get(VARIABLE)
    if not name:
        pytest.skip(f"{VARIABLE} is not set; it names the folder with models/")
    folder = Path(name)
    if not (folder / "models").is_dir():
        pytest.skip(f"{VARIABLE}: {folder} has no folder models/")
    return folder


@pytest.fixture(scope="session")
def deit_tiny(data_folder: Path) -> nn.Module:
    """The pretrained DeiT-Tiny, in evaluation mode; do not change it."""
    import timm
    from safetensors.torch import load_file

    name = "deit_tiny_patch16_224"
    model = timm.create_model(name, pretrained=False)
    model.load_state_dict(load_file(data_folder / "models" / f"{name}.safetensors"))
    return model.eval()


@pytest.fixture(scope="session")
def oracle_maps(data_folder: Path) -> Iterator[Mapping[str, np.ndarray]]:
    """The stored maps and metric curves of published code: "<class>/<name>"."""
    path = data_folder / "oracles" / "maps.npz"
    if not path.is_file():
        pytest.skip(f"{VARIABLE}: {path} is missing")
    with np.load(path) as maps:
        yield maps
