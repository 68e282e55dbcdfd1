"""The layout of the quality page. Lengths are inches from the upper left corner."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from . import panels
from .scene import PLANES, Plane, Scene

DISCLAIMER = "For research use only. Not a medical device."

_HEADS = (
    "Fixed",
    "Moving\nbefore",
    "Moving\nafter",
    "Checkerboard\nbefore",
    "Checkerboard\nafter",
    "Displacement",
    "Jacobian\ndeterminant",
)
_EXPECTED_ERROR_HEAD = "Expected\nerror"
_BACKGROUND = "#0b0b0c"
_TEXT = "#f2f2f2"
_QUIET = "#a8a8ad"
_WARNING = "#ffb000"
_VERDICTS = {"good": "#4cc26e", "check": "#ffb000", "failed": "#ff5f52"}
_DPI = 140
_PAGES = ((18.5, 12.5), (12.5, 18.5))  # space for the images: a wide and a tall page
_TALL_IF = 1.3  # screens are wide: the tall page must show this much more
_LEFT = 0.55  # of the images
_MARGIN = 0.15  # of the header
_GAP = 0.06  # between images
_SMALLEST_CELL = 1.4  # the titles must fit
_LETTER = 0.088  # width of a character of the key figures
_TITLE_LETTER = 0.135
_TITLE_LINE = 0.27
_LINE = 0.2
_Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Layout:
    """The layout of the page.

    Attributes:
        wide: whether the images of a plane are side by side and the planes below each other; else transposed.
        widths: width of each column of images.
        heights: height of each row of images.
        header: height of the title and the key figures.
    """

    wide: bool
    widths: tuple[float, ...]
    heights: tuple[float, ...]
    header: float = 0.0

    @property
    def top(self) -> float:
        """Upper edge of the images."""
        return self.header + (0.45 if self.wide else 0.3)

    @property
    def bottom(self) -> float:
        """Lower edge of the images."""
        return self.top + sum(self.heights) + (len(self.heights) - 1) * _GAP

    @property
    def page(self) -> tuple[float, float]:
        """Width and height of the page."""
        right, below = (0.15, 0.75) if self.wide else (0.95, 0.6)
        return _LEFT + sum(self.widths) + (len(self.widths) - 1) * _GAP + right, self.bottom + below

    def cell(self, picture: int, plane: int) -> _Box:
        """Left, top, width and height of an image's cell."""
        row, column = (plane, picture) if self.wide else (picture, plane)
        left = _LEFT + sum(self.widths[:column]) + column * _GAP
        top = self.top + sum(self.heights[:row]) + row * _GAP
        return left, top, self.widths[column], self.heights[row]

    def fractions(self, left: float, top: float, width: float, height: float) -> _Box:
        """A rectangle in matplotlib's form: fractions of the page from its lower left corner."""
        page_width, page_height = self.page
        return left / page_width, 1 - (top + height) / page_height, width / page_width, height / page_height


def draw_page(
    scene: Scene, title: str, verdict: tuple[str, Sequence[str]], warnings: Sequence[str], lines: Sequence[str]
) -> Figure:
    """The figure with all images and texts.

    Args:
        scene: the data to show.
        title: first line of the page.
        verdict: its word and the reasons, displayed below the title in the word's colour.
        warnings: displayed below them, highlighted.
        lines: key figures, one line of text each.
    """
    layout, heads = page_layout(scene), _heads(scene)
    room = layout.page[0] - 2 * _MARGIN
    title_lines = textwrap.wrap(title, int(room / _TITLE_LETTER)) or [""]
    word, reasons = verdict
    said = [
        (part, colour)
        for colour, texts in ((_VERDICTS[word], (f"Verdict: {word}", *reasons)), (_WARNING, warnings))
        for text in texts
        for part in textwrap.wrap(text, int(room / _LETTER))
    ]
    columns = _in_columns(lines, int(room / _LETTER))
    longest = len(said) + max((len(column) for column in columns), default=0)
    layout = replace(layout, header=0.2 + _TITLE_LINE * len(title_lines) + _LINE * longest)

    figure = Figure(figsize=layout.page, dpi=_DPI, facecolor=_BACKGROUND)
    FigureCanvasAgg(figure)
    _write_header(figure, layout, title_lines, said, columns)
    _write_heads(figure, layout, scene)
    for number, plane in enumerate(PLANES):
        every = [add_axes(figure, layout, scene, picture, number) for picture in range(len(heads))]
        for picture in range(5):
            panels.draw_anatomy(every[picture], scene, plane, picture)
        panels.draw_scale_bar(every[0], scene, plane)
        displacement = panels.draw_displacement(every[5], scene, plane)
        jacobian = panels.draw_jacobian(every[6], scene, plane)
        if scene.expected_error is not None:
            expected = panels.draw_expected_error(every[7], scene, plane, scene.expected_error)
        for axes in every:
            panels.draw_letters(axes, plane)

    factor = panels.arrow_factor(scene)
    length = "true length" if factor == 1 else f"{factor:g}x"
    label = f"mm (arrows {length}, fixed to moving)" if factor else "mm"
    if scene.shift.any():
        label = f"{label}\nwithout the mean shift of {_direction_words(scene.shift)} mm"
    _draw_bar(figure, layout, displacement, 5, label)
    ticks = [scene.largest_ratio**power for power in (-1, -0.5, 0, 0.5, 1)]
    _draw_bar(figure, layout, jacobian, 6, "local volume, moving / fixed", ticks)
    if scene.expected_error is not None:
        _draw_bar(figure, layout, expected, 7, "mm")
    _write_footer(figure, layout, scene)
    return figure


