"""Warps and matrices of FSL.

FSL counts points of an image in mm from its first voxel along its own axes, and counts x from the last voxel where
the determinant of the header is positive, so that x always grows to the left in a volume without rotation (FSL's
documentation of FLIRT, "What is the format of the matrix"). A warp maps points of the reference to points of the
source, a matrix of FLIRT the other way round. Both belong to the voxel order of two NIfTI files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..spatial.points import fitted_matrix, index_to_points, positions_in
from ..spatial.warping import displacement_on_grid_of
from .arrays import array_from_volume
from .nifti_vectors import write_vectors

DISPLACEMENT_INTENT = 2006
INTENTS = range(2001, 2020)
# Beyond this distance of their linear part from the identity, relative and absolute warps are not told apart.
_STRONGEST = 0.8


def to_fsl(image: sitk.Image) -> np.ndarray:
    """Return the matrix (4, 4) from LPS mm to FSL's coordinates of an image, mm."""
    matrix = index_to_points(image)
    scale = np.diag([*image.GetSpacing(), 1.0])
    if np.linalg.det(matrix) > 0:
        scale[0, 0] *= -1.0
        scale[0, 3] = (image.GetWidth() - 1) * image.GetSpacing()[0]
    return scale @ np.linalg.inv(matrix)


def write_fsl_warp(transform: sitk.Transform, fixed: sitk.Image, moving: sitk.Image, path: Path) -> None:
    """Write a relative warp for ``applywarp --ref=fixed --in=moving --rel``; for staging folders.

    Args:
        transform: maps fixed points to moving points, LPS mm.
        fixed: volume with the voxel order of the reference's NIfTI file; the warp gets its grid.
        moving: volume with the voxel order of the source's NIfTI file.
        path: a `.nii.gz` file.
    """
    displacement, _ = array_from_volume(displacement_on_grid_of(fixed, transform))
    of_fixed, of_moving = to_fsl(fixed), to_fsl(moving)
    warp = displacement @ of_moving[:3, :3].T + _applied(of_moving - of_fixed, positions_in(fixed))
    write_vectors(path, warp, fixed, DISPLACEMENT_INTENT)


def read_fsl_warp(image: sitk.Image, name: str, moving: sitk.Image) -> sitk.Image:
    """Return a warp of FSL as displacements in LPS mm.

    Args:
        image: the warp as read: 4D, with the components along the fourth axis; relative or absolute.
        name: its name in messages.
        moving: volume with the voxel order of the source's NIfTI file.

    Raises:
        InputError: it holds no vectors, or may be relative or absolute.
    """
    if image.GetDimension() != 4 or image.GetSize()[3] != 3:
        msg = f"{name} is not a displacement field of FSL; write one with convertwarp."
        raise InputError(msg)
    grid = image[:, :, :, 0]
    warp = sitk.GetArrayFromImage(image).T.astype(np.float64)  # (i, j, k, component)
    points = positions_in(grid)
    to_points = np.linalg.inv(to_fsl(moving))
    ways = [_applied(to_points, warp + _applied(to_fsl(grid), points)), _applied(to_points, warp)]
    strengths = [np.linalg.norm(fitted_matrix(points, way) - np.eye(3)) for way in ways]
    if min(strengths) > _STRONGEST:
        msg = f"{name} may be a relative or an absolute warp of FSL; start from an affine transform instead."
        raise InputError(msg)
    field = ways[int(np.argmin(strengths))] - points
    result = sitk.GetImageFromArray(np.ascontiguousarray(field.swapaxes(0, 2)), isVector=True)
    result.CopyInformation(grid)
    return result


def write_flirt_matrix(matrix: np.ndarray, fixed: sitk.Image, moving: sitk.Image, path: Path) -> None:
    """Write a matrix for ``flirt -applyxfm -init matrix -in moving -ref fixed``; for staging folders.

    Args:
        matrix: (4, 4), maps fixed points to moving points, LPS mm.
        fixed: volume with the voxel order of the reference's NIfTI file.
        moving: volume with the voxel order of the source's NIfTI file.
        path: a text file.
    """
    np.savetxt(path, to_fsl(fixed) @ np.linalg.inv(matrix) @ np.linalg.inv(to_fsl(moving)), fmt="%.12g")


def _applied(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]
