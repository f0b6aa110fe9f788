"""Adapters of models around a known model: the whole runs, its blocks are read."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import nn, Tensor

from captum_mda._memory import ran_out_of_memory
from captum_mda._state import preserved_state, remove_hooks, undone
from captum_mda.vit.adapter import ViTAdapter
from captum_mda.vit.block_calls import BlockCall
from captum_mda.vit.equality import differs
from captum_mda.vit.execution import eager_execution, is_random
from captum_mda.vit.observation import observe
from captum_mda.vit.outputs import output_tensor
from captum_mda.vit.pooling import pooling_of
from captum_mda.vit.preprocessing import arrivals, Preprocessing
from captum_mda.vit.rerun import RerunTail

_NAMES_OF_IMAGES = ("pixel_values", "input_values", "images", "image", "x")
# Sizes of the whole model's images to try, relative to the known part's size.
_SCALES = (1, 2, 0.5, 4, 0.25)


def adapt_wrapper(
    model: nn.Module, known: Mapping[str, ViTAdapter], chosen: bool = False
) -> ViTAdapter:
    """Make the adapter of a model that contains a known one.

    The model runs two to four times on an example. The adapter's output is that of the
    whole model. Its tail is the known part's if the outputs are equal; otherwise the
    tail reruns the whole model, and pooling is found by gradients.

    Args:
        model (nn.Module): The model that is called with the inputs.
        known (Mapping): From the path of a part to its adapter; "" for the model.
        chosen (bool, optional): Whether the caller named the part, so that the output
            may also depend on the inputs in other ways. Default: False

    Returns:
        *ViTAdapter*: of the whole model.

    Raises:
        ValueError: The model does not run on an example image; no known part runs, or
            several, or one several times; or the output depends on more than the last
            block's tokens.
    """
    with eager_execution(model), torch.no_grad():
        run = _run_as_it_takes_images(model, known)
        inner, model = known[run.only_path()], run.runs or model
        whole = replace(
            inner,
            model=model,
            example_size=tuple(run.inputs.shape[1:]),
            select_output=output_tensor,
        )
        before = Preprocessing(whole, inner)
        whole = replace(
            whole, patch_grid=before.patch_grid, patch_layout=before.patch_layout
        )
        with preserved_state(model, "model", warns=False):
            return _with_tail(whole, inner, chosen)


def _with_tail(whole: ViTAdapter, inner: ViTAdapter, chosen: bool) -> ViTAdapter:
    """Choose the known part's tail if it computes the whole model's output."""
    example = whole.example_input()
    seen = observe(whole, example, attention=False)
    tokens = seen.tokens[-1]
    if _same(_tail_of(inner, tokens), seen.outputs) or (
        is_random(whole.model) and inner.model is whole.model
    ):
        return whole
    # A second example reveals outputs that depend on more than the tokens.
    other = _another(example)
    tail = RerunTail(
        run=whole,
        blocks=whole.blocks,
        example=lambda: _another(whole.example_input()),
    )
    if not is_random(whole.model) and not _same(tail(tokens), seen.outputs):
        tail = replace(tail, needs_inputs=True)
        only_last = _same(
            tail(observe(whole, other, attention=False).tokens[-1], example),
            _from_the_first_block(whole, other, example),
        )
        if not (chosen and only_last):
            raise ValueError(_depends_on_more(whole, inner, only_last))
    end = partial(tail, inputs=example)
    return replace(whole, tail=tail, **pooling_of(end, tokens, whole))


def _from_the_first_block(whole: ViTAdapter, other: Tensor, example: Tensor) -> Tensor:
    """Run the model on an example, with the tokens of another at its first block."""
    tokens = observe(whole, other, attention=False).tokens[0]

    def enter(module: nn.Module, args: Any, kwargs: Any) -> Any:
        call = BlockCall.of(args, kwargs).replaced(tokens)
        return call.args, call.kwargs

    with undone(partial(remove_hooks, [whole.token_entry], enter)):
        whole.token_entry.register_forward_pre_hook(enter, with_kwargs=True)
        return whole(example.clone())


def _depends_on_more(whole: ViTAdapter, inner: ViTAdapter, only_last: bool) -> str:
    """Describe what an output depends on besides the last block's tokens."""
    beginning = (
        f"model: the output of {type(whole.model).__name__} depends on more than the "
        "tokens of the last block: "
    )
    if not only_last:
        return beginning + (
            "on those of earlier blocks, or on chance; take the output from the last "
            "block alone"
        )
    path = next(
        (name for name, part in whole.model.named_modules() if part is inner.model), ""
    )
    return beginning + (
        "on the image in another way, which no patch is credited with; to explain what "
        "goes through the transformer nevertheless, pass resolve(model, adapter="
        f"{_expression(path)}) in the model's place"
    )


