"""Overlap, surface distance and volume of labels.

Images are ``SimpleITK.Image``; lengths are in mm. Images that are compared voxelwise must be on the same grid,
otherwise ``InputError`` is raised. Source of the measures: paper, section 3.1 "Evaluation metrics".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from ..errors import InputError
from ..spatial.checks import check_same_grid


def dice(a: sitk.Image, b: sitk.Image, labels: Iterable[int] | None = None) -> dict[int, float]:
    """Dice similarity coefficient of each label, 2|A∩B| / (|A|+|B|), 0 to 1.

    Args:
        a: 3D label image, background 0.
        b: 3D label image on the same grid.
        labels: labels to measure; the non-zero labels found in either image if not given.

    Returns:
        Dice by label, ascending: 0 if a label is on one side only, NaN if a requested label is on neither side.

    Raises:
        InputError: the grids differ, or an image does not hold whole-number labels.
    """
    array_a, array_b = _label_arrays(a, b)
    count_a, count_b = label_counts(array_a), label_counts(array_b)
    count_both = label_counts(array_a[array_a == array_b])
    result = {}
    for label in _labels_to_measure(labels, count_a, count_b):
        total = count_a.get(label, 0) + count_b.get(label, 0)
        result[label] = 2.0 * count_both.get(label, 0) / total if total else math.nan
    return result


def hausdorff95(a: sitk.Image, b: sitk.Image, labels: Iterable[int] | None = None) -> dict[int, float]:
    """95th percentile Hausdorff distance of each label, in mm.

    The surface of a label is the set of its voxels with a face neighbour outside it (or at the edge of the image).
    Distances are between voxel centres in mm, from each surface voxel to the nearest one of the other surface. The
    value is the larger of the two 95th percentiles, a to b and b to a.

    Args:
        a: 3D label image, background 0.
        b: 3D label image on the same grid.
        labels: labels to measure; the non-zero labels found in either image if not given.

    Returns:
        Distance by label, ascending: infinity if a label is on one side only (so that a lost structure does not look
        good), NaN if it is on neither side.

    Raises:
        InputError: the grids differ, or an image does not hold whole-number labels.
    """
    array_a, array_b = _label_arrays(a, b)
    wanted = _labels_to_measure(labels, label_counts(array_a), label_counts(array_b))
    spacing_zyx = np.asarray(a.GetSpacing()[::-1])
    surfaces_a = _surfaces(array_a, wanted, spacing_zyx)
    surfaces_b = _surfaces(array_b, wanted, spacing_zyx)
    result = {}
    for label in wanted:
        in_a, in_b = label in surfaces_a, label in surfaces_b
        if in_a and in_b:
            result[label] = _percentile_distance(surfaces_a[label], surfaces_b[label])
        else:
            result[label] = math.inf if in_a or in_b else math.nan
    return result


def mean_over_labels(values: Mapping[int, float]) -> float:
    """Mean of the finite values; NaN if there are none.

    A label missing on one side counts in a mean Dice (as 0) but not in a mean distance: report the number of missing
    labels with the latter.
    """
    finite = [value for value in values.values() if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan


def volume_error(moving_mask: sitk.Image, warped_mask: sitk.Image, label: int | None = None) -> float:
    """Change of a lesion's volume caused by the registration, as a fraction (paper, section 3.1).

    V_epsilon = |V_warped - V_moving| / V_moving, volumes in mm^3: the two masks need not share a grid.

    Args:
        moving_mask: 3D mask or label image in the moving image's space.
        warped_mask: the same mask warped to the fixed image's space.
        label: the label to measure; every non-zero voxel if not given.

    Returns:
        The error, 0 if the volume is preserved, 0.3 for 30 %.

    Raises:
        InputError: the moving mask is empty, or a mask does not hold whole numbers.
    """
    before = _volume_mm3(moving_mask, label, "moving mask")
    if before == 0.0:
        what = "lesion voxels" if label is None else f"voxels of label {label}"
        msg = f"The moving mask has no {what}; give the mask that marks the lesion."
        raise InputError(msg)
    return abs(_volume_mm3(warped_mask, label, "warped mask") - before) / before


def label_array(image: sitk.Image, name: str) -> NDArray[Any]:
    """(Z, Y, X) whole numbers; a float image is taken if all its values are whole."""
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        msg = f"The {name} is not a single 3D volume with one value per voxel; give a 3D label image."
        raise InputError(msg)
    array = sitk.GetArrayViewFromImage(image)
    if array.dtype.kind in "iu":
        return array
    whole = np.rint(array)
    if not np.array_equal(whole, array):
        msg = (
            f"The {name} has values that are not whole numbers; resample labels with nearest-neighbour interpolation."
        )
        raise InputError(msg)
    return whole.astype(np.int64)


def _label_arrays(a: sitk.Image, b: sitk.Image) -> tuple[NDArray[Any], NDArray[Any]]:
    check_same_grid(b, a, "second label image", "first label")
    return label_array(a, "first label image"), label_array(b, "second label image")


def label_counts(array: NDArray[Any]) -> dict[int, int]:
    """Number of voxels of each non-zero label."""
    labels, counts = np.unique(array, return_counts=True)
    return {int(label): int(count) for label, count in zip(labels, counts, strict=True) if label != 0}


def _labels_to_measure(
    labels: Iterable[int] | None, count_a: Mapping[int, int], count_b: Mapping[int, int]
) -> list[int]:
    if labels is None:
        return sorted({*count_a, *count_b})
    return sorted({int(label) for label in labels})


def _surfaces(
    array: NDArray[Any], labels: list[int], spacing_zyx: NDArray[np.float64]
) -> dict[int, NDArray[np.float64]]:
    """Surface voxels, (N, 3) in mm from the grid's first voxel, of each label present."""
    ordered = np.asarray(labels, dtype=np.int64)
    if ordered.size == 0:
        return {}
    nearest = np.minimum(np.searchsorted(ordered, array), ordered.size - 1)
    code = np.where((ordered[nearest] == array) & (array != 0), nearest + 1, 0)  # labels numbered from 1
    surfaces = {}
    for label, box in zip(labels, ndimage.find_objects(code, len(labels)), strict=True):
        if box is None:
            continue
        inside = np.pad(array[box] == label, 1)  # padding makes the image's edge a surface too
        surface = inside & ~ndimage.binary_erosion(inside)
        start = np.array([side.start - 1 for side in box])
        surfaces[label] = (np.argwhere(surface) + start) * spacing_zyx
    return surfaces


def _percentile_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Larger of the two 95th percentiles of the nearest distances between two sets of points."""
    a_to_b = KDTree(b).query(a)[0]
    b_to_a = KDTree(a).query(b)[0]
    return float(max(np.percentile(a_to_b, 95), np.percentile(b_to_a, 95)))


def volumes_cm3(labels: sitk.Image, name: str) -> dict[int, float]:
    """Return the volume of each non-zero label in cm3.

    Raises:
        InputError: the image, called `name`, does not hold whole numbers.
    """
    voxel = math.prod(labels.GetSpacing()) / 1000.0
    return {label: count * voxel for label, count in label_counts(label_array(labels, name)).items()}


def _volume_mm3(mask: sitk.Image, label: int | None, name: str) -> float:
    array = label_array(mask, name)
    voxels = np.count_nonzero(array if label is None else array == label)
    return float(voxels * math.prod(mask.GetSpacing()))
