"""What the commands share: their common options, the pictures, and what is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import cast

from torch import Tensor

from captum_mda._cli.file_names import showable, unique_names
from captum_mda._cli.images import find_images, read_image
from captum_mda._cli.models import Classifier, DEMO, load_classifier
from captum_mda._cli.notes import Note
from captum_mda._cli.pixels import background_colour
from captum_mda._cli.question import DELETION_BASELINES
from captum_mda._cli.timm_models import parse_model_args
from captum_mda.perturbation.inputs import require_choice, require_positive_integer
from captum_mda.perturbation.scores import Score, SCORES


@dataclass(frozen=True)
class ModelOptions:
    """Which model, and what its outputs mean; see ``captum-mda explain --help``."""

    model: str
    weights: Path | None
    weights_key: str | None
    pretrained: bool | None
    num_classes: int | None
    model_args: tuple[str, ...]
    labels: Path | None
    score: str
    patch_size: int | None
    device: str

    def check(self) -> None:
        """Raise a ValueError if an option is out of its range."""
        require_choice("--device", self.device, ("auto", "cpu", "cuda"))
        require_choice("--score", self.score, SCORES)
        if self.num_classes is not None:
            require_positive_integer("--num-classes", self.num_classes)
        if self.weights_key is not None and self.weights is None:
            raise ValueError("--weights-key: got a key without --weights FILE")
        parse_model_args(self.model_args)

    def load(self, note: Note) -> Classifier:
        """Load the model.

        Raises:
            ValueError: It cannot be had.
        """
        return load_classifier(
            self.model,
            self.weights,
            self.pretrained,
            self.patch_size,
            self.device,
            weights_key=self.weights_key,
            num_classes=self.num_classes,
            model_args=parse_model_args(self.model_args),
            labels=self.labels,
            score=cast(Score, self.score),
            note=note,
        )

    @property
    def files(self) -> list[Path]:
        """What is read."""
        return [path for path in (self.weights, self.labels) if path is not None]


@dataclass(frozen=True)
class CommonOptions:
    """What every command was asked for; see ``captum-mda explain --help``."""

    images: tuple[Path, ...]
    model: ModelOptions
    target: str | None
    background: str
    deletion_baseline: str
    batch_size: int | None
    samples: int
    sample_seed: int
    show_progress: bool
    out: Path

    @cached_property
    def files(self) -> list[Path]:
        """The images' files, those of folders included."""
        return find_images(self.images)

    def check(self) -> None:
        """Find what is wrong with the options before any work.

        Raises:
            ValueError: An option is out of its range, or no image can be read.
        """
        self.model.check()
        require_choice(
            "--deletion-baseline", self.deletion_baseline, DELETION_BASELINES
        )
        background_colour(self.background, "--background")
        require_positive_integer("--samples", self.samples)
        if self.batch_size is not None:
            require_positive_integer("--batch-size", self.batch_size)
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"--out: {self.out} is a file, takes a folder")
        if self.model.model != DEMO and not self.images:
            raise ValueError(
                f"IMAGE: got none, and {self.model.model} needs at least one; only "
                f"--model {DEMO} brings pictures of its own"
            )
        self._require_a_readable_image()

    def _require_a_readable_image(self) -> None:
        """Raise the first image's error if no image can be read."""
        first: ValueError | None = None
        for path in self.files:
            try:
                read_image(path, self.background)
            except ValueError as error:
                first = first or error
            else:
                return
        if first is not None:
            more = f" (nor can the other {len(self.files) - 1} images be read)"
            raise ValueError(f"{first}{more if len(self.files) > 1 else ''}") from first

    def target_of(self, classifier: Classifier) -> int | None:
        """Find the wanted class; None for each image's likeliest.

        Raises:
            ValueError: The model does not know it.
        """
        return None if self.target is None else classifier.find_class(self.target)

    def require_nothing_read_is_written(
        self, written: Iterable[Path], more_read: Iterable[Path] = ()
    ) -> None:
        """Raise a ValueError if a file would be overwritten that is also read.

        Args:
            written (iterable of Path): All files that the command writes.
            more_read (iterable of Path, optional): What it reads besides the images and
                the model's files. Default: ()
        """
        read = {
            _resolved(path) for path in (*self.files, *self.model.files, *more_read)
        }
        for path in written:
            if _resolved(path) in read:
                raise ValueError(
                    f"--out: {self.out} would have {path} overwritten, which is "
                    "read; name another folder"
                )


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except OSError:  # a name that is too long, of an image that has its error
        return path.absolute()


@dataclass(frozen=True)
class Picture:
    """Where a picture is from, what its files are called, and how to get it."""

    origin: str
    name: str
    read: Callable[[], Tensor]  # (C, H, W), as the model takes it


def find_pictures(
    options: CommonOptions, classifier: Classifier, note: Note
) -> list[Picture]:
    """List the pictures: the files, or without any the demo model's samples."""
    if not options.images:
        return _demo_pictures(options.samples, options.sample_seed)

    def from_file(path: Path) -> Callable[[], Tensor]:
        return lambda: classifier.transform(read_image(path, options.background, note))

    names = unique_names(options.files)
    return [
        Picture(showable(str(path)), name, from_file(path))
        for path, name in zip(options.files, names, strict=True)
    ]


def _demo_pictures(n_samples: int, seed: int) -> list[Picture]:
    from captum_mda import demo

    images = demo.make_samples(n_samples, seed).images
    return [
        Picture(
            f"demo sample {index} of seed {seed}",
            f"demo-{seed}-{index}",
            partial(images.__getitem__, index),
        )
        for index in range(n_samples)
    ]
