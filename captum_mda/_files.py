"""Files that are written completely or not at all."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_NOT_REGULAR = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path to write to, and rename it to ``path`` on success.

    After an error the temporary file is removed and an older file at ``path`` is
    unchanged. If ``path`` is a symbolic link, its target is replaced and the link
    stays. The new file gets the mode of the old one, and its owner where that is
    allowed; other hard links to the old file keep the old contents. Temporary files of
    runs that were killed are removed.

    Args:
        path (str or PathLike): The path of the file; its folder must exist.

    Raises:
        FileNotFoundError: The folder does not exist.
        PermissionError: The folder cannot be written to.
        ValueError: ``path`` exists and is no regular file.
    """
    replaced = _replaced_file(path)
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"path: the folder {target.parent} does not exist")
    # Short, as the name may have the greatest length, and the same for each run.
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    prefix = f".captum_mda-{digest}-"
    _remove_abandoned(target.parent, prefix)
    # The suffix of the name that was passed tells the format, not that of its target.
    handle, beside = _locked_file(target.parent, prefix, Path(path).suffix)
    try:
        yield beside
        _take_over(beside, replaced)
        beside.replace(target)
    finally:
        if handle is not None:
            os.close(handle)
        beside.unlink(missing_ok=True)


def _replaced_file(path: str | os.PathLike[str]) -> os.stat_result | None:
    """Read the status of an existing file; raise if it is no regular file."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:  # circular links, names that are too long
        raise ValueError(
            f"path: {os.fspath(path)!r} cannot be written to ({error.strerror}); pass "
            "another name"
        ) from error
    if not stat.S_ISREG(found.st_mode):
        names = (name for is_one, name in _NOT_REGULAR if is_one(found.st_mode))
        what = next(names, "no regular file")
        raise ValueError(
            f"path: {os.fspath(path)!r} is {what}, takes a new name or a file to "
            "replace"
        )
    return found


def _locked_file(folder: Path, prefix: str, suffix: str) -> tuple[int | None, Path]:
    """Make an empty file in a folder that is locked while it is open."""
    while True:
        try:
            handle, name = tempfile.mkstemp(dir=folder, prefix=prefix, suffix=suffix)
        except PermissionError as error:
            raise PermissionError(
                f"path: the folder {folder} cannot be written to"
            ) from error
        if fcntl is None:  # and open files cannot be renamed
            os.close(handle)
            return None, Path(name)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:  # else another run has removed it as abandoned
            return handle, Path(name)
        os.close(handle)


def _remove_abandoned(folder: Path, prefix: str) -> None:
    """Remove files whose lock no process holds."""
    if fcntl is None:
        return
    for name in os.listdir(folder) if os.access(folder, os.R_OK) else ():
        if not name.startswith(prefix):
            continue
        with suppress(OSError):  # it is locked, removed, or not ours
            handle = os.open(folder / name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(folder / name)
            finally:
                os.close(handle)


def _take_over(beside: Path, replaced: os.stat_result | None) -> None:
    """Give a new file the mode and owner of the old one, or the default mode."""
    if replaced is None:
        # mkstemp makes files that only their owner can read.
        mask = os.umask(0)
        os.umask(mask)
        beside.chmod(0o666 & ~mask)
        return
    made = beside.stat()
    if (made.st_uid, made.st_gid) != (replaced.st_uid, replaced.st_gid):
        with suppress(OSError, AttributeError):  # only root may change owners
            os.chown(beside, replaced.st_uid, replaced.st_gid)
    beside.chmod(replaced.st_mode & 0o777)
