"""Resampling of images and labels through a transform; does not need torch.

As in ITK, transforms map points of the output space to points of the input space, in LPS mm.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .points import transform_points

_PADDING_FROM = 1e30

_NARROW_PIXEL_TYPES = (sitk.sitkUInt8, sitk.sitkInt8, sitk.sitkUInt16, sitk.sitkInt16, sitk.sitkFloat32)


def compose_transform(initial: sitk.Transform, field: sitk.Image) -> sitk.CompositeTransform:
    """Return x -> initial(x + u(x)) as a flat composite, so that every program can read it from a file."""
    composite = sitk.CompositeTransform([initial, sitk.DisplacementFieldTransform(sitk.Image(field))])
    composite.FlattenTransform()
    return composite


def displacement_on_grid_of(image: sitk.Image, transform: sitk.Transform) -> sitk.Image:
    """Return transform(x) - x at the voxels x of an image, a vector image in LPS mm."""
    to_field = sitk.TransformToDisplacementFieldFilter()
    to_field.SetReferenceImage(image)
    to_field.SetOutputPixelType(sitk.sitkVectorFloat64)
    return to_field.Execute(transform)


def round_trip_errors(transform: sitk.Transform, inverse: sitk.Transform, points: np.ndarray) -> np.ndarray:
    """Return the inverse consistency error of fixed points (N, 3) in mm: the distance to inverse(forward(point))."""
    back = transform_points(inverse, transform_points(transform, points))
    return np.linalg.norm(back - points, axis=1)


def warp_image(
    image: sitk.Image, reference: sitk.Image, transform: sitk.Transform, interpolation: str = "linear"
) -> sitk.Image:
    """Resample intensities in one step onto the grid of a reference.

    Args:
        image: 3D volume; what was not measured (`is_measured`) counts as its minimum, as does the outside. Colours
            and vectors are resampled by component, complex numbers by part.
        reference: gives the grid.
        transform: maps a point of the reference to a point of the image, LPS mm.
        interpolation: "linear", or "bspline" for cubic B-splines clamped to the range of the image.

    Returns:
        A volume of the image's pixel type; integers are rounded.
    """
    if image.GetNumberOfComponentsPerPixel() > 1 or "vector" in image.GetPixelIDTypeAsString():
        components = range(image.GetNumberOfComponentsPerPixel())
        parts = [sitk.VectorIndexSelectionCast(image, index) for index in components]
        return sitk.Compose([warp_image(part, reference, transform, interpolation) for part in parts])
    if "complex" in image.GetPixelIDTypeAsString():
        parts = [sitk.ComplexToReal(image), sitk.ComplexToImaginary(image)]
        return sitk.RealAndImaginaryToComplex(*(warp_image(p, reference, transform, interpolation) for p in parts))
    # Float32 represents all 16-bit integers, but not all 32-bit ones.
    wide = image.GetPixelID() not in _NARROW_PIXEL_TYPES
    source = finite_float(image, np.float64 if wide else np.float32)
    values = sitk.GetArrayViewFromImage(source)
    low, high = float(values.min()), float(values.max())
    interpolator = sitk.sitkBSpline if interpolation == "bspline" else sitk.sitkLinear
    resampled = sitk.Resample(source, reference, transform, interpolator, low, source.GetPixelID())
    warped = np.clip(sitk.GetArrayFromImage(resampled), low, high)
    pixel = sitk.GetArrayViewFromImage(image).dtype
    if pixel.kind in "iu":  # the largest of 64 bits has no double, and the next one above would wrap around
        most = float(np.iinfo(pixel).max)
        warped = np.minimum(np.rint(warped), most if int(most) <= np.iinfo(pixel).max else np.nextafter(most, 0.0))
    result = sitk.GetImageFromArray(warped.astype(pixel))
    result.CopyInformation(resampled)
    return result


def warp_labels(
    labels: sitk.Image, reference: sitk.Image, transform: sitk.Transform, *, smooth: bool = True
) -> sitk.Image:
    """Resample a label map in one step onto the grid of a reference, without new labels.

    Args:
        labels: label map of an integer pixel type; 0 outside.
        reference: gives the grid.
        transform: maps a point of the reference to a point of the label map, LPS mm.
        smooth: each voxel gets the label with the largest linearly interpolated weight, which gives smooth boundaries
            and wears off structures of a few voxels; else the nearest label, which keeps volumes on a finer grid.
    """
    interpolator = sitk.sitkLabelLinear if smooth else sitk.sitkNearestNeighbor
    return sitk.Resample(labels, reference, transform, interpolator, 0, labels.GetPixelID())


def is_measured(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where values were measured: finite, and no padding such as the largest number of a pixel type."""
    return np.abs(values) < _PADDING_FROM if values.dtype.kind == "f" else np.ones(values.shape, bool)


def finite_float(image: sitk.Image, precision: type[np.floating] = np.float32) -> sitk.Image:
    """Return the volume as float32 (or float64), with its smallest measured value, or 0, where none was measured."""
    given = sitk.GetArrayViewFromImage(image)
    known = is_measured(given)
    values = given.astype(precision)
    if not known.all():
        values[~known] = values[known].min() if known.any() else 0.0
    result = sitk.GetImageFromArray(values)
    result.CopyInformation(image)
    return result
