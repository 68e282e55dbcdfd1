"""Volumes as arrays with an affine, and volumes of nibabel and MONAI, to SimpleITK and back.

An affine maps voxel indices (i, j, k) to millimetres, and ``array[i, j, k]`` is the voxel there, as in nibabel and
MONAI. SimpleITK arrays have the opposite axis order, (k, j, i), and SimpleITK coordinates are LPS.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..spatial.checks import check_grid
from ..spatial.points import index_to_points

Space = Literal["RAS", "LPS"]
# Between RAS and LPS; its own inverse.
_SIGNS = {"RAS": np.array([-1.0, -1.0, 1.0]), "LPS": np.ones(3)}
_MILLIMETRES = {"meter": 1000.0, "micron": 0.001}


class HasAffine(Protocol):
    """A volume with an affine."""

    @property
    def affine(self) -> Any:
        """(4, 4), from voxel indices to mm."""


class NibabelImage(HasAffine, Protocol):
    """A nibabel spatial image; its affine maps to RAS."""

    @property
    def dataobj(self) -> Any:
        """The voxels, (i, j, k) or (i, j, k, 1)."""

    @property
    def header(self) -> Any:
        """Header; gives the unit of length where the format has one."""


class MetaTensor(HasAffine, Protocol):
    """A `MetaTensor` of MONAI, (i, j, k) or (1, i, j, k); its affine maps to RAS unless `meta["space"]` is LPS."""

    @property
    def meta(self) -> Any:
        """A dictionary."""

    def detach(self) -> Any:
        """Return the tensor without its gradient."""


VolumeLike: TypeAlias = sitk.Image | NibabelImage | MetaTensor


def volume_from_array(array: Any, affine: Any, space: Space = "RAS") -> sitk.Image:
    """Return an array and its affine as a volume.

    Args:
        array: (i, j, k) voxels of any numeric type; transpose a SimpleITK array, which is (k, j, i), first.
        affine: (4, 4), maps voxel indices (i, j, k) to mm in `space`. Its axes must be perpendicular; they may be
            oblique, flipped and anisotropic.
        space: "RAS" as in nibabel, NIfTI and MONAI, or "LPS" as in DICOM, ITK and SimpleITK.

    Returns:
        The same voxels at the same points. Booleans become uint8, and float16 becomes float32.

    Raises:
        InputError: the array is not 3D or not numeric, or the affine is invalid.
    """
    return _volume(np.asarray(array), affine, space, "given")


def array_from_volume(image: sitk.Image, space: Space = "RAS") -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels of a volume and its affine, as `volume_from_array` takes them.

    Args:
        image: 3D volume; vector images keep their components.
        space: space of the affine, "RAS" or "LPS".

    Returns:
        Voxels (i, j, k), or (i, j, k, component).
        The affine (4, 4) from voxel indices (i, j, k) to mm.

    Raises:
        InputError: the space is neither of these.
    """
    signs = _signs(space)
    array = sitk.GetArrayFromImage(image).swapaxes(0, 2)
    return array, np.diag([*signs, 1.0]) @ index_to_points(image) + 0.0  # no -0


def as_volume(given: VolumeLike, role: str) -> sitk.Image:
    """Return a SimpleITK, nibabel or MONAI volume as a SimpleITK image, which is passed through.

    Args:
        given: the volume; singleton channel and time axes are dropped.
        role: its name in error messages, such as "fixed".

    Raises:
        InputError: it is none of these, or has no valid geometry.
    """
    if isinstance(given, sitk.Image):
        return given
    if hasattr(given, "dataobj") and hasattr(given, "affine"):
        return _from_nibabel(given, role)
    if hasattr(given, "meta") and hasattr(given, "affine") and hasattr(given, "detach"):
        return _from_metatensor(given, role)
    remedy = (
        "read the file with read_volume"
        if isinstance(given, str) or hasattr(given, "__fspath__")
        else "convert it with volume_from_array(array, affine)"
    )
    msg = f"The {role} volume is a {type(given).__name__}, not a SimpleITK, nibabel or MONAI image; {remedy}."
    raise InputError(msg)


def _from_nibabel(image: Any, role: str) -> sitk.Image:
    try:
        array = np.asanyarray(image.dataobj)
    except (OSError, EOFError, zlib.error) as error:
        msg = f"The {role} volume is damaged or incomplete; copy the file again."
        raise InputError(msg) from error
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    units = getattr(image.header, "get_xyzt_units", lambda: ("mm",))()
    affine = np.diag([*[_MILLIMETRES.get(units[0], 1.0)] * 3, 1.0]) @ image.affine
    return _volume(array, affine, "RAS", role)


def _from_metatensor(tensor: Any, role: str) -> sitk.Image:
    plain = tensor.detach().cpu()
    if str(plain.dtype) == "torch.bfloat16":  # which numpy does not have
        plain = plain.float()
    array = np.asarray(plain.numpy())
    if array.ndim == 4 and array.shape[0] == 1:
        array = array[0]
    space = tensor.meta.get("space") if isinstance(tensor.meta, Mapping) else None
    return _volume(array, np.asarray(tensor.affine.detach().cpu().numpy()), "LPS" if space == "LPS" else "RAS", role)


def _volume(array: np.ndarray, affine: Any, space: Space, role: str) -> sitk.Image:
    if array.ndim != 3:
        shape = " x ".join(map(str, array.shape))
        msg = f"The {role} volume has {array.ndim} dimensions ({shape}); give a 3D volume with one channel."
        raise InputError(msg)
    matrix = _checked_affine(affine, role)
    signs = _signs(space)
    axes = signs[:, None] * matrix[:3, :3]
    edges = np.linalg.norm(axes, axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(_numbers(array, role).T))
    image.SetSpacing(edges.tolist())
    image.SetDirection((axes / edges).ravel().tolist())
    image.SetOrigin((signs * matrix[:3, 3]).tolist())
    check_grid(image, role)
    return image


def _checked_affine(affine: Any, role: str) -> np.ndarray:
    """Return a valid affine as float64."""
    matrix = np.asarray(affine, dtype=np.float64)
    sound = matrix.shape == (4, 4) and np.isfinite(matrix).all() and np.array_equal(matrix[3], (0, 0, 0, 1))
    if not sound or np.linalg.det(matrix[:3, :3]) == 0.0:
        msg = (
            f"The affine of the {role} volume is not a 4 x 4 matrix from voxel indices to mm whose last row is "
            "0, 0, 0, 1; correct it."
        )
        raise InputError(msg)
    return matrix


def _numbers(array: np.ndarray, role: str) -> np.ndarray:
    """Return voxels in a type and byte order that SimpleITK supports."""
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind == "f":
        return array.astype(np.float64 if array.dtype.itemsize > 4 else np.float32, copy=False)
    if array.dtype.kind not in "iu":
        msg = f"The {role} volume holds {array.dtype}, not real numbers; give one number per voxel."
        raise InputError(msg)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _signs(space: str) -> np.ndarray:
    if space not in _SIGNS:
        msg = f"The space of an affine must be 'RAS' or 'LPS', not {space!r}."
        raise InputError(msg)
    return _SIGNS[space]
