"""Plausibility of a registration: whether two volumes agree better than by chance.

Agreement is the normalised mutual information of both volumes inside the patient, on a coarse grid: it does not
require similar contrast, and excludes the outline, which is similar for any two bodies. Chance agreement is measured
on the pair itself: the moving volume is rotated in all ways that map axes to axes, shifted to its best agreement, and
compared again. A correctly registered pair agrees far better than any of these. If one of them agrees better than the
result, the moving volume is probably rotated or mirrored accordingly.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ...spatial.grids import WorkingGrid
from ...spatial.points import physical_points, transform_points
from ..preprocessing.prepared_volume import PreparedVolume
from .orientations import ORIENTATIONS, Carried, best_nearby

_CELLS = 8000  # of the grid, inside the patient in both volumes
_LEAST_CELLS = 1000
_LEAST_THICKNESS = 4  # cells along each axis; thinner volumes are not tested
_POINTS = 5_000
# Smallest fraction of the compared region for an orientation to count.
_LEAST_OVERLAP = 0.3
# A rotation with which the fixed volume agrees this well with itself is not informative.
_SYMMETRIC = 0.5


@dataclass(frozen=True)
class Agreement:
    """Normalised mutual information inside the patient, 0 for none, 1 if each volume determines the other.

    Attributes:
        as_given: with the positions in the headers; 0 if the volumes hardly overlap there.
        start: with the initial transform.
        after: with the whole transform.
        typical: median of the rotated orientations.
        turned: the best of the rotated orientations: chance agreement, or the correct orientation.
        mirrored: the best of the mirrored orientations.
        turn: description of that rotation.
        mirroring: description of that mirroring.
    """

    as_given: float
    start: float
    after: float
    typical: float
    turned: float
    mirrored: float
    turn: str
    mirroring: str

    def to_dict(self) -> dict[str, Any]:
        """Return all values for JSON."""
        return dataclasses.asdict(self)


def measure_agreement(
    fixed: PreparedVolume, moving: PreparedVolume, initial: sitk.Transform, transform: sitk.Transform
) -> Agreement | None:
    """Measure how well two volumes agree before, after, and in other orientations.

    Args:
        fixed: fixed volume.
        moving: moving volume.
        initial: maps fixed to moving points, LPS mm, before the deformable stages.
        transform: the whole transform.

    Returns:
        None if too little is common to both: thin volumes, small masks, hardly any overlap.
    """
    grid = _grid(fixed, moving, initial)
    if grid is None:
        return None
    fixed, moving = (_shrunk(volume, grid.spacing) for volume in (fixed, moving))
    here = Carried.of(fixed, grid, sitk.TranslationTransform(3))
    given, start, after = (
        Carried.of(moving, grid, each) for each in (sitk.TranslationTransform(3), initial, transform)
    )
    common = int((here.inside & start.inside).sum())
    if common < _LEAST_CELLS:
        return None
    centre = np.array(grid.origin) + (np.array(grid.shape[::-1]) - 1) / 2 * grid.spacing
    unchanged = sitk.TranslationTransform(3, (np.array(initial.TransformPoint(centre.tolist())) - centre).tolist())
    placed = [start, Carried.of(moving, grid, unchanged)]
    least = int(_LEAST_OVERLAP * common)
    found: dict[bool, list[tuple[float, str]]] = {True: [(0.0, "")], False: [(0.0, "")]}
    for orientation in ORIENTATIONS[1:]:
        if best_nearby(here, orientation.of(here), least) > _SYMMETRIC:
            continue
        best = max(best_nearby(here, orientation.of(volume), least) for volume in placed)
        found[orientation.mirrors].append((best, orientation.words))
    (turned, turn), (mirrored, mirroring) = max(found[False]), max(found[True])
    return Agreement(
        as_given=max(here.agreement(given, least), 0.0),
        start=max(here.agreement(start, least), 0.0),
        after=max(here.agreement(after, least), 0.0),
        typical=float(np.median([best for best, _ in found[False]])),
        turned=turned,
        mirrored=mirrored,
        turn=turn,
        mirroring=mirroring,
    )


def _shrunk(volume: PreparedVolume, spacing_mm: float) -> PreparedVolume:
    """Return the volume downsampled to that spacing, since it is sampled several times."""
    steps = np.maximum(1, np.floor(0.7 * spacing_mm / np.asarray(volume.image.GetSpacing()))).astype(int)
    steps = np.minimum(steps, volume.image.GetSize())
    return dataclasses.replace(volume, image=sitk.BinShrink(volume.image, steps.tolist()))


def fraction_in_common(fixed: PreparedVolume, moving: PreparedVolume, transform: sitk.Transform) -> float:
    """Return the fraction of the smaller patient region or mask that lies within the other.

    Args:
        fixed: fixed volume.
        moving: moving volume.
        transform: maps fixed to moving points, LPS mm.
    """
    _, shared = _common(fixed.foreground, moving.foreground, transform)
    ours, theirs = (_volume_mm3(volume.foreground) for volume in (fixed, moving))
    return float(shared.mean()) * ours / min(ours, theirs)


def _volume_mm3(mask: sitk.Image) -> float:
    return float(np.count_nonzero(sitk.GetArrayViewFromImage(mask)) * np.prod(mask.GetSpacing()))


def _grid(fixed: PreparedVolume, moving: PreparedVolume, initial: sitk.Transform) -> WorkingGrid | None:
    """Return a cubic grid around the common patient region with the initial transform; None if too small."""
    points, shared = _common(fixed.foreground, moving.foreground, initial)
    if shared.sum() < 8:
        return None
    volume = _volume_mm3(fixed.foreground) * shared.mean()
    low, high = points[shared].min(0), points[shared].max(0)
    spacing = float(min(np.cbrt(volume / _CELLS), (high - low).min() / _LEAST_THICKNESS))
    reach = 0.5 * float((high - low).max())
    if spacing <= 0.0 or volume / spacing**3 > 8 * _CELLS:
        return None
    cells = int(np.ceil(reach / spacing)) + 2
    x, y, z = (float(value) for value in 0.5 * (low + high) - cells * spacing)
    return WorkingGrid((x, y, z), spacing, (2 * cells + 1,) * 3)


def _common(
    fixed: sitk.Image, moving: sitk.Image, transform: sitk.Transform
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return points spread over the fixed patient, (N, 3) in LPS mm, and which map into the moving one."""
    inside = sitk.GetArrayViewFromImage(fixed)
    chosen = np.flatnonzero(inside)
    indices = np.stack(np.unravel_index(chosen[:: max(1, len(chosen) // _POINTS)], inside.shape)[::-1], axis=1)
    points = physical_points(fixed, indices)
    direction = np.array(moving.GetDirection()).reshape(3, 3)
    offsets = transform_points(transform, points) - np.asarray(moving.GetOrigin())
    there = np.rint(offsets @ direction / np.asarray(moving.GetSpacing())).astype(int)
    shared = ((there >= 0) & (there < np.asarray(moving.GetSize()))).all(1)
    x, y, z = there[shared].T
    shared[shared] = sitk.GetArrayViewFromImage(moving)[z, y, x] != 0
    return points, shared
