"""How well a registration did: label overlap and distance, landmarks, lesion volume, Jacobian.

Images are ``SimpleITK.Image``; every length is in mm and every vector and point in LPS. Two images that
are compared voxel by voxel must lie on one grid: anything else raises ``InputError`` instead of an answer.
Source of the measures: paper, section 3.1 "Evaluation metrics".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from ..errors import InputError
from ..spatial.geometry import check_same_grid

SMALLEST_DETERMINANT = 1e-9  # the logarithm of a folded voxel is taken here
_SLAB = 16  # slices whose Jacobian is computed at once: bounds the memory, not the result


def dice(a: sitk.Image, b: sitk.Image, labels: Iterable[int] | None = None) -> dict[int, float]:
    """Dice similarity coefficient of each label, 2|A∩B| / (|A|+|B|), 0 to 1.

    Args:
        a: 3D label image, background 0.
        b: 3D label image on the same grid.
        labels: labels to measure; the non-zero labels found in either image if not given.

    Returns:
        Dice by label, ascending: 0 where a label is on one side only, NaN where a label asked for is on
        neither side.

    Raises:
        InputError: the grids differ, or an image does not hold whole-number labels.
    """
    array_a, array_b = _label_arrays(a, b)
    count_a, count_b = _counts(array_a), _counts(array_b)
    count_both = _counts(array_a[array_a == array_b])
    result = {}
    for label in _labels_to_measure(labels, count_a, count_b):
        total = count_a.get(label, 0) + count_b.get(label, 0)
        result[label] = 2.0 * count_both.get(label, 0) / total if total else math.nan
    return result


def hausdorff95(a: sitk.Image, b: sitk.Image, labels: Iterable[int] | None = None) -> dict[int, float]:
    """95th percentile Hausdorff distance of each label, in mm.

    The surface of a label is the set of its voxels with a face neighbour outside it (or at the edge of the
    image). Distances run between voxel centres, from each surface voxel to the nearest one of the other
    surface, spacing honoured. The value is the larger of the two 95th percentiles, a to b and b to a.

    Args:
        a: 3D label image, background 0.
        b: 3D label image on the same grid.
        labels: labels to measure; the non-zero labels found in either image if not given.

    Returns:
        Distance by label, ascending: infinity where a label is on one side only (there is nothing to
        measure to, and a lost structure must not look good), NaN where it is on neither side.

    Raises:
        InputError: the grids differ, or an image does not hold whole-number labels.
    """
    array_a, array_b = _label_arrays(a, b)
    wanted = _labels_to_measure(labels, _counts(array_a), _counts(array_b))
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
    """Mean of the finite values; NaN when there is none.

    A label that is missing on one side counts in a mean of Dice (as 0) but cannot in a mean of distances:
    state how many labels were missing beside such a mean.
    """
    finite = [value for value in values.values() if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan


def target_registration_error(
    transform: sitk.Transform, fixed_points: ArrayLike, moving_points: ArrayLike
) -> NDArray[np.float64]:
    """Distance that remains at each landmark: |T(fixed) - moving|, in mm.

    Args:
        transform: 3D transform that maps a fixed point to its moving point, LPS mm (as ``sitk.Resample``
            takes it). The identity gives the error before registration.
        fixed_points: (N, 3) landmarks in the fixed image, LPS mm.
        moving_points: (N, 3) the same landmarks in the moving image, LPS mm.

    Returns:
        (N,) distances in mm.

    Raises:
        InputError: the lists differ in length, are empty, are not (N, 3) finite numbers, or the transform
            is not 3D.
    """
    fixed = _points(fixed_points, "fixed")
    moving = _points(moving_points, "moving")
    if fixed.shape != moving.shape:
        msg = (
            f"There are {len(fixed)} fixed and {len(moving)} moving landmarks; give one moving landmark "
            "for each fixed landmark, in the same order."
        )
        raise InputError(msg)
    if transform.GetDimension() != 3:
        msg = f"The transform has {transform.GetDimension()} dimensions; give a 3D transform."
        raise InputError(msg)
    mapped = np.array([transform.TransformPoint(point) for point in fixed.tolist()])
    return np.linalg.norm(mapped - moving, axis=1)


def volume_error(moving_mask: sitk.Image, warped_mask: sitk.Image, label: int | None = None) -> float:
    """Change of a lesion's volume caused by the registration, as a fraction (paper, section 3.1).

    V_epsilon = |V_warped - V_moving| / V_moving, volumes in mm^3: the two masks need not share a grid.

    Args:
        moving_mask: 3D mask or label image in the moving image's space.
        warped_mask: the same mask carried into the fixed image's space.
        label: the label to measure; every non-zero voxel if not given.

    Returns:
        The error, 0 for a lesion whose volume is kept, 0.3 for 30 %.

    Raises:
        InputError: the moving mask is empty, or a mask does not hold whole numbers.
    """
    before = _volume_mm3(moving_mask, label, "moving mask")
    if before == 0.0:
        what = "lesion voxels" if label is None else f"voxels of label {label}"
        msg = f"The moving mask has no {what}; give the mask that marks the lesion."
        raise InputError(msg)
    return abs(_volume_mm3(warped_mask, label, "warped mask") - before) / before


def jacobian_determinant(displacement_field: sitk.Image) -> sitk.Image:
    """Determinant of the spatial Jacobian of x -> x + u(x): local volume change of the mapping.

    1 keeps the volume, above 1 a piece of the fixed image is mapped to a larger piece of the moving image,
    0 or less means the mapping folds. Derivatives are taken along the index axes (central differences
    inside, one-sided at the border) and turned into mm with the spacing and the direction cosines, so the
    grid may be oblique, flipped and anisotropic. Along an axis with a single voxel u is taken as constant.

    Args:
        displacement_field: 3D vector image, u(x) in mm, LPS components, at the voxel centres.

    Returns:
        Float32 image on the same grid, no unit.

    Raises:
        InputError: the image is not a 3D field of three components, or holds a value that is not finite.
    """
    if displacement_field.GetDimension() != 3 or displacement_field.GetNumberOfComponentsPerPixel() != 3:
        msg = (
            f"A displacement field is a 3D image of 3 components, this one has "
            f"{displacement_field.GetDimension()} dimensions and "
            f"{displacement_field.GetNumberOfComponentsPerPixel()} components; give a field in mm, LPS."
        )
        raise InputError(msg)
    field = sitk.GetArrayViewFromImage(displacement_field)  # (Z, Y, X, 3)
    index_to_mm = _index_to_mm(displacement_field)
    determinant = np.empty(field.shape[:3], dtype=np.float32)
    depth = field.shape[0]
    for start in range(0, depth, _SLAB):
        stop = min(start + _SLAB, depth)
        first, last = max(start - 1, 0), min(stop + 1, depth)  # one slice of context on each side
        slab = _determinant_of_slab(np.asarray(field[first:last], dtype=np.float64), index_to_mm)
        determinant[start:stop] = slab[start - first : stop - first]
    if not np.isfinite(determinant).all():
        msg = "The displacement field holds values that are not finite; compute or export it again."
        raise InputError(msg)
    image = sitk.GetImageFromArray(determinant)
    image.CopyInformation(displacement_field)
    return image


def jacobian_summary(det: sitk.Image, mask: sitk.Image | None = None) -> dict[str, float]:
    """Figures that say whether a deformation is plausible.

    Args:
        det: Jacobian determinant, see ``jacobian_determinant``.
        mask: 3D image on the same grid, non-zero where to look; the whole grid if not given.

    Returns:
        ``folded_percent`` (share of voxels with a determinant of 0 or less, in %), ``sd_log`` (standard
        deviation of the natural logarithm, determinants clipped from below at 1e-9 so that a folded voxel
        counts as extreme and not as undefined), ``min``, ``max``, ``mean`` and ``voxels`` (how many).

    Raises:
        InputError: the grids differ, the mask is empty, or a determinant is not finite.
    """
    values = sitk.GetArrayViewFromImage(det)
    if mask is not None:
        check_same_grid(mask, det, "mask", "Jacobian determinant")
        values = values[sitk.GetArrayViewFromImage(mask) != 0]
    values = np.asarray(values, dtype=np.float64).ravel()
    if values.size == 0:
        msg = "The mask is empty; give a mask with at least one voxel inside, or none."
        raise InputError(msg)
    if not np.isfinite(values).all():
        msg = "The Jacobian determinant holds values that are not finite; compute it again from the field."
        raise InputError(msg)
    return {
        "folded_percent": 100.0 * float(np.mean(values <= 0.0)),
        "sd_log": float(np.std(np.log(np.maximum(values, SMALLEST_DETERMINANT)))),
        "min": float(values.min()),
        "max": float(values.max()),
        "mean": float(values.mean()),
        "voxels": float(values.size),
    }


@dataclass(frozen=True)
class LabelAgreement:
    """One label before and after registration.

    Dice is 0 and the distance infinite where the label is missing on one side; both are NaN where it is
    missing on both.
    """

    label: int
    dice_before: float
    dice_after: float
    hausdorff95_before: float
    hausdorff95_after: float

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON: mm, and None for what is not finite."""
        return {
            "label": self.label,
            "dice_before": _finite_or_none(self.dice_before),
            "dice_after": _finite_or_none(self.dice_after),
            "hausdorff95_mm_before": _finite_or_none(self.hausdorff95_before),
            "hausdorff95_mm_after": _finite_or_none(self.hausdorff95_after),
        }


