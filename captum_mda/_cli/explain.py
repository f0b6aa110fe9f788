"""``captum-mda explain``: from options to files and a table of scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from captum_mda._cli.image import ImageJob, Picture, Settings
from captum_mda._cli.inputs import read_image, read_seed_map, unique_names
from captum_mda._cli.models import Classifier, DEMO, load_classifier
from captum_mda._cli.seeds import make_seeds, require_one_seed, SEED_METHODS
from captum_mda._cli.table import Row, write_csv
from captum_mda.perturbation.inputs import require_choice, require_positive_integer


@dataclass(frozen=True)
class ExplainOptions:
    """What ``captum-mda explain`` was asked for; see its ``--help``."""

    images: tuple[Path, ...]
    model: str
    weights: Path | None
    pretrained: bool | None
    patch_size: int | None
    device: str
    seed_method: str
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
        require_choice("--seed-method", self.seed_method, SEED_METHODS)
        require_one_seed(self.seed_method, has_file=self.seed_map is not None)
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
    seeds = make_seeds(
        options.seed_method,
        seed_values,
        len(pictures),
        classifier,
        options.settings.batch_size,
        note,
    )
    out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for number, (picture, seed) in enumerate(zip(pictures, seeds, strict=True), 1):
        note(f"[{number}/{len(pictures)}] {picture.origin}")
        rows.append(ImageJob(options.settings, classifier, picture, seed).run())
        write_csv(rows, out / "scores.csv")  # an interrupted run keeps these
    return rows


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
