"""Descriptions of arguments that several functions share."""

from __future__ import annotations

import inspect
import re

import pytest

import captum_mda
from captum_mda import backward, demo, metrics, visualize, vit
from captum_mda._docstrings import documented

MARK = re.compile(r"^ +\w+: \.\.\.$", re.MULTILINE)
LONG = " ".join(["(int, optional): words"] + ["and more"] * 20)


def source(*descriptions: str) -> object:
    """Return something whose docstring describes arguments."""

    def function() -> None:
        pass

    function.__doc__ = "Do it.\n\n    Args:\n" + "".join(
        f"        {each}\n" for each in descriptions
    )
    return function


def test_a_description_is_wrapped_and_indented() -> None:
    @documented(source(f"count {LONG}", "other (str): Not taken."))
    def function(count: int = 0, other: int = 0) -> None:
        """Do it.

        Args:
            count: ...
            other (int): Not shared: ...
        """

    lines = inspect.cleandoc(str(function.__doc__)).splitlines()
    assert lines[3].startswith("    count (int, optional): words and more")
    assert lines[4].startswith("        ") and lines[-1].endswith("Not shared: ...")
    assert max(map(len, str(function.__doc__).splitlines())) <= 88
    assert " ".join(" ".join(lines[3:-1]).split()) == f"count {LONG}"


def test_the_first_source_that_describes_an_argument_is_taken() -> None:
    first, second = source("a (int): One."), source("a (int): Two.", "b (int): Three.")

    @documented(first, second)
    def function(a: int, b: int) -> None:
        """Do it.

        Args:
            a: ...
            b: ...
        """

    assert "a (int): One." in str(function.__doc__)
    assert "b (int): Three." in str(function.__doc__)


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError, match="count"):

        @documented(source("other (int): It."))
        def function(count: int) -> None:
            """Do it.

            Args:
                count: ...
            """


def test_without_docstrings_nothing_happens() -> None:
    def function() -> None:
        pass

    assert documented(source("count (int): It."))(function) is function
    assert function.__doc__ is None


@pytest.mark.parametrize(
    "package", [captum_mda, backward, demo, metrics, visualize, vit]
)
def test_no_public_docstring_has_marks_left(package: object) -> None:
    for name in package.__all__:  # type: ignore[attr-defined]
        public = getattr(package, name)
        for part in (
            [public, *vars(public).values()] if inspect.isclass(public) else [public]
        ):
            assert not MARK.search(getattr(part, "__doc__", None) or ""), name
