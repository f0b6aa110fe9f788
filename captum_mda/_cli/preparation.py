"""What the commands share: their common options, the pictures, and what is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from captum_mda._cli.inputs import read_image, unique_names
from captum_mda._cli.models import Classifier, DEMO, load_classifier
from captum_mda._cli.question import DELETION_BASELINES
from captum_mda.perturbation.inputs import require_choice, require_positive_integer


@dataclass(frozen=True)
class CommonOptions:
    """What every command was asked for; see ``captum-mda explain --help``."""

    images: tuple[Path, ...]
    model: str
    weights: Path | None
    pretrained: bool | None
    target: int | None
    deletion_baseline: str
    patch_size: int | None
    batch_size: int | None
    device: str
    samples: int
    sample_seed: int
    show_progress: bool
    out: Path

    def check(self) -> None:
        """Find what is wrong with the options before any work.

        Raises:
            ValueError: An option is out of its range, or an image cannot be read.
        """
        require_choice(
            "--deletion-baseline", self.deletion_baseline, DELETION_BASELINES
        )
        require_choice("--device", self.device, ("auto", "cpu", "cuda"))
        require_positive_integer("--samples", self.samples)
        if self.batch_size is not None:
            require_positive_integer("--batch-size", self.batch_size)
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"--out: {self.out} is a file, takes a folder")
        if self.model != DEMO and not self.images:
            raise ValueError(
                f"IMAGE: got none, and {self.model} needs at least one; only --model "
                f"{DEMO} brings pictures of its own"
            )
        for path in self.images:
            read_image(path)

    def load(self) -> Classifier:
        """Load the model.

        Raises:
            ValueError: It cannot be had, or does not know the wanted class.
        """
        classifier = load_classifier(
            self.model, self.weights, self.pretrained, self.patch_size, self.device
        )
        classifier.require_class(self.target)
        return classifier

    def require_nothing_read_is_written(
        self, written: Iterable[Path], more_read: Iterable[Path] = ()
    ) -> None:
        """Raise a ValueError if a file would be overwritten that is also read.

        Args:
            written (iterable of Path): All files that the command writes.
            more_read (iterable of Path, optional): What it reads besides the images and
                the weights. Default: ()
        """
        weights = [] if self.weights is None else [self.weights]
        read = {path.resolve() for path in (*self.images, *weights, *more_read)}
        for path in written:
            if path.resolve() in read:
                raise ValueError(
                    f"--out: {self.out} would have {path} overwritten, which is "
                    "read; name another folder"
                )


@dataclass(frozen=True)
class Picture:
    """Where a picture is from, what its files are called, and how to get it."""

    origin: str
    name: str
    read: Callable[[], Tensor]  # (3, H, W), as the model takes it


def find_pictures(options: CommonOptions, classifier: Classifier) -> list[Picture]:
    """List the pictures: the files, or without any the demo model's samples."""
    if not options.images:
        return _demo_pictures(options.samples, options.sample_seed)

    def from_file(path: Path) -> Callable[[], Tensor]:
        return lambda: classifier.transform(read_image(path))

    return [
        Picture(str(path), name, from_file(path))
        for path, name in zip(options.images, unique_names(options.images), strict=True)
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
