"""Deformation fields and matrices of NiftyReg, which are RAS mm and map reference points to floating points."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..spatial.points import fitted_matrix, positions_in
from ..spatial.warping import displacement_on_grid_of
from .arrays import array_from_volume
from .nifti_place import TO_LPS
from .nifti_vectors import write_vectors

INTENT_NAME = "NREG_TRANS"
_VECTOR_INTENT = 1007
# The kinds of transform that the first intent parameter tells apart: positions, and displacements.
_DEFORMATION, _DISPLACEMENT = 0, 1
_SIGNS = np.array([-1.0, -1.0, 1.0])
_SCALES = (0.2, 5.0)  # of the linear part of any plausible deformation


def write_niftyreg_field(transform: sitk.Transform, fixed: sitk.Image, path: Path) -> None:
    """Write a deformation field for ``reg_resample -ref fixed -flo moving -trans field``; for staging folders.

    Args:
        transform: maps fixed points to moving points, LPS mm.
        fixed: gives the grid of the field.
        path: a `.nii` or `.nii.gz` file.
    """
    displacement, _ = array_from_volume(displacement_on_grid_of(fixed, transform))
    moving_points = (positions_in(fixed) + displacement) * _SIGNS
    write_vectors(path, moving_points[:, :, :, None], fixed, _VECTOR_INTENT, INTENT_NAME, _DEFORMATION)


def read_niftyreg_field(image: sitk.Image, name: str, kind: int) -> sitk.Image:
    """Return a field of NiftyReg as displacements in LPS mm.

    Args:
        image: the field as read, a vector image.
        name: its name in messages.
        kind: first intent parameter: 0 for positions, 1 for displacements.

    Raises:
        InputError: it is another kind of transform, such as control points, or holds something else than it says.
    """
    if kind not in (_DEFORMATION, _DISPLACEMENT) or image.GetNumberOfComponentsPerPixel() != 3:
        msg = f"{name} is not a deformation field of NiftyReg; write one with reg_transform -def."
        raise InputError(msg)
    vectors = sitk.GetArrayFromImage(image).astype(np.float64) * _SIGNS
    if kind == _DEFORMATION:
        points = positions_in(image).swapaxes(0, 2)
        scales = np.linalg.svd(fitted_matrix(points, vectors), compute_uv=False)
        if not _SCALES[0] < scales.min() <= scales.max() < _SCALES[1]:
            msg = f"{name} calls itself a deformation field of NiftyReg but does not hold positions; write it anew."
            raise InputError(msg)
        vectors = vectors - points
    result = sitk.GetImageFromArray(vectors, isVector=True)
    result.CopyInformation(image)
    return result


def write_niftyreg_matrix(matrix: np.ndarray, path: Path) -> None:
    """Write a matrix for ``reg_resample -trans`` or ``reg_f3d -aff``; for staging folders.

    Args:
        matrix: (4, 4), maps fixed points to moving points, LPS mm.
        path: a text file.
    """
    np.savetxt(path, TO_LPS @ matrix @ TO_LPS, fmt="%.12g")
