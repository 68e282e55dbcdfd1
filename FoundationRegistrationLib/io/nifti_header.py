"""The header of a NIfTI or Analyze file as its bytes have it: what cannot be right, and where the volume lies.

Two forms can say where the voxels are, the qform and the sform (https://nifti.nimh.nih.gov/nifti-1). Which one is
taken is ITK's choice, so that a file lies where Slicer and SimpleITK have it. Everything is in millimetres.
"""

from __future__ import annotations

import itertools
import math
import struct
from dataclasses import dataclass

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.quaternions import quat2mat
from nibabel.spatialimages import HeaderDataError

from ..errors import InputError
from ..spatial.checks import FARTHEST_MM, SPACING_RANGE_MM
from .placement import UNKNOWN_ORIENTATION
from .streams import damaged

HEADER_BYTES = 540  # of NIfTI-2, the longest
_KINDS = {348: Nifti1Header, 540: Nifti2Header}
_END_OF_SIGNATURE = b"\r\n\x1a\n"  # of NIfTI-2: shows whether it was copied as if it were text
# What Analyze 7.5 has where NIfTI-1 keeps its intent, scaling, units and forms.
_NOT_IN_ANALYZE = (slice(56, 70), slice(112, 124), slice(252, 348))
_MILLIMETRES = {1: 1000.0, 3: 0.001}
_UNIT_NAMES = {1: "metres", 3: "micrometres"}
_HIGHEST_CODE = 5  # of a qform or sform
_LENGTH_UNIT = 7  # mask of the bits of `xyzt_units` that are about space
_STRONGEST_SCALING = 1e30  # beyond it single precision ends
_MOST_DIMENSIONS = 5
_QUATERNION_SLACK = 1e-5
_ORTHONORMAL_TOLERANCE = 1e-4
_TURNED_DEGREES = 5.0
_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_TENSOR_INTENT, _DISPLACEMENT_INTENT, _VECTOR_INTENT = 1005, 1006, 1007


@dataclass(frozen=True)
class NiftiHeader:
    """What a header says, checked.

    Attributes:
        is_single_file: the voxels follow in the same file; otherwise they are in the .img file beside it.
        size: voxels along x, y, z and perhaps time, without trailing ones beyond the third.
        components: values of a voxel that are stored one after the other, as vectors are; 1 for others.
        is_displacement: the vectors are displacements in RAS.
        dtype: of the stored values, with their byte order.
        offset: of the first voxel, bytes.
        scaling: slope and intercept of the intensities, None where they are as stored.
        spacing: voxel edges in mm, one for each of `size`; 1 beyond the third.
        affine: from voxel index to LPS mm, 4 x 4.
        notes: what the user must know, the most alarming first; each follows the name of the volume.
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
        block: the first bytes of the file, `HEADER_BYTES` where it is so long.
        name: how the volume is called in errors.

    Raises:
        InputError: it is cut short or cannot be right.
    """
    order = _byte_order(block)
    if order is None or len(block) < struct.unpack(f"{order}i", block[:4])[0]:
        raise damaged(name)
    try:
        with np.errstate(all="ignore"):  # what is no number is found by the checks
            return _read(block, order)
    except HeaderDataError as error:
        msg = f"{name} cannot be read: {error}; convert it from DICOM again or correct its header."
        raise InputError(msg) from error


def _byte_order(block: bytes) -> str | None:
    if len(block) < min(_KINDS):
        return None
    return next((order for order in "<>" if struct.unpack(f"{order}i", block[:4])[0] in _KINDS), None)


def _raw(block: bytes, order: str) -> tuple[Nifti1Header, bool, bool]:
    """Return the unchecked header, whether the voxels follow in the same file, and whether it is Analyze's."""
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
    place = _Place(header, size, is_analyze)
    return NiftiHeader(
        is_single_file=is_single_file and not is_analyze,
        size=size,
        components=components,
        is_displacement=components > 1 and int(header["intent_code"]) == _DISPLACEMENT_INTENT,
        dtype=dtype,
        offset=_offset(header, is_single_file and not is_analyze),
        scaling=scaling,
        spacing=(*place.spacing.tolist(), *[1.0] * (len(size) - 3))[: len(size)],
        affine=_TO_LPS @ place.taken,
        notes=(*place.notes(), *notes_of_scaling),
    )


