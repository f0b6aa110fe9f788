"""The package stays readable: largest sizes, and records that are built by name."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import pytest

import captum_mda

PACKAGE = Path(captum_mda.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 400  # of a file
MOST_CODE = 50  # lines of a function, without docstrings, comments and blank lines
MOST_METHODS = 12  # of a class, unless a comment gives the reason
REASON = "# More than twelve methods:"

Function = ast.FunctionDef | ast.AsyncFunctionDef
NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT),
    *(tokenize.DEDENT, tokenize.ENDMARKER),
}


def docstring_lines(tree: ast.AST) -> set[int]:
    """Find the lines of docstrings, those of attributes included."""
    return {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def code_lines(source: str) -> set[int]:
    """Find the lines that hold code."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    code = {
        line
        for token in tokens
        if token.type not in NO_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    return code - docstring_lines(ast.parse(source))


def gives_reason(node: ast.ClassDef, source: str) -> bool:
    """Look for the comment above the class, or above its first statement or method."""
    lines = source.splitlines()
    first = min([node.lineno, *(each.lineno for each in node.decorator_list)]) - 2
    above = []
    while first >= 0 and lines[first].lstrip().startswith("#"):
        above.append(lines[first])
        first -= 1
    body = (
        node.body[1:] if docstring_lines(ast.Module([node.body[0]], [])) else node.body
    )
    end = body[0].lineno if body else node.lineno
    inside = lines[node.lineno : end]
    return any(line.lstrip().startswith(REASON) for line in above + inside)


def too_large(source: str) -> list[str]:
    """List what a file has above the limits."""
    n_lines, code = len(source.splitlines()), code_lines(source)
    found = [f"{n_lines} lines"] if n_lines > MOST_LINES else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function):
            n = len(code & set(range(node.lineno, (node.end_lineno or 0) + 1)))
            if n > MOST_CODE:
                found.append(f"{node.name}: {n} lines of code")
        elif isinstance(node, ast.ClassDef):
            n = sum(isinstance(each, Function) for each in node.body)
            if n > MOST_METHODS and not gives_reason(node, source):
                found.append(f"{node.name}: {n} methods")
    return found


def loose_records(source: str) -> list[str]:
    """List dataclasses of more than three fields that are not frozen and keyword-only.

    Those with a comment above the decorator, for a reason, are left out.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        for decorator in getattr(node, "decorator_list", ()):
            if not (
                isinstance(node, ast.ClassDef) and "dataclass" in called(decorator)
            ):
                continue
            annotated = [each for each in node.body if isinstance(each, ast.AnnAssign)]
            names = [ast.unparse(each.annotation) for each in annotated]
            before = names.index("KW_ONLY") if "KW_ONLY" in names else len(names)
            positional = [name for name in names[:before] if "ClassVar" not in name]
            options = ast.unparse(decorator)
            strict = "frozen=True" in options and (
                "kw_only=True" in options or len(positional) < 4
            )
            above = source.splitlines()[decorator.lineno - 2].lstrip()
            if len(names) > 3 and not strict and not above.startswith("#"):
                found.append(node.name)
    return found


def called(decorator: ast.expr) -> str:
    """Name a decorator."""
    return ast.unparse(decorator.func if isinstance(decorator, ast.Call) else decorator)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_is_too_large(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert not too_large(source) and not loose_records(source)


def test_large_things_are_found() -> None:
    body = '    """Doc.\n\n    More.\n    """\n\n    # why\n' + "    x = 1\n" * 50
    assert too_large(f"def long(\n    y,\n):\n{body}") == ["long: 53 lines of code"]
    assert not too_large("def fits():\n" + body.replace("    x = 1\n", "", 1))
    assert too_large("# a comment\n" * 401) == ["401 lines"]
    methods = "".join(f"    def m{i}(self): ...\n" for i in range(13))
    assert too_large(f"class Many:\n{methods}") == ["Many: 13 methods"]
    assert not too_large(f"{REASON} as a model has.\nclass Many:\n{methods}")
    assert not too_large(
        f'class Many:\n    """Doc."""\n\n    {REASON} as a model has.\n{methods}'
    )


def test_records_with_many_fields_are_frozen_and_keyword_only() -> None:
    fields = "".join(f"    f{i}: int\n" for i in range(4))
    strict = f"@dataclass(frozen=True, kw_only=True)\nclass A:\n{fields}"
    loose = f"@dataclass(frozen=True)\nclass A:\n{fields}"
    assert not loose_records(strict) and loose_records(loose) == ["A"]
    assert loose_records(f"@dataclass(kw_only=True)\nclass A:\n{fields}") == ["A"]
    assert not loose_records(f"# Positional, as in version 0.1.\n{loose}")
    assert not loose_records("@dataclass\nclass A:\n    f: int\n")
    some = "    f: int\n    _: KW_ONLY\n    g: int\n    h: int\n"
    assert not loose_records(f"@dataclass(frozen=True)\nclass A:\n{some}")
