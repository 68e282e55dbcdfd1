"""Possible orientations of the moving volume, and how well each agrees with the fixed volume."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ...spatial.grids import WorkingGrid, resample_to_grid
from ..preprocessing.prepared_volume import PreparedVolume

_BINS = 16
_LARGEST_SHIFT = 6  # cells
AXES = ("left-right", "front-back", "feet-head")  # x, y, z in LPS


@dataclass(frozen=True)
class Carried:
    """A volume on the grid: intensities (z, y, x) in bins of equal count, and the patient mask."""

    ranks: NDArray[np.intp]
    inside: NDArray[np.bool_]

    @classmethod
    def of(cls, volume: PreparedVolume, grid: WorkingGrid, transform: sitk.Transform) -> Carried:
        """Sample a volume; the transform maps points of the grid to points of the volume, LPS mm."""
        values = resample_to_grid(volume.image, grid, transform)
        inside = resample_to_grid(volume.foreground, grid, transform, label=True) > 0
        inner = values[inside] if inside.any() else values.ravel()
        edges = np.unique(np.quantile(inner, np.linspace(0.0, 1.0, _BINS + 1)[1:-1]))
        return cls(np.searchsorted(edges, values, side="right"), inside)

    def agreement(self, other: Carried, least: int, shift: tuple[int, int, int] = (0, 0, 0)) -> float:
        """Return the agreement with another volume shifted by whole cells; 0 if fewer than `least` overlap.

        The chance mutual information, which grows with the number of bins, is subtracted (Miller 1955).
        """
        pairs = list(zip(shift, self.inside.shape, strict=True))
        ours = tuple(slice(max(0, by), size + min(0, by)) for by, size in pairs)
        theirs = tuple(slice(max(0, -by), size + min(0, -by)) for by, size in pairs)
        common = self.inside[ours] & other.inside[theirs]
        joint = np.bincount(
            self.ranks[ours][common] * _BINS + other.ranks[theirs][common], minlength=_BINS**2
        ).reshape(_BINS, _BINS)
        count = int(joint.sum())
        if count < max(least, 1):
            return 0.0
        one, two = joint.sum(1), joint.sum(0)
        alone = _entropy(one), _entropy(two)
        chance = (np.count_nonzero(one) - 1) * (np.count_nonzero(two) - 1) / (2 * count)
        information = sum(alone) - _entropy(joint.ravel()) - chance
        return float(information / min(alone)) if min(alone) > 0.0 else 0.0


def _entropy(counts: NDArray[np.intp]) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def best_nearby(fixed: Carried, moving: Carried, least: int) -> float:
    """Return the agreement at the best shift of the moving volume, found by steps of two cells, then of one."""
    here = (0, 0, 0)
    seen = {here: fixed.agreement(moving, least)}
    step = 2
    while step:
        around = [_moved(here, axis, by) for axis in range(3) for by in (-step, step)]
        for shift in around:
            if shift not in seen and max(map(abs, shift)) <= _LARGEST_SHIFT:
                seen[shift] = fixed.agreement(moving, least, shift)
        best = max(seen, key=lambda shift: seen[shift])
        if best == here:
            step //= 2
        here = best
    return seen[here]


def _moved(shift: tuple[int, int, int], axis: int, by: int) -> tuple[int, int, int]:
    z, y, x = (value + by * (index == axis) for index, value in enumerate(shift))
    return z, y, x


@dataclass(frozen=True)
class Orientation:
    """One of the 48 ways to map axes to axes: which axis (z, y, x) comes first, second, third; and its sign."""

    axes: tuple[int, ...]
    signs: tuple[int, ...]

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Its matrix for points (x, y, z) of the patient."""
        matrix = np.zeros((3, 3))
        for row, (axis, sign) in enumerate(zip(self.axes, self.signs, strict=True)):
            matrix[2 - row, 2 - axis] = sign
        return matrix

    @property
    def mirrors(self) -> bool:
        """Whether it mirrors."""
        return bool(np.linalg.det(self.matrix) < 0)

    @property
    def words(self) -> str:
        """Describe the error in orientation that this corrects."""
        matrix = self.matrix
        kept = np.flatnonzero(np.diag(matrix) == 1)
        if self.mirrors:
            flipped = np.flatnonzero(np.diag(matrix) == -1)
            return f"mirrored {AXES[flipped[0]]}" if len(kept) == 2 else "mirrored and rotated"
        if len(kept) == 0:
            half_turn = np.trace(matrix) == -1
            return "rotated by 180 degrees, with two axes swapped" if half_turn else "rotated, all axes swapped"
        degrees = 180 if np.trace(matrix) == -1 else 90
        return f"rotated by {degrees} degrees about the {AXES[kept[0]]} axis"

    def of(self, volume: Carried) -> Carried:
        """Return a volume on a cubic grid, rotated about its centre."""
        backward = tuple(axis for axis, sign in enumerate(self.signs) if sign < 0)
        ranks, inside = (np.flip(array.transpose(self.axes), backward) for array in (volume.ranks, volume.inside))
        return Carried(np.ascontiguousarray(ranks), np.ascontiguousarray(inside))


ORIENTATIONS = [
    Orientation(axes, signs)
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]  # the first one is the identity
