"""Drawing the single images of the quality page. Axes are in mm from the image's upper left corner."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, LogNorm
from matplotlib.image import AxesImage
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from scipy import ndimage

from .scene import Plane, Scene
from .views import checkerboard

FIXED_COLOUR = "#35d0ff"
MOVING_COLOUR = "#ffb000"
FOLDED_COLOUR = "#b6ff00"
NOT_KNOWN_COLOUR = "#55555a"
_VOLUME_COLOURS = LinearSegmentedColormap.from_list(
    "volume", ["#b9e6ff", "#2f8fe0", "#15406e", "#1a1a1c", "#7a1f1f", "#e8562f", "#ffe0c2"]
)
# Green up to 1 mm, amber about 2.5 mm, red from 5 mm on.
_ERROR_COLOURS = LinearSegmentedColormap.from_list(
    "expected error", [(0.0, "#1a8c4d"), (0.2, "#73bf59"), (0.5, "#facc40"), (1.0, "#d92626")]
)
_LARGEST_ERROR_MM = 5.0
_OUTLINED = [withStroke(linewidth=2.2, foreground="black")]
_ARROWS_PER_SIDE = 13
_CONTOUR_LEVEL = 0.3  # of the grey window


def draw_anatomy(axes: Axes, scene: Scene, plane: Plane, picture: int) -> None:
    """Fixed, before, after, checkerboard before or after (image 0 to 4)."""
    fixed, *moving = (scene.cut(array, plane) for array in (scene.fixed, scene.before, scene.after))
    if picture < 3:
        shown = (fixed, *moving)[picture]
    else:
        shown = np.where(_checkerboard(scene, plane), fixed, moving[picture - 3])
    _show(axes, scene, plane, shown, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
    if picture in (1, 2):
        _draw_outline(axes, scene, plane, scene.labels[picture], MOVING_COLOUR)
    if picture < 3:
        _draw_outline(axes, scene, plane, scene.labels[0], FIXED_COLOUR)


def draw_displacement(axes: Axes, scene: Scene, plane: Plane) -> AxesImage:
    """Length of u in colour and its in-plane component as arrows."""
    vectors = scene.cut(scene.displacement, plane)
    length = np.linalg.norm(vectors, axis=-1)
    fastest = max(scene.largest_displacement, 1e-3)
    image = _show(axes, scene, plane, length, cmap="viridis", vmin=0, vmax=fastest, interpolation="bilinear")
    _draw_contour(axes, scene, plane)
    factor = arrow_factor(scene)
    if factor:
        pixel = scene.pixel_mm(plane)
        step = np.maximum(1, np.round(scene.longest_mm / _ARROWS_PER_SIDE / pixel).astype(int))
        there = np.zeros(length.shape, bool)
        there[tuple(slice((n % s or s) // 2, None, s) for n, s in zip(there.shape, step, strict=True))] = True
        row, column = np.nonzero(there & scene.cut(scene.foreground, plane))
        down_axis, across_axis = plane.shown
        down = 1 if plane.axis == 0 else -1  # rows run to P, but to I
        axes.quiver(
            (column + 0.5) * pixel[1],
            (row + 0.5) * pixel[0],
            vectors[row, column, 2 - across_axis],
            vectors[row, column, 2 - down_axis] * down,
            angles="xy",
            scale_units="xy",
            scale=1 / factor,
            units="inches",
            width=0.014,
            headwidth=4,
            color="white",
            edgecolor="black",
            linewidth=0.3,
        )
    return image


def arrow_factor(scene: Scene) -> float:
    """Magnification of the arrows; 0 for no arrows."""
    if scene.largest_displacement < 1e-3:
        return 0.0
    allowed = 1.7 * scene.longest_mm / _ARROWS_PER_SIDE / scene.largest_displacement
    return max((factor for factor in (0.2, 0.5, 1, 2, 5, 10, 20, 50) if factor <= allowed), default=0.1)


def draw_jacobian(axes: Axes, scene: Scene, plane: Plane) -> AxesImage:
    """Determinant on a logarithmic scale about 1; folded voxels in a separate colour."""
    determinant = scene.cut(scene.jacobian, plane)
    folded = determinant <= 0
    scale = LogNorm(1 / scene.largest_ratio, scene.largest_ratio, clip=True)
    image = _show(axes, scene, plane, np.where(folded, 1.0, determinant), cmap=_VOLUME_COLOURS, norm=scale)
    _show(axes, scene, plane, np.ma.masked_where(~folded, folded), cmap=ListedColormap([FOLDED_COLOUR]))
    _draw_contour(axes, scene, plane)
    return image


def draw_expected_error(axes: Axes, scene: Scene, plane: Plane, expected_error: NDArray) -> AxesImage:
    """The expected error in mm, on the same scale for every pair; unknown voxels in a separate colour."""
    error = scene.cut(expected_error, plane)
    unknown = np.isnan(error)
    image = _show(axes, scene, plane, error, cmap=_ERROR_COLOURS, vmin=0, vmax=_LARGEST_ERROR_MM)
    _show(axes, scene, plane, np.ma.masked_where(~unknown, unknown), cmap=ListedColormap([NOT_KNOWN_COLOUR]))
    _draw_contour(axes, scene, plane)
    return image


def draw_letters(axes: Axes, plane: Plane) -> None:
    """Patient directions at the edges of the image."""
    style = {"xycoords": "axes fraction", "ha": "center", "va": "center", "size": 7.5, "color": "#ffe680"}
    for letter, x, y in zip(plane.letters, (0.0, 1.0, 0.5, 0.5), (0.5, 0.5, 1.0, 0.0), strict=True):
        _note(axes, letter, (x, y), (10 * (0.5 - x), 10 * (0.5 - y)), **style)


def draw_scale_bar(axes: Axes, scene: Scene, plane: Plane) -> None:
    """A scale bar of round length in the lower right corner, if it fits."""
    height, width = scene.size_mm(plane)
    length = max((mm for mm in (1, 2, 5, 10, 20, 50, 100) if mm <= 0.35 * width), default=0)
    if length:
        right, low = 0.96 * width, height - 0.03 * width
        axes.hlines(low, right - length, right, color="white", linewidth=1.6, path_effects=_OUTLINED)
        style = {"ha": "right", "va": "bottom", "size": 7, "color": "white"}
        _note(axes, f"{length} mm", (right, low), (0, 4), **style)
        axes.set(xlim=(0, width), ylim=(height, 0))


def _show(axes: Axes, scene: Scene, plane: Plane, picture: NDArray, **style: Any) -> AxesImage:
    height, width = scene.size_mm(plane)
    return axes.imshow(picture, extent=(0.0, width, height, 0.0), **{"interpolation": "nearest", **style})


def _checkerboard(scene: Scene, plane: Plane) -> NDArray[np.bool_]:
    """Mask of the fixed image in a checkerboard, whose tiles are of the same size in all planes."""
    shape = [scene.fixed.shape[axis] for axis in plane.shown]
    return checkerboard(shape, scene.pixel_mm(plane).tolist(), scene.longest_mm / 8)


def _draw_outline(axes: Axes, scene: Scene, plane: Plane, labels: NDArray | None, colour: str) -> None:
    """Lines along the pixel edges where the label changes."""
    if labels is None:
        return
    picture = scene.cut(labels, plane)
    row, column = np.nonzero(picture[1:] != picture[:-1])
    level = np.stack([column, row + 1, column + 1, row + 1], axis=-1)
    row, column = np.nonzero(picture[:, 1:] != picture[:, :-1])
    upright = np.stack([column + 1, row, column + 1, row + 1], axis=-1)
    segments = np.concatenate([level, upright]).reshape(-1, 2, 2) * scene.pixel_mm(plane)[::-1]
    width = 0.9 if len(np.unique(picture)) <= 10 else 0.5  # many regions: keep the anatomy visible
    lines = LineCollection(list(segments), colors=colour, linewidths=width, capstyle="round")
    axes.add_collection(lines, autolim=False)


def _draw_contour(axes: Axes, scene: Scene, plane: Plane) -> None:
    """A faint contour of the smoothed fixed image, for orientation."""
    pixel = scene.pixel_mm(plane)
    picture = ndimage.gaussian_filter(scene.cut(scene.fixed, plane), 2.5 / pixel)
    if min(picture.shape) < 2 or not picture.min() < _CONTOUR_LEVEL < picture.max():
        return
    rows, columns = ((np.arange(n) + 0.5) * mm for n, mm in zip(picture.shape, pixel, strict=True))
    axes.contour(columns, rows, picture, levels=[_CONTOUR_LEVEL], colors="white", linewidths=0.6, alpha=0.5)


def _note(axes: Axes, text: str, place: tuple[float, float], shift: tuple[float, float], **style: Any) -> None:
    """Text offset from a position in points, readable on any background."""
    axes.annotate(text, place, shift, textcoords="offset points", path_effects=_OUTLINED, **style)
