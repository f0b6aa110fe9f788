"""Train the demo model that is in the package, and measure it.

Run ``python -m benchmarks.demo_training --out weights.safetensors``.
The weights are written after every epoch. The figures, measured on fresh samples with
the weights of the file, are written beside them as ``figures.json``. With
``--start FILE`` training continues from earlier weights; the figures list the commands
of both runs.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, TYPE_CHECKING

import numpy as np
import torch
from torch import nn, Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    unfold,
)
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from benchmarks.demo_measures import measure_model
from benchmarks.demo_training_data import (
    batches,
    render_pool,
    ScenePool,
    TrainingBatch,
)
from benchmarks.demo_weights import read_figures, save_weights
from captum_mda._files import replacing
from captum_mda.demo._model import ARCHITECTURE, build_model, load_weights
from captum_mda.demo.generator import PATCH_SIZE

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

__all__ = ["main", "train"]

# Training, the progress display and the published figures use different seeds.
_PROGRESS_SEED, _FIGURES_SEED = 1_000_001, 1_000_002
_WARMUP_STEPS = 500
_AVERAGE_DECAY = 0.998
_MASK_WEIGHT = 3.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Train a model, write it and measure it.

    Args:
        arguments: The command line's words. None: those of the process.
    """
    options = _parse(arguments)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        pool = render_pool(options.samples, options.seed, Path(folder))
        train(pool, options)
    model = load_weights(options.out)
    before = read_figures(options.start) if options.start else {}
    figures: dict[str, Any] = {
        **measure_model(model, options.measured, _FIGURES_SEED),
        "training_samples": before.get("training_samples", 0) + options.samples,
        "commands": [*before.get("commands", []), _command(options)],
    }
    save_weights(options.out, model, figures)
    figures["file_bytes"] = options.out.stat().st_size
    _write_json(options.out.with_name("figures.json"), figures)
    print(json.dumps(figures, indent=2))


def train(pool: ScenePool, options: argparse.Namespace) -> None:
    """Train on a pool of scenes; after every epoch the average weights are written.

    Args:
        pool: The scenes.
        options: The command line's options.
    """
    model = _start(options.start)
    average = copy.deepcopy(model)
    mask_head = nn.Linear(model.embed_dim, PATCH_SIZE**2)
    trained = nn.ModuleList([model, mask_head])
    optimizer = AdamW(_parameter_groups(trained, options.weight_decay), lr=options.lr)
    steps = options.epochs * (len(pool.labels) // options.batch_size)
    scheduler = LambdaLR(optimizer, lambda step: _warmup_cosine(step, steps))
    rng = np.random.default_rng(options.seed)
    with tqdm(total=steps, desc="train", mininterval=10.0) as bar:
        for epoch in range(options.epochs):
            losses = []
            for batch in batches(pool, options.batch_size, rng):
                loss, class_loss = _losses(model, mask_head, batch)
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                losses.append(class_loss.item())
                _update_average(average, model)
                bar.update()
            save_weights(options.out, average, figures={})
            fresh = measure_model(load_weights(options.out), 500, _PROGRESS_SEED)
            bar.write(
                f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, "
                f"accuracy on fresh samples {fresh['accuracy']:.3f}"
            )


def _start(path: Path | None) -> VisionTransformer:
    """Make the model to train: a trained one or a new one."""
    model = _new_model() if path is None else load_weights(path)
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            # The fused kernel's backward pass is slow on CPUs. The attribute is final
            # to type checkers, hence no plain assignment.
            setattr(module, "fused_attn", False)  # noqa: B010
    return model.train()


def _new_model() -> VisionTransformer:
    """Make a new model; positions start as sines, which learn faster than noise."""
    from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed

    model = build_model(ARCHITECTURE)
    waves = build_sincos2d_pos_embed(
        list(model.patch_embed.grid_size), dim=model.embed_dim
    )
    with torch.no_grad():
        positions = model.get_parameter("pos_embed")
        positions[0, model.num_prefix_tokens :] = 0.5 * waves
    return model


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Let only matrices decay, and no biases, norms, tokens or positions."""
    decaying = [p for p in model.parameters() if p.ndim in (2, 4)]
    others = [p for p in model.parameters() if p.ndim not in (2, 4)]
    return [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def _warmup_cosine(step: int, steps: int) -> float:
    warmup = min(_WARMUP_STEPS, steps // 10 + 1)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / max(1, steps - warmup))


def _losses(
    model: VisionTransformer, mask_head: nn.Linear, batch: TrainingBatch
) -> tuple[Tensor, Tensor]:
    """Compute the training loss, and its part for the class.

    Halfway through the model, a second head predicts for each patch which of its pixels
    belong to the object. This speeds up training; the head is not kept.
    """
    with torch.autocast("cpu", torch.bfloat16):
        passed = model.forward_intermediates(
            batch.images, indices=[len(model.blocks) // 2], output_fmt="NLC"
        )
        features, (halfway,) = cast("tuple[Tensor, list[Tensor]]", passed)
        class_logits = model.forward_head(features)  # (B, classes)
        mask_logits = mask_head(halfway)  # (B, patches, pixels of a patch)
    pixels = unfold(batch.masks, PATCH_SIZE, stride=PATCH_SIZE).transpose(1, 2)
    class_loss = cross_entropy(class_logits.float(), batch.targets)
    mask_loss = binary_cross_entropy_with_logits(mask_logits.float(), pixels)
    return class_loss + _MASK_WEIGHT * mask_loss, class_loss


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module) -> None:
    """Move the exponential average of the weights towards the present ones."""
    for mean, value in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(value, 1.0 - _AVERAGE_DECAY)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.demo_training",
        description="Train the demo model and measure it on fresh samples.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="the safetensors file to write")
    add("--start", type=Path, help="weights to go on from, rather than new ones")
    add("--samples", type=int, default=40_000, help="number of training samples")
    add("--epochs", type=int, default=10, help="passes over the training samples")
    add("--batch-size", type=int, default=64, help="images in a batch")
    add("--lr", type=float, default=1.5e-3, help="highest learning rate")
    add("--weight-decay", type=float, default=0.05, help="AdamW's weight decay")
    add("--measured", type=int, default=5_000, help="fresh samples for the figures")
    add("--seed", type=int, default=0, help="seed of samples, weights and order")
    add("--threads", type=int, default=1, help="threads of torch")
    return parser.parse_args(arguments)


def _command(options: argparse.Namespace) -> str:
    """Write the command that repeats this run, with names instead of paths."""
    words = ["python", "-m", "benchmarks.demo_training"]
    for name, value in vars(options).items():
        if value is not None:
            shown = value.name if isinstance(value, Path) else str(value)
            words += [f"--{name.replace('_', '-')}", shown]
    return shlex.join(words)


def _write_json(path: Path, figures: dict[str, Any]) -> None:
    with replacing(path) as beside:
        beside.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