def page_layout(scene: Scene) -> Layout:
    """The wide page, or the tall one if it shows clearly more; images fill their column or row."""
    tallness = np.array([height / width for height, width in map(scene.size_mm, PLANES)])
    pictures = len(_heads(scene))
    width = min(_PAGES[0][0] / pictures, _PAGES[0][1] / tallness.sum())
    height = min(_PAGES[1][1] / pictures, _PAGES[1][0] / (1 / tallness).sum())
    tall_gain = height**2 * (1 / tallness).sum() / (width**2 * tallness.sum())
    wide = bool(tall_gain < _TALL_IF)
    if wide:
        widths, heights = np.full(pictures, width), width * tallness
    else:
        widths, heights = height / tallness, np.full(pictures, height)
    widths, heights = (np.maximum(sides, _SMALLEST_CELL).tolist() for sides in (widths, heights))
    return Layout(wide, tuple(widths), tuple(heights))


def _heads(scene: Scene) -> tuple[str, ...]:
    """Titles of the images of a plane."""
    return _HEADS if scene.expected_error is None else (*_HEADS, _EXPECTED_ERROR_HEAD)


def add_axes(figure: Figure, layout: Layout, scene: Scene, picture: int, plane: int) -> Axes:
    """Axes of an image, in mm, in the middle of its cell."""
    left, top, width, height = layout.cell(picture, plane)
    size = np.array(scene.size_mm(PLANES[plane]))
    high, wide = size * min(height / size[0], width / size[1])
    axes = figure.add_axes(layout.fractions(left + (width - wide) / 2, top + (height - high) / 2, wide, high))
    axes.set_axis_off()
    return axes


