"""What is imported when: the command line's help and checks do without PyTorch."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

import captum_mda

_HEAVY = ("torch", "timm", "matplotlib", "scipy", "captum")

_SCRIPT = """
import sys
from captum_mda.cli import main
sys.argv = ["captum-mda", *{arguments!r}]
try:
    main()
except SystemExit as end:
    code = end.code
loaded = [name for name in {heavy!r} if name in sys.modules]
print("exit", code, "loaded", loaded, file=sys.stderr)
"""


def _run(*arguments: str) -> tuple[str, str]:
    script = _SCRIPT.format(arguments=arguments, heavy=_HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("--version",), ("explain", "--help"), ("compare", "--help")],
)
def test_help_and_version_import_nothing_heavy(arguments: tuple[str, ...]) -> None:
    out, err = _run(*arguments)

    assert out
    assert err.endswith("exit 0 loaded []\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "--methods", "le-grad"),
        ("explain", "--colour"),
        ("explain", "--tau", "high"),
        ("explian",),
    ],
)
def test_mistyped_words_are_refused_before_pytorch_is_imported(
    arguments: tuple[str, ...],
) -> None:
    _, err = _run(*arguments)

    assert err.endswith("exit 2 loaded []\n")


def test_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "captum_mda", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == f"captum-mda {captum_mda.__version__}\n"


def test_every_public_name_is_listed_and_can_be_read() -> None:
    script = (
        "import captum_mda\n"
        "assert set(captum_mda.__all__) <= set(dir(captum_mda))\n"
        "from captum_mda import *\n"
        "names = [name for name in captum_mda.__all__ if name not in globals()]\n"
        "assert not names, names\n"
        "assert captum_mda.metrics.insertion and captum_mda.demo.load_model\n"
        "assert captum_mda.attr.LeGrad is LeGrad\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_missing_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'LeGard'"):
        captum_mda.LeGard  # noqa: B018


def test_public_classes_are_pickled_by_name() -> None:
    loaded = pickle.loads(pickle.dumps(captum_mda.LeGrad))

    assert loaded is captum_mda.LeGrad
