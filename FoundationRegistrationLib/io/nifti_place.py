"""The position of the voxels from a NIfTI header: qform, sform and warnings, as an affine in LPS mm."""

from __future__ import annotations

import itertools
import math

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.quaternions import quat2mat
from nibabel.spatialimages import HeaderDataError

from ..spatial.checks import FARTHEST_MM, SPACING_RANGE_MM
from .placement import UNKNOWN_ORIENTATION

_MILLIMETRES = {1: 1000.0, 3: 0.001}
_UNIT_NAMES = {1: "metres", 3: "micrometres"}
_HIGHEST_CODE = 5  # of a qform or sform
_LENGTH_UNIT = 7  # bit mask of the spatial unit in `xyzt_units`
_QUATERNION_SLACK = 1e-5
_ORTHONORMAL_TOLERANCE = 1e-4
_TURNED_DEGREES = 5.0
TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


class Place:
    """The position of the voxels by each form, RAS mm, and the form that is used."""

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
        """ITK takes the sform if it is the only one, or has the scanner code and perpendicular axes."""
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
        """Return the axes and origin of the form that is used, with the voxel spacing of the header."""
        form = self.sform if self.takes_sform else self.qform
        if form is None:  # as ITK does: along L, P and S
            return TO_LPS @ np.diag([*self.spacing, 1.0])
        taken = form.copy()
        taken[:3, :3] = form[:3, :3] / np.linalg.norm(form[:3, :3], axis=0) * self.spacing
        if self._apart(taken, form) > min(self.spacing):
            edges = np.linalg.norm(form[:3, :3], axis=0)
            msg = f"its voxel spacing is {_lengths(self.spacing)} mm in pixdim but {_lengths(edges)} mm in the sform"
            raise HeaderDataError(msg)
        return taken

    def _apart(self, one: np.ndarray, other: np.ndarray) -> float:
        """Return the largest distance between the two positions of a voxel, mm."""
        return float(np.linalg.norm(self.corners @ (one - other).T, axis=1).max())

    def notes(self) -> list[str]:
        """Return warnings, each to follow the name of the volume."""
        found = []
        if self.qform is None and self.sform is None:
            found.append(UNKNOWN_ORIENTATION.format(self.why_unknown))
        other = self.qform if self.takes_sform else self.sform
        if other is not None and self._apart(self.taken, other) > min(self.spacing):
            names = ("sform", "qform") if self.takes_sform else ("qform", "sform")
            found.append(
                f"gives two positions of the patient, up to {self._apart(self.taken, other):.3g} mm apart"
                f"{_difference(self.taken, other)}: the {names[0]} was used, not the {names[1]}; find out which is "
                "right, or convert it from DICOM again."
            )
        if self.unit in _UNIT_NAMES:
            found.append(
                f"gives its lengths in {_UNIT_NAMES[self.unit]}: the voxel spacing was taken as "
                f"{_lengths(self.spacing)} mm; correct the header if this is wrong."
            )
        return found


def _spacing(header: Nifti1Header, dimensions: int, scale: float) -> np.ndarray:
    """Return the voxel spacing in mm, (3,)."""
    edges = np.array(header["pixdim"][1 : dimensions + 1], dtype=np.float64)
    low, high = SPACING_RANGE_MM
    if not np.all((edges * scale >= low) & (edges * scale <= high)):
        unit = {1: "m", 3: "µm"}[int(header["xyzt_units"]) & _LENGTH_UNIT] if scale != 1.0 else "mm"
        msg = f"its voxel spacing is {_lengths(edges)} {unit}"
        raise HeaderDataError(msg)
    return np.append(edges * scale, [1.0] * (3 - dimensions))


def _qform(header: Nifti1Header) -> np.ndarray:
    """Return the qform as a 4 x 4 matrix in the unit of the header."""
    quaternion = np.array([header[f"quatern_{axis}"] for axis in "bcd"], dtype=np.float64)
    edges = np.array(header["pixdim"][1:4], dtype=np.float64)
    edges[int(header["dim"][0]) :] = 1.0
    hand = float(header["pixdim"][0])
    is_rotation = np.isfinite(quaternion).all() and quaternion @ quaternion <= 1.0 + _QUATERNION_SLACK
    if not is_rotation or not (hand >= 0.0 or hand == -1.0):
        msg = f"its quaternion ({', '.join(f'{value:.4g}' for value in quaternion)}; {hand:.4g}) is not a rotation"
        raise HeaderDataError(msg)
    real = math.sqrt(max(0.0, 1.0 - float(quaternion @ quaternion)))  # the header stores the other three components
    matrix = np.eye(4)
    matrix[:3, :3] = quat2mat([real, *quaternion]) * edges
    matrix[:3, 2] *= -1.0 if hand < 0.0 else 1.0
    matrix[:3, 3] = [header[f"qoffset_{axis}"] for axis in "xyz"]
    return matrix


def _sform(header: Nifti1Header) -> np.ndarray:
    """Return the sform as a 4 x 4 matrix in the unit of the header."""
    return np.array([*(header[f"srow_{axis}"] for axis in "xyz"), (0.0, 0.0, 0.0, 1.0)], dtype=np.float64)


def _check_form(form: np.ndarray) -> None:
    low, high = SPACING_RANGE_MM
    if not (np.isfinite(form).all() and np.abs(form[:3, 3]).max() <= FARTHEST_MM):
        msg = f"it places the first voxel at {_lengths(form[:3, 3])} mm"
        raise HeaderDataError(msg)
    edges = np.linalg.norm(form[:3, :3], axis=0)
    if not np.all((edges >= low) & (edges <= high)) or abs(np.linalg.det(form[:3, :3] / edges)) < 1e-3:
        msg = "its sform matrix does not have three independent axes"
        raise HeaderDataError(msg)


def _difference(one: np.ndarray, other: np.ndarray) -> str:
    """Return how the axes of two forms differ, if they do notably."""
    first, second = (form[:3, :3] / np.linalg.norm(form[:3, :3], axis=0) for form in (one, other))
    if np.linalg.det(first) * np.linalg.det(second) < 0.0:
        return " and mirrored"
    degrees = np.degrees(np.arccos(np.clip((np.trace(first.T @ second) - 1.0) / 2.0, -1.0, 1.0)))
    return f" and rotated by {degrees:.0f}°" if degrees > _TURNED_DEGREES else ""


def _lengths(values: np.ndarray) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