@dataclass(frozen=True)
class Evaluation:
    """Agreement of the labels before and after registration.

    A mean is taken over the labels with a finite value both before and after, so that the two means of a
    pair speak of the same structures; ``missing_before`` and ``missing_after`` name the labels that were on
    one side only.
    """

    labels: tuple[LabelAgreement, ...]

    @property
    def mean_dice_before(self) -> float:
        """Mean Dice before registration, NaN without labels."""
        return self._means("dice")[0]

    @property
    def mean_dice_after(self) -> float:
        """Mean Dice after registration, NaN without labels."""
        return self._means("dice")[1]

    @property
    def mean_hausdorff95_before(self) -> float:
        """Mean HD95 before registration in mm, NaN without a label on both sides."""
        return self._means("hausdorff95")[0]

    @property
    def mean_hausdorff95_after(self) -> float:
        """Mean HD95 after registration in mm, NaN without a label on both sides."""
        return self._means("hausdorff95")[1]

    @property
    def missing_before(self) -> tuple[int, ...]:
        """Labels that only one of the two images had before registration."""
        return tuple(row.label for row in self.labels if math.isinf(row.hausdorff95_before))

    @property
    def missing_after(self) -> tuple[int, ...]:
        """Labels that only one of the two images has after registration."""
        return tuple(row.label for row in self.labels if math.isinf(row.hausdorff95_after))

    def to_dict(self) -> dict[str, Any]:
        """Everything for JSON: mm, and None for what is not finite."""
        return {
            "mean_dice_before": _finite_or_none(self.mean_dice_before),
            "mean_dice_after": _finite_or_none(self.mean_dice_after),
            "mean_hausdorff95_mm_before": _finite_or_none(self.mean_hausdorff95_before),
            "mean_hausdorff95_mm_after": _finite_or_none(self.mean_hausdorff95_after),
            "missing_before": list(self.missing_before),
            "missing_after": list(self.missing_after),
            "labels": [row.to_dict() for row in self.labels],
        }

    def _means(self, measure: str) -> tuple[float, float]:
        """Means before and after over the labels measured both times."""
        pairs = [(getattr(row, f"{measure}_before"), getattr(row, f"{measure}_after")) for row in self.labels]
        both = [pair for pair in pairs if math.isfinite(pair[0]) and math.isfinite(pair[1])]
        if not both:
            return math.nan, math.nan
        before, after = np.mean(both, axis=0)
        return float(before), float(after)


