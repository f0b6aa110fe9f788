"""Every white-box method on every family of models: what runs, and how exact it is.

Builds stock models with random weights (nothing is downloaded), runs each method on
each of them, and measures in float64 how well LibraGrad's gradients and the relevance
rules account for the outputs. Writes the page docs/models.md:

    python -m benchmarks.models_table --out docs/models.md

A cell is a tick only if the map is finite, of the patch grid's shape and not flat
for each image; otherwise the page says what went wrong.
"""

from __future__ import annotations

import argparse
import logging
import platform
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn, Tensor

from benchmarks.model_kinds import section
from captum_mda import (
    AttentionGradCam,
    AttentionIntegratedGradients,
    AttentionRollout,
    BidirectionalAttention,
    FullGradPlus,
    LeGrad,
    LibraGrad,
    RawAttention,
    TokenInputXGradient,
    TransformerAttribution,
    TransitionAttention,
)
from captum_mda._files import replacing
from captum_mda.attr.vit_attribution import PathAttribution, ViTAttribution
from captum_mda.backward import RelevancePropagation
from captum_mda.vit import resolve

LIBRARIES = (
    "torch",
    "captum",
    "timm",
    "torchvision",
    "transformers",
    "open_clip_torch",
)
N_IMAGES = 2
LEAST_SPREAD = 0.01  # of a map, in proportion to its mean absolute value
N_STEPS = 2  # both ends of the path: all the code there is
N_TARGETS = 4
TICK = "✓"

# Columns of the first table: a class and its options.
METHODS: dict[str, tuple[type[ViTAttribution], dict[str, str]]] = {
    "Raw": (RawAttention, {}),
    "Rollout": (AttentionRollout, {}),
    "CAM": (AttentionGradCam, {}),
    "CAM chefer": (AttentionGradCam, {"variant": "chefer"}),
    "IG": (AttentionIntegratedGradients, {}),
    "T-Attn": (TransitionAttention, {}),
    "T-Attn original": (TransitionAttention, {"variant": "original"}),
    "Bi-Attn head": (BidirectionalAttention, {}),
    "Bi-Attn token": (BidirectionalAttention, {"mode": "token"}),
    "T-Attr": (TransformerAttribution, {}),
    "T-Attr original": (TransformerAttribution, {"variant": "original"}),
    "LeGrad": (LeGrad, {}),
    "FullGrad+": (FullGradPlus, {}),
    "I x G": (TokenInputXGradient, {}),
}
UNDER_LIBRAGRAD = (FullGradPlus, TokenInputXGradient)


@dataclass(frozen=True)
class Model:
    """A row of the tables.

    Args:
        library (str): Where it is from.
        family (str): What it is an example of.
        name (str): What its library calls it.
        build (callable): Makes it.
        note (str): How it differs from the stock model of that name, or "".
    """

    library: str
    family: str
    name: str
    build: Callable[[], nn.Module]
    note: str = ""


@dataclass
class Row:
    """What was found out about a model."""

    model: Model
    pooling: str = ""
    n_prefix_tokens: str = ""
    cells: dict[str, str] = field(default_factory=dict)
    errors: list[float] = field(default_factory=list)


def timm_model(name: str, options: dict[str, Any]) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False, **options)


def torchvision_model(name: str, options: dict[str, Any]) -> nn.Module:
    import torchvision

    model: nn.Module = getattr(torchvision.models, name)(weights=None, **options)
    return model


def transformers_model(
    name: str, config: str, attention: str, options: dict[str, Any]
) -> nn.Module:
    import transformers

    built = getattr(transformers, config)(**(SMALL_CONFIG | options))
    make = getattr(transformers, name)._from_config
    model: nn.Module = make(built, attn_implementation=attention)
    return model


def open_clip_model(name: str) -> nn.Module:
    import open_clip

    return open_clip.create_model(name, pretrained=None).visual


def open_clip_coca() -> nn.Module:
    from open_clip.transformer import VisionTransformer

    # By the last three its coca_ViT-B-32 differs from its CLIP models.
    return VisionTransformer(
        image_size=224,
        patch_size=16,
        width=192,
        layers=4,
        heads=3,
        mlp_ratio=4.0,
        output_dim=64,
        attentional_pool=True,
        output_tokens=True,
    )


