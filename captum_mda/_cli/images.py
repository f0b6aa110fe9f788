"""Images: which files they are, and how they are read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageOps

from captum_mda._cli.notes import Note, silent
from captum_mda._cli.pixels import background_colour, stored, to_rgb

# Formats that PIL lists and that are no pictures, or not for PIL alone.
_NO_IMAGES = frozenset({"BUFR", "GRIB", "HDF5", "MPEG"})

# Endings of images that PIL needs a plugin for: better an error than left out.
_OTHER_ENDINGS = frozenset(
    {".avif", ".cr2", ".cr3", ".dcm", ".dng", ".heic", ".heif", ".jxl", ".nef", ".svg"}
)


def find_images(paths: Iterable[Path], argument: str = "IMAGE") -> list[Path]:
    """List the images: files as they are, and of folders the images in them.

    Args:
        paths (iterable of Path): Files and folders. Folders within a folder are not
            searched, and hidden files are left out.
        argument (str, optional): What errors call them. Default: "IMAGE"

    Returns:
        *list[Path]*: files, perhaps missing ones; those of a folder by their names.

    Raises:
        ValueError: A folder has no images, or cannot be listed.
    """
    found: list[Path] = []
    for path in paths:
        found += _images_of(path, argument) if _is_folder(path) else [path]
    return found


def left_out(paths: Iterable[Path]) -> list[str]:
    """Say of each folder what of it is not read: a line each, none where all is.

    Args:
        paths (iterable of Path): Files and folders, as `find_images` takes them.
    """
    notes = []
    endings = _endings()
    for folder in filter(_is_folder, paths):
        shown = [path for path in folder.iterdir() if not path.name.startswith(".")]
        within = [path for path in shown if _is_folder(path)]
        others = [
            path
            for path in shown
            if path.suffix.lower() not in endings and path not in within
        ]
        parts = [
            f"{len(some)} {noun if len(some) == 1 else nouns}"
            for some, noun, nouns in (
                (others, "file that is no image", "files that are no images"),
                (within, "folder", "folders"),
            )
            if some
        ]
        if parts:
            notes.append(f"note: {folder}: {' and '.join(parts)} in it left out")
    return notes


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long, for which reading has its message
        return False


def _images_of(folder: Path, argument: str) -> list[Path]:
    try:
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
    except OSError as error:
        raise ValueError(
            f"{argument}: {folder} cannot be listed ({error.strerror})"
        ) from error
    endings = _endings()
    images = [
        path
        for path in entries
        if path.suffix.lower() in endings
        and not path.name.startswith(".")
        and not _is_folder(path)
    ]
    if images:
        return images
    folders = sum(_is_folder(path) for path in entries)
    within = f"; images of the {folders} folders in it are not searched for"
    raise ValueError(
        f"{argument}: the folder {folder} has no images{within if folders else ''}; "
        "pass files, or folders that hold them"
    )


def _endings() -> frozenset[str]:
    """List the endings of names that images have."""
    known = Image.registered_extensions()  # makes PIL load its plugins
    readable = {
        ending
        for ending, name in known.items()
        if name in Image.OPEN and name not in _NO_IMAGES
    }
    return frozenset(readable | _OTHER_ENDINGS)


def read_image(
    path: Path,
    background: str = "white",
    note: Note = silent,
    argument: str = "IMAGE",
) -> Image.Image:
    """Read an image, upright and in 8-bit RGB.

    Args:
        path (Path): A file of any format that PIL reads.
        background (str, optional): The colour behind transparent pixels.
            Default: "white"
        note (callable, optional): Told what the reader should know of the image, such
            as that other frames are left out. Default: tells nobody
        argument (str, optional): What errors call the path. Default: "IMAGE"

    Returns:
        *Image*: the image, turned as its EXIF data say; see `to_rgb`.

    Raises:
        ValueError: There is no such file, it is no image, or its pixels have no defined
            range.
    """
    colour = background_colour(background)
    try:
        if not path.exists():
            raise FileNotFoundError
        if not path.is_file():
            raise OSError("no regular file")
        with Image.open(path) as file:
            how = stored(file)
            file.load()
            image = ImageOps.exif_transpose(file)
    except FileNotFoundError as error:
        raise ValueError(f"{argument}: there is no file {path}") from error
    # On damaged files PIL's plugins raise whatever they stumble over.
    except Exception as error:
        raise ValueError(
            f"{argument}: {path} is no image, or a damaged one ({error}); pass a JPEG, "
            "a PNG, or another format that PIL reads"
        ) from error
    try:
        rgb, notes = to_rgb(image, how, colour)
    except ValueError as error:
        raise ValueError(f"{argument}: {path}: {error}") from error
    for text in notes:
        note(f"note: {path}: {text}")
    return rgb
