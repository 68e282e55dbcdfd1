"""A registration as a DICOM object: Spatial Registration if it is linear, else Deformable Spatial Registration.

Both lie in the frame of reference of the fixed series. The matrix of a Spatial Registration maps moving points to
fixed points (DICOM PS3.3, C.20.2.1.1); a Deformable Spatial Registration maps fixed points to moving points by a grid
of displacements and a matrix after it (C.20.3.1.1).
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset
from pydicom.sr.codedict import codes
from pydicom.uid import DeformableSpatialRegistrationStorage, SpatialRegistrationStorage

from ..errors import OutputError
from ..io.dicom import DicomSeries
from ..spatial.decomposition import field_and_matrix, linear_matrix
from ..spatial.warping import displacement_on_grid_of
from .decimals import decimal
from .dicom_objects import (
    code,
    describe_equipment,
    frame_of_reference,
    new_object,
    new_uid,
    references,
    set_patient_and_study,
)

_RIGID_TOLERANCE = 1e-6
_MOST_BYTES = 2**32 - 2  # of an attribute
_LABEL = "REGISTRATION"


def registration_object(
    transform: sitk.Transform, fixed: DicomSeries, moving: DicomSeries, messages: list[str]
) -> FileDataset:
    """Return a registration as a DICOM object in the patient and study of the fixed series.

    Args:
        transform: maps fixed points to moving points, LPS mm.
        fixed: the fixed series.
        moving: the moving series.
        messages: a warning is appended if both lie in one frame of reference.

    Raises:
        InputError: a series has no frame of reference.
        OutputError: the displacements are too large for a DICOM object.
    """
    frames = frame_of_reference(fixed, "fixed"), frame_of_reference(moving, "moving")
    if frames[0] == frames[1]:
        messages.append(
            "Both series lie in one frame of reference, so programs that tell them apart by it cannot use this "
            "registration; give them the warped series (apply --dicom) instead."
        )
    matrix = linear_matrix(transform)
    content = Dataset()
    set_patient_and_study(content, fixed)
    content.Modality, content.SeriesInstanceUID = "REG", new_uid()
    content.SeriesNumber, content.InstanceNumber = None, 1
    content.SeriesDescription, content.Laterality = "Registration", ""
    describe_equipment(content)
    content.FrameOfReferenceUID = frames[0]
    content.PositionReferenceIndicator = fixed.text("PositionReferenceIndicator")
    content.ContentLabel, content.ContentDescription, content.ContentCreatorName = _LABEL, "", ""
    _refer_to_series(content, fixed, moving)
    if matrix is None:
        content.DeformableRegistrationSequence = [_identity(fixed, frames[0]), _deformation(transform, fixed, moving)]
        return new_object(DeformableSpatialRegistrationStorage, content)
    content.RegistrationSequence = [
        _linear(np.eye(4), fixed, frames[0]),
        _linear(np.linalg.inv(matrix), moving, frames[1]),
    ]
    return new_object(SpatialRegistrationStorage, content)


def _linear(matrix: np.ndarray, series: DicomSeries, frame: str) -> Dataset:
    """Return the item of a Spatial Registration: a matrix from the points of a series to the registered ones."""
    registration = Dataset()
    registration.MatrixSequence = [_matrix(matrix)]
    registration.RegistrationTypeCodeSequence = [code(codes.DCM.ImageContentBasedAlignment)]
    item = Dataset()
    item.FrameOfReferenceUID, item.ReferencedImageSequence = frame, references(series.headers)
    item.MatrixRegistrationSequence = [registration]
    return item


def _identity(series: DicomSeries, frame: str) -> Dataset:
    item = Dataset()
    item.SourceFrameOfReferenceUID, item.ReferencedImageSequence = frame, references(series.headers)
    item.RegistrationTypeCodeSequence = []
    return item


def _deformation(transform: sitk.Transform, fixed: DicomSeries, moving: DicomSeries) -> Dataset:
    """Return the item of a Deformable Spatial Registration, on the grid of the transform if it has one.

    Outside its own grid a registration is its matrix alone, in our transform as in the DICOM object. Any other
    transform is sampled on the slices of the fixed series.
    """
    found = field_and_matrix(transform)
    if found is None or np.linalg.det(np.reshape(found[0].GetDirection(), (3, 3))) < 0:  # DICOM's are right-handed
        found = displacement_on_grid_of(fixed.grid, transform), np.eye(4)
    field, matrix = found
    vectors = sitk.GetArrayFromImage(field).astype("<f4")
    if vectors.nbytes > _MOST_BYTES:
        msg = "The displacements are too many for one DICOM object (4 GB); register on a coarser grid."
        raise OutputError(msg)
    grid = Dataset()
    axes = np.reshape(field.GetDirection(), (3, 3)).T
    grid.ImageOrientationPatient = [decimal(value) for value in axes[:2].ravel()]
    grid.ImagePositionPatient = [decimal(value) for value in field.GetOrigin()]
    grid.GridDimensions, grid.GridResolution = list(field.GetSize()), list(field.GetSpacing())
    grid.VectorGridData = vectors.tobytes()
    item = Dataset()
    item.SourceFrameOfReferenceUID = moving.text("FrameOfReferenceUID")
    item.ReferencedImageSequence = references(moving.headers)
    item.RegistrationTypeCodeSequence = [code(codes.DCM.ImageContentBasedAlignment)]
    item.PreDeformationMatrixRegistrationSequence = [_matrix(np.eye(4))]
    item.PostDeformationMatrixRegistrationSequence = [_matrix(matrix)]
    item.DeformableRegistrationGridSequence = [grid]
    return item


def _matrix(matrix: np.ndarray) -> Dataset:
    item = Dataset()
    item.FrameOfReferenceTransformationMatrixType = _kind(matrix[:3, :3])
    item.FrameOfReferenceTransformationMatrix = [decimal(value) for value in matrix.ravel()]
    return item


def _kind(matrix: np.ndarray) -> str:
    """Return the defined term of DICOM for a matrix (3, 3)."""
    gram = matrix.T @ matrix
    if np.abs(gram - np.eye(3)).max() < _RIGID_TOLERANCE and np.linalg.det(matrix) > 0:
        return "RIGID"
    axes = np.linalg.norm(matrix, axis=0)
    cosines = gram / np.outer(axes, axes)
    is_scaled = np.abs(cosines - np.eye(3)).max() < _RIGID_TOLERANCE and np.linalg.det(matrix) > 0
    return "RIGID_SCALE" if is_scaled else "AFFINE"


def _refer_to_series(content: Dataset, fixed: DicomSeries, moving: DicomSeries) -> None:
    """List the images of both series (Common Instance Reference, DICOM PS3.3, C.12.2)."""
    own, others = [], []
    for series in (fixed, moving):
        item = Dataset()
        item.SeriesInstanceUID = series.text("SeriesInstanceUID")
        item.ReferencedInstanceSequence = references(series.headers)
        if series.text("StudyInstanceUID") == fixed.text("StudyInstanceUID"):
            own.append(item)
        else:
            study = Dataset()
            study.StudyInstanceUID, study.ReferencedSeriesSequence = series.text("StudyInstanceUID"), [item]
            others.append(study)
    content.ReferencedSeriesSequence = own
    if others:
        content.StudiesContainingOtherReferencedInstancesSequence = others
