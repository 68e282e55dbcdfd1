"""The overview of a registered series: change over time before and after, a line through time, and the motion."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..evaluation.report.page import DISCLAIMER
from ..files.outputs import complete_or_absent
from ..spatial.warping import finite_float
from .figures import on_grid_of
from .result import SeriesResult

_BACKGROUND, _TEXT, _QUIET = "#0b0b0c", "#f2f2f2", "#a8a8ad"
_COLOURS = {"good": "#4cc26e", "check": "#ffb000", "failed": "#ff5f52", None: "#a8a8ad"}
_PAGE_INCHES, _DPI = (14.0, 8.2), 120
_BRIGHTEST = 99.5  # percentile shown white


def draw_series(path: str | os.PathLike[str], result: SeriesResult) -> None:
    """Draw the overview of a series as a PNG.

    Above, one slice through the middle of the anatomy: the reference, the standard deviation over time before and
    after. Below, one line of that slice through time, before and after, and the motion of each frame.

    Args:
        path: the file; it gets its name only when it is complete.
        result: the registered series.

    Raises:
        OutputError: the file cannot be written.
    """
    figure = Figure(figsize=_PAGE_INCHES, dpi=_DPI, facecolor=_BACKGROUND)
    FigureCanvasAgg(figure)
    before, after = result.series.frames, result.corrected.frames
    view = _View.of(result)
    slices = [view.over_time(frames) for frames in (before, after)]
    deviations = [each.std(axis=0) for each in slices]
    spread = float(np.percentile(deviations[0], _BRIGHTEST)) or 1.0
    axes = figure.subplots(2, 3, gridspec_kw={"hspace": 0.24, "wspace": 0.12, "top": 0.85, "bottom": 0.08})
    signal = view.cut(result.reference)
    _show(axes[0, 0], signal, view, "Reference", float(np.percentile(signal, _BRIGHTEST)))
    deviation = result.metrics["temporal_deviation_percent"]
    for column, (name, values) in enumerate(zip(("before", "after"), deviations, strict=True), start=1):
        title = f"Standard deviation over time, {name}: {deviation[name]:.1f} %"
        _show(axes[0, column], values, view, title, spread)
    axes[0, 0].axhline(view.row, color=_QUIET, linewidth=0.6)
    lines = [each[:, view.row] for each in slices]
    brightest = float(np.percentile(lines[1], _BRIGHTEST))
    for column, (name, values) in enumerate(zip(("before", "after"), lines, strict=True)):
        axes[1, column].imshow(values, cmap="gray", aspect="auto", vmin=0.0, vmax=brightest, interpolation="nearest")
        _style(axes[1, column], f"The marked line through time, {name}")
        axes[1, column].set_xticks([])
        _number(axes[1, column].yaxis, len(result.frames))
    axes[1, 0].set_ylabel("frame", color=_QUIET)
    _draw_motion(axes[1, 2], result)
    states = [frame.state for frame in result.frames]
    verdicts = [frame.verdict for frame in result.frames if frame.verdict is not None]
    counted = ", ".join(f"{verdicts.count(level)} {level}" for level in ("good", "check", "failed"))
    left = states.count("failed")
    figure.text(0.03, 0.955, f"Series of {len(states)} frames", color=_TEXT, size=15, weight="bold")
    onto = "their mean" if result.reference_frame is None else f"frame {result.reference_frame}"
    as_it_was = f"; {left} left as before" if left else ""
    figure.text(0.03, 0.915, f"Registered to {onto}. Verdicts: {counted}{as_it_was}.", color=_TEXT, size=11)
    figure.text(0.03, 0.02, DISCLAIMER, color=_QUIET, size=8)
    with complete_or_absent(path) as unfinished:
        figure.savefig(unfinished, format="png", facecolor="auto")


@dataclass(frozen=True)
class _View:
    """A slice across the axis of the largest spacing, through the middle of the foreground, and a row of it.

    The images follow the radiological convention: the patient's right on the left of the image, anterior and superior
    up.

    Attributes:
        reference: gives the grid.
        axis: array axis (z, y, x) of the reoriented grid that is cut.
        index: of the slice.
        row: of the slice.
        aspect: height of a pixel over its width.
    """

    reference: sitk.Image
    axis: int
    index: int
    row: int
    aspect: float

    @classmethod
    def of(cls, result: SeriesResult) -> _View:
        oriented = _oriented(result.reference)
        spacing, size = oriented.GetSpacing()[::-1], oriented.GetSize()[::-1]
        axis = size.index(1) if 1 in size else int(np.argmax(spacing))
        inside = np.argwhere(sitk.GetArrayFromImage(_oriented(result.foreground)))
        index = int(inside.mean(0).round()[axis])
        down, across = (each for each in range(3) if each != axis)
        view = cls(result.reference, axis, index, 0, spacing[down] / spacing[across])
        rows = np.argwhere(view.cut(result.foreground).any(1))
        return dataclasses.replace(view, row=int(rows.mean()) if rows.size else size[down] // 2)

    def cut(self, image: sitk.Image) -> NDArray[Any]:
        """Return the slice of a volume on the grid, the first row on top."""
        picture = np.take(sitk.GetArrayFromImage(_oriented(image)), self.index, self.axis)
        return picture if self.axis == 0 else picture[::-1]

    def over_time(self, frames: Sequence[sitk.Image]) -> NDArray[Any]:
        """Return the slice of each frame, (frames, rows, columns)."""
        return np.stack([self.cut(finite_float(on_grid_of(self.reference, frame))) for frame in frames])


def _oriented(image: sitk.Image) -> sitk.Image:
    """Return a volume with its axes in the order nearest to LPS."""
    return sitk.DICOMOrient(image, "LPS")


def _show(axes: Axes, picture: NDArray[Any], view: _View, title: str, brightest: float) -> None:
    axes.imshow(picture, cmap="gray", vmin=0.0, vmax=brightest, aspect=view.aspect, interpolation="nearest")
    _style(axes, title)
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_motion(axes: Axes, result: SeriesResult) -> None:
    """Bars of the mean displacement with the largest one as a line, in the colour of the verdict."""
    numbers = range(len(result.frames))
    means, largest = zip(*(frame.motion_mm for frame in result.frames), strict=True)
    colours = [_COLOURS[frame.verdict] for frame in result.frames]
    axes.set_facecolor(_BACKGROUND)
    axes.bar(numbers, means, color=colours)
    axes.vlines(numbers, means, largest, colors=colours, linewidth=1.0)
    _style(axes, "Motion, mm: mean and largest")
    axes.set_xlabel("frame", color=_QUIET)
    _number(axes.xaxis, len(result.frames))


def _number(axis: Axis, frames: int) -> None:
    axis.set_ticks(range(0, frames, max(1, frames // 10)))


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, color=_TEXT, size=10)
    axes.tick_params(colors=_QUIET, labelsize=8)
    for spine in axes.spines.values():
        spine.set_color(_QUIET)