def _in_columns(lines: Sequence[str], letters: int) -> list[list[str]]:
    """The key figures in as many columns as fit, long lines wrapped."""
    wrapped = [part for line in lines for part in (textwrap.wrap(line, letters) or [""])]
    if not wrapped:
        return []
    longest = max(len(line) for line in wrapped) + 4
    count = min(3, max(1, letters // longest), math.ceil(len(wrapped) / 3))
    length = math.ceil(len(wrapped) / count)
    return [wrapped[start : start + length] for start in range(0, len(wrapped), length)]


def _write(figure: Figure, layout: Layout, left: float, top: float, text: str, **style: Any) -> None:
    """Text with its upper left corner at a position, by default."""
    options: dict[str, Any] = {"color": _TEXT, "ha": "left", "va": "top", "parse_math": False, **style}
    x, y, _, _ = layout.fractions(left, top, 0.0, 0.0)
    figure.text(x, y, text, **options)


def _write_header(
    figure: Figure,
    layout: Layout,
    title_lines: Sequence[str],
    said: Sequence[tuple[str, str]],
    columns: Sequence[Sequence[str]],
) -> None:
    """Title, verdict and warnings with their colours, and the key figures in columns."""
    for number, line in enumerate(title_lines):
        _write(figure, layout, _MARGIN, 0.15 + _TITLE_LINE * number, line, size=13, weight="bold")
    left, top = _MARGIN, 0.2 + _TITLE_LINE * len(title_lines)
    for number, (line, colour) in enumerate(said):
        style = {"size": 12, "weight": "bold"} if number == 0 else {"size": 10}
        _write(figure, layout, left, top + _LINE * number, line, color=colour, **style)
    top += _LINE * len(said)
    for column in columns:
        for number, line in enumerate(column):
            _write(figure, layout, left, top + _LINE * number, line, size=10)
        left += (max(len(line) for line in column) + 4) * _LETTER


def _write_heads(figure: Figure, layout: Layout, scene: Scene) -> None:
    """Titles of the images and of the planes: one above the images, the other beside them."""
    heads = [(layout.cell(picture, 0), head, {"size": 10}) for picture, head in enumerate(_heads(scene))]
    planes = [
        (layout.cell(0, number), _plane_name(scene, plane), {"size": 9.5, "color": _QUIET})
        for number, plane in enumerate(PLANES)
    ]
    above, beside = (heads, planes) if layout.wide else (planes, heads)
    for (left, _, width, _), text, style in above:
        _write(figure, layout, left + width / 2, layout.top - 0.06, text, ha="center", va="bottom", **style)
    turned = {"rotation": 90, "ha": "right", "va": "center", "multialignment": "center"}
    for (_, top, _, height), text, style in beside:
        _write(figure, layout, _LEFT - 0.1, top + height / 2, text, **turned, **style)


def _plane_name(scene: Scene, plane: Plane) -> str:
    """Name and coordinate of a plane through the centre in radiological notation: Axial, S 34 mm."""
    component = 2 - plane.axis
    value = scene.position[component]
    letter = ("LR", "PA", "SI")[component][0 if value >= 0 else 1]
    return f"{plane.name}, {letter} {abs(value):.0f} mm"


def _direction_words(vector: NDArray[np.floating[Any]]) -> str:
    """An LPS vector in radiological notation, to whole millimetres: L 12, A 3, S 40."""
    return ", ".join(
        f"{letters[0 if value >= 0 else 1]} {abs(value):.0f}"
        for letters, value in zip(("LR", "PA", "SI"), vector.tolist(), strict=True)
    )


def _draw_bar(
    figure: Figure, layout: Layout, image: AxesImage, picture: int, label: str, ticks: Sequence[float] = ()
) -> None:
    """Colour bar of the displacement, the Jacobian or the expected error beside its images."""
    left, top, width, height = layout.cell(picture, len(PLANES) - 1)
    if layout.wide:
        orientation, place = "horizontal", (left + 0.12, layout.bottom + 0.1, width - 0.24, 0.11)
    else:
        orientation, place = "vertical", (left + width + 0.1, top + 0.12, 0.11, height - 0.24)
    axes = figure.add_axes(layout.fractions(*place))
    bar = figure.colorbar(image, cax=axes, orientation=orientation, extend="both" if ticks else "max")
    if ticks:
        bar.set_ticks(ticks, labels=[f"{tick:.3g}" for tick in ticks])
        bar.minorticks_off()
    bar.set_label(label, color=_TEXT, size=8)
    axes.tick_params(colors=_TEXT, labelsize=8, length=2, pad=2)
    bar.outline.set_edgecolor(_QUIET)


def _write_footer(figure: Figure, layout: Layout, scene: Scene) -> None:
    """Legend of the colours, and the disclaimer."""
    handles: list[Any] = []
    if scene.labels[0] is not None:
        handles.append(Line2D([], [], color=panels.FIXED_COLOUR, linewidth=1.6, label="fixed labels"))
    if scene.labels[1] is not None or scene.labels[2] is not None:
        handles.append(Line2D([], [], color=panels.MOVING_COLOUR, linewidth=1.6, label="moving labels"))
    handles.append(Patch(color=panels.FOLDED_COLOUR, label="folded (determinant 0 or less)"))
    if scene.expected_error is not None:
        handles.append(Patch(color=panels.NOT_KNOWN_COLOUR, label="expected error not known"))
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=layout.fractions(_LEFT, layout.bottom + 0.04, 0.0, 0.0)[:2],
        ncols=len(handles),
        frameon=False,
        labelcolor=_TEXT,
        fontsize=9,
        borderaxespad=0.2,
        borderpad=0,
        handlelength=1.4,
    )
    _write(figure, layout, _LEFT, layout.page[1] - 0.12, DISCLAIMER, size=8.5, color=_QUIET, va="bottom")
