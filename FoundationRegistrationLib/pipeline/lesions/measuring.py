"""Lesion volumes before and after propagation by a registration."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .point_map import PointMap
from .regions import Lesion, carried_corners


@dataclass(frozen=True)
class LesionVolume:
    """A lesion's volume in its own space and warped to the other volume, mm^3, and the change in percent."""

    side: str
    label: int
    number: int
    before_mm3: float
    after_mm3: float
    percent: float


def lesion_volumes(field: sitk.Image, initial: sitk.Transform, lesions: Sequence[Lesion]) -> list[LesionVolume]:
    """Measure lesions before and after warping to the other side.

    The corners of a lesion's boxes are mapped and the volumes between them are summed, independently of a voxel grid.

    Args:
        field: u, a vector image in LPS mm on an axis-aligned isotropic grid, zero at its border.
        initial: with u, the transform x -> initial(x + u(x)) from fixed to moving points.
        lesions: of both sides.
    """
    volumes = []
    for lesion, carried in zip(lesions, carried_corners(PointMap(field, initial), lesions), strict=True):
        before, after = (_volume(corners, lesion.boxes) for corners in (lesion.corners, carried))
        percent = 100.0 * (after / before - 1.0)
        volumes.append(LesionVolume(lesion.side, lesion.label, lesion.number, before, after, percent))
    return volumes


def _volume(corners: np.ndarray, boxes: np.ndarray) -> float:
    """Return the volume of deformed boxes.

    Each is divided into the six tetrahedra between its first and last corner, one for each order of the three axes;
    neighbouring boxes divide their common face in the same way.
    """
    total = 0.0
    for path in itertools.permutations(range(3)):
        sign = float(np.linalg.det(np.eye(3)[list(path)]))
        columns = np.cumsum([4 >> axis for axis in path])  # of `boxes`, after one, two and three axes
        edges = np.stack([corners[boxes[:, column]] - corners[boxes[:, 0]] for column in columns], axis=-1)
        total += sign * float(np.linalg.det(edges).sum())
    return abs(total) / 6.0
