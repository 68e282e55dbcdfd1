"""Whole DICOM series of a synthetic patient, with all that their storage classes require: MR, CT and PET."""

import numpy as np
from dicom_series import MR, positions, write_series
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
PET = "1.2.840.10008.5.1.4.1.1.128"
TURNED = np.linalg.qr(np.array([[0.9, 0.3, -0.2], [-0.2, 0.8, 0.4], [0.1, -0.3, 0.9]]).T)[0].T[:2]
_SIZE, _SPACING, _STEP, _COUNT = (26, 22), (3.0, 3.5), 8.0, 10
_PATIENT = {
    "PatientName": "Müller^Änne", "PatientID": "P1", "PatientBirthDate": "19700101", "PatientSex": "F",
    "SpecificCharacterSet": "ISO_IR 100", "ReferringPhysicianName": "", "StudyID": "1", "AccessionNumber": "A1",
    "Manufacturer": "Maker", "PositionReferenceIndicator": "", "PatientPosition": "HFS", "PatientWeight": "60",
    "InstanceCreationDate": "20240101", "Laterality": "",
}  # fmt: skip
_OF_CLASS = {
    MR: {
        "Modality": "MR", "ImageType": ["ORIGINAL", "PRIMARY", "M"], "ScanningSequence": "GR",
        "SequenceVariant": "SP", "ScanOptions": "", "MRAcquisitionType": "3D",
        "RepetitionTime": "5", "EchoTime": "2", "EchoTrainLength": "1",
        "SliceThickness": "8", "PatientPosition": "FFP",
    },
    CT: {
        "Modality": "CT", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "KVP": "120", "SliceThickness": "8",
        "RescaleType": "HU", "PixelPaddingValue": -2000,
    },
    PET: {
        "Modality": "PT", "ImageType": ["ORIGINAL", "PRIMARY"], "Units": "BQML", "CountsSource": "EMISSION",
        "SeriesType": ["STATIC", "IMAGE"], "NumberOfSlices": _COUNT, "CorrectedImage": ["DECY", "ATTN"],
        "DecayCorrection": "START", "CollimatorType": "NONE", "RandomsCorrectionMethod": "NONE",
        "SliceThickness": "8",
        "FrameReferenceTime": "1000", "ActualFrameDuration": "120000", "ImageIndex": 1, "DecayFactor": "1.1",
    },
}  # fmt: skip


def write_scan(folder, storage_class=MR, axes=TURNED, day="20240102", **options):
    """Write a series of 26 x 22 x 10 voxels around the origin; returns its files.

    Args:
        folder: where to.
        storage_class: of MR, CT or PET.
        axes: unit vectors along rows and columns.
        day: of the study; each day has a study and a frame of reference of its own.
        **options: further tags, or options of `write_slice`.
    """
    normal = np.cross(*axes)
    half = [(n - 1) / 2 * s for n, s in zip((*_SIZE, _COUNT), (*_SPACING, _STEP), strict=True)]
    first = -(half[0] * axes[0] + half[1] * axes[1] + half[2] * normal)
    root = f"1.2.826.0.1.3680043.9.1.{day}"
    identity = {
        "StudyInstanceUID": root, "SeriesInstanceUID": generate_uid(), "FrameOfReferenceUID": f"{root}.1",
        "StudyDate": day, "StudyTime": "080000", "SeriesDate": day, "SeriesTime": "081500", "AcquisitionDate": day,
        "AcquisitionTime": "082000", "AcquisitionNumber": 1, "SeriesNumber": 3, "ContentDate": day,
        "ContentTime": "083000", "SeriesDescription": f"scan {day}",
    }  # fmt: skip
    given = {**_PATIENT, **_OF_CLASS[storage_class], **identity}
    if storage_class == PET:
        tracer = Dataset()
        tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = "350000000", "6586.2"
        tracer.RadiopharmaceuticalStartTime, tracer.RadionuclideCodeSequence = "070000", Sequence([])
        given["RadiopharmaceuticalInformationSequence"] = Sequence([tracer])
    plane = {"axes": axes, "size": _SIZE, "spacing": _SPACING, "storage_class": storage_class}
    return write_series(folder, positions(_COUNT, _STEP, axes, first), **plane, **{**given, **options})
