"""Results of a batch: examples are taken out of them, moved, and drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar, TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from captum_mda._checks import FLOATING_DTYPES, is_integer, require_index
from captum_mda._summaries import Summarized

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Self


class BatchResult(Summarized):
    """A frozen dataclass whose tensors and tuples hold one entry for each example.

    ``len`` is the number of examples, an index takes some of them out, in a result of
    the same class, and iteration gives them one by one.
    """

    _shared: ClassVar[tuple[str, ...]] = ()
    """Fields that are of the whole batch, though they are tensors or tuples."""

    def __len__(self) -> int:
        """How many examples."""
        return next(
            len(value)
            for value in self._of_examples().values()
            if isinstance(value, Tensor)
        )

    def __bool__(self) -> bool:
        """Say that there is a result, of however many examples."""
        return True

    def __getitem__(self, index: Any) -> Self:
        """Take some of the examples.

        Args:
            index (int, slice, sequence of int or bool, or Tensor): Which of them;
                negative from the end.

        Returns:
            The same class, of these examples; an int gives a batch of one.

        Raises:
            IndexError: There is no such example.
            TypeError: The index is none of those.
        """
        rows = example_rows(index, len(self))
        changed = {
            name: _rows_of(value, rows) for name, value in self._of_examples().items()
        }
        return replace(self, **changed)  # type: ignore[type-var]

    def __iter__(self) -> Iterator[Self]:
        """Give the examples one by one."""
        return (self[index] for index in range(len(self)))

    def to(self, *where: torch.device | str | int | torch.dtype, **named: Any) -> Self:
        """Move the tensors to a device, or convert those of floating-point numbers.

        Args:
            *where (torch.device, str, int or torch.dtype): As `torch.Tensor.to` takes
                them by position.
            **named: The same as ``device`` and ``dtype``.

        Returns:
            The same class; tensors that are there already are not copied.

        Raises:
            TypeError: An argument is neither a device nor a dtype.
        """
        device, dtype = device_and_dtype(where, named)
        changed: dict[str, Any] = {}
        for each in fields(self):  # type: ignore[arg-type]
            value = getattr(self, each.name)
            if isinstance(value, BatchResult):
                changed[each.name] = value.to(**_given(device=device, dtype=dtype))
            elif isinstance(value, Tensor):
                cast = dtype if value.is_floating_point() else None
                changed[each.name] = value.to(**_given(device=device, dtype=cast))
        return replace(self, **changed)  # type: ignore[type-var]

    def plot(self, index: int = 0, title: str | None = None) -> Figure:
        """Draw what was found out about one example.

        Args:
            index (int, optional): Which example; negative from the end. Default: 0
            title (str, optional): Written over the figure. Default: None

        Returns:
            *matplotlib.figure.Figure*: see `captum_mda.visualize.scores_figure`.

        Raises:
            IndexError: There is no such example.
        """
        # From above: visualize is what knows matplotlib. See setup.cfg.
        from captum_mda.visualize import scores_figure

        return scores_figure(self, index, title)

    def _drawn(
        self, image: Any, index: int, title: str | None, options: dict[str, Any]
    ) -> Figure:
        """Draw an explanation of one image."""
        from captum_mda.visualize import explanation_figure

        row = int(example_rows(index, len(self))[0])
        if image is None:
            shape = self.features.shapes[0]  # type: ignore[attr-defined]
            image = np.full((*shape[-2:], 3), 0.5)
        explained: Any = self
        figure: Figure = explanation_figure(image, explained, row, title, **options)
        return figure

    def _of_examples(self) -> dict[str, Any]:
        return {
            each.name: getattr(self, each.name)
            for each in fields(self)  # type: ignore[arg-type]
            if each.name not in self._shared
        }


def device_and_dtype(
    where: Sequence[object], named: dict[str, Any]
) -> tuple[torch.device | None, torch.dtype | None]:
    """Read the arguments of ``to``."""
    found: dict[str, Any] = {"device": None, "dtype": None}
    unknown = sorted(set(named) - set(found))
    if unknown:
        raise TypeError(f"{unknown[0]}: is no argument of to, takes device and dtype")
    positional = [
        ("dtype" if isinstance(value, torch.dtype) else "device", value)
        for value in where
    ]
    for name, value in [*positional, *named.items()]:
        if value is None:
            continue
        if name == "device" and not isinstance(value, (torch.device, str, int)):
            raise TypeError(
                f"device: got {type(value).__name__}, takes a device, such as 'cpu' or "
                "'cuda', or a floating-point dtype"
            )
        if name == "dtype" and value not in FLOATING_DTYPES:
            raise TypeError(
                f"dtype: got {value!r}, takes torch.float64, torch.float32, "
                "torch.float16 or torch.bfloat16"
            )
        found[name] = torch.device(value) if name == "device" else value
    return found["device"], found["dtype"]


def example_rows(index: Any, n: int) -> Tensor:
    """Read an index of examples: int64 (K,) on the CPU.

    Raises:
        IndexError: There is no such example.
        TypeError: It is no index.
    """
    if is_integer(index):
        return torch.tensor([_row(index, n)])
    if isinstance(index, slice):
        return torch.tensor(list(range(n)[index]), dtype=torch.int64)
    if isinstance(index, (Tensor, np.ndarray)):
        index = index.tolist()
        index = [index] if is_integer(index) else index
    if isinstance(index, range):
        index = list(index)
    if not isinstance(index, list):
        raise TypeError(
            f"index: got {type(index).__name__}, takes an integer, a slice, or a list "
            "of integers or of booleans"
        )
    if index and all(isinstance(each, bool) for each in index):
        if len(index) != n:
            raise IndexError(
                f"index: got {len(index)} booleans, takes one for each of {n} examples"
            )
        return torch.tensor(index).nonzero().flatten()
    if not all(map(is_integer, index)):
        raise TypeError("index: takes a list of integers, or of booleans alone")
    return torch.tensor([_row(each, n) for each in index], dtype=torch.int64)


def _row(index: Any, n: int) -> int:
    try:
        return require_index("index", index, n)
    except ValueError as error:
        raise IndexError(str(error)) from None


def _rows_of(value: Any, rows: Tensor) -> Any:
    """Take rows out of a field."""
    if isinstance(value, Tensor):
        return value[rows.to(value.device)]
    if isinstance(value, BatchResult):
        return value[rows]
    if hasattr(value, "of_examples"):
        return value.of_examples(rows)
    if isinstance(value, tuple) and value:
        return tuple(value[row] for row in rows.tolist())
    if isinstance(value, Mapping):
        return {name: _rows_of(each, rows) for name, each in value.items()}
    return value


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