def _sizes(header: Nifti1Header) -> tuple[tuple[int, ...], int]:
    """Return the voxels along each axis, and the components of a voxel."""
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
        msg = f"its pixel type {int(header['datatype'])} is not one of images"
        raise HeaderDataError(msg)
    return dtype


def _offset(header: Nifti1Header, is_single_file: bool) -> int:
    offset = float(header["vox_offset"])
    least = header.template_dtype.itemsize + 4 if is_single_file else 0
    if not (np.isfinite(offset) and offset == int(offset) and least <= offset):
        msg = f"its voxels cannot begin at byte {offset:g}"
        raise HeaderDataError(msg)
    return int(offset)


def _scaling(header: Nifti1Header) -> tuple[tuple[float, float] | None, list[str]]:
    """Return slope and intercept, None where there are none, and what is doubtful about them."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if np.isnan(slope):
        return None, []
    is_possible = slope == 0.0 or 1.0 / _STRONGEST_SCALING <= abs(slope) <= _STRONGEST_SCALING
    if not (is_possible and abs(intercept) <= _STRONGEST_SCALING):
        msg = f"its intensities are to be scaled by {slope:g} and shifted by {intercept:g}"
        raise HeaderDataError(msg)
    if slope == 0.0:
        note = f"shifts its intensities by {intercept:g} but scales them by 0: they were taken as they are stored."
        return None, [note] if intercept else []
    return (None if (slope, intercept) == (1.0, 0.0) else (slope, intercept)), []


class _Place:
    """Where the voxels are: what each form says, RAS mm, and which one is taken."""

    def __init__(self, header: Nifti1Header, size: tuple[int, ...], is_analyze: bool) -> None:
        self.why_unknown = "Analyze files cannot" if is_analyze else "NIfTI orientation codes 0"
        self.unit = int(header["xyzt_units"]) & _LENGTH_UNIT
        self.spacing = _spacing(header, min(len(size), 3), _MILLIMETRES.get(self.unit, 1.0))
        self.corners = np.array([(*c, 1) for c in itertools.product(*((0, n - 1) for n in (*size, 1)[:3]))])
        unit = np.diag([_MILLIMETRES.get(self.unit, 1.0)] * 3 + [1.0])
        codes = [int(header[f"{form}_code"]) for form in ("qform", "sform")]
        if not all(0 <= code <= _HIGHEST_CODE for code in codes):
            msg = f"its orientation codes are {codes[0]} and {codes[1]}"
            raise HeaderDataError(msg)
        self.qform = unit @ _qform(header) if codes[0] else None
        self.sform = unit @ _sform(header) if codes[1] else None
        for form in (self.qform, self.sform):
            if form is not None:
                _check_form(form)
        self.takes_sform = self._takes_sform(codes[1])
        self.taken = self._taken()

    def _takes_sform(self, code: int) -> bool:
        """ITK takes the sform if it is the only one, or the scanner's own with perpendicular axes."""
        if self.sform is None:
            return False
        axes = self.sform[:3, :3] / np.linalg.norm(self.sform[:3, :3], axis=0)
        is_rigid = np.abs(axes.T @ axes - np.eye(3)).max() <= _ORTHONORMAL_TOLERANCE
        if self.qform is not None:
            return bool(code == 1 and is_rigid)
        if not is_rigid:
            msg = "its axes are not perpendicular to each other"
            raise HeaderDataError(msg)
        return True

    def _taken(self) -> np.ndarray:
        """Return the axes and the place of the form that is taken, with the voxel edges that the header gives."""
        form = self.sform if self.takes_sform else self.qform
        if form is None:  # as ITK has it: along L, P and S
            return _TO_LPS @ np.diag([*self.spacing, 1.0])
        taken = form.copy()
        taken[:3, :3] = form[:3, :3] / np.linalg.norm(form[:3, :3], axis=0) * self.spacing
        if self._apart(taken, form) > min(self.spacing):
            edges = np.linalg.norm(form[:3, :3], axis=0)
            msg = f"its voxels are {_lengths(self.spacing)} mm in one place (pixdim), {_lengths(edges)} mm in another"
            raise HeaderDataError(msg)
        return taken

    def _apart(self, one: np.ndarray, other: np.ndarray) -> float:
        """Return how far a voxel lies from itself, mm, at most."""
        return float(np.linalg.norm(self.corners @ (one - other).T, axis=1).max())

    def notes(self) -> list[str]:
        """Return what the user must know, each to follow the name of the volume."""
        found = []
        if self.qform is None and self.sform is None:
            found.append(UNKNOWN_ORIENTATION.format(self.why_unknown))
        other = self.qform if self.takes_sform else self.sform
        if other is not None and self._apart(self.taken, other) > min(self.spacing):
            names = ("sform", "qform") if self.takes_sform else ("qform", "sform")
            found.append(
                f"says twice where the patient lies, up to {self._apart(self.taken, other):.3g} mm apart"
                f"{_difference(self.taken, other)}: the {names[0]} was taken, not the {names[1]}; find out which of "
                "them is right, or convert it from DICOM again."
            )
        if self.unit in _UNIT_NAMES:
            found.append(
                f"gives its lengths in {_UNIT_NAMES[self.unit]}: its voxels were taken as {_lengths(self.spacing)} "
                "mm; correct its header if they are not."
            )
        return found


