"""The header of a NIfTI or Analyze file: its checks, and the position of the volume.

Either of two forms can position the voxels, the qform and the sform (https://nifti.nimh.nih.gov/nifti-1). The choice
follows ITK, so that positions agree with Slicer and SimpleITK. All lengths are in mm.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError

from ..errors import InputError
from .nifti_place import TO_LPS, Place
from .streams import damaged

HEADER_BYTES = 540  # of NIfTI-2, the longest
_KINDS = {348: Nifti1Header, 540: Nifti2Header}
_END_OF_SIGNATURE = b"\r\n\x1a\n"  # of NIfTI-2: shows whether it was copied as text
# What Analyze 7.5 has where NIfTI-1 has its intent, scaling, units and forms.
_NOT_IN_ANALYZE = (slice(56, 70), slice(112, 124), slice(252, 348))
_STRONGEST_SCALING = 1e30  # the range of single precision
_MOST_DIMENSIONS = 5
_TIME_UNIT = 56  # bit mask of the unit of time in `xyzt_units`
_SECONDS = {8: 1.0, 16: 1e-3, 24: 1e-6}
_TENSOR_INTENT, _DISPLACEMENT_INTENT, _VECTOR_INTENT = 1005, 1006, 1007


@dataclass(frozen=True)
class NiftiHeader:
    """A checked header.

    Attributes:
        is_single_file: the voxels follow in the same file; otherwise they are in the .img file beside it.
        size: voxels along x, y, z and any further axes, without trailing ones beyond the third.
        components: values per voxel, for instance of vectors.
        is_displacement: the voxels are displacement vectors in RAS.
        dtype: type of the stored values, with byte order.
        offset: offset of the first voxel, bytes.
        scaling: slope and intercept of the intensities, None if they are not scaled.
        spacing: voxel spacing in mm, one for each of `size`; 1 beyond the third.
        affine: from voxel index to LPS mm, 4 x 4.
        frame_times: time of the first frame and time between frames, s; None if the header does not say.
        description: what programs wrote about the file.
        notes: warnings, the most serious first; each follows the name of the volume.
    """

    is_single_file: bool
    size: tuple[int, ...]
    components: int
    is_displacement: bool
    dtype: np.dtype
    offset: int
    scaling: tuple[float, float] | None
    spacing: tuple[float, ...]
    affine: np.ndarray
    frame_times: tuple[float, float] | None
    description: str
    notes: tuple[str, ...]

    @property
    def voxel_bytes(self) -> int:
        """Length of all voxels in bytes."""
        count = self.components * self.dtype.itemsize
        for size in self.size:
            count *= size
        return count


def is_header(block: bytes) -> bool:
    """Whether the first bytes of a file are a header of NIfTI-1, NIfTI-2 or Analyze 7.5."""
    return _byte_order(block) is not None


def read_header(block: bytes, name: str) -> NiftiHeader:
    """Read and check a header.

    Args:
        block: the first `HEADER_BYTES` bytes of the file, fewer if it is shorter.
        name: name of the volume in errors.

    Raises:
        InputError: it is truncated or invalid.
    """
    order = _byte_order(block)
    if order is None or len(block) < struct.unpack(f"{order}i", block[:4])[0]:
        raise damaged(name)
    try:
        with np.errstate(all="ignore"):  # the checks find NaN
            return _read(block, order)
    except HeaderDataError as error:
        msg = f"{name} cannot be read: {error}; convert it from DICOM again or correct its header."
        raise InputError(msg) from error


def _byte_order(block: bytes) -> str | None:
    if len(block) < min(_KINDS):
        return None
    return next((order for order in "<>" if struct.unpack(f"{order}i", block[:4])[0] in _KINDS), None)


def _raw(block: bytes, order: str) -> tuple[Nifti1Header, bool, bool]:
    """Return the unchecked header, whether the voxels follow in the same file, and whether it is Analyze."""
    length = struct.unpack(f"{order}i", block[:4])[0]
    kind, raw = _KINDS[length], bytearray(block[:length])
    signature = raw[344:348] if kind is Nifti1Header else raw[4:8]
    is_nifti = signature in (b"n+1\0", b"ni1\0") if kind is Nifti1Header else signature in (b"n+2\0", b"ni2\0")
    if kind is Nifti2Header and not (is_nifti and raw[8:12] == _END_OF_SIGNATURE):
        msg = "its signature is wrong"
        raise HeaderDataError(msg)
    for part in () if is_nifti else _NOT_IN_ANALYZE:
        raw[part] = bytes(len(raw[part]))
    return kind(bytes(raw), endianness=order, check=False), signature[1:2] == b"+", not is_nifti


def _read(block: bytes, order: str) -> NiftiHeader:
    header, is_single_file, is_analyze = _raw(block, order)
    size, components = _sizes(header)
    dtype = _dtype(header)
    scaling, notes_of_scaling = _scaling(header) if dtype.names is None else (None, [])
    place = Place(header, size, is_analyze)
    return NiftiHeader(
        is_single_file=is_single_file and not is_analyze,
        size=size,
        components=components,
        is_displacement=components > 1 and int(header["intent_code"]) == _DISPLACEMENT_INTENT,
        dtype=dtype,
        offset=_offset(header, is_single_file and not is_analyze),
        scaling=scaling,
        spacing=(*place.spacing.tolist(), *[1.0] * (len(size) - 3))[: len(size)],
        affine=TO_LPS @ place.taken,
        frame_times=None if is_analyze else _frame_times(header),
        description=header["descrip"].item().decode("ascii", errors="replace"),
        notes=(*place.notes(), *notes_of_scaling),
    )


def _sizes(header: Nifti1Header) -> tuple[tuple[int, ...], int]:
    """Return the size along each axis, and the components per voxel."""
    dim = [int(value) for value in header["dim"]]
    if not 1 <= dim[0] <= 7 or min(dim[1 : dim[0] + 1]) < 1:
        msg = f"it gives the size {' x '.join(str(value) for value in dim[1:])}"
        raise HeaderDataError(msg)
    size = dim[1 : dim[0] + 1]
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    intent = int(header["intent_code"])
    if intent == _TENSOR_INTENT:
        msg = "it holds tensors, not intensities"
        raise HeaderDataError(msg)
    components = 1
    if len(size) == 5 and intent in (_DISPLACEMENT_INTENT, _VECTOR_INTENT):
        components = size.pop()
        if size[-1] == 1:
            size.pop()
    if not 2 <= len(size) <= _MOST_DIMENSIONS:
        msg = f"it is {len(size)}D"
        raise HeaderDataError(msg)
    return tuple(size), components


def _dtype(header: Nifti1Header) -> np.dtype:
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError):
        dtype = np.dtype("V")
    if dtype.itemsize * 8 != int(header["bitpix"]):
        msg = f"its pixel type {int(header['datatype'])} does not have {int(header['bitpix'])} bits"
        raise HeaderDataError(msg)
    is_colour = dtype.names is not None
    if not is_colour and (dtype.kind not in "iufc" or dtype.itemsize > (16 if dtype.kind == "c" else 8)):
        msg = f"its pixel type {int(header['datatype'])} is not supported"
        raise HeaderDataError(msg)
    return dtype


def _offset(header: Nifti1Header, is_single_file: bool) -> int:
    offset = float(header["vox_offset"])
    least = header.template_dtype.itemsize + 4 if is_single_file else 0
    if not (np.isfinite(offset) and offset == int(offset) and least <= offset):
        msg = f"its voxels cannot begin at byte {offset:g}"
        raise HeaderDataError(msg)
    return int(offset)


def _frame_times(header: Nifti1Header) -> tuple[float, float] | None:
    """Return the time of the first frame and the time between frames, s, if both and their unit are stored."""
    unit = _SECONDS.get(int(header["xyzt_units"]) & _TIME_UNIT)
    first, step = float(header["toffset"]), float(header["pixdim"][4])
    if unit is None or not (np.isfinite(first) and np.isfinite(step) and step > 0.0):
        return None
    return unit * first, unit * step


def _scaling(header: Nifti1Header) -> tuple[tuple[float, float] | None, list[str]]:
    """Return slope and intercept, None if there is no scaling, and warnings about them."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if np.isnan(slope):
        return None, []
    is_possible = slope == 0.0 or 1.0 / _STRONGEST_SCALING <= abs(slope) <= _STRONGEST_SCALING
    if not (is_possible and abs(intercept) <= _STRONGEST_SCALING):
        msg = f"its intensities are to be scaled by {slope:g} and shifted by {intercept:g}"
        raise HeaderDataError(msg)
    if slope == 0.0:
        note = f"shifts its intensities by {intercept:g} but scales them by 0: the stored values were used."
        return None, [note] if intercept else []
    return (None if (slope, intercept) == (1.0, 0.0) else (slope, intercept)), []