def evaluate_labels(
    fixed_labels: sitk.Image, moving_labels_before: sitk.Image, moving_labels_after: sitk.Image
) -> Evaluation:
    """Compare the moving labels with the fixed labels before and after registration.

    Args:
        fixed_labels: 3D label image in the fixed space, background 0.
        moving_labels_before: moving labels resampled onto that grid without the deformation.
        moving_labels_after: moving labels carried onto that grid by the registration.

    Returns:
        Dice and HD95 of every non-zero label of the three images, and their means.

    Raises:
        InputError: the grids differ, or an image does not hold whole-number labels.
    """
    found: set[int] = set()
    for image, name in (
        (moving_labels_before, "moving labels before registration"),
        (moving_labels_after, "moving labels after registration"),
    ):
        check_same_grid(image, fixed_labels, name, "fixed label")
        found.update(_counts(_label_array(image, name)))
    found.update(_counts(_label_array(fixed_labels, "fixed labels")))
    dice_before = dice(fixed_labels, moving_labels_before, found)
    dice_after = dice(fixed_labels, moving_labels_after, found)
    distance_before = hausdorff95(fixed_labels, moving_labels_before, found)
    distance_after = hausdorff95(fixed_labels, moving_labels_after, found)
    return Evaluation(
        tuple(
            LabelAgreement(
                label, dice_before[label], dice_after[label], distance_before[label], distance_after[label]
            )
            for label in sorted(found)
        )
    )


