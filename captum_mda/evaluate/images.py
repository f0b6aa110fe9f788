"""Images: files, folders of files, and the demo model's samples with their masks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image, ImageOps
from torch import Tensor

from captum_mda.evaluate._arguments import ArgumentError
from captum_mda.evaluate._file_names import showable, unique_names
from captum_mda.evaluate._notes import Note, silent
from captum_mda.evaluate._pixels import background_colour, stored, to_rgb

# Formats that PIL lists and that hold no images, or need another library.
_NO_IMAGES = frozenset({"BUFR", "GRIB", "HDF5", "MPEG"})

_MAX_NAME = 20  # characters of a name beside a progress bar

# Endings of images that PIL needs a plugin for: better an error than left out.
_OTHER_ENDINGS = frozenset(
    {".avif", ".cr2", ".cr3", ".dcm", ".dng", ".heic", ".heif", ".jxl", ".nef", ".svg"}
)


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """Where an image is from, what its files are called, and how to read it.

    Args:
        origin (str): Its path, or what it is otherwise.
        name (str): What the files written for it are called, without their endings.
        read (callable): Returns the image as the model takes it, (C, H, W).
        mask (Tensor, optional): Where its object is, bool (H, W). None: not known.
            Default: None
        is_sample (bool, optional): Whether it was drawn for the demo model.
            Default: False
    """

    origin: str
    name: str
    read: Callable[[], Tensor]
    mask: Tensor | None = None
    is_sample: bool = False

    @property
    def short_name(self) -> str:
        """Its name beside a progress bar."""
        return self.name[:_MAX_NAME]


def image_files(
    paths: Sequence[Path],
    transform: Callable[[Image.Image], Tensor],
    background: str = "white",
    note: Note = silent,
) -> list[ImageSource]:
    """List images of files and folders, to be read one by one.

    Args:
        paths (sequence of Path): As for `find_images`.
        transform (callable): Turns an RGB image into the model's input, such as
            ``classifier.transform``.
        background (str, optional): As for `read_image`. Default: "white"
        note (callable, optional): As for `read_image`. Default: tells nobody

    Returns:
        *list[ImageSource]*: one for each file, with names that differ.
    """
    files = find_images(paths)

    def reader(path: Path) -> Callable[[], Tensor]:
        return lambda: transform(read_image(path, background, note))

    return [
        ImageSource(origin=showable(str(path)), name=name, read=reader(path))
        for path, name in zip(files, unique_names(files), strict=True)
    ]


def demo_samples(n_samples: int = 4, seed: int = 2) -> list[ImageSource]:
    """Draw samples for the demo model, with the masks of their objects.

    Args:
        n_samples (int, optional): How many. Default: 4
        seed (int, optional): Of the generator; the model was trained on 0 and 1.
            Default: 2

    Example::

        >>> sample = demo_samples(1)[0]
        >>> sample.name, tuple(sample.read().shape), tuple(sample.mask.shape)
        ('demo-2-0', (3, 64, 64), (64, 64))
    """
    from captum_mda import demo

    samples = demo.make_samples(n_samples, seed)
    return [
        ImageSource(
            origin=f"demo sample {index} of seed {seed}",
            name=name,
            read=partial(samples.images.__getitem__, index),
            mask=samples.masks[index, 0],
            is_sample=True,
        )
        for index, name in enumerate(sample_names(n_samples, seed))
    ]


def sample_names(n_samples: int, seed: int) -> list[str]:
    """Name the files that are written for samples, without their endings."""
    return [f"demo-{seed}-{index}" for index in range(n_samples)]


def find_images(paths: Iterable[Path], argument: str = "{images}") -> list[Path]:
    """List the images: files as they are, and of folders the images in them.

    Args:
        paths (iterable of Path): Files and folders. Folders within a folder are not
            searched, and hidden files are left out.
        argument (str, optional): What errors call them. Default: "images"

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
        raise ArgumentError(
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
    raise ArgumentError(
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
    argument: str = "{images}",
) -> Image.Image:
    """Read an image, upright and in 8-bit RGB.

    Args:
        path (Path): A file of any format that PIL reads.
        background (str, optional): The colour behind transparent pixels.
            Default: "white"
        note (callable, optional): Told what the reader should know of the image, such
            as that other frames are left out. Default: tells nobody
        argument (str, optional): What errors call the path. Default: "images"

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
        raise ArgumentError(f"{argument}: there is no file {path}") from error
    # On damaged files PIL's plugins raise whatever they stumble over.
    except Exception as error:
        raise ArgumentError(
            f"{argument}: {path} is no image, or a damaged one ({error}); pass a JPEG, "
            "a PNG, or another format that PIL reads"
        ) from error
    try:
        rgb, notes = to_rgb(image, how, colour)
    except ValueError as error:
        raise ArgumentError(f"{argument}: {path}: {error}") from error
    for text in notes:
        note(f"note: {path}: {text}")
    return rgb
