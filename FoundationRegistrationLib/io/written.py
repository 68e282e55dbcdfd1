"""Reading back what ITK wrote, since it ignores a full disk, and checking for space where a full disk crashes."""

from __future__ import annotations

import math
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import OutputError
from ..spatial.decomposition import parts

# Headers hold numbers with seven digits.
_TOLERANCE = 1e-4
_HDF5_ENDINGS = (".h5", ".hdf", ".hdf5", ".h4", ".hdf4", ".he2", ".he5", ".hd5", ".mnc", ".mnc2")
_HDF5_OVERHEAD = 1 << 17
_BLOCK = 1 << 20


def check_room(path: Path, content: sitk.Image | sitk.Transform) -> None:
    """Write as many bytes as the HDF5 file will need, and remove them.

    The HDF5 library cannot close a file truncated by a full disk, and crashes at the end of the process.

    Raises:
        OutputError: there is not enough space.
    """
    if path.suffix.lower() not in _HDF5_ENDINGS:
        return
    needed = sum(_sizes(content)) + _HDF5_OVERHEAD
    block = os.urandom(min(needed, _BLOCK))  # some file systems do not store zeros
    try:
        with tempfile.TemporaryFile(dir=path.parent, buffering=0) as trial:
            for _ in range(math.ceil(needed / len(block))):
                if trial.write(block) < len(block):
                    raise incomplete(path)
    except OSError as error:
        raise incomplete(path) from error


def check_volume(path: Path, found: sitk.Image, image: sitk.Image) -> None:
    """Compare a volume read back from its file with the image that was written.

    Raises:
        OutputError: it is incomplete, or its format cannot hold the image.
    """
    if found.GetSize() != image.GetSize() or not _same_place(found, image):
        msg = f"The format of '{path.name}' does not keep the size and position of a volume; choose .nii.gz or .nrrd."
        raise OutputError(msg)
    if _kind(found) != _kind(image):
        msg = (
            f"The format of '{path.name}' does not support {image.GetPixelIDTypeAsString()}; choose .nii.gz or .nrrd."
        )
        raise OutputError(msg)
    if _checksum(found) != _checksum(image):
        raise incomplete(path)


def check_transform(path: Path, transform: sitk.Transform) -> None:
    """Compare a transform file with the transform that was written.

    Raises:
        OutputError: it is incomplete.
    """
    try:
        found = sitk.ReadTransform(str(path))
    except RuntimeError as error:
        raise incomplete(path) from error
    if list(_content(found)) != list(_content(transform)):
        raise incomplete(path)


def incomplete(path: Path) -> OutputError:
    """Return the error for an incomplete file."""
    return OutputError(f"'{path.name}' could not be written completely; free some space or choose another folder.")


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
    """Yield what a transform consists of, without converting a whole field to Python numbers."""
    for part in parts(transform):
        if part.GetName() == "DisplacementFieldTransform":
            owner = sitk.DisplacementFieldTransform(sitk.Transform(part))  # must outlive its voxels
            yield (part.GetName(), part.GetFixedParameters(), _checksum(owner.GetDisplacementField()))
        else:
            yield (part.GetName(), part.GetFixedParameters(), part.GetParameters())


def _sizes(content: sitk.Image | sitk.Transform) -> Iterator[int]:
    if isinstance(content, sitk.Image):
        yield (
            content.GetNumberOfPixels() * content.GetNumberOfComponentsPerPixel() * content.GetSizeOfPixelComponent()
        )
        return
    for part in parts(content):
        yield 8 * part.GetNumberOfParameters()
