"""Transform files of SimpleITK, ITK, ANTs and Slicer; similar files with another meaning are refused.

In memory a transform always maps points in LPS mm. Some programs write other spaces or other quantities in the same
formats; their files are refused.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError, OutputError
from ..spatial.checks import check_grid
from ..spatial.points import fitted_matrix, physical_points
from . import fsl, niftyreg
from .paths import called, check_input_file
from .quiet import reader_heard
from .transform_integrity import check_whole_transform
from .transform_storage import has_fields_to_compress, write_compressed
from .volumes import header_fields, read_image
from .written import check_room, check_transform

_FIELD_ENDINGS = (".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd", ".hdr", ".img", ".img.gz")
_HEAD_BYTES = 512
_CONVERT = "convert it to an ITK transform (.tfm or .h5), or save it from 3D Slicer"
_NUMBER = rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
# Beginnings of files of other programs.
_FOREIGN = (
    (re.compile(rb"MNI Transform File"), "a MINC transform (.xfm), whose points are RAS"),
    (re.compile(rb"(?s)(?:\s*#[^\n]*\n)*\s*type\s*=\s*\d+\s.*nxforms"), "a FreeSurfer transform (.lta)"),
    (re.compile(rb"\s*(?://[^\n]*\n\s*)*\(\s*\w+ [^\n]*\)"), "a parameter file of elastix"),
    (
        re.compile(rb"(?:\s*#[^\n]*\n)*\s*(?:" + _NUMBER + rb"[\s,;]+){11,}" + _NUMBER),
        "a bare matrix, as written by FSL, AFNI, NiftyReg and Convert3D, which does not state its space",
    ),
)
_FOREIGN_ENDINGS = {
    ".xfm": "a MINC transform, whose points are RAS",
    ".lta": "a FreeSurfer transform",
    ".m3z": "a FreeSurfer warp",
    ".x5": "an X5 transform",
}
# NIfTI intents of programs whose fields are not displacements in LPS mm.
_SPM_INTENT = "Mapping"
_POSITIONS_TOLERANCE = 0.3
_LEAST_SAMPLES = 64


def read_transform(path: Path, moving: sitk.Image | None = None) -> sitk.Transform:
    """Read a transform file of SimpleITK, ITK, ANTs or Slicer (.h5, .tfm, .txt, .mat), or a displacement field image.

    Args:
        path: the file; an image holds displacements in mm, LPS, one vector per voxel, or is a warp of FSL or a
            deformation field of NiftyReg, which are recognised by their NIfTI intent.
        moving: the moving volume, as its NIfTI file stores it: warps of FSL belong to its voxel order.

    Raises:
        InputError: it is missing, holds no 3D transform, or is the file of another program with another meaning.
    """
    check_input_file(path, "transform file")
    _check_origin(path)
    if path.name.lower().endswith(_FIELD_ENDINGS):
        return sitk.DisplacementFieldTransform(_read_field(path, moving))
    check_whole_transform(path, called("transform file", path))
    try:
        with reader_heard():
            transform = sitk.ReadTransform(str(path))
    except (RuntimeError, ValueError) as error:  # a damaged name is a ValueError
        msg = f"'{path}' is not a transform file; give a .h5, .tfm, .txt or .mat transform."
        raise InputError(msg) from error
    if transform.GetDimension() != 3:
        msg = f"The transform '{path}' is {transform.GetDimension()}D; give a 3D transform."
        raise InputError(msg)
    return transform


def write_transform(transform: sitk.Transform, path: Path) -> None:
    """Write a transform file (.h5 for composites, displacement fields compressed) and read it back.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        if has_fields_to_compress(transform, path):
            write_compressed(transform, path)
        else:
            check_room(path, transform)
            sitk.WriteTransform(transform, str(path))
    except RuntimeError as error:
        msg = f"Cannot write the transform '{path}': the disk is full or not writable; choose another folder."
        raise OutputError(msg) from error
    check_transform(path, transform)


