"""From the options of a command to its classifier, its images and its rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import cast

from captum_mda._checks import require_positive_integer
from captum_mda._cli.method_option import require_no_method
from captum_mda._cli.options import (
    CommonOptions,
    CompareOptions,
    ExplainOptions,
    SAMPLE_SEED,
    SAMPLES,
)
from captum_mda._cli.words import as_option
from captum_mda.evaluate import compare as comparison, explain as explanation, images
from captum_mda.evaluate._arguments import ArgumentError, template_of
from captum_mda.evaluate._file_names import showable, unique_names
from captum_mda.evaluate._notes import Note
from captum_mda.evaluate._outputs import require_outputs
from captum_mda.evaluate._pixels import background_colour
from captum_mda.evaluate._prior_files import read_prior_map
from captum_mda.evaluate._rows import Row
from captum_mda.evaluate._runs import RunSettings
from captum_mda.evaluate._timm_models import parse_model_args
from captum_mda.evaluate.explain import SearchSettings
from captum_mda.evaluate.methods import MDA
from captum_mda.evaluate.models import Classifier, DEMO, load_classifier
from captum_mda.evaluate.prior import make_priors, require_one_prior
from captum_mda.perturbation.scores import Score


def explain_images(options: ExplainOptions, note: Note) -> list[Row]:
    """Run ``captum-mda explain``.

    Args:
        options (ExplainOptions): The command's options.
        note (callable): Tells the user how things stand.

    Returns:
        *list[Row]*: one for each image; those that cannot be explained have an error.

    Raises:
        TypeError, ValueError, OSError: The command cannot be run as it was given.
    """
    search = SearchSettings(
        **{each.name: getattr(options, each.name) for each in fields(SearchSettings)}
    )
    search.check("--")
    file = options.seed_map
    require_one_prior(options.seed_method, has_file=file is not None)
    _check(options)
    prior_values = None if file is None else read_prior_map(file)
    read = [] if file is None else [file]
    _check_outputs(options, explanation.TABLE, explanation.ENDINGS, read)
    classifier, sources, settings = _loaded(options, note)
    priors = make_priors(
        options.seed_method,
        prior_values,
        len(sources),
        classifier,
        note,
        needs_one=search.ordering == "paper",
    )
    facts = {"seed_map": None if file is None else showable(file.name)}
    options.out.mkdir(parents=True, exist_ok=True)
    return explanation.explain_images(
        classifier, sources, priors, search, settings, facts, note
    )


def compare_images(
    options: CompareOptions, methods: Sequence[str], note: Note
) -> list[Row]:
    """Run ``captum-mda compare``.

    Args:
        options (CompareOptions): The command's options.
        methods (sequence of str): The names of the methods.
        note (callable): Tells the user how things stand.

    Returns:
        *list[Row]*: one for each image and method, with an error where there is no map;
        a single one for an image that no method can explain.

    Raises:
        TypeError, ValueError, OSError: The command cannot be run as it was given.
    """
    if options.ordering is not None and MDA not in methods:
        raise ValueError(
            f"--ordering: is for {MDA}, which is none of the --methods "
            f"{','.join(methods)}; add it to them"
        )
    missing = [str(path) for path in options.images or () if not path.exists()]
    require_no_method(missing)
    _check(options)
    _check_outputs(options, comparison.TABLE, [comparison.ENDING])
    classifier, sources, settings = _loaded(options, note)
    options.out.mkdir(parents=True, exist_ok=True)
    return comparison.compare_images(
        classifier,
        sources,
        methods,
        settings,
        options.ordering or "auto",
        options.scores,
    )


def _check(options: CommonOptions) -> None:
    """Find what is wrong with the options before a model is loaded.

    Raises:
        ValueError: An option is out of its range, or no image can be read.
    """
    _check_model(options)
    background_colour(options.background, "--background")
    require_positive_integer("--samples", _n_samples(options))
    for option, value in (
        ("--samples", options.samples),
        ("--sample-seed", options.sample_seed),
    ):
        if options.images and value is not None:
            raise ValueError(
                f"{option}: is for the demo model's own samples, and IMAGE is "
                f"given; leave out {option}, or the images"
            )
    if options.batch_size is not None:
        require_positive_integer("--batch-size", options.batch_size)
    if _model(options) != DEMO and not options.images:
        raise ValueError(
            f"IMAGE: got none, and {_model(options)} needs at least one; only "
            f"--model {DEMO} brings images of its own"
        )
    _require_a_readable_image(options)


def _check_model(options: CommonOptions) -> None:
    own = ("weights", "weights_key", "pretrained", "num_classes", "model_arg", "labels")
    given = [name for name in own if getattr(options, name) not in (None, [])]
    if options.model is None and given:
        both = {"pretrained": "--pretrained/--no-pretrained"}
        raise ValueError(
            f"{both.get(given[0], as_option(given[0], None))}: got no model that it is "
            "for; pass --model NAME, such as --model deit_tiny_patch16_224, and IMAGE, "
            "as the demo model's samples are for it alone"
        )
    if options.num_classes is not None:
        require_positive_integer("--num-classes", options.num_classes)
    if options.weights_key is not None and options.weights is None:
        raise ValueError("--weights-key: got a key without --weights FILE")
    parse_model_args(options.model_arg or ())


def _require_a_readable_image(options: CommonOptions) -> None:
    """Raise the first image's error if no image can be read."""
    first: ValueError | None = None
    files = images.find_images(options.images or ())
    for path in files:
        try:
            images.read_image(path, options.background)
        except ValueError as error:
            first = first or error
        else:
            return
    if first is not None:
        if len(files) == 1:
            raise first
        more = f" (nor can the other {len(files) - 1} images be read)"
        raise ArgumentError(f"{template_of(first)}{more}") from first


