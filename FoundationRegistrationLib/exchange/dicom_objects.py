"""What all DICOM objects that are written have in common: patient and study, equipment, identifiers, checks."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Iterable
from pathlib import Path

from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, UID, ExplicitVRLittleEndian, generate_uid

from .. import __version__
from ..errors import InputError
from ..io.dicom import DicomSeries

NAME = "FoundationRegistration"
# Attributes of the patient and of the study (DICOM PS3.3, C.7.1.1 and C.7.2.1).
_PATIENT = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "TypeOfPatientID", "IssuerOfPatientIDQualifiersSequence"),
    *("PatientBirthDate", "PatientBirthTime", "PatientSex", "OtherPatientIDs", "OtherPatientIDsSequence"),
    *("OtherPatientNames", "EthnicGroup", "PatientComments", "PatientIdentityRemoved", "DeidentificationMethod"),
    *("DeidentificationMethodCodeSequence", "PatientSpeciesDescription", "PatientSpeciesCodeSequence"),
    *("ResponsiblePerson", "ResponsiblePersonRole", "ResponsibleOrganization", "QualityControlSubject"),
)
_STUDY = (
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber"),
    *("IssuerOfAccessionNumberSequence", "ReferringPhysicianName", "ReferringPhysicianIdentificationSequence"),
    *("PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "ReferencedStudySequence", "ProcedureCodeSequence"),
    *("ReasonForPerformedProcedureCodeSequence", "PatientAge", "AdmittingDiagnosesDescription", "AdmissionID"),
)
# May be empty, but must be there.
_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
# Must be there.
_IDENTITY = ("StudyInstanceUID", "SOPClassUID", "SOPInstanceUID")
UTF8 = "ISO_IR 192"
"""Name of the character set in which decoded texts are written."""


def check_one_patient(fixed: DicomSeries, moving: DicomSeries, remedy: str) -> None:
    """Check that two series are of one patient.

    Raises:
        InputError: their patient IDs differ; `remedy` ends the message.
    """
    if fixed.text("PatientID").strip() != moving.text("PatientID").strip():
        msg = f"The two DICOM series have different patient IDs; {remedy}."
        raise InputError(msg)


def check_can_be_referred_to(series: DicomSeries, role: str) -> None:
    """Check that a series has the UIDs by which objects refer to its files.

    Raises:
        InputError: one is missing; `role` is the name of the series in the message.
    """
    for keyword in _IDENTITY:
        if not all(header.get(keyword) for header in series.headers):
            msg = f"The {role} DICOM series has files without {keyword}; export it again."
            raise InputError(msg)


def frame_of_reference(series: DicomSeries, role: str) -> str:
    """Return the UID of the frame of reference of a series that can be referred to.

    Raises:
        InputError: it has none, or lacks another UID; `role` is its name in the message.
    """
    check_can_be_referred_to(series, role)
    uid = series.text("FrameOfReferenceUID")
    if not uid:
        msg = f"The {role} DICOM series has no frame of reference (FrameOfReferenceUID); export it again."
        raise InputError(msg)
    return uid


def new_uid() -> str:
    """Return a new UID, made from a random UUID, which needs no registered root."""
    return str(generate_uid(prefix=None))


def new_object(storage_class: str, content: Dataset, made: datetime.datetime | None = None) -> FileDataset:
    """Return an object with the given tags, with decoded texts, and an identity of its own.

    Args:
        storage_class: UID of its SOP class.
        content: its other tags.
        made: one moment for all objects that are made together, which their times must not tell apart; now if None.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(storage_class), UID(new_uid())
    meta.TransferSyntaxUID, meta.ImplementationClassUID = ExplicitVRLittleEndian, PYDICOM_IMPLEMENTATION_UID
    meta.FileMetaInformationVersion, meta.FileMetaInformationGroupLength = b"\0\1", 0  # pydicom sets the length
    result = FileDataset("", Dataset(), file_meta=meta, preamble=bytes(128), is_implicit_VR=False)
    result.update(content)
    result.SpecificCharacterSet = UTF8
    result.SOPClassUID, result.SOPInstanceUID = storage_class, meta.MediaStorageSOPInstanceUID
    made = made or datetime.datetime.now()
    result.InstanceCreationDate = result.ContentDate = made.strftime("%Y%m%d")
    result.InstanceCreationTime = result.ContentTime = made.strftime("%H%M%S")
    return result


def set_patient_and_study(content: Dataset, series: DicomSeries) -> None:
    """Put an object into the patient and study of a series; its own tags of both are replaced."""
    header = decoded(series.headers[0])
    for keyword in (*_PATIENT, *_STUDY):
        if keyword in header:
            content[keyword] = header[keyword]
        elif keyword in _EMPTY:
            setattr(content, keyword, "")
        elif keyword in content:
            delattr(content, keyword)


def without_patient_and_study(header: FileDataset) -> Dataset:
    """Return the public tags of a header, decoded, with what must be there of patient and study empty.

    For libraries that check these tags, which de-identified files may lack or fill oddly; the object that they make
    gets those of the series by `set_patient_and_study`.
    """
    result = decoded(header)
    for keyword in _EMPTY:
        setattr(result, keyword, "")
    return result


def decoded(header: FileDataset) -> Dataset:
    """Return the public tags of a header, with texts that can be written in any character set."""
    result = Dataset()
    for element in header:
        if not element.tag.is_private:
            result[element.tag] = copy.deepcopy(element)  # it is decoded in place, once
    if "SpecificCharacterSet" in header:
        result.decode()
    return result


def describe_equipment(content: Dataset) -> None:
    """Say that this program made an object (Enhanced General Equipment, DICOM PS3.3, C.7.5.2)."""
    content.Manufacturer = content.ManufacturerModelName = NAME
    content.DeviceSerialNumber = "0"
    content.SoftwareVersions = __version__


def code(value: Code) -> Dataset:
    """Return a code as the item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = (
        value.value,
        value.scheme_designator,
        value.meaning,
    )
    return item


def references(headers: Iterable[Dataset]) -> list[Dataset]:
    """Return a reference to each file (Image SOP Instance Reference, DICOM PS3.3, 10.3)."""
    items = []
    for header in headers:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
        items.append(item)
    return items


def write_object(content: Dataset, path: Path) -> None:
    """Write an object directly to a path; for staging folders."""
    content.save_as(path)
