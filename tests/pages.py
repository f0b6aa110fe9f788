"""Blocks of code in Markdown pages: found, and run."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from dataclasses import dataclass

NOT_RUN = "# not run:"
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code, where it stands, and what it prints according to the page."""

    code: str
    line: int
    output: str = ""

    @property
    def runs(self) -> bool:
        return not self.code.startswith(NOT_RUN)


def blocks_of(page: str) -> list[Block]:
    found: list[Block] = []
    for fence in _FENCE.finditer(page):
        language, content = fence.groups()
        if language == "python":
            line = page[: fence.start()].count("\n") + 1
            found.append(Block(content, line))
        elif language == "text":
            found[-1] = Block(found[-1].code, found[-1].line, content)
    return found


def run(block: Block, namespace: dict[str, object], name: str) -> str:
    # Lines of tracebacks are then those of the page.
    code = compile("\n" * block.line + block.code, name, "exec")
    printed = io.StringIO()
    if block.runs:
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)
    return printed.getvalue()


def commands_of(page: str) -> list[list[str]]:
    """Split every command of a page's console blocks into its words."""
    found: list[list[str]] = []
    for fence in _FENCE.finditer(page):
        language, content = fence.groups()
        if language == "console":
            for line in content.replace("\\\n", " ").splitlines():
                found += [shlex.split(part) for part in line.split("&&")]
    return found
