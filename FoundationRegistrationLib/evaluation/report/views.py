"""What part of a volume is shown, which slice, and in which grey window. Arrays are (Z, Y, X), in LPS order."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MARGIN_MM = 8.0  # shown around the foreground
_NEARLY = 0.95  # of what the fullest slice shows


def foreground_of(array: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Voxels brighter than a tenth of the robust range; all voxels of a uniform image."""
    low, high = np.percentile(array, (0.5, 99.5))
    bright = array > low + 0.1 * (high - low)
    return bright if bright.any() else np.ones_like(bright)


def slices_to_cut(labels: NDArray[Any]) -> tuple[int, ...]:
    """Return the slice across each axis that shows what is labelled (not 0).

    Each label counts by its area as a share of that in its fullest slice, so that small structures are shown, too. Of
    the slices that show nearly as much as the fullest, the one nearest to the middle of what is labelled is chosen:
    never the empty slice between two breasts.
    """
    areas = [_areas(labels, axis) for axis in range(3)]
    return tuple(_fullest((area / area.max(axis=1, keepdims=True)).sum(axis=0)) for area in areas)


def _fullest(shown: NDArray[np.floating[Any]]) -> int:
    index = np.arange(shown.size)
    full = index[shown >= _NEARLY * shown.max()]
    return int(full[np.abs(full - np.average(index, weights=shown)).argmin()])


def _areas(labels: NDArray[Any], axis: int) -> NDArray[np.intp]:
    """Number of voxels (labels, slices) of each label that occurs, in each slice across an axis."""
    if labels.dtype == bool:
        return labels.sum(axis=tuple(other for other in range(3) if other != axis))[None]
    values = functools.reduce(np.union1d, (np.unique(part) for part in labels))
    counts = [
        np.bincount(np.searchsorted(values, part).ravel(), minlength=values.size)
        for part in np.moveaxis(labels, axis, 0)
    ]
    return np.transpose(counts)[values != 0]


def box_of(foreground: NDArray[np.bool_], spacing: Sequence[float]) -> tuple[slice, ...]:
    """Range (Z, Y, X) of the foreground without stray voxels, with a margin."""
    sides = []
    for axis, size in enumerate(foreground.shape):
        share = np.cumsum(_areas(foreground, axis)[0]) / foreground.sum()
        first, last = (int(index) for index in np.searchsorted(share, (0.002, 0.998)))
        margin = max(1, round(_MARGIN_MM / spacing[axis]))
        sides.append(slice(max(0, first - margin), min(size, last + margin + 1)))
    return tuple(sides)


def grey_window(array: NDArray[np.float32]) -> tuple[float, float]:
    """Grey window from robust percentiles of the image's own foreground.

    Black is half the foreground's range below it, so that the darkest tissue differs from air, but not below the
    image's minimum.
    """
    low, high = np.percentile(array[foreground_of(array)], (1.0, 99.0))
    low = max(np.percentile(array, 0.5), low - 0.5 * (high - low))
    return float(low), float(max(high, low + 1e-6 * max(1.0, abs(low))))


def windowed(array: NDArray[np.float32], window: tuple[float, float]) -> NDArray[np.float32]:
    """Grey values from 0, black, to 1, white."""
    low, high = window
    return np.clip((array - low) / (high - low), 0.0, 1.0).astype(np.float32)


def checkerboard(shape: Sequence[int], pixel_mm: Sequence[float], tile_mm: float) -> NDArray[np.bool_]:
    """Mask (rows, columns) of the first of two images in a checkerboard with square tiles.

    Args:
        shape: rows and columns.
        pixel_mm: height and width of a pixel.
        tile_mm: side of a tile.
    """
    down, across = (np.floor((np.arange(n) + 0.5) * mm / tile_mm) for n, mm in zip(shape, pixel_mm, strict=True))
    return (down[:, None] + across[None, :]) % 2 == 0