def _finite_or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _index_to_mm(image: sitk.Image) -> NDArray[np.float64]:
    """(3, 3) matrix of the step in LPS mm of one index along x, y, z (its columns)."""
    return np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())


def _label_array(image: sitk.Image, name: str) -> NDArray[Any]:
    """(Z, Y, X) whole numbers; a float image is taken if all its values are whole."""
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        msg = f"The {name} is not a single 3D volume with one value a voxel; give a 3D label image."
        raise InputError(msg)
    array = sitk.GetArrayViewFromImage(image)
    if array.dtype.kind in "iu":
        return array
    whole = np.rint(array)
    if not np.array_equal(whole, array):
        msg = f"The {name} holds values that are not whole numbers; resample labels with nearest neighbour."
        raise InputError(msg)
    return whole.astype(np.int64)


def _label_arrays(a: sitk.Image, b: sitk.Image) -> tuple[NDArray[Any], NDArray[Any]]:
    check_same_grid(b, a, "second label image", "first label")
    return _label_array(a, "first label image"), _label_array(b, "second label image")


def _counts(array: NDArray[Any]) -> dict[int, int]:
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
    """Surface voxels, (N, 3) in mm from the grid's first voxel, of each label that is there."""
    ordered = np.asarray(labels, dtype=np.int64)
    if ordered.size == 0:
        return {}
    nearest = np.minimum(np.searchsorted(ordered, array), ordered.size - 1)
    code = np.where((ordered[nearest] == array) & (array != 0), nearest + 1, 0)  # labels numbered from 1
    surfaces = {}
    for label, box in zip(labels, ndimage.find_objects(code, len(labels)), strict=True):
        if box is None:
            continue
        inside = np.pad(array[box] == label, 1)  # the margin makes the image's edge a surface too
        surface = inside & ~ndimage.binary_erosion(inside)
        start = np.array([side.start - 1 for side in box])
        surfaces[label] = (np.argwhere(surface) + start) * spacing_zyx
    return surfaces


def _percentile_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Larger of the two 95th percentiles of the nearest distances between two sets of points."""
    a_to_b = KDTree(b).query(a)[0]
    b_to_a = KDTree(a).query(b)[0]
    return float(max(np.percentile(a_to_b, 95), np.percentile(b_to_a, 95)))


def _points(points: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.ndim != 2 or array.shape[1] != 3 or len(array) == 0 or not np.isfinite(array).all():
        msg = f"The {name} landmarks are not a list of (x, y, z) numbers in mm; give at least one such point."
        raise InputError(msg)
    return array


def _volume_mm3(mask: sitk.Image, label: int | None, name: str) -> float:
    array = _label_array(mask, name)
    voxels = np.count_nonzero(array if label is None else array == label)
    return float(voxels * math.prod(mask.GetSpacing()))


def _determinant_of_slab(field: NDArray[np.float64], index_to_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Jacobian determinant of x + u(x) on a slab.

    Args:
        field: (Z, Y, X, 3) displacement in mm, LPS.
        index_to_mm: (3, 3) step in mm of one index along x, y, z, as columns.

    Returns:
        (Z, Y, X) determinants.
    """
    by_index = np.zeros((*field.shape, 3))  # [..., component, index axis x, y, z]
    for axis_zyx in range(3):
        if field.shape[axis_zyx] > 1:
            by_index[..., 2 - axis_zyx] = np.gradient(field, axis=axis_zyx)
    jacobian = by_index @ np.linalg.inv(index_to_mm) + np.eye(3)
    (a, b, c), (d, e, f), (g, h, i) = np.moveaxis(jacobian, (-2, -1), (0, 1))
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
