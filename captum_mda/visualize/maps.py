"""The figure of many maps of one image, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from torch import Tensor

from captum_mda._checks import require_positive_integer, require_type
from captum_mda.visualize import _panels
from captum_mda.visualize._images import as_photo, FloatArray
from captum_mda.visualize._text import is_formula, literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from captum_mda.visualize._images import ImageLike

_MOST_COLUMNS = 5  # what a page holds

# The layout, in inches.
_PANEL, _GAP, _SIDE, _TOP = 2.0, 0.14, 0.15, 0.1
_TITLE_LINE, _CAPTION_LINE, _PAD = 0.165, 0.135, 0.09
_BAR, _BAR_HEIGHT, _BAR_GAP, _BOTTOM = 2.4, 0.1, 0.5, 0.57
_TITLE_LETTERS, _CAPTION_LETTERS = 25, 31  # as many as a panel is wide
_HEAD_LETTER, _HEAD_LINE, _FOOT_LETTER = 0.105, 0.2, 0.064


def maps_figure(
    image: ImageLike,
    maps: Mapping[str, Tensor | npt.NDArray[Any]],
    title: str | None = None,
    captions: Mapping[str, str] | None = None,
    n_columns: int | None = None,
    caption: str | None = None,
) -> Figure:
    r"""Draw a photo and several attribution maps of it, in rows.

    Each map is divided by its largest absolute value and drawn under the photo's
    outlines, in the colours of `explanation_figure`. A map with negative values gets
    other colours, centred on 0: red for the target, blue against it. Colour bars are
    drawn below.

    The figure is independent of `pyplot` and has no window.

    Args:
        image (Tensor, ndarray or PIL.Image.Image): The photo, (3, H, W) or (H, W, 3) in
            [0, 1], as the model saw it; see `denormalize`.
        maps (mapping of str to Tensor or ndarray): The maps by their titles: (h, w),
            (C, h, w) or (1, C, h, w) with C of 1, or 3 channels, which are summed. A
            map of any size covers the whole photo.
        title (str, optional): The title of the figure. Default: None
        captions (mapping of str to str, optional): By a map's name, the text below it.
            Default: None
        n_columns (int, optional): The number of panels per row. None: at most five, in
            rows of about equal length. Default: None
        caption (str, optional): Small text at the foot, wrapped to the width, for
            example the model, the target, the baselines and the crop. Dollar signs are
            drawn literally. Default: None

    Returns:
        *matplotlib.figure.Figure*: the figure, its axes in the order of the photo, the
        maps and the legends; see `save_figure`.

    Raises:
        TypeError: ``image``, a map or ``maps`` has a wrong type.
        ValueError: A shape or a value does not fit, there are no maps, or a caption
            belongs to none of them.

    Example::

        >>> import torch
        >>> from captum_mda import demo, RawAttention, TokenInputXGradient
        >>> from captum_mda.visualize import denormalize, maps_figure
        >>> model = demo.load_model()
        >>> images, labels, _ = demo.make_samples(n=1, seed=2)
        >>> maps = {
        ...     "Raw attention": RawAttention(model).attribute(images),
        ...     "Input x grad": TokenInputXGradient(model).attribute(images, labels),
        ... }
        >>> photo = denormalize(images[0], demo.MEAN, demo.STD)
        >>> figure = maps_figure(photo, maps, captions={"Raw attention": "no target"})
        >>> [axes.get_title() for axes in figure.axes]
        ['Image', 'Raw attention', 'Input x grad', '', '']
    """
    from matplotlib.figure import Figure

    photo = as_photo(image)
    if n_columns is not None:
        require_positive_integer("n_columns", n_columns)
    planes = _read(maps)
    titles = [_wrapped(name, _TITLE_LETTERS) for name in planes]
    below = _captions(captions, planes)
    has_sign = sorted(
        {_panels.is_signed(plane) for plane in planes.values()}
    )  # one bar each
    layout = _Layout(
        n_columns=_columns(1 + len(planes), n_columns),
        aspect=photo.shape[0] / photo.shape[1],
        title_lines=_lines_by_row(["Image", *titles], n_columns),
        caption_lines=_lines_by_row(["", *below], n_columns),
        n_bars=len(has_sign),
        text=title or "",
        foot=caption or "",
    )
    figure = Figure(figsize=(layout.width, layout.height))
    _panels.draw_photo(figure.add_axes(layout.panel(0)), photo)
    panels = zip(planes.values(), titles, below, strict=True)
    for place, (plane, name, words) in enumerate(panels, 1):
        axes = figure.add_axes(layout.panel(place))
        _panels.draw_map(axes, photo, plane, name)
        _write_below(axes, words)
    for place, signed in enumerate(has_sign):
        axes = figure.add_axes(layout.colour_bar(place))
        _panels.draw_colour_bar(axes, signed, horizontal=True)
    side = (_SIDE / layout.width, _SIDE / layout.height)
    if title is not None:
        _panels.write_title(figure, layout.title, side[1])
    if caption:
        _panels.write_foot(figure, layout.caption, side)
    return figure


def _read(maps: Mapping[str, Tensor | npt.NDArray[Any]]) -> dict[str, FloatArray]:
    """Check all maps, and divide each by its largest absolute value."""
    require_type("maps", maps, Mapping, "a mapping from names")
    if not maps:
        raise ValueError("maps: got none, takes at least one")
    return {
        name: _panels.relative(_plane(name, values)) for name, values in maps.items()
    }


def _plane(name: str, values: Tensor | npt.NDArray[Any]) -> FloatArray:
    """Convert a map in any of its forms to float64 (h, w)."""
    array: Any = values
    if isinstance(values, Tensor) and not values.is_complex():
        array = values.detach().cpu().double().numpy()
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        got = getattr(array, "dtype", type(array).__name__)
        raise TypeError(
            f"maps: {name!r} is of {got}, takes a tensor or an array of real numbers"
        )
    plane: FloatArray = array.astype(np.float64)
    if plane.ndim == 4 and len(plane) == 1:
        plane = plane[0]
    if plane.ndim == 3 and len(plane) in (1, 3):
        plane = plane.sum(axis=0)
    if plane.ndim != 2 or plane.size == 0:
        raise ValueError(
            f"maps: {name!r} has shape {array.shape}, takes one map, (h, w), (1, h, w) "
            "or (1, 1, h, w), or with 3 channels in place of the last 1"
        )
    if not np.isfinite(plane).all():
        raise ValueError(f"maps: {name!r} has NaN or infinite values")
    return plane


def _captions(
    captions: Mapping[str, str] | None, planes: Mapping[str, FloatArray]
) -> list[str]:
    """List the captions of the maps."""
    given = {} if captions is None else captions
    require_type("captions", given, Mapping, "a mapping from the maps' names")
    unknown = [name for name in given if name not in planes]
    if unknown:
        raise ValueError(
            f"captions: got {unknown[0]!r}, takes the maps' names, {', '.join(planes)}"
        )
    return [_wrapped(given.get(name, ""), _CAPTION_LETTERS) for name in planes]


def _wrapped(text: str, n_letters: int) -> str:
    """Break long lines between words, but never within a formula."""
    if is_formula(text):
        return text
    return "\n".join("\n".join(wrap(line, n_letters)) for line in text.split("\n"))


def _columns(n_panels: int, wanted: int | None) -> int:
    if wanted is not None:
        return min(wanted, n_panels)
    n_rows = -(-n_panels // _MOST_COLUMNS)
    return -(-n_panels // n_rows)


def _lines_by_row(texts: Sequence[str], wanted: int | None) -> list[int]:
    """Count the lines of the longest text per row."""
    n = _columns(len(texts), wanted)
    rows = [texts[start : start + n] for start in range(0, len(texts), n)]
    return [max(text.count("\n") + 1 if text else 0 for text in row) for row in rows]


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """The places of panels; boxes are fractions of the figure, as in `add_axes`."""

    n_columns: int
    aspect: float
    title_lines: Sequence[int]
    caption_lines: Sequence[int]
    n_bars: int
    text: str
    foot: str

    @property
    def width(self) -> float:
        panels = self.n_columns * (_PANEL + _GAP) - _GAP
        bars = self.n_bars * (_BAR + _BAR_GAP) - _BAR_GAP
        return max(panels, bars) + 2 * _SIDE

    @property
    def title(self) -> str:
        return _wrapped(self.text, int(self.width / _HEAD_LETTER))

    @property
    def caption(self) -> str:
        return literal(self.foot, int((self.width - 2 * _SIDE) / _FOOT_LETTER))

    @property
    def height(self) -> float:
        return self._bars_end + _BOTTOM - _BAR_HEIGHT + self._foot_height

    @property
    def _bars_end(self) -> float:
        return self._below_row(len(self.title_lines) - 1) + 2 * _BAR_HEIGHT

    @property
    def _foot_height(self) -> float:
        if not self.foot:
            return 0.0
        return _CAPTION_LINE * (self.caption.count("\n") + 1) + _PAD + _SIDE

    @property
    def _panel_height(self) -> float:
        return _PANEL * min(max(self.aspect, 0.5), 2.0)

    def _below_row(self, row: int) -> float:
        """Measure the distance from the top to the end of a row and its captions."""
        end = _TOP
        if self.text:
            end += _PAD + _HEAD_LINE * (self.title.count("\n") + 1)
        for titles, captions in zip(
            self.title_lines[: row + 1], self.caption_lines, strict=False
        ):
            end += titles * _TITLE_LINE + _PAD + self._panel_height
            end += captions * _CAPTION_LINE + _PAD
        return end

    def panel(self, place: int) -> tuple[float, float, float, float]:
        row, column = divmod(place, self.n_columns)
        grid = self.n_columns * (_PANEL + _GAP) - _GAP
        left = (self.width - grid) / 2 + column * (_PANEL + _GAP)
        end = self._below_row(row) - self.caption_lines[row] * _CAPTION_LINE - _PAD
        return self._box(left, end, _PANEL, self._panel_height)

    def colour_bar(self, place: int) -> tuple[float, float, float, float]:
        bars = self.n_bars * (_BAR + _BAR_GAP) - _BAR_GAP
        left = (self.width - bars) / 2 + place * (_BAR + _BAR_GAP)
        return self._box(left, self._bars_end, _BAR, _BAR_HEIGHT)

    def _box(
        self, left: float, end: float, width: float, height: float
    ) -> tuple[float, float, float, float]:
        across, up = 1 / self.width, 1 / self.height
        return left * across, 1 - end * up, width * across, height * up


def _write_below(axes: Axes, caption: str) -> None:
    if caption:
        axes.set_xlabel(
            caption, size=_panels.TICK_SIZE, labelpad=3, parse_math=is_formula(caption)
        )
