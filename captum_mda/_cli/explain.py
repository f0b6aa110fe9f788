"""``captum-mda explain``: from options to files and a table of scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from captum_mda._cli.image import ImageJob, Picture, Settings
from captum_mda._cli.inputs import (
    FloatArray,
    read_image,
    read_seed_map,
    seeds_of_images,
    unique_names,
)
from captum_mda._cli.models import Classifier, DEMO, load_classifier
from captum_mda._cli.table import Row, write_csv
from captum_mda.perturbation.inputs import require_choice, require_positive_integer

# Without a seed the search asks for some N * N / 2 responses; worth a word from here.
_MANY_PATCHES = 150


@dataclass(frozen=True)
class ExplainOptions:
    """What ``captum-mda explain`` was asked for; see its ``--help``."""

    images: tuple[Path, ...]
    model: str
    weights: Path | None
    pretrained: bool | None
    patch_size: int | None
    device: str
    seed_map: Path | None
    samples: int
    sample_seed: int
    settings: Settings

    def check(self) -> None:
        """Find what is wrong with the options before any work.

        Raises:
            ValueError: An option is out of its range, or an image cannot be read.
        """
        self.settings.check()
        require_choice("--device", self.device, ("auto", "cpu", "cuda"))
        require_positive_integer("--samples", self.samples)
        if self.model != DEMO and not self.images:
            raise ValueError(
                f"IMAGE: got none, and {self.model} needs at least one; only --model "
                f"{DEMO} brings pictures of its own"
            )
        for path in self.images:
            read_image(path)


def explain_images(options: ExplainOptions, note: Callable[[str], None]) -> list[Row]:
    """Explain all images and write their files.

    Args:
        options (ExplainOptions): What was asked for.
        note (callable): Tells the user how things stand.

    Returns:
        *list[Row]*: one for each image; those that cannot be explained have an error.

    Raises:
        TypeError, ValueError, OSError: The command cannot be run as it was given.
    """
    options.check()
    out = options.settings.out
    seed_values = None if options.seed_map is None else read_seed_map(options.seed_map)
    classifier = load_classifier(
        options.model,
        options.weights,
        options.pretrained,
        options.patch_size,
        options.device,
    )
    classifier.require_class(options.settings.target)
    pictures = _pictures(options, classifier)
    _require_nothing_read_is_written(options, pictures)
    seeds = _seeds(seed_values, len(pictures), classifier, note)
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for number, (picture, seed) in enumerate(zip(pictures, seeds, strict=True), 1):
        note(f"[{number}/{len(pictures)}] {picture.origin}")
        rows.append(ImageJob(options.settings, classifier, picture, seed).run())
        write_csv(rows, out / "scores.csv")  # an interrupted run keeps these
    return rows


def _seeds(
    values: FloatArray | None,
    n_images: int,
    classifier: Classifier,
    note: Callable[[str], None],
) -> Sequence[FloatArray | None]:
    if values is not None:
        return seeds_of_images(values, n_images, classifier.grid, classifier.size)
    n = classifier.grid[0] * classifier.grid[1]
    if n >= _MANY_PATCHES:
        note(
            f"note: without --seed-map all {n} patches are candidates, some "
            f"{n * (n + 1) // 2:,} forwards an image; with one it is 4 times cheaper"
        )
    return [None] * n_images


def _pictures(options: ExplainOptions, classifier: Classifier) -> list[Picture]:
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


def _require_nothing_read_is_written(
    options: ExplainOptions, pictures: Sequence[Picture]
) -> None:
    out = options.settings.out
    read = {path.resolve() for path in options.images}
    read |= {p.resolve() for p in (options.weights, options.seed_map) if p is not None}
    for picture in pictures:
        for path in picture.files(out):
            if path.resolve() in read:
                raise ValueError(
                    f"--out: {out} would have {path} overwritten, which is "
                    "read; name another folder"
                )
