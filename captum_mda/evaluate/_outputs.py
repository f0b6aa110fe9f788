"""The folder of what is written: checked before any work."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from captum_mda.evaluate._arguments import ArgumentError

_MOST_LISTED = 3


def require_outputs(
    folder: Path, names: Sequence[str], read: Iterable[Path], overwrite: bool
) -> None:
    """Raise unless files can be written, and none is lost by it.

    Nothing is left behind: the file that is written to find out is removed, and so are
    folders that it was made with.

    Args:
        folder (Path): Where the files shall be; it may be missing.
        names (sequence of str): What they are called.
        read (iterable of Path): Files that are read, which are never overwritten.
        overwrite (bool): Whether files of an earlier run may be replaced.

    Raises:
        ValueError: The folder is none, or cannot be written to; or a file that is there
            would be replaced.
    """
    if _exists(folder) and not folder.is_dir():
        raise ArgumentError(f"{{out}}: {folder} is a file, takes a folder")
    inputs = {_resolved(path) for path in read}
    there = [name for name in names if _exists(folder / name)]
    for name in there:
        if _resolved(folder / name) in inputs:
            raise ArgumentError(
                f"{{out}}: {folder} would have {folder / name} overwritten, which is "
                "read; name another folder"
            )
        if (folder / name).is_dir():
            raise ArgumentError(
                f"{{out}}: {folder / name} is a folder, where a file is to be written; "
                "name another folder for {out}"
            )
    if there and not overwrite:
        raise ArgumentError(
            f"{{out}}: {folder} already has {_listed(there)}; write into another "
            "folder with {out=FOLDER}, or pass {overwrite=True} to replace what an "
            "earlier or interrupted run has left"
        )
    _require_writable(folder)


def _listed(names: Sequence[str]) -> str:
    further = len(names) - _MOST_LISTED
    if further > 0:
        return f"{', '.join(names[:_MOST_LISTED])} and {further} more of its files"
    return " and ".join(names) if len(names) < 3 else ", ".join(names)


def _require_writable(folder: Path) -> None:
    made: list[Path] = []
    try:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir()
            made.append(path)
        handle, name = tempfile.mkstemp(prefix=".captum_mda-probe-", dir=folder)
        try:
            os.write(handle, b"captum_mda")
        finally:
            os.close(handle)
            os.unlink(name)
    except OSError as error:
        raise ArgumentError(
            f"{{out}}: nothing can be written into {folder} "
            f"({error.strerror or error}); name another folder"
        ) from error
    finally:
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir()


def _exists(path: Path) -> bool:
    return os.path.lexists(path)  # False, not an error, for names that are too long


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except OSError:  # a name that is too long, of an image that has its error
        return path.absolute()
