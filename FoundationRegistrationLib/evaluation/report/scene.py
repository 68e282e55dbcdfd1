"""From the images of a registration to the arrays shown on the quality page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ...errors import InputError
from ...spatial.checks import check_same_grid
from .views import box_of, foreground_of, grey_window, slices_to_cut, windowed

_LEAST_SHIFT_MM = 10.0  # a shorter one does not hide the rest


@dataclass(frozen=True)
class Plane:
    """One of the three cuts. Images are (rows, columns), the first row on top.

    Attributes:
        name: Axial, Coronal or Sagittal.
        axis: array axis (Z, Y, X) that is cut.
        letters: patient directions at the left, right, top and bottom of the image.
    """

    name: str
    axis: int
    letters: tuple[str, str, str, str]

    @property
    def shown(self) -> tuple[int, int]:
        """Array axes (Z, Y, X) that run down and across the image."""
        rows, columns = (axis for axis in range(3) if axis != self.axis)
        return rows, columns


PLANES = (
    Plane("Axial", 0, ("R", "L", "A", "P")),
    Plane("Coronal", 1, ("R", "L", "S", "I")),
    Plane("Sagittal", 2, ("A", "P", "S", "I")),
)


@dataclass(frozen=True)
class Scene:
    """The displayed data: arrays (Z, Y, X) in LPS order, cropped to the foreground.

    Attributes:
        fixed: fixed image, 0 to 1.
        before: moving image before, 0 to 1.
        after: moving image after, 0 to 1, in the window of ``before``.
        foreground: fixed foreground.
        displacement: (Z, Y, X, 3) mm along the array's own x, y, z axes, minus `shift`.
        shift: the mean displacement in the foreground, LPS mm, if it is longer than the remainder, as for distant
            volumes; else zero.
        jacobian: determinant.
        expected_error: mm; None where not given.
        labels: fixed, before and after, None where not given.
        centre: index (Z, Y, X) of the three cuts.
        position: LPS mm of that voxel.
        spacing: mm (Z, Y, X).
    """

    fixed: NDArray[np.float32]
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    foreground: NDArray[np.bool_]
    displacement: NDArray[np.floating[Any]]
    shift: NDArray[np.floating[Any]]
    jacobian: NDArray[np.floating[Any]]
    expected_error: NDArray[np.floating[Any]] | None
    labels: Sequence[NDArray[Any] | None]
    centre: Sequence[int]
    position: Sequence[float]
    spacing: Sequence[float]

    def cut(self, array: NDArray[Any], plane: Plane) -> NDArray[Any]:
        """Image of a (Z, Y, X, ...) array through the centre: flipped so that S is up; A is up already."""
        picture = np.take(array, self.centre[plane.axis], axis=plane.axis)
        return picture if plane.axis == 0 else picture[::-1]

    def pixel_mm(self, plane: Plane) -> NDArray[np.float64]:
        """Height and width of a pixel of a plane's image."""
        return np.array([self.spacing[axis] for axis in plane.shown])

    def size_mm(self, plane: Plane) -> tuple[float, float]:
        """Height and width of a plane's image."""
        height, width = (self.fixed.shape[axis] * self.spacing[axis] for axis in plane.shown)
        return height, width

    @cached_property
    def longest_mm(self) -> float:
        """Longest side of all images."""
        return max(max(self.size_mm(plane)) for plane in PLANES)

    @cached_property
    def largest_displacement(self) -> float:
        """Robust maximum of the displacement's length in the foreground, in mm."""
        length = np.linalg.norm(self.displacement[self.foreground], axis=-1)
        return float(np.percentile(length, 99.5))

    @cached_property
    def largest_ratio(self) -> float:
        """End of the determinant's scale: the foreground's values are between this and its inverse."""
        determinant = self.jacobian[self.foreground & (self.jacobian > 0)]
        if determinant.size == 0:
            return 4.0
        extreme = math.exp(float(np.percentile(np.abs(np.log(determinant)), 99.5)))
        return next((ratio for ratio in (1.1, 1.2, 1.5, 2.0, 3.0) if ratio >= extreme), 4.0)


