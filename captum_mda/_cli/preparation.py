"""What the commands share: their common options, the pictures, and what is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import cast

from torch import Tensor

from captum_mda._cli.file_names import showable, unique_names
from captum_mda._cli.images import find_images, read_image
from captum_mda._cli.models import Classifier, DEMO, load_classifier
from captum_mda._cli.notes import Note
from captum_mda._cli.options import SAMPLE_SEED, SAMPLES
from captum_mda._cli.outputs import require_outputs
from captum_mda._cli.pixels import background_colour
from captum_mda._cli.question import DELETION_BASELINES
from captum_mda._cli.timm_models import parse_model_args
from captum_mda.perturbation.inputs import require_choice, require_positive_integer
from captum_mda.perturbation.scores import Score, SCORES


@dataclass(frozen=True)
class ModelOptions:
    """Which model, and what its outputs mean; see ``captum-mda explain --help``."""

    model: str | None
    weights: Path | None
    weights_key: str | None
    pretrained: bool | None
    num_classes: int | None
    model_args: tuple[str, ...]
    labels: Path | None
    score: str
    patch_size: int | None
    device: str

    @property
    def name(self) -> str:
        """The model's name; the demo model, unless one is named."""
        return DEMO if self.model is None else self.model

    @property
    def weights_name(self) -> str:
        """Where the weights are from: a file's name, "pretrained" or "random"."""
        if self.name == DEMO:
            return DEMO
        if self.weights is not None:
            return showable(self.weights.name)
        return "random" if self.pretrained is False else "pretrained"

    def require_named(self) -> None:
        """Raise a ValueError if options belong to a model without a name."""
        if self.model is not None:
            return
        given = {
            "--weights": self.weights,
            "--weights-key": self.weights_key,
            "--pretrained/--no-pretrained": self.pretrained,
            "--num-classes": self.num_classes,
            "--model-arg": self.model_args or None,
            "--labels": self.labels,
        }
        for option, value in given.items():
            if value is not None:
                raise ValueError(
                    f"{option}: got no model that it is for; pass --model NAME, such "
                    "as --model deit_tiny_patch16_224, and IMAGE, as the demo model's "
                    "samples are for it alone"
                )

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
            self.name,
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
    samples: int | None
    sample_seed: int | None
    show_progress: bool
    out: Path
    overwrite: bool = False

    @cached_property
    def files(self) -> list[Path]:
        """The images' files, those of folders included."""
        return find_images(self.images)

    def check(self) -> None:
        """Find what is wrong with the options before any work.

        Raises:
            ValueError: An option is out of its range, or no image can be read.
        """
        self.model.require_named()
        self.model.check()
        require_choice(
            "--deletion-baseline", self.deletion_baseline, DELETION_BASELINES
        )
        background_colour(self.background, "--background")
        require_positive_integer("--samples", self.n_samples)
        for option, value in (
            ("--samples", self.samples),
            ("--sample-seed", self.sample_seed),
        ):
            if self.images and value is not None:
                raise ValueError(
                    f"{option}: is for the demo model's own samples, and IMAGE is "
                    f"given; leave out {option}, or the images"
                )
        if self.batch_size is not None:
            require_positive_integer("--batch-size", self.batch_size)
        if self.model.name != DEMO and not self.images:
            raise ValueError(
                f"IMAGE: got none, and {self.model.name} needs at least one; only "
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

    @cached_property
    def names(self) -> list[str]:
        """What the images' files are called, without their endings."""
        if self.images:
            return unique_names(self.files)
        return [f"demo-{self.seed}-{index}" for index in range(self.n_samples)]

    @property
    def n_samples(self) -> int:
        """How many samples of the demo are explained where there are no images."""
        return SAMPLES if self.samples is None else self.samples

    @property
    def seed(self) -> int:
        """What those samples are drawn by."""
        return SAMPLE_SEED if self.sample_seed is None else self.sample_seed

    def check_outputs(
        self, table: str, endings: Sequence[str], more_read: Iterable[Path] = ()
    ) -> None:
        """Raise a ValueError if the files cannot be written, or one would be lost.

        Args:
            table (str): What the table is called.
            endings (sequence of str): What follows an image's name in its files'.
            more_read (iterable of Path, optional): What the command reads besides the
                images and the model's files. Default: ()
        """
        written = [table, *(name + ending for name in self.names for ending in endings)]
        read = (*self.files, *self.model.files, *more_read)
        require_outputs(self.out, written, read, self.overwrite)


_MAX_NAME = 20  # characters of a file's name beside a bar


@dataclass(frozen=True)
class Picture:
    """Where a picture is from, what its files are called, and how to get it."""

    origin: str
    name: str
    read: Callable[[], Tensor]  # (C, H, W), as the model takes it

    @property
    def short_name(self) -> str:
        """Its name beside a bar."""
        return self.name[:_MAX_NAME]


def find_pictures(
    options: CommonOptions, classifier: Classifier, note: Note
) -> list[Picture]:
    """List the pictures: the files, or without any the demo model's samples."""
    if not options.images:
        return _demo_pictures(options)

    def from_file(path: Path) -> Callable[[], Tensor]:
        return lambda: classifier.transform(read_image(path, options.background, note))

    return [
        Picture(showable(str(path)), name, from_file(path))
        for path, name in zip(options.files, options.names, strict=True)
    ]


def _demo_pictures(options: CommonOptions) -> list[Picture]:
    from captum_mda import demo

    images = demo.make_samples(options.n_samples, options.seed).images
    return [
        Picture(
            f"demo sample {index} of seed {options.seed}",
            name,
            partial(images.__getitem__, index),
        )
        for index, name in enumerate(options.names)
    ]
