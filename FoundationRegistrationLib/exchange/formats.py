"""The formats in which a registration is handed over to other programs, each with a linear and a deformable form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from ..errors import OutputError
from ..io.fsl import write_flirt_matrix, write_fsl_warp
from ..io.niftyreg import write_niftyreg_field, write_niftyreg_matrix
from ..io.transforms import write_transform
from ..io.volumes import write_volume_directly
from ..spatial.decomposition import linear_matrix
from ..spatial.warping import displacement_on_grid_of


@dataclass(frozen=True, eq=False)
class Registration:
    """A finished registration.

    Attributes:
        transform: maps fixed points to moving points, LPS mm.
        fixed: an image on the grid of the fixed volume.
        moving: an image on the grid of the moving volume.
    """

    transform: sitk.Transform
    fixed: sitk.Image
    moving: sitk.Image


@dataclass(frozen=True)
class Format:
    """A format of another program.

    Attributes:
        title: name of the program.
        linear_endings: file types of a linear transform.
        field_endings: file types of a field.
        write: writes a registration, directly to a path.
        belongs_to_niftis: whether it belongs to the voxel order of the NIfTI files of both volumes.
    """

    title: str
    linear_endings: tuple[str, ...]
    field_endings: tuple[str, ...]
    write: Callable[[Registration, Path], None]
    belongs_to_niftis: bool = False

    def check_name(self, path: Path, transform: sitk.Transform) -> None:
        """Check that a file is of a type that the format has for a transform.

        Raises:
            OutputError: it is not.
        """
        is_linear = linear_matrix(transform) is not None
        endings = self.linear_endings if is_linear else self.field_endings
        if not path.name.lower().endswith(endings):
            kind = "linear transform" if is_linear else "displacement field"
            msg = f"'{path.name}' cannot hold a {kind} for {self.title}; end the name in {' or '.join(endings)}."
            raise OutputError(msg)


def _write_itk(registration: Registration, path: Path) -> None:
    matrix = linear_matrix(registration.transform)
    if matrix is None:
        field = displacement_on_grid_of(registration.fixed, registration.transform)
        write_volume_directly(sitk.Cast(field, sitk.sitkVectorFloat32), path)
        return
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(matrix[:3, :3].ravel().tolist())
    affine.SetTranslation(matrix[:3, 3].tolist())
    write_transform(affine, path)


def _write_fsl(registration: Registration, path: Path) -> None:
    matrix, moving = linear_matrix(registration.transform), registration.moving
    if matrix is None:
        write_fsl_warp(registration.transform, registration.fixed, moving, path)
    else:
        write_flirt_matrix(matrix, registration.fixed, moving, path)


def _write_niftyreg(registration: Registration, path: Path) -> None:
    matrix = linear_matrix(registration.transform)
    if matrix is None:
        write_niftyreg_field(registration.transform, registration.fixed, path)
    else:
        write_niftyreg_matrix(matrix, path)


_NIFTI = (".nii.gz", ".nii")
FORMATS = {
    "itk": Format("ITK and ANTs", (".tfm", ".txt", ".mat", ".h5"), (*_NIFTI, ".nrrd", ".mha"), _write_itk),
    "fsl": Format("FSL", (".mat",), (".nii.gz",), _write_fsl, belongs_to_niftis=True),
    "niftyreg": Format("NiftyReg", (".txt",), _NIFTI, _write_niftyreg),
}
