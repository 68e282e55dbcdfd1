"""Vector images in NIfTI-1, with the intent by which a program recognises its own."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from ..spatial.points import index_to_points
from .nifti_place import TO_LPS

_SCANNER = 1  # code of qform and sform: scanner coordinates


def write_vectors(
    path: Path, vectors: np.ndarray, grid: sitk.Image, intent: int, name: str = "", parameter: float = 0.0
) -> None:
    """Write vectors as float32 directly to a path; for staging folders.

    Args:
        path: a `.nii` or `.nii.gz` file.
        vectors: (i, j, k, 3), or (i, j, k, 1, 3) as NIfTI asks of vectors.
        grid: gives position and orientation.
        intent: intent code.
        name: intent name.
        parameter: first intent parameter.
    """
    image = nibabel.Nifti1Image(vectors.astype(np.float32), TO_LPS @ index_to_points(grid))
    image.header["intent_code"] = intent  # codes of FSL are unknown to nibabel
    image.header["intent_name"] = name
    image.header["intent_p1"] = parameter
    image.header.set_xyzt_units("mm")
    image.set_qform(image.affine, _SCANNER)
    image.set_sform(image.affine, _SCANNER)
    nibabel.save(image, path)
