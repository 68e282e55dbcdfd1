"""Headers of the slices in a DICOM file: one slice of a classic file, or each frame of an enhanced multi-frame file.

The functional groups of a frame hold its geometry and rescaling (DICOM PS3.3, C.7.6.16). They override the tags at
the top level of the file, so that other modules look up tags in one way.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections import ChainMap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydicom.config
import pydicom.errors
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID, MediaStorageDirectoryStorage

from ...errors import InputError
from .headers import DISTINCTIONS, Slice, numbers

# What pydicom raises for truncated or damaged files.
UNREADABLE = (
    pydicom.errors.InvalidDicomError,
    pydicom.errors.BytesLengthException,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    NotImplementedError,
    RecursionError,
    MemoryError,
    struct.error,
    zlib.error,
)
Tag = str | tuple[int, int]
_FRAMES = "PerFrameFunctionalGroupsSequence"
_SHARED = "SharedFunctionalGroupsSequence"
# Private tags that are used, with their makers and our names for them.
_PRIVATE = {
    (0x0009, 0x100D): ("GEMS_PETD_01", "GEScanDateTime"),
    (0x7053, 0x1000): ("Philips PET Private Group", "PhilipsSUVScale"),
    (0x7053, 0x1009): ("Philips PET Private Group", "PhilipsActivityScale"),
}
_TAGS: list[Tag] = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesDescription", "Modality"),
    *("PatientID", "FrameOfReferenceUID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"),
    *("PhotometricInterpretation", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "Units", "ModalityLUTSequence", "InstanceNumber"),
    *("ImagesInAcquisition", "NumberOfSlices", "InConcatenationTotalNumber", "ConvolutionKernel", "KVP"),
    *("GridFrameOffsetVector", "DoseGridScaling", "DoseUnits", "SeriesNumber", "LossyImageCompression"),
    *("AcquisitionDate", "ContentDate", "TemporalPositionTimeOffset", "SeriesDate", "SeriesTime", "SUVType"),
    *("PatientWeight", "CorrectedImage", "DecayCorrection", "RadiopharmaceuticalInformationSequence"),
    "TimezoneOffsetFromUTC",
    "ActualFrameDuration",
    *DISTINCTIONS,
    *(_FRAMES, _SHARED),
    *((group, 0x0010) for group in (0x0009, 0x7053)),  # who made the private tags
    *_PRIVATE,
]
_AXIAL = [1, 0, 0, 0, 1, 0]
# Words in the names of storage classes that have rows and columns but are not intensity images.
_NO_VOLUME = ("Segmentation", "Presentation State", "Parametric Map", "Spectroscopy")


def is_dicom(path: Path) -> bool:
    """Whether the content of a file is DICOM; old files have no preamble.

    Raises:
        InputError: it cannot be opened.
    """
    try:
        with path.open("rb") as file:
            if file.read(132)[128:] == b"DICM":
                return True
    except OSError as error:
        msg = f"has a file '{path.name}' that cannot be opened; check its permissions."
        raise InputError(msg) from error
    return sitk.ImageFileReader.GetImageIOFromFileName(str(path)) == "GDCMImageIO"


def read_slices(path: Path) -> list[Slice]:
    """Return the slices of a DICOM file; none if it is a report, plan, segmentation or other non-image.

    Raises:
        InputError: it is truncated or damaged; the text follows the name of the input.
    """
    dataset = read_tags(path, _TAGS, stop_before_pixels=True)
    if not _holds_volume(dataset, path):
        return []
    groups, shared = dataset.get(_FRAMES), dataset.get(_SHARED)
    frames = dataset.get("NumberOfFrames") or 1
    if not isinstance(frames, int) or not 0 < frames < path.stat().st_size:
        raise damaged(path)
    top = _top(dataset)
    if groups is None:
        own = _positions_of_frames(top, frames)
    elif isinstance(groups, pydicom.Sequence) and len(groups) == frames:
        for_all = _flat(shared[0]) if isinstance(shared, pydicom.Sequence) and shared else {}
        own = [{**for_all, **_flat(group)} for group in groups]
    else:
        raise damaged(path)
    return [Slice(path, k, frames, ChainMap(values, top)) for k, values in enumerate(own)]


def read_tags(path: Path, tags: Sequence[Tag] | None, *, stop_before_pixels: bool) -> FileDataset:
    """Return some tags of a file, all if None, with or without preamble; pydicom's warnings are not shown.

    Raises:
        InputError: it is truncated or damaged.
    """
    try:
        with pydicom.config.disable_value_validation(), warnings.catch_warnings(record=True):
            dataset = pydicom.dcmread(
                path,
                stop_before_pixels=stop_before_pixels,
                force=True,
                specific_tags=None if tags is None else [pydicom.tag.Tag(tag) for tag in tags],
            )
            for _ in (*dataset.file_meta, *dataset.iterall()):  # pydicom converts values on access
                pass
    except UNREADABLE as error:
        raise damaged(path) from error
    return dataset


def damaged(path: Path) -> InputError:
    """Return the error for an unreadable file."""
    return InputError(f"holds '{path.name}', which is damaged or incomplete; copy it again.")


def storage_class(path: Path) -> str:
    """Return the name of the storage class of a DICOM file, such as "MR Image Storage"."""
    return _storage_class(read_tags(path, ["SOPClassUID"], stop_before_pixels=True))


def is_directory(path: Path) -> bool:
    """Whether it is a DICOMDIR, which lists the files of a disc."""
    return storage_class(path) == MediaStorageDirectoryStorage.name


def as_uid(value: Any) -> UID:
    """Return a tag's value as a UID, without a warning if it is invalid."""
    return UID(str(value), pydicom.config.IGNORE)


