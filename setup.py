"""The README as a package index shows it; setup.cfg has all else.

An index knows no folders: what is relative in a link would lead nowhere there.
"""

import re
from pathlib import Path

from setuptools import setup

# An image or a link to a file of this repository: neither an address nor an anchor.
_RELATIVE = re.compile(r"(!?)\[([^\]]*)\]\((?!\w+:|#)([^)]+)\)")


def _named(link: re.Match[str]) -> str:
    mark, text, path = link.groups()
    path = path.split("#")[0]
    if mark:
        return f"*{text} (`{path}` in the source distribution).*"
    return f"`{path}`" if text == path else f"{text} (`{path}`)"


def for_an_index(readme: str) -> str:
    """Name the files that a README links to, in place of the links."""
    return _RELATIVE.sub(_named, readme)


if __name__ == "__main__":
    text = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    setup(long_description=for_an_index(text))