def build_scene(
    fixed: sitk.Image,
    before: sitk.Image,
    after: sitk.Image,
    displacement: sitk.Image,
    jacobian: sitk.Image,
    labels: Sequence[sitk.Image | None],
    expected_error: sitk.Image | None = None,
    focus: sitk.Image | None = None,
) -> Scene:
    """Check the images of ``save_overview``, reorient them to LPS order and crop them to the foreground.

    The cuts go through the focus; without, through the fixed labels; without, through the fixed foreground.

    Raises:
        InputError: an image is not on the grid of the fixed image, or ``displacement`` is not a field.
    """
    fixed_array = _array(fixed, fixed, "fixed image").astype(np.float32)
    before_array = _array(before, fixed, "moving image before registration").astype(np.float32)
    after_array = _array(after, fixed, "moving image after registration").astype(np.float32)
    vectors = _array(displacement, fixed, "displacement field", components=3).astype(np.float32)
    determinant = _array(jacobian, fixed, "Jacobian determinant").astype(np.float32)
    error_array = None if expected_error is None else _array(expected_error, fixed, "map of the expected error")
    focus_array = None if focus is None else _array(focus, fixed, "image to cut through")
    names = ("fixed labels", "moving labels before registration", "moving labels after registration")
    maps = [None if x is None else _array(x, fixed, name) for x, name in zip(labels, names, strict=True)]

    for array in (fixed_array, before_array, after_array, vectors, determinant):
        np.nan_to_num(array, copy=False)
    oriented = sitk.DICOMOrient(fixed, "LPS")
    spacing = oriented.GetSpacing()[::-1]
    foreground = foreground_of(fixed_array)
    cut_through = next((a for a in (focus_array, maps[0]) if a is not None and a.any()), foreground)
    centre = slices_to_cut(cut_through)
    box = tuple(
        slice(min(side.start, index), max(side.stop, index + 1))
        for side, index in zip(box_of(foreground | foreground_of(before_array), spacing), centre, strict=True)
    )
    shift = _leading_shift(vectors[foreground])
    moving_window = grey_window(before_array)
    return Scene(
        fixed=windowed(fixed_array[box], grey_window(fixed_array)),
        before=windowed(before_array[box], moving_window),
        after=windowed(after_array[box], moving_window),
        foreground=foreground[box],
        # components along the grid's own axes: D is orthonormal, so D^T u = u D for rows
        displacement=(vectors[box] - shift) @ np.reshape(oriented.GetDirection(), (3, 3)),
        shift=shift,
        jacobian=determinant[box],
        expected_error=None if error_array is None else error_array[box],
        labels=[None if array is None else array[box] for array in maps],
        centre=[index - side.start for index, side in zip(centre, box, strict=True)],
        position=oriented.TransformIndexToPhysicalPoint(centre[::-1]),
        spacing=spacing,
    )


def _leading_shift(vectors: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
    """Return the mean of vectors (N, 3) if it is long, and longer than nearly all residuals; else zero."""
    mean = vectors.mean(0)
    left = np.percentile(np.linalg.norm(vectors - mean, axis=1), 99.5)
    return mean if np.linalg.norm(mean) > max(left, _LEAST_SHIFT_MM) else np.zeros_like(mean)


def _array(image: sitk.Image, fixed: sitk.Image, name: str, components: int = 1) -> NDArray[Any]:
    """(Z, Y, X[, components]) array in LPS order."""
    if image.GetNumberOfComponentsPerPixel() != components:
        msg = (
            f"The {name} has {image.GetNumberOfComponentsPerPixel()} values per voxel instead of {components}; give "
            "the right image."
        )
        raise InputError(msg)
    scalar = image if components == 1 else sitk.VectorIndexSelectionCast(image, 0)
    check_same_grid(scalar, fixed, name, "fixed")
    return sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS"))