def _check_origin(path: Path) -> None:
    """Refuse the files of other programs."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        msg = f"The transform file '{path}' cannot be read ({error.strerror}); check its permissions."
        raise InputError(msg) from error
    what = next((what for start, what in _FOREIGN if start.match(head)), _FOREIGN_ENDINGS.get(path.suffix.lower()))
    if what is not None:
        msg = f"'{path}' is {what}; {_CONVERT}."
        raise InputError(msg)


def _read_field(path: Path, moving: sitk.Image | None) -> sitk.Image:
    program, kind = _intent(path)
    name = called("displacement field", path)
    if program == "FSL" and (moving is None or kind != fsl.DISPLACEMENT_INTENT):
        remedy = (
            "write a displacement field with convertwarp"
            if moving is not None
            else (
                "it belongs to the voxel order of two NIfTI files: register these files, with the warp as initial "
                "transform"
            )
        )
        msg = f"{name} is a warp of FSL, which cannot be used here; {remedy}."
        raise InputError(msg)
    doubts: list[str] = []
    field = read_image(path, "displacement field", doubts)
    if program == "FSL" and moving is not None:
        field = fsl.read_fsl_warp(field, name, moving)
    elif program == "NiftyReg":
        field = niftyreg.read_niftyreg_field(field, name, kind)
    if field.GetDimension() != 3 or field.GetNumberOfComponentsPerPixel() != 3:
        msg = (
            f"'{path}' is a {field.GetDimension()}D image of {field.GetNumberOfComponentsPerPixel()} values per "
            "voxel, "
            "not a 3D displacement field; give a transform, or an image of displacement vectors in mm, LPS."
        )
        raise InputError(msg)
    if doubts:  # the position of a displacement field must be unambiguous
        raise InputError(doubts[0])
    check_grid(field, "displacement field", any_voxels=True)
    if "integer" in field.GetPixelIDTypeAsString():
        msg = f"'{path}' holds whole numbers, like a colour image, not displacements in mm; give another file."
        raise InputError(msg)
    field = sitk.Cast(field, sitk.sitkVectorFloat64)
    vectors = sitk.GetArrayViewFromImage(field)
    if not np.isfinite(vectors).all():
        msg = f"The displacement field '{path}' has values that are not finite; compute or export it again."
        raise InputError(msg)
    if _holds_positions(field, vectors):
        msg = f"'{path}' holds positions, not displacements; {_CONVERT}."
        raise InputError(msg)
    return field


def _intent(path: Path) -> tuple[str, int]:
    """Return the program whose field a NIfTI file is, if not ITK's, and which kind of field.

    Raises:
        InputError: it is a program whose fields cannot be read.
    """
    said = {key: value.strip() for key, value in header_fields(path).items() if key.startswith("intent_")}
    if said.get("intent_name") == _SPM_INTENT:
        msg = f"'{path}' is a field of SPM, which does not hold displacements in LPS mm; {_CONVERT}."
        raise InputError(msg)
    if said.get("intent_name") == niftyreg.INTENT_NAME:
        return "NiftyReg", int(float(said.get("intent_p1", "nan")))
    code = int(said.get("intent_code", "0"))
    return ("FSL", code) if code in fsl.INTENTS else ("", code)


def _holds_positions(field: sitk.Image, vectors: np.ndarray) -> bool:
    """Whether the vectors are positions: unlike displacements they grow by 1 mm per mm, in LPS or RAS."""
    steps = [max(1, size // 12) for size in vectors.shape[:3]]
    index = np.stack(
        np.meshgrid(*(np.arange(0, n, s) for n, s in zip(vectors.shape, steps, strict=False)), indexing="ij"), -1
    )
    index = index.reshape(-1, 3)
    if len(index) < _LEAST_SAMPLES or min(vectors.shape[:3]) < 2:
        return False
    points = physical_points(field, index[:, ::-1])
    values = vectors[tuple(index.T)]
    slopes = fitted_matrix(points, values)
    return any(np.abs(slopes - np.diag(signs)).max() < _POSITIONS_TOLERANCE for signs in ((1, 1, 1), (-1, -1, 1)))