def _another(example: Tensor) -> Tensor:
    """Make an input that differs from an example in pixels, mean and deviation."""
    return 0.5 - 0.5 * example.flip(-1)


def _tail_of(inner: ViTAdapter, tokens: Tensor) -> Tensor | None:
    """Run the known part's tail, which may be missing or not fit."""
    try:
        return output_tensor(inner.tail(tokens))
    except Exception:  # whatever a model's own code raises
        return None


def _same(output: Tensor | None, wanted: Tensor) -> bool:
    if output is None or output.shape != wanted.shape:
        return False
    return not bool(differs(output, wanted).any())


# The first run ------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class _Run:
    """A run of the model on an example.

    Args:
        model (nn.Module): The model.
        inputs (Tensor): (1, ...), the example.
        rows (dict): From the path of each known part to the number of rows of tokens
            in each call of its first block.
        runs (nn.Module, optional): A module around the model that takes images as its
            first argument, where the model does not. Default: None
    """

    model: nn.Module
    inputs: Tensor
    rows: dict[str, list[int]] = field(default_factory=dict)
    runs: nn.Module | None = None

    def only_path(self) -> str:
        """Find the path of the one part that ran, once, on the example."""
        whole = type(self.model).__name__
        ran = [path for path, rows in self.rows.items() if rows]
        names = ", ".join(_name(self.model, path) for path in self.rows)
        if not ran:
            raise ValueError(
                f"model: {whole} has a transformer that is known inside ({names}), but "
                "does not run it on an image; pass that part in its place, or write an "
                "adapter, see docs/adapters.md"
            )
        if len(ran) > 1:
            names = " and ".join(_name(self.model, path) for path in ran)
            raise ValueError(
                f"model: {whole} runs {len(ran)} transformers that are known, {names}; "
                "say which one to look into, resolve(model, adapter="
                f"{_expression(ran[0])}), and pass what it returns in the model's "
                "place; the output of the whole stays the score"
            )
        rows = self.rows[ran[0]]
        if rows != [1]:
            raise ValueError(
                f"model: {whole} runs its transformer, {_name(self.model, ran[0])}, "
                f"{len(rows)} times on {sum(rows)} images in all for one input (crops, "
                "views, frames or pairs), so that patches of the input have several "
                "tokens; explain one of them: pass the transformer, or a model that "
                "runs it once"
            )
        return ran[0]


class ByKeyword(nn.Module):
    """Passes images by name to a model whose first argument is another one.

    Args:
        model (nn.Module): The model.
        name (str): The argument that takes images.
    """

    def __init__(self, model: nn.Module, name: str) -> None:
        """Keep both."""
        super().__init__()
        self.model, self.name = model, name
        self.training = model.training

    def forward(self, images: Tensor, **named: Any) -> Any:
        """Run the model on images (B, C, H, W)."""
        return self.model(**{self.name: images}, **named)


def _run_as_it_takes_images(model: nn.Module, known: Mapping[str, ViTAdapter]) -> _Run:
    """Run the model by its first argument, or by one whose name means images."""
    try:
        return _first_run(model, known)
    except ValueError:
        arguments = inspect.signature(model.forward).parameters
        for name in _NAMES_OF_IMAGES:
            if name in arguments:
                by_name = ByKeyword(model, name)
                try:
                    run = _first_run(by_name, known)
                except ValueError:
                    continue
                return replace(run, model=model, runs=by_name)
        raise


