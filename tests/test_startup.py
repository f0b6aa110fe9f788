"""What is imported when: the command line's help and checks do without PyTorch."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys

import pytest
from huggingface_hub import constants

import captum_mda
from captum_mda._checks import require_choice
from captum_mda._cli.method_option import chosen_methods
from captum_mda.evaluate import _hub as hub
from captum_mda.evaluate._notes import silent
from captum_mda.evaluate._timm_models import load_timm_model, TimmOptions

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
        ("explain", "a.png"),
        ("compare", "a.png"),
        ("explain", "a.png", "--model", "x", "--weights", "no such file"),
        ("explain", "a.png", "--model", "x", "--labels", "no such file"),
        ("explain", "a.png", "--model", "x", "--ordering", "relax"),
        ("explain", "a.png", "--model", "x", "--magnitude", "papr"),
        ("explain", "a.png", "--model", "x", "--solver", "qp"),
        ("explain", "a.png", "--model", "x", "--score", "logit"),
        ("explain", "a.png", "--model", "x", "--seed-method", "caap"),
        ("compare", "a.png", "--model", "x", "--device", "gpu"),
        ("compare", "a.png", "--model", "x", "--deletion-baseline", "blur"),
    ],
)
def test_words_are_refused_before_pytorch_is_imported(
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


@pytest.mark.parametrize(
    ("word", "meant"),
    [("le-grad", "legrad"), ("gradcam", "grad-cam"), ("VitCX", "vit-cx")],
)
def test_near_misses_of_methods_are_suggested(word: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean '{meant}'"):
        chosen_methods([word])


def test_near_misses_of_choices_are_suggested() -> None:
    with pytest.raises(ValueError, match="; did you mean 'relaxed'"):
        require_choice("ordering", "relax", ("paper", "fast", "relaxed"))
    with pytest.raises(ValueError, match=r"takes one of 'paper', 'fast'$"):
        require_choice("ordering", "xyz", ("paper", "fast"))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("deit_tiny", "deit_tiny"),
        ("vit-base", "vit_base"),
        ("deit_tinny_patch16_224", "deit_tiny_patch16_224"),
    ],
)
def test_near_misses_of_models_are_suggested(name: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean .*{meant}"):
        load_timm_model(TimmOptions(name=name), silent)


def test_hub_out_of_reach_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "getproxies", dict)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for answers in (False, True):
        monkeypatch.setattr(hub, "_answers", lambda endpoint, a=answers: a)
        with hub.hub_within_reach():
            assert constants.HF_HUB_OFFLINE is not answers
        assert constants.HF_HUB_OFFLINE is False


def test_closed_port_does_not_answer() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert not hub._answers(f"http://127.0.0.1:{port}")
        server.listen()
        assert hub._answers(f"http://127.0.0.1:{port}")


def test_words_of_options_are_those_that_their_modules_know() -> None:
    from captum_mda._cli import options
    from captum_mda.evaluate import case, models, prior
    from captum_mda.magnitude import MAGNITUDE_RULES, SOLVERS
    from captum_mda.ordering import ORDERINGS
    from captum_mda.perturbation.precision import PRECISIONS
    from captum_mda.perturbation.scores import SCORES

    known = {
        "--deletion-baseline": case.DELETION_BASELINES,
        "--device": models.DEVICES,
        "--magnitude": MAGNITUDE_RULES,
        "--ordering": ORDERINGS,
        "--precision": PRECISIONS,
        "--score": SCORES,
        "--seed-method": prior.PRIOR_METHODS,
        "--solver": SOLVERS,
    }
    assert {name: set(words) for name, words in options.CHOICES.items()} == {
        name: set(words) for name, words in known.items()
    }


def test_words_are_completed() -> None:
    from captum_mda._cli.method_option import completed_methods
    from captum_mda._cli.options import _completing as completing

    assert completing("--ordering")("re") == ["relaxed"]
    assert completed_methods("libra") == ["libra-fullgrad", "libra-ixg"]