def open_clip_siglip() -> nn.Module:
    from open_clip.timm_model import TimmModel

    visual = TimmModel("vit_tiny_patch16_224", 10, 224, pool="", proj="linear")
    visual.trunk = timm_model("vit_base_patch16_siglip_224", SMALL | {"num_classes": 0})
    return visual


TEN = {"num_classes": 10}
SHORT = {"depth": 4} | TEN
AT_224 = {"img_size": 224}
SMALL = {"embed_dim": 192, "num_heads": 3} | SHORT
SMALL_CONFIG = {
    "image_size": 224,
    "patch_size": 16,
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "intermediate_size": 768,
    "num_labels": 10,
}
NARROW = "4 blocks of width 192"
NOTES = (
    (SMALL, NARROW),
    (AT_224 | SHORT, "4 blocks, 224 pixels"),
    (AT_224, "224 pixels"),
    (SHORT, "4 blocks"),
    (TEN, ""),
)


def _timm(family: str, name: str, options: dict[str, Any] = TEN) -> Model:
    note = next(note for some, note in NOTES if some.items() <= options.items())
    return Model("timm", family, name, partial(timm_model, name, options), note)


def _transformers(
    name: str, config: str, attention: str = "sdpa", **options: Any
) -> Model:
    family = config.removesuffix("Config").removesuffix("Vision")
    build = partial(transformers_model, name, config, attention, options)
    note = f"{NARROW}, {attention}"
    return Model("transformers", family, name, build, note)


def _open_clip(family: str, name: str, build: Any, note: str = "") -> Model:
    return Model("open_clip", family, name, build, note)


MODELS = (
    _timm("ViT", "vit_tiny_patch16_224"),
    _timm("DeiT distilled", "deit_tiny_distilled_patch16_224"),
    _timm("DeiT III", "deit3_small_patch16_224", SHORT),
    _timm("DINOv2 registers", "vit_small_patch14_reg4_dinov2", AT_224 | SHORT),
    _timm("CLIP trunk", "vit_base_patch16_clip_224", SMALL),
    _timm("SigLIP", "vit_base_patch16_siglip_224", SMALL),
    _timm("Perception Encoder", "vit_pe_core_tiny_patch16_384", AT_224 | TEN),
    _timm("EVA-02", "eva02_tiny_patch14_224"),
    _timm("DINOv3", "vit_small_patch16_dinov3", AT_224 | SHORT),
    _timm("BEiT", "beit_base_patch16_224", SMALL),
    Model(
        "torchvision",
        "ViT",
        "vit_b_16",
        partial(torchvision_model, "vit_b_16", {"image_size": 96}),
        "96 pixels",
    ),
    _transformers("ViTForImageClassification", "ViTConfig"),
    _transformers("ViTForImageClassification", "ViTConfig", "eager"),
    _transformers("DeiTForImageClassificationWithTeacher", "DeiTConfig"),
    _transformers("Dinov2ForImageClassification", "Dinov2Config", use_swiglu_ffn=True),
    _transformers(
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegistersConfig",
        "eager",
    ),
    _transformers("CLIPVisionModelWithProjection", "CLIPVisionConfig"),
    _transformers("SiglipVisionModel", "SiglipVisionConfig"),
    _open_clip(
        "CLIP", "ViT-B-32-quickgelu", partial(open_clip_model, "ViT-B-32-quickgelu")
    ),
    _open_clip("CoCa", "VisionTransformer", open_clip_coca, NARROW),
    _open_clip("SigLIP", "TimmModel", open_clip_siglip, NARROW),
    _timm("MLP-Mixer", "mixer_s16_224"),
    _timm("Swin", "swin_tiny_patch4_window7_224"),
)


def built(model: Model) -> nn.Module:
    """Build a model whose every parameter is random, biases and scales included."""
    torch.manual_seed(0)
    network = model.build().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


