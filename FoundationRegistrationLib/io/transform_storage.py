"""Transforms in ITK's HDF5 format with compressed displacement fields, which ITK, ANTs and Slicer read as they are.

SimpleITK writes fields as double precision without compression: ten times their content.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import SimpleITK as sitk

from ..errors import OutputError
from ..spatial.decomposition import parts
from .written import check_room

_ENDING = ".h5"
_FIELD = "DisplacementFieldTransform"
_CHUNK = 1 << 18  # values
_COMPRESSION = {"compression": "gzip", "compression_opts": 4, "shuffle": True}


def has_fields_to_compress(transform: sitk.Transform, path: Path) -> bool:
    """Whether a transform has a displacement field and is to be written as HDF5."""
    return path.suffix.lower() == _ENDING and any(part.GetName() == _FIELD for part in parts(transform))


def write_compressed(transform: sitk.Transform, path: Path) -> None:
    """Write a transform without loss: displacements as float32 where these hold them exactly, else as float64.

    ITK writes the file with fields of one voxel, so that all else in it is ITK's. The fields are then put in, in
    memory, since the HDF5 library cannot close a file that a full disk cut off.

    Args:
        transform: nested composites are flattened.
        path: a name that ends in .h5.

    Raises:
        RuntimeError: ITK cannot write the file.
        OutputError: the disk is full.
    """
    flat = list(parts(transform))
    emptied = [_one_voxel() if part.GetName() == _FIELD else part for part in flat]
    is_composite = transform.GetName() == "CompositeTransform"
    frame = sitk.CompositeTransform(emptied) if is_composite else emptied[0]
    check_room(path, frame)
    sitk.WriteTransform(frame, str(path))
    with h5py.File(path, "r+", driver="core", backing_store=False) as file:
        for number, part in enumerate(flat, start=1 if is_composite else 0):
            if part.GetName() == _FIELD:
                _put_in(file[f"TransformGroup/{number}"], part)
        file.flush()
        content = file.id.get_file_image()
    try:
        path.write_bytes(content)
    except OSError as error:
        msg = f"Cannot write the transform '{path}' ({error.strerror}); free some space or choose another folder."
        raise OutputError(msg) from error


def _one_voxel() -> sitk.Transform:
    return sitk.DisplacementFieldTransform(sitk.Image((1, 1, 1), sitk.sitkVectorFloat64, 3))


def _put_in(group: h5py.Group, part: sitk.Transform) -> None:
    owner = sitk.DisplacementFieldTransform(sitk.Transform(part))  # must outlive its voxels
    values = sitk.GetArrayViewFromImage(owner.GetDisplacementField()).ravel()
    single = values.astype(np.float32)
    if np.array_equal(single, values):
        values = single
    for name, content, options in (
        ("TransformFixedParameters", np.array(part.GetFixedParameters()), {}),
        ("TransformParameters", values, {"chunks": (min(len(values), _CHUNK),), **_COMPRESSION}),
    ):
        del group[name]
        group.create_dataset(name, data=content, **options)
