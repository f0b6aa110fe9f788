"""What MDA finds out about a batch, from which maps are drawn without the model."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import Tensor

from captum_mda._captum import format_output
from captum_mda._checks import require_in_unit_interval
from captum_mda._files import replacing
from captum_mda._results import BatchResult, device_and_dtype, example_rows
from captum_mda._summaries import Columns, examples
from captum_mda.attr.explanation_checks import CURVES, require_consistent
from captum_mda.attr.explanation_file import (
    FORMAT,
    FORMAT_VERSION,
    path_named,
    read_fields,
)
from captum_mda.attr.provenance import Provenance
from captum_mda.curves import area
from captum_mda.magnitude import (
    blended_magnitudes,
    MagnitudeRule,
    sparse_magnitudes,
    strictly_decreasing,
)
from captum_mda.perturbation import Features
from captum_mda.perturbation.precision import Precision

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Positional, as in version 0.1.
@dataclass(frozen=True, eq=False, repr=False)
class MDAExplanation(BatchResult):
    """The order of a batch's patches, its response curves, and their density.

    Maps for any ``gamma`` and ``kappa`` follow from it without the model. All tensors
    but the masks are on the CPU; point k of a curve belongs to the first k patches of
    the order.

    Args:
        order (Tensor): int64 (B, N), features from most to least important.
        n_inserted (Tensor): int64 (B,), how many of them were ordered by insertion (C).
        insertion_curve (Tensor): float64 (B, N + 1), monotone response MR_ins to
            inserting patches, from 0 to 1.
        deletion_curve (Tensor): float64 (B, N + 1), monotone response MR_del to
            deleting patches, from 1 to 0.
        mean_curve (Tensor): float64 (B, N + 1), MR_mean, from 0 to 1.
        density_curve (Tensor): float64 (B, N + 1), AD, the concave curve nearest to it;
            under ``magnitude="mas"`` the sparse map's density response itself.
        insertion_responses (Tensor): float64 (B, N + 1), the raw scores; a search that
            does not evaluate all of them interpolates.
        deletion_responses (Tensor): float64 (B, N + 1), the raw scores, alike.
        forwards (Tensor): int64 (B,), how many inputs the model has seen for each
            example.
        degenerate (Tensor): bool (B,), True where the input scored no higher than its
            baseline; such examples have zero curves and attributions.
        features (Features): The patches, on the inputs' device.
        magnitude (str): The rule that makes magnitudes of the density; "mas" takes it
            as it is.
        dtype (torch.dtype): What attributions are returned in.
        is_tuple (bool): Whether the inputs were a tuple.
        precision (str or None): What candidates were screened in: "bf16", or None where
            nothing was screened.
        forwards_bf16 (Tensor): int64 (B,), how many of the ``forwards`` were in
            bfloat16. None: none.
        margin (Tensor): float64 (B,), how far a candidate had to fall behind the best
            in bfloat16 not to be evaluated again in float32: in log-odds of softmax
            probabilities, else in the score's units; 0 where nothing was screened.
            None: 0.
        provenance (mapping of str to str, number, bool or None): What it was made with:
            the model's class, the target, the ordering that ran, tau, the baselines,
            versions and, from the command line, the names of files and classes. A tuple
            has one value for each example. Default: {}

    Raises:
        TypeError, ValueError: A field is not as said above; the message names it.

    Example::

        >>> from captum_mda import demo, MetricDrivenAttribution, patch_feature_mask
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> mda = MetricDrivenAttribution(demo.load_model())
        >>> mask = patch_feature_mask(images, demo.PATCH_SIZE)
        >>> explanation = mda.explain(images, target=labels, feature_mask=mask)
        >>> explanation.order.shape, explanation.attributions(gamma=0.5).shape
        (torch.Size([1, 64]), torch.Size([1, 3, 64, 64]))

    Reference:
        Walker, Jha, Ewetz, "Metric-Driven Attributions for Vision Transformers", ICLR
        2025.
    """

    order: Tensor
    n_inserted: Tensor
    insertion_curve: Tensor
    deletion_curve: Tensor
    mean_curve: Tensor
    density_curve: Tensor
    insertion_responses: Tensor
    deletion_responses: Tensor
    forwards: Tensor
    degenerate: Tensor
    features: Features
    magnitude: MagnitudeRule = "reference"
    dtype: torch.dtype = torch.float32
    is_tuple: bool = False
    precision: Precision = None
    forwards_bf16: Tensor = None  # type: ignore[assignment]  # see __post_init__
    margin: Tensor = None  # type: ignore[assignment]
    provenance: Provenance = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Fill in what is the same wherever nothing was screened, and check all."""
        if self.forwards_bf16 is None:
            object.__setattr__(self, "forwards_bf16", torch.zeros_like(self.forwards))
        if self.margin is None:
            margin = torch.zeros_like(self.forwards, dtype=torch.float64)
            object.__setattr__(self, "margin", margin)
        require_consistent(self)

    def _summary(self) -> tuple[str, Columns]:
        n, n_features = self.order.shape
        ranked = [list(map(str, row)) for row in self.order[:, :3].tolist()]
        further = ", ..." if n_features > 3 else ""
        return f"{examples(n)}, {n_features} features, {self.n_forwards} forwards", {
            "first features": [", ".join(row) + further for row in ranked],
            "inserted": self.n_inserted,
            "insertion": area(self.insertion_curve),
            "deletion": area(self.deletion_curve),
            "status": ["degenerate" if each else "ok" for each in self.degenerate],
        }

    def __getitem__(self, index: Any) -> MDAExplanation:
        """Take some of the examples, at least one; see `BatchResult`.

        Example::

            >>> import torch
            >>> from captum_mda import MetricDrivenAttribution
            >>> mda = MetricDrivenAttribution(lambda x: x.sum(1), score="identity")
            >>> x = torch.tensor([[3.0, 1.0, 2.0], [1.0, 2.0, 3.0]])
            >>> explanation = mda.explain(x)
            >>> len(explanation), explanation[-1].order
            (2, tensor([[2, 1, 0]]))
        """
        rows = example_rows(index, len(self))
        if not len(rows):
            raise IndexError(
                "index: takes no example, and an explanation is of at least one"
            )
        return super().__getitem__(rows)

    def to(
        self, *where: torch.device | str | int | torch.dtype, **named: Any
    ) -> MDAExplanation:
        """Say where attributions are returned, and in which dtype.

        The order and the curves stay on the CPU, in float64.

        Args:
            *where (torch.device, str, int or torch.dtype): By position; the dtype is
                float32 or float64.
            **named: The same as ``device`` and ``dtype``.

        Returns:
            *MDAExplanation*: with the features on that device.

        Raises:
            TypeError, ValueError: An argument is none of these.
        """
        device, dtype = device_and_dtype(where, named)
        features = self.features if device is None else self.features.to(device)
        return replace(self, features=features, dtype=dtype or self.dtype)

    def plot(  # type: ignore[override]
        self,
        image: Any = None,
        index: int = 0,
        title: str | None = None,
        **options: Any,
    ) -> Figure:
        """Draw an image, its maps and its curves.

        Args:
            image (Tensor, ndarray or PIL.Image.Image, optional): The photo of that
                example, in [0, 1]. None: maps are laid over a plain grey.
                Default: None
            index (int, optional): Which example; negative from the end. Default: 0
            title (str, optional): Written over the figure. Default: None
            **options: As `captum_mda.visualize.explanation_figure` takes them.

        Returns:
            *matplotlib.figure.Figure*: see `captum_mda.visualize.save_figure`.

        Raises:
            IndexError: There is no such example.
            TypeError, ValueError: As `captum_mda.visualize.explanation_figure`.
        """
        return self._drawn(image, index, title, options)

    @property
    def n_forwards(self) -> int:
        """How many inputs the model has seen for the whole batch."""
        return int(self.forwards.sum())

    def sufficient_patches(self, share: float = 0.9) -> Tensor:
        """Count the first patches of the order that restore most of the score.

        With ``k`` of them inserted into the insertion baseline, the score first comes
        within ``1 - share`` of the whole input's. Between points that a search has
        interpolated (see ``insertion_responses``) the count is an estimate.

        Args:
            share (float, optional): What share of the input's score is to be restored,
                in [0, 1]. Default: 0.9

        Returns:
            *Tensor*: int64 (B,), from 0, where the baseline scores as much, to N;
            ``order[b, :k]`` are the patches.

        Raises:
            ValueError: ``share`` is outside [0, 1].

        Example::

            >>> import torch
            >>> from captum_mda import MetricDrivenAttribution
            >>> mda = MetricDrivenAttribution(lambda x: x.sum(1), score="identity")
            >>> explanation = mda.explain(torch.tensor([[6.0, 1.0, 3.0]]))
            >>> explanation.sufficient_patches(0.9), explanation.sufficient_patches(0.5)
            (tensor([2]), tensor([1]))
        """
        require_in_unit_interval("share", share)
        whole = self.insertion_responses[:, -1:]
        needed = whole - (1.0 - share) * whole.abs()  # share x score, if positive
        return (self.insertion_responses >= needed).int().argmax(1)

    def feature_attributions(self, gamma: float = 0.0, kappa: float = 0.005) -> Tensor:
        """Compute one attribution for each feature.

        Args:
            gamma (float, optional): 0 is the sparse map, 1 the dense one, in [0, 1].
                Default: 0.0
            kappa (float, optional): The sparse magnitude in [0, 1] from which on the
                dense map counts a patch as important. Default: 0.005

        Returns:
            *Tensor*: (B, N) in the features' numbering, not negative, strictly
            decreasing along ``order`` (all zero for degenerate examples), on the
            inputs' device.

        Raises:
            ValueError: ``gamma`` or ``kappa`` is outside [0, 1].
        """
        require_in_unit_interval("gamma", gamma)
        require_in_unit_interval("kappa", kappa)
        ranked = blended_magnitudes(self._sparse, float(gamma), float(kappa))
        ranked = strictly_decreasing(ranked.to(self.dtype))
        ranked = ranked.masked_fill(self.degenerate[:, None], 0.0)
        attributions = torch.zeros_like(ranked).scatter(1, self.order, ranked)
        return attributions.to(self.features.masks[0].device)

    def attributions(
        self, gamma: float = 0.0, kappa: float = 0.005
    ) -> Tensor | tuple[Tensor, ...]:
        """Paint the features' attributions onto the elements of the inputs.

        Args:
            gamma (float, optional): As for `feature_attributions`. Default: 0.0
            kappa (float, optional): As for `feature_attributions`. Default: 0.005

        Returns:
            *Tensor* or *tuple[Tensor, ...]*: shaped like the inputs, constant over the
            elements of each feature.

        Raises:
            ValueError: ``gamma`` or ``kappa`` is outside [0, 1].
        """
        painted = self.features.paint(self.feature_attributions(gamma, kappa))
        attributions: Tensor | tuple[Tensor, ...] = format_output(
            self.is_tuple, painted
        )
        return attributions

    @cached_property
    def _sparse(self) -> Tensor:
        """Asparse along the order, float64 (B, N)."""
        sizes = self.features.sizes.cpu().expand(self.order.shape)
        return sparse_magnitudes(
            self.density_curve, sizes.gather(1, self.order), self.magnitude
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the explanation as safetensors with a JSON header.

        The file is written beside ``path`` and renamed: it is whole, or not there.

        Args:
            path (str or PathLike): Where to; an existing file is replaced and keeps its
                mode, a symbolic link is followed.

        Raises:
            FileNotFoundError: The folder does not exist.
            ValueError: At ``path`` is something else than a file.

        Example::

            >>> import tempfile, torch
            >>> from captum_mda import MDAExplanation, MetricDrivenAttribution
            >>> mda = MetricDrivenAttribution(lambda x: x.sum(1), score="identity")
            >>> explanation = mda.explain(torch.tensor([[3.0, 1.0, 2.0]]))
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     explanation.save(f"{folder}/mda.safetensors")
            ...     again = MDAExplanation.load(f"{folder}/mda.safetensors")
            >>> again.order
            tensor([[0, 2, 1]])
        """
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"path: got {path!r}, takes the path of a file")
        tensors = {name: getattr(self, name) for name in CURVES}
        tensors |= {
            "order": self.order,
            "n_inserted": self.n_inserted,
            "forwards": self.forwards,
            "forwards_bf16": self.forwards_bf16,
            "margin": self.margin,
            "degenerate": self.degenerate,
        }
        for index, mask in enumerate(self.features.masks):
            tensors[f"feature_mask.{index}"] = mask.cpu().to(torch.int32)
        header = {
            "version": FORMAT_VERSION,
            "n_features": self.features.n_features,
            "input_shapes": [list(shape) for shape in self.features.shapes],
            "magnitude": self.magnitude,
            "dtype": str(self.dtype).removeprefix("torch."),
            "is_tuple": self.is_tuple,
            "precision": self.precision,
            "provenance": dict(self.provenance),
        }
        contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
        with replacing(path) as beside:
            save_file(contiguous, beside, metadata={FORMAT: json.dumps(header)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MDAExplanation:
        """Read an explanation that `save` has written.

        Args:
            path (str or PathLike): The file.

        Returns:
            *MDAExplanation*: equal to the saved one, on the CPU.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is truncated, is no explanation, or holds what no
                search makes; the message names the path and the field.
        """
        fields = read_fields(path)
        with path_named(path):
            return cls(**fields)
