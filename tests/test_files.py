"""Writing files: links, modes, what is no file, and what killed runs leave behind."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from captum_mda import MDAExplanation, MetricDrivenAttribution
from captum_mda._files import replacing
from captum_mda.visualize import save_figure

SOURCE = "from captum_mda._files import replacing"


def write(path: Path, text: str = "new") -> None:
    with replacing(path) as beside:
        beside.write_text(text)


def test_a_new_file_has_the_usual_mode(tmp_path: Path) -> None:
    plain = tmp_path / "plain.txt"
    plain.write_text("")
    write(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert (tmp_path / "a.txt").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o664, 0o755])
def test_an_old_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(mode)
    write(path)
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_an_old_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    os.chown(path, 12345, 23456)
    write(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


def test_links_are_followed_and_stay(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = tmp_path / "real" / "a.txt"
    real.write_text("old")
    real.chmod(0o600)
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    first.symlink_to("real/a.txt")
    second.symlink_to(first)
    write(second)
    assert first.is_symlink() and second.is_symlink()
    assert real.read_text() == "new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert os.listdir(tmp_path / "real") == ["a.txt"]


def test_a_link_to_nothing_makes_its_file(tmp_path: Path) -> None:
    link = tmp_path / "link.txt"
    link.symlink_to("new.txt")
    write(link)
    assert link.is_symlink()
    assert (tmp_path / "new.txt").read_text() == "new"


def test_a_link_into_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    link = tmp_path / "link.txt"
    link.symlink_to("missing/new.txt")
    with pytest.raises(FileNotFoundError, match=r"path: the folder .*missing does not"):
        write(link)


def make_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


NO_FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "folder": (Path.mkdir, "is a folder"),
    "pipe": (os.mkfifo, "is a named pipe"),
    "socket": (make_socket, "is a socket"),
    "link to a device": (lambda path: path.symlink_to("/dev/null"), "is a device"),
    "loop": (loop, "cannot be written to .*links"),
}


@pytest.mark.parametrize("name", NO_FILES)
def test_what_is_no_file_is_refused_and_stays(tmp_path: Path, name: str) -> None:
    make, message = NO_FILES[name]
    path = tmp_path / "a.txt"
    make(path)
    before = path.lstat()
    with pytest.raises(ValueError, match=f"path: '.*a.txt' {message}"):
        write(path)
    after = path.lstat()
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_device_is_refused() -> None:
    before = os.stat("/dev/null")
    with pytest.raises(ValueError, match="path: '/dev/null' is a device"):
        write(Path("/dev/null"))
    assert os.stat("/dev/null").st_rdev == before.st_rdev


@pytest.mark.parametrize("name", ["a" * 250 + ".png", "\udcff.png", "ä b.tar.gz"])
def test_names_that_are_long_or_odd(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    assert os.listdir(tmp_path) == [name]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as beside:
        beside.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def start_writer(path: Path) -> subprocess.Popen[str]:
    """Start a process that is in the middle of writing, and wait until it is."""
    code = (
        f"{SOURCE}\nimport time\n"
        f"with replacing({str(path)!r}) as beside:\n"
        "    beside.write_text('half'); print('writing', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    return process


def test_what_a_killed_run_left_is_removed_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    mine = tmp_path / ".a-12345678.txt"  # somebody's own file
    mine.write_text("mine")
    process = start_writer(path)
    write(tmp_path / "other.txt")
    assert len(os.listdir(tmp_path)) == 3  # another file's writer is left alone
    process.send_signal(signal.SIGKILL)
    process.wait()
    write(path)
    assert sorted(os.listdir(tmp_path)) == [mine.name, "a.txt", "other.txt"]


def test_a_run_that_still_writes_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with replacing(path) as beside:
        beside.write_text("first")
        write(path, "second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_explanation_is_saved_through_a_link(tmp_path: Path) -> None:
    explanation = MetricDrivenAttribution(lambda x: x.sum(1)).explain(
        torch.tensor([[3.0, 1.0]])
    )
    real, link = tmp_path / "real.safetensors", tmp_path / "link.safetensors"
    real.write_bytes(b"old")
    real.chmod(0o600)
    link.symlink_to(real)
    explanation.save(link)
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert torch.equal(MDAExplanation.load(link).order, explanation.order)
    with pytest.raises(ValueError, match=r"path: .* is a folder"):
        explanation.save(tmp_path)


def test_a_figure_is_saved_through_a_link_in_the_format_of_its_name(
    tmp_path: Path,
) -> None:
    real, link = tmp_path / "store", tmp_path / "link.png"
    real.write_bytes(b"old")
    link.symlink_to(real)
    save_figure(Figure(figsize=(1, 1)), link)
    assert link.is_symlink()
    assert real.read_bytes().startswith(b"\x89PNG")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"path: .*pipe.png' is a named pipe"):
        save_figure(Figure(figsize=(1, 1)), tmp_path / "pipe.png")
