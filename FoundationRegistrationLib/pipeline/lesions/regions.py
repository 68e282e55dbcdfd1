"""A lesion mask as single lesions, each made of boxes whose corners can be mapped by a transform."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ...errors import InputError
from ...spatial.checks import check_same_grid
from .point_map import PointMap

# More regions than a person would mark as lesions.
_MOST_LABELS = 100
_MOST_REGIONS = 500
_LARGEST_SHARE = 0.5

# The corners of a box, as steps along (z, y, x).
CORNERS = tuple(itertools.product((0, 1), repeat=3))


@dataclass(frozen=True, eq=False)
class Lesion:
    """One connected region of a lesion mask, made of boxes: its voxels, or parts of large voxels.

    Attributes:
        side: "fixed" or "moving", the volume it was marked in.
        label: its value in the mask.
        number: from 1, the largest region of a label first.
        corners: (M, 3) LPS mm.
        boxes: (N, 8), the rows of `corners` of each box, in the order of CORNERS.
    """

    side: str
    label: int
    number: int
    corners: np.ndarray
    boxes: np.ndarray


def find_lesions(mask: sitk.Image, volume: sitk.Image, side: str, box_mm: float) -> list[Lesion]:
    """Return the lesions of a mask: each connected region of each label.

    Args:
        mask: whole numbers on the grid of the volume, 0 where there is no lesion.
        volume: the volume it was marked in.
        side: "fixed" or "moving".
        box_mm: largest box edge.

    Raises:
        InputError: the mask is on another grid, is empty, holds fractions, or does not mark lesions: an intensity
            image, very many specks, or most of the volume.
    """
    check_same_grid(mask, volume, f"{side} lesion mask", side)
    values = sitk.GetArrayViewFromImage(mask)
    labels = [value for value in np.unique(values).tolist() if value != 0]
    if not labels:
        msg = f"The {side} lesion mask is empty; mark the lesion, or give no mask."
        raise InputError(msg)
    if any(value != round(value) for value in labels):
        msg = f"The {side} lesion mask holds fractions; give whole numbers, one per kind of lesion."
        raise InputError(msg)
    if len(labels) > _MOST_LABELS:
        msg = (
            f"The {side} lesion mask holds {len(labels)} different values, like an intensity image; give a label map "
            "of the lesions."
        )
        raise InputError(msg)
    marked = float(np.mean(values != 0))
    if marked > _LARGEST_SHARE:
        msg = (
            f"The {side} lesion mask marks {100.0 * marked:.0f} % of the volume, which leaves too little to compare; "
            "mark only the lesions (is the mask inverted?)."
        )
        raise InputError(msg)
    lesions: list[Lesion] = []
    for label in labels:
        regions = sitk.RelabelComponent(sitk.ConnectedComponent(mask == label, True))
        numbers = sitk.GetArrayViewFromImage(regions)
        count = int(numbers.max())
        if len(lesions) + count > _MOST_REGIONS:
            msg = (
                f"The {side} lesion mask has more than {_MOST_REGIONS} separate regions ({count} of label {label:g} "
                "alone); remove the specks, or give a mask of the lesions."
            )
            raise InputError(msg)
        for number, window in enumerate(ndimage.find_objects(numbers), start=1):
            corners, boxes = _boxes(numbers[window] == number, window, mask, box_mm)
            lesions.append(Lesion(side, int(label), number, corners, boxes))
    return lesions


def _boxes(
    inside: np.ndarray, window: tuple[slice, ...], image: sitk.Image, box_mm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return `Lesion.corners` and `Lesion.boxes` of the voxels (z, y, x) inside a window of an image."""
    parts = np.ceil(np.asarray(image.GetSpacing()[::-1]) / box_mm).astype(int)
    for axis, count in enumerate(parts):
        inside = np.repeat(inside, count, axis)
    moved = [tuple(slice(a, a + n) for a, n in zip(step, inside.shape, strict=True)) for step in CORNERS]
    is_corner = np.zeros(np.add(inside.shape, 1), dtype=bool)
    for corner in moved:
        is_corner[corner] |= inside
    row = np.cumsum(is_corner).reshape(is_corner.shape) - 1
    boxes = np.stack([row[corner][inside] for corner in moved], axis=1)
    start = np.array([side.start for side in window])
    index = (np.argwhere(is_corner) / parts + start - 0.5)[:, ::-1]
    index_to_mm = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    return index @ index_to_mm.T + np.asarray(image.GetOrigin()), boxes


def carried_corners(mapping: PointMap, lesions: Sequence[Lesion]) -> list[np.ndarray]:
    """Return the corners of each lesion mapped to the other side, (M, 3) LPS mm."""
    carried = {}
    for side, carry in (("fixed", mapping.forward), ("moving", mapping.backward)):
        corners = [lesion.corners for lesion in lesions if lesion.side == side]
        if corners:
            ends = np.cumsum([len(of_one) for of_one in corners])[:-1]
            carried[side] = iter(np.split(carry(np.concatenate(corners)), ends))
    return [next(carried[lesion.side]) for lesion in lesions]
