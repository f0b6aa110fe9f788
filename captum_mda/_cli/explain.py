"""``captum-mda explain``: from options to files and a table of scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from captum_mda._cli.facts import common_facts, notes_on
from captum_mda._cli.file_names import showable
from captum_mda._cli.image import ENDINGS, ImageJob, Search
from captum_mda._cli.inputs import read_seed_map
from captum_mda._cli.preparation import CommonOptions, find_pictures
from captum_mda._cli.seeds import make_seeds, require_one_seed, SEED_METHODS
from captum_mda._cli.table import Row, write_csv
from captum_mda.perturbation.inputs import require_choice

TABLE = "scores.csv"


@dataclass(frozen=True)
class ExplainOptions:
    """What ``captum-mda explain`` was asked for; see its ``--help``."""

    common: CommonOptions
    search: Search
    seed_method: str
    seed_map: Path | None

    def check(self) -> None:
        """Find what is wrong with the options before any work.

        Raises:
            ValueError: An option is out of its range, or no image can be read.
        """
        self.search.check()
        require_choice("--seed-method", self.seed_method, SEED_METHODS)
        require_one_seed(self.seed_method, has_file=self.seed_map is not None)
        self.common.check()


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
    common = options.common
    seed_file = options.seed_map
    seed_values = None if seed_file is None else read_seed_map(seed_file)
    common.check_outputs(TABLE, ENDINGS, [] if seed_file is None else [seed_file])
    classifier = common.model.load(note)
    target = common.target_of(classifier)
    pictures = find_pictures(common, classifier, note)
    for text in notes_on(common):
        note(text)
    seeds = make_seeds(
        options.seed_method,
        seed_values,
        len(pictures),
        classifier,
        note,
        needs_one=options.search.ordering == "paper",
    )
    facts = {
        **common_facts(common, classifier),
        **options.search.facts,
        "seed_map": None if seed_file is None else showable(seed_file.name),
    }
    common.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for number, (picture, seed) in enumerate(zip(pictures, seeds, strict=True), 1):
        note(f"[{number}/{len(pictures)}] {picture.origin}")
        job = ImageJob(common, options.search, classifier, picture, target, seed, facts)
        rows.append(job.run())
        write_csv(Row, rows, common.out / TABLE)  # an interrupted run keeps these
    return rows
