"""Reading back what ITK has written, which says nothing when the disk is full."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import OutputError

# Headers hold numbers of seven digits.
_TOLERANCE = 1e-4


def check_volume(path: Path, image: sitk.Image) -> None:
    """Compare a volume file with the image it was written from.

    Raises:
        OutputError: it is incomplete, or its format cannot hold the image.
    """
    try:
        found = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise _incomplete(path) from error
    if found.GetSize() != image.GetSize() or not _same_place(found, image):
        msg = f"The format of '{path.name}' does not keep size and place of a volume; choose .nii.gz or .nrrd."
        raise OutputError(msg)
    if _kind(found) != _kind(image):
        msg = f"The format of '{path.name}' does not hold {image.GetPixelIDTypeAsString()}; choose .nii.gz or .nrrd."
        raise OutputError(msg)
    if _checksum(found) != _checksum(image):
        raise _incomplete(path)


def check_transform(path: Path, transform: sitk.Transform) -> None:
    """Compare a transform file with the transform it was written from.

    Raises:
        OutputError: it is incomplete.
    """
    try:
        found = sitk.ReadTransform(str(path))
    except RuntimeError as error:
        raise _incomplete(path) from error
    if list(_content(found)) != list(_content(transform)):
        raise _incomplete(path)


def _incomplete(path: Path) -> OutputError:
    return OutputError(f"'{path.name}' could not be written whole; free some space or choose another folder.")


def _same_place(found: sitk.Image, image: sitk.Image) -> bool:
    voxel = min(image.GetSpacing())
    return (
        np.allclose(found.GetSpacing(), image.GetSpacing(), rtol=_TOLERANCE, atol=0)
        and np.allclose(found.GetDirection(), image.GetDirection(), rtol=0, atol=_TOLERANCE)
        and np.allclose(found.GetOrigin(), image.GetOrigin(), rtol=_TOLERANCE, atol=_TOLERANCE * voxel)
    )


def _kind(image: sitk.Image) -> tuple[np.dtype, int]:
    return sitk.GetArrayViewFromImage(image).dtype, image.GetNumberOfComponentsPerPixel()


def _checksum(image: sitk.Image) -> int:
    return zlib.crc32(np.ascontiguousarray(sitk.GetArrayViewFromImage(image)).data)


def _content(transform: sitk.Transform) -> Iterator[tuple]:
    """Give what the transform consists of, without making numbers of Python of a whole field."""
    if transform.GetName() == "CompositeTransform":
        composite = sitk.CompositeTransform(transform)
        for number in range(composite.GetNumberOfTransforms()):
            yield from _content(composite.GetNthTransform(number))
    elif transform.GetName() == "DisplacementFieldTransform":
        owner = sitk.DisplacementFieldTransform(sitk.Transform(transform))  # must live as long as its voxels are used
        yield (transform.GetName(), transform.GetFixedParameters(), _checksum(owner.GetDisplacementField()))
    else:
        yield (transform.GetName(), transform.GetFixedParameters(), transform.GetParameters())
