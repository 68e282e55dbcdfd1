"""NIfTI and Analyze files: the named file, its voxels as stored, and warnings about its header.

ITK's reader combines the header of the named file with the voxels of whichever of `a.nii`, `a.nii.gz`, `a.img` and
`a.img.gz` it finds first, checks neither checksums nor lengths, and turns NaN into 0; this reader does not.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from . import nifti_header
from .nifti_header import NiftiHeader
from .paths import called, check_input_file, shown
from .streams import check_length, check_possible, pieces
from .units import described_units, set_units

_NAME = re.compile(r"(?P<stem>.*)\.(?P<kind>nii|hdr|img)(?P<gzip>\.gz)?", re.IGNORECASE | re.DOTALL)


def is_nifti(path: Path, head: bytes) -> bool:
    """Whether a file is NIfTI or Analyze: by its decompressed first bytes, or by name for half of a pair."""
    return nifti_header.is_header(head) or (_is_named(path, "img") and _partner(path, "hdr") is not None)


def has_niftis_name(path: Path) -> bool:
    """Whether a file name has a NIfTI or Analyze extension."""
    return _NAME.fullmatch(path.name) is not None


def header_messages(path: Path, role: str) -> list[str]:
    """Return warnings about the header of a file, without reading its voxels.

    Args:
        path: any file; there are no messages if it is missing, or not NIfTI or Analyze.
        role: its name in messages, such as "fixed".

    Returns:
        The messages, the most serious first; for an invalid header, the error that reading would raise.
    """
    name = called(f"{role} volume", path)
    try:
        check_input_file(path, f"{role} volume")
        is_ours = is_nifti(path, first_bytes(path, name))
    except (InputError, OSError):
        return []
    try:
        return [f"{name} {note}" for note in _header(path, name)[1].notes] if is_ours else []
    except InputError as error:
        return [str(error)]


def read_nifti(path: Path, name: str, messages: list[str]) -> sitk.Image:
    """Read a file of which `is_nifti` is true.

    Args:
        path: a single file, or either file of a pair.
        name: its name in messages.
        messages: warnings are appended.

    Returns:
        The volume in LPS, located as ITK does; intensities scaled as the header says, NaN kept.

    Raises:
        InputError: it is incomplete, or its header is invalid.
    """
    header_path, header = _header(path, name)
    voxel_path = header_path if header.is_single_file else _voxel_file(path, name)
    messages += [f"{name} {note}" for note in header.notes]
    with voxel_path.open("rb") as stream:
        stored = _stored(stream, header, name, messages)
    array = _scaled(_arranged(stored, header), header.scaling)
    image = sitk.GetImageFromArray(array, isVector=array.ndim > len(header.size))
    dimensions = len(header.size)
    image.SetSpacing(header.spacing)
    direction, origin = np.eye(dimensions), np.zeros(dimensions)
    if dimensions >= 3:
        direction[:3, :3] = header.affine[:3, :3] / np.linalg.norm(header.affine[:3, :3], axis=0)
        origin[:3] = header.affine[:3, 3]
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin(origin.tolist())
    set_units(image, described_units(header.description))
    return image


def frame_times(path: Path, name: str) -> tuple[float, float] | None:
    """Return the time of the first frame of a 4D file and the time between frames, s; None if it does not say.

    Raises:
        InputError: its header is invalid.
    """
    return _header(path, name)[1].frame_times


def first_bytes(path: Path, name: str, length: int = nifti_header.HEADER_BYTES) -> bytes:
    """Return the beginning of a file, decompressed if it is gzip.

    Raises:
        InputError: it is a damaged gzip file.
    """
    found = b""
    with path.open("rb") as stream:
        for piece in pieces(stream, name):
            found += piece
            if len(found) >= length:
                break
    return found[:length]


def _header(path: Path, name: str) -> tuple[Path, NiftiHeader]:
    """Return the header file and the header."""
    if _is_named(path, "img") and (beside := _partner(path, "hdr")) is not None:
        check_input_file(beside, "header file")
        path = beside
    return path, nifti_header.read_header(first_bytes(path, name), name)


def _voxel_file(path: Path, name: str) -> Path:
    """Return the voxel file of a pair, given either file."""
    if _is_named(path, "img"):
        return path
    if _is_named(path, "nii"):
        msg = f"{name} cannot be read: its header is damaged; copy it again or convert it from DICOM again."
        raise InputError(msg)
    found = _partner(path, "img")
    if found is None:
        msg = f"{name} is a header; its voxels should be beside it in '{shown(path.with_suffix('.img'))}'; copy both."
        raise InputError(msg)
    check_input_file(found, "voxel file")
    return found


def _is_named(path: Path, kind: str) -> bool:
    match = _NAME.fullmatch(path.name)
    return match is not None and match["kind"].lower() == kind


def _partner(path: Path, kind: str) -> Path | None:
    """Return the other file of a pair, preferably with the same compression; None if it is missing."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    kind = kind.upper() if match["kind"].isupper() else kind
    alike = match["gzip"] or ""
    names = (f"{match['stem']}.{kind}{ending}" for ending in (alike, "" if alike else ".gz"))
    return next((found for each in names if (found := path.with_name(each)).exists()), None)


def _stored(stream: BinaryIO, header: NiftiHeader, name: str, messages: list[str]) -> np.ndarray:
    """Return the voxels as stored, from a file read and checked to its end."""
    begin, end = header.offset, header.offset + header.voxel_bytes
    check_possible(end, stream.seek(0, 2), name)
    stream.seek(0)
    voxels = bytearray(header.voxel_bytes)
    target, position = memoryview(voxels), 0
    for piece in pieces(stream, name):
        part = piece[max(0, begin - position) : max(0, end - position)]
        at = max(0, position - begin)
        target[at : at + len(part)] = part
        position += len(piece)
        if position > end + len(voxels):
            break
    check_length(position, end, name, messages)
    return np.frombuffer(voxels, dtype=header.dtype)


def _arranged(stored: np.ndarray, header: NiftiHeader) -> np.ndarray:
    """Return voxels in native byte order, indexed (..., z, y, x), with components last."""
    if not stored.dtype.isnative:
        stored = stored.byteswap(inplace=True).view(stored.dtype.newbyteorder("="))
    shape = header.size[::-1]
    if stored.dtype.names is not None:
        return stored.view(np.uint8).reshape(*shape, -1)
    if header.components == 1:
        return stored.reshape(shape)
    array = np.moveaxis(stored.reshape(header.components, *shape), 0, -1)
    if header.is_displacement:
        array = array * np.array([-1, -1, 1][: header.components], dtype=array.dtype)
    return np.ascontiguousarray(array)


def _scaled(array: np.ndarray, scaling: tuple[float, float] | None) -> np.ndarray:
    """Return intensities scaled by the header: integers become float32, others keep their type."""
    if scaling is None:
        return array
    slope, intercept = scaling
    dtype = array.dtype if array.dtype.kind in "fc" else np.dtype(np.float32)
    result = np.empty(array.shape, dtype)
    with np.errstate(all="ignore"):  # stored NaN and infinities are kept
        for target, values in zip(result, array, strict=True):  # a slice at a time: float64 takes much memory
            target[...] = values * np.float64(slope) + intercept
    return result