def _spacing(header: Nifti1Header, dimensions: int, scale: float) -> np.ndarray:
    """Return the voxel edges in mm, three of them."""
    edges = np.array(header["pixdim"][1 : dimensions + 1], dtype=np.float64)
    low, high = SPACING_RANGE_MM
    if not np.all((edges * scale >= low) & (edges * scale <= high)):
        unit = {1: "m", 3: "µm"}[int(header["xyzt_units"]) & _LENGTH_UNIT] if scale != 1.0 else "mm"
        msg = f"its voxels are {_lengths(edges)} {unit} large"
        raise HeaderDataError(msg)
    return np.append(edges * scale, [1.0] * (3 - dimensions))


def _qform(header: Nifti1Header) -> np.ndarray:
    """Return the qform as 4 x 4 matrix in the unit of the header."""
    quaternion = np.array([header[f"quatern_{axis}"] for axis in "bcd"], dtype=np.float64)
    edges = np.array(header["pixdim"][1:4], dtype=np.float64)
    edges[int(header["dim"][0]) :] = 1.0
    hand = float(header["pixdim"][0])
    is_rotation = np.isfinite(quaternion).all() and quaternion @ quaternion <= 1.0 + _QUATERNION_SLACK
    if not is_rotation or not (hand >= 0.0 or hand == -1.0):
        msg = f"its rotation (quaternion {', '.join(f'{value:.4g}' for value in quaternion)}; {hand:.4g}) is none"
        raise HeaderDataError(msg)
    real = math.sqrt(max(0.0, 1.0 - float(quaternion @ quaternion)))  # the header has the other three parts of it
    matrix = np.eye(4)
    matrix[:3, :3] = quat2mat([real, *quaternion]) * edges
    matrix[:3, 2] *= -1.0 if hand < 0.0 else 1.0
    matrix[:3, 3] = [header[f"qoffset_{axis}"] for axis in "xyz"]
    return matrix


def _sform(header: Nifti1Header) -> np.ndarray:
    """Return the sform as 4 x 4 matrix in the unit of the header."""
    return np.array([*(header[f"srow_{axis}"] for axis in "xyz"), (0.0, 0.0, 0.0, 1.0)], dtype=np.float64)


def _check_form(form: np.ndarray) -> None:
    low, high = SPACING_RANGE_MM
    if not (np.isfinite(form).all() and np.abs(form[:3, 3]).max() <= FARTHEST_MM):
        msg = f"it places the first voxel at {_lengths(form[:3, 3])} mm"
        raise HeaderDataError(msg)
    edges = np.linalg.norm(form[:3, :3], axis=0)
    if not np.all((edges >= low) & (edges <= high)) or abs(np.linalg.det(form[:3, :3] / edges)) < 1e-3:
        msg = "its matrix (sform) is not one of three axes"
        raise HeaderDataError(msg)


def _difference(one: np.ndarray, other: np.ndarray) -> str:
    """Return how the axes of two forms differ, if they do so much."""
    first, second = (form[:3, :3] / np.linalg.norm(form[:3, :3], axis=0) for form in (one, other))
    if np.linalg.det(first) * np.linalg.det(second) < 0.0:
        return " and mirrored"
    degrees = np.degrees(np.arccos(np.clip((np.trace(first.T @ second) - 1.0) / 2.0, -1.0, 1.0)))
    return f" and turned by {degrees:.0f}°" if degrees > _TURNED_DEGREES else ""


def _lengths(values: np.ndarray) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