def cell(
    column: str, network: nn.Module, inputs: Tensor, target: Tensor, shape: list[int]
) -> str:
    """Ask a method and judge its map: a tick, or what is wrong."""
    cls, options = METHODS[column]
    more = {"n_steps": N_STEPS} if issubclass(cls, PathAttribution) else {}
    try:
        method = cls(network, **options)  # type: ignore[arg-type]
        balance = LibraGrad(network) if cls in UNDER_LIBRAGRAD else nullcontext()
        with balance:
            grid = method.attribute(inputs, target, interpolate_mode=None, **more)
    except Exception as error:  # the page says which cells fail, and how
        return f"{type(error).__name__}: {error}".splitlines()[0]
    if list(grid.shape) != shape:
        return f"shape {list(grid.shape)}, not {shape}"
    if not bool(torch.isfinite(grid).all()):
        return "not finite"
    return "flat" if is_flat(grid) else TICK


def is_flat(grid: Tensor) -> bool:
    """Tell maps whose patches differ by less than a hundredth of their mean size."""
    values = grid.flatten(1).double()
    spread = values.amax(dim=1) - values.amin(dim=1)
    return bool((spread <= LEAST_SPREAD * values.abs().mean(dim=1)).any())


def measured(model: Model) -> Row:
    """Run all methods on a model, then measure it in float64."""
    row = Row(model)
    network = built(model)
    try:
        adapter = resolve(network)
    except ValueError:  # no Vision Transformer
        return measured_elsewhere(row, network)
    row.pooling, row.n_prefix_tokens = adapter.pooling, str(adapter.n_prefix_tokens)
    inputs = torch.randn(N_IMAGES, *adapter.example_size)
    with torch.no_grad():
        largest = adapter(inputs).topk(N_TARGETS, dim=1).indices.T
    shape = [N_IMAGES, 1, *adapter.patch_grid(inputs)]
    for column in METHODS:
        for target in largest:
            row.cells[column] = cell(column, network, inputs, target, shape)
            if row.cells[column] != "flat":
                break
    network, inputs, target = network.double(), inputs[:1].double(), largest[0, :1]
    method = TokenInputXGradient(network)
    for balance in (LibraGrad(network), nullcontext()):
        with balance:
            found = method.completeness(inputs, target)
        row.errors.append(float(found.error / found.score.abs()))
    row.errors.append(lost_relevance(network, adapter, adapter.token_entry, inputs))
    return row


def measured_elsewhere(row: Row, network: nn.Module) -> Row:
    """Measure what holds for models without readable attention, too."""
    network, inputs = network.double(), torch.randn(1, 3, 224, 224).double()
    for balance in (LibraGrad(network), nullcontext()):
        with balance:
            row.errors.append(incompleteness_from_pixels(network, inputs))
    first_block = next(iter(getattr(network, "blocks", None) or network.layers))
    row.errors.append(lost_relevance(network, network, first_block, inputs))
    return row


def incompleteness_from_pixels(network: nn.Module, inputs: Tensor) -> float:
    """Compare pixels and biases times their gradients with the largest output."""
    parts = [inputs.clone().requires_grad_()]
    parts += [each for name, each in network.named_parameters() if "bias" in name[-4:]]
    score = network(parts[0]).max()
    gradients = torch.autograd.grad(score, parts)
    total = sum((a * b).sum() for a, b in zip(parts, gradients, strict=True))
    return float((total - score).abs() / score.abs())


def lost_relevance(
    network: nn.Module,
    run: Callable[[Tensor], Tensor],
    first_block: nn.Module,
    inputs: Tensor,
) -> float:
    """Propagate a relevance of 1 back to the first block, and see what is missing."""
    tokens: list[Tensor] = []

    def keep(module: nn.Module, arguments: Any, named: dict[str, Any]) -> None:
        tokens.append((*arguments, *named.values())[0])

    handle = first_block.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        with RelevancePropagation(network):
            outputs = run(inputs.clone().requires_grad_())
            start = torch.zeros_like(outputs)
            start[0, int(outputs.argmax())] = 1.0
            (relevance,) = torch.autograd.grad(outputs, tokens, start)
    finally:
        handle.remove()
    return abs(float(relevance.sum()) - 1.0)