def _check_outputs(
    options: CommonOptions,
    table: str,
    endings: Sequence[str],
    more_read: Iterable[Path] = (),
) -> None:
    """Raise a ValueError if the files cannot be written, or one would be lost.

    Args:
        options (CommonOptions): The command's options.
        table (str): What the table is called.
        endings (sequence of str): What follows an image's name in its files'.
        more_read (iterable of Path, optional): What the command reads besides the
            images and the model's files. Default: ()
    """
    files = images.find_images(options.images or ())
    names = (
        unique_names(files)
        if options.images
        else images.sample_names(*_samples(options))
    )
    written = [table, *(name + ending for name in names for ending in endings)]
    read = [path for path in (options.weights, options.labels) if path is not None]
    require_outputs(
        options.out, written, (*files, *read, *more_read), options.overwrite
    )


def _loaded(
    options: CommonOptions, note: Note
) -> tuple[Classifier, list[images.ImageSource], RunSettings]:
    """Load the model, find its target and list the images."""
    classifier = load_classifier(
        _model(options),
        weights=options.weights,
        weights_key=options.weights_key,
        pretrained=options.pretrained,
        num_classes=options.num_classes,
        model_args=parse_model_args(options.model_arg or ()),
        patch_size=options.patch_size,
        labels=options.labels,
        score=cast(Score, options.score),
        device=options.device,
        note=note,
    )
    settings = RunSettings(
        out=options.out,
        target=None
        if options.target is None
        else classifier.find_class(options.target),
        deletion_baseline=options.deletion_baseline,
        batch_size=options.batch_size,
        show_progress=options.progress,
        spelling=as_option,
    )
    if options.images:
        sources = images.image_files(
            options.images, classifier.transform, options.background, note
        )
    else:
        sources = images.demo_samples(*_samples(options))
    for text in images.left_out(options.images or ()):
        note(text)
    if _model(options) == DEMO and options.images:
        from captum_mda import demo

        note(
            "note: the demo model knows only the shapes of its samples "
            f"({', '.join(demo.CLASS_NAMES)}) and calls any photo one of them; name a "
            "model of photos with --model, such as deit_tiny_patch16_224"
        )
    return classifier, sources, settings


def _model(options: CommonOptions) -> str:
    """Name the model; the demo model, unless one is named."""
    return DEMO if options.model is None else options.model


def _n_samples(options: CommonOptions) -> int:
    return SAMPLES if options.samples is None else options.samples


def _samples(options: CommonOptions) -> tuple[int, int]:
    """How many samples of the demo are explained, and the seed they are drawn by."""
    seed = SAMPLE_SEED if options.sample_seed is None else options.sample_seed
    return _n_samples(options), seed
