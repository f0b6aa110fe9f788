"""What every public callable leaves as it was, called in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import public_callables
import pytest

HERE = Path(__file__).parent
N_INTERRUPTS = 12
# Runs of the model, a search, token runs, sweeps, and the methods with hooks of their
# own: what differs in how it cleans up.
INTERRUPTED = [
    *("MetricDrivenAttribution", "LeGrad", "FullGradPlus", "TransformerAttribution"),
    *("CausalActivationPatching", "VitCx", "resolve", "confidence_blur_baseline"),
    *("perturbation_scores", "completeness_error", "token_deletion"),
]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks a process")


def test_the_table_holds_every_public_callable() -> None:
    public = {name for each in public_callables.PACKAGES for name in each.__all__}
    assert public - public_callables.NO_CALLS == set(public_callables.CALLS)


@cache
def reports(what: str, *names: str) -> dict[str, dict[str, Any]]:
    """Run them all, each in a process of its own."""
    command = [sys.executable, HERE / "fresh_process.py", what, str(N_INTERRUPTS)]
    paths = [str(HERE), str(HERE.parent), *filter(None, sys.path)]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(paths),
    }
    found = subprocess.run(
        [*command, *names], env=environment, capture_output=True, text=True
    )
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(lines) == len(names or public_callables.CALLS), found.stderr
    return {line.pop("name"): line for line in lines}


@needs_fork
@pytest.mark.parametrize("name", public_callables.CALLS)
def test_nothing_changes_in_a_fresh_process(name: str) -> None:
    """After success, after errors in some forwards, and after Ctrl-C in them."""
    report = dict(reports("calls")[name])
    assert report.pop("forwards", None) is not None, report
    assert report == {}


@needs_fork
@pytest.mark.parametrize("name", INTERRUPTED)
def test_nothing_changes_when_interrupted_at_any_line(name: str) -> None:
    report = dict(reports("interrupts", *INTERRUPTED)[name])
    assert report.pop("lines", 0) > 100, report
    assert report.pop("interrupts") >= N_INTERRUPTS // 2
    assert report == {}