def markdown(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def page(rows: list[Row]) -> str:
    """Write the whole page."""
    failures: list[str] = []

    def mark(row: Row, column: str) -> str:
        found = row.cells.get(column, "-")
        if found in (TICK, "-"):
            return found
        failures.append(f"{row.model.name}, {column}: {found}")
        return f"[{len(failures)}]"

    names = [
        [row.model.library, row.model.family, f"`{row.model.name}`"] for row in rows
    ]
    runs = [
        [
            *name,
            row.pooling or "-",
            row.n_prefix_tokens or "-",
            *(mark(row, column) for column in METHODS),
        ]
        for name, row in zip(names, rows, strict=True)
    ]
    errors = [
        [*name, row.model.note or "as it is", *(f"{error:.0e}" for error in row.errors)]
        for name, row in zip(names, rows, strict=True)
    ]
    legend = []
    for column, (cls, options) in METHODS.items():
        arguments = ", ".join(f'{name}="{value}"' for name, value in options.items())
        under = " under `LibraGrad`" if cls in UNDER_LIBRAGRAD else ""
        legend.append(f"- {column}: `{cls.__name__}({arguments})`{under}")
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return "\n".join(
        [
            INTRODUCTION.format(python=platform.python_version(), versions=versions),
            section(),
            "## Methods and models",
            "",
            RUNS.format(n_images=N_IMAGES, n_steps=N_STEPS, least_spread=LEAST_SPREAD),
            *markdown(
                ["library", "family", "model", "pooling", "prefix", *METHODS], runs
            ),
            "",
            *(f"[{number}] {failure}" for number, failure in enumerate(failures, 1)),
            REFUSED,
            *legend,
            "",
            "## How exact the gradients and relevances are",
            "",
            ERRORS,
            *markdown(
                ["library", "family", "model", "built", "LibraGrad", "plain", "LRP"],
                errors,
            ),
            "",
        ]
    )


INTRODUCTION = """\
# Models

Made by `python -m benchmarks.models_table --out docs/models.md`, which runs everything
that it reports. All weights are random, nothing is downloaded. For another model write
an adapter, see [adapters.md](adapters.md).

On the CPU with Python {python}, {versions}.
"""
RUNS = """\
A tick: the method's maps of {n_images} images are finite, of the patch grid's shape and
not flat: highest less lowest is at least {least_spread:.0%} of the mean absolute value.
They are for the images' largest outputs; where the map of one is flat
(Grad-CAM's is zero, and it warns, where no gradient is positive), for the next, up to
the fourth. Methods that average along a path took {n_steps} steps. *Pooling* is how
tokens become one vector: the class token, the mean, both, or an attention pooler
("map"); *prefix* counts the tokens before the patches.
"""
REFUSED = """\
A dash: not applicable. MLP-Mixer has no attention, and Swin attends within shifted
windows and merges tokens, so that no row of attention covers the image; the methods
refuse both with a ValueError. `LibraGrad` and Captum's gradient methods under it run on
them all the same, see the second table.
"""
ERRORS = """\
In float64, for the largest output of one image, relative to it.

- *LibraGrad*: how far tokens times gradients plus biases times gradients are from the
  output under `LibraGrad` (`TokenInputXGradient.completeness`; from the pixels on for
  models without an adapter). 0 but for rounding is completeness.
- *plain*: the same with plain gradients.
- *LRP*: how much of the relevance that leaves the output does not reach the input of
  the first block under `captum_mda.backward.RelevancePropagation`.
"""


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("models.md"))
    parser.add_argument("--models", nargs="*", help="names; default: all")
    arguments = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)  # open_clip notes random weights
    warnings.simplefilter("ignore")
    rows = []
    for model in MODELS:
        if arguments.models and model.name not in arguments.models:
            continue
        start = time.process_time()
        row = measured(model)
        rows.append(row)
        bad = {name: text for name, text in row.cells.items() if text != TICK}
        seconds = time.process_time() - start
        print(f"{seconds:5.1f} s {model.library} {model.name} {row.errors} {bad}")
    with replacing(arguments.out) as beside:
        beside.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