def _storage_class(dataset: FileDataset) -> str:
    """Return the name of a file's storage class; empty if header and data set disagree, as in damaged files."""
    uid = dataset.file_meta.get("MediaStorageSOPClassUID")
    return as_uid(uid).name if uid and uid in (dataset.get("SOPClassUID"), MediaStorageDirectoryStorage) else ""


def _holds_volume(dataset: FileDataset, path: Path) -> bool:
    """Whether it is an intensity image; damaged if its class requires pixels and they are missing."""
    name = _storage_class(dataset)
    if any(word in name for word in _NO_VOLUME):
        return False
    size = [dataset.get(keyword) for keyword in ("Rows", "Columns")]
    if all(isinstance(value, int) and value > 0 for value in size) and dataset.get("SeriesInstanceUID"):
        return True
    if not name or "Image Storage" in name or any(size):
        raise damaged(path)
    return False


def _top(dataset: Dataset) -> dict[str, Any]:
    values = {element.keyword: element.value for element in dataset if element.keyword not in (_FRAMES, _SHARED)}
    for tag, (maker, name) in _PRIVATE.items():
        creator = dataset.get((tag[0], 0x0010))
        if creator is not None and creator.value == maker and tag in dataset:
            values[name] = dataset[tag].value
    return values


def _flat(group: Dataset) -> dict[str, Any]:
    """Return the tags of all public functional groups of a frame; private groups may repeat them."""
    return {
        element.keyword: element.value
        for macro in group
        if macro.VR == "SQ" and not macro.tag.is_private and macro.value
        for element in macro.value[0]
    }


def _positions_of_frames(top: Mapping[str, Any], frames: int) -> list[dict[str, Any]]:
    """Return the tags of each frame of a file without functional groups.

    Frames have positions of their own only in an axial radiotherapy dose, relative to the first (DICOM PS3.3,
    C.8.8.3.2); elsewhere the file's single position is not used for all frames.
    """
    if frames == 1:
        return [{}]
    position, offsets = numbers(top.get("ImagePositionPatient"), 3), numbers(top.get("GridFrameOffsetVector"), frames)
    axial = numbers(top.get("ImageOrientationPatient"), 6)
    if position is None or offsets is None or axial is None or offsets[0] != 0 or axial.tolist() != _AXIAL:
        return [{"ImagePositionPatient": None}] * frames
    return [{"ImagePositionPatient": [*position[:2], position[2] + offset]} for offset in offsets]