def _first_run(model: nn.Module, known: Mapping[str, ViTAdapter]) -> _Run:
    """Run the model on the first example that it accepts."""
    failed: dict[tuple[int, ...], Exception] = {}
    for adapter in known.values():
        sizes = list(_example_sizes(model, adapter))
        for size in sizes:  # the list grows in the loop
            if size in failed:
                continue
            example = replace(adapter, model=model, example_size=size).example_input()
            if example.is_meta:
                raise ValueError(
                    "model: it is on the meta device, takes one that holds values"
                )
            run = _Run(model=model, inputs=example)
            try:
                with (
                    preserved_state(model, "model", warns=False),
                    _counted_rows(run, known),
                    arrivals(model, adapter.model) as arrived,
                ):
                    model(example.clone())
            except Exception as raised:  # whatever a model's own code raises
                if ran_out_of_memory(raised):
                    raise
                failed[size] = raised
                sizes.extend(_corrected(size, adapter.example_size, arrived))
                continue
            return run
    size, error = next(iter(failed.items()))
    if isinstance(model, ByKeyword):
        raise ValueError("model: it takes no images by that name") from error
    names = ", ".join(_name(model, path) for path in known)
    path = next(iter(known))
    first = "call model.eval() first; or " if model.training else ""
    raise ValueError(
        f"model: {type(model).__name__} has a transformer that is known inside "
        f"({names}), but does not run on an example image {(1, *size)}: "
        f"{type(error).__name__}: {error}; {first}pass {_expression(path)} in its "
        "place, or a model that takes images alone, or write an adapter with its "
        "example_size, see docs/adapters.md"
    ) from error


def _example_sizes(model: nn.Module, adapter: ViTAdapter) -> Iterator[tuple[int, ...]]:
    """List sizes (C, H, W) to try, the known part's own first."""
    inside = {id(part) for part in adapter.model.modules()}
    own = adapter.example_size
    outside = (part for part in model.modules() if id(part) not in inside)
    convolutions = [part for part in outside if isinstance(part, nn.Conv2d)]
    channels = [own[0], *(part.in_channels for part in convolutions), 3, 1, 4]
    for scale, n_channels in product(_SCALES, dict.fromkeys(channels)):
        yield (n_channels, *(int(side * scale) for side in own[-2:]))


def _corrected(
    size: tuple[int, ...], wanted: tuple[int, ...], arrived: list[Tensor]
) -> Iterator[tuple[int, ...]]:
    """Add to a failed size what a crop has removed."""
    if arrived and len(size) < len(wanted) + 2:
        lost = [a - b for a, b in zip(wanted[-2:], arrived[0].shape[-2:], strict=True)]
        if 0 < max(map(abs, lost)) <= max(wanted[-2:]):
            yield (size[0], *(a + b for a, b in zip(wanted[-2:], lost, strict=True)))


@contextmanager
def _counted_rows(run: _Run, known: Mapping[str, ViTAdapter]) -> Iterator[None]:
    """Count the rows in calls of each known part's first block, on this thread."""
    thread = threading.get_ident()
    with ExitStack() as stack:
        for path, adapter in known.items():
            calls = run.rows[path] = []

            def note(
                module: nn.Module, args: Any, kwargs: Any, calls: list[int] = calls
            ) -> None:
                if threading.get_ident() == thread:
                    calls.append(len(BlockCall.of(args, kwargs).tokens))

            block = adapter.token_entry
            stack.enter_context(undone(partial(remove_hooks, [block], note)))
            block.register_forward_pre_hook(note, with_kwargs=True)
        yield


def _name(model: nn.Module, path: str) -> str:
    part = model.get_submodule(path)
    return f"{_expression(path)} ({type(part).__name__})"


def _expression(path: str) -> str:
    """Write a path as Python does: model.backbone[0]."""
    names = (f"[{name}]" if name.isdigit() else f".{name}" for name in path.split("."))
    return "model" + "".join(names) if path else "model"
