"""What a DICOM file says of its slices: one slice of a classic file, or each frame of an enhanced multi-frame one.

Geometry and rescaling of a frame stand in its functional groups (DICOM PS3.3, C.7.6.16); they are laid over what
stands at the top of the file, so that everything above this module looks tags up in one way.
"""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pydicom.config
import pydicom.errors
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID, MediaStorageDirectoryStorage

from ...errors import InputError

# What pydicom raises on files that are cut off or damaged.
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
# Tags that tell volumes apart which lie at the same place, the most telling first.
DISTINCTIONS = (
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "EchoTime",
    "EffectiveEchoTime",
    "EchoNumbers",
    "DiffusionBValue",
    "FrameReferenceTime",
    "InversionTime",
    "ImageType",
    "FrameType",
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "AcquisitionNumber",
    "FrameAcquisitionDateTime",
    "AcquisitionDateTime",
    "AcquisitionTime",
    "ContentTime",
)
_FRAMES = "PerFrameFunctionalGroupsSequence"
_SHARED = "SharedFunctionalGroupsSequence"
_TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesDescription", "Modality"),
    *("PatientID", "FrameOfReferenceUID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"),
    *("PhotometricInterpretation", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "Units", "ModalityLUTSequence", "InstanceNumber"),
    *("ImagesInAcquisition", "NumberOfSlices", "InConcatenationTotalNumber", "ConvolutionKernel", "KVP"),
    *("GridFrameOffsetVector", "DoseGridScaling", "DoseUnits"),
    *DISTINCTIONS,
    *(_FRAMES, _SHARED),
]
ORIGINALS = "export the original slices of the scanner"
_NOT_PERPENDICULAR = 0.01
_AXIAL = [1, 0, 0, 0, 1, 0]
# Words in the names of storage classes that have rows and columns but no volume of intensities.
_NO_VOLUME = ("Segmentation", "Presentation State", "Parametric Map", "Spectroscopy")


@dataclass(frozen=True)
class Slice:
    """One plane of pixels, and what its file says of it.

    Attributes:
        path: its file.
        frame: which of the file's frames it is, from 0.
        frames: how many the file has.
        values: the tags that hold for this slice, by their DICOM keyword, as pydicom has them.
    """

    path: Path
    frame: int
    frames: int
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        """How a message calls it."""
        return f"'{self.path.name}'" if self.frames == 1 else f"frame {self.frame + 1} of '{self.path.name}'"

    @cached_property
    def position(self) -> np.ndarray:
        """Centre of its first pixel, (3,) in LPS mm.

        Raises:
            InputError: the file does not say it.
        """
        values = self.numbers("ImagePositionPatient", 3)
        if values is None:
            raise _placeless(self, "ImagePositionPatient")
        return values

    @cached_property
    def axes(self) -> np.ndarray:
        """Unit vectors in LPS along a row (the column index grows) and along a column, (2, 3).

        Raises:
            InputError: the file does not say them, or they are not perpendicular.
        """
        values = self.numbers("ImageOrientationPatient", 6)
        axes = np.zeros((2, 3)) if values is None else values.reshape(2, 3)
        if np.abs(axes @ axes.T - np.eye(2)).max() > _NOT_PERPENDICULAR:
            raise _placeless(self, "ImageOrientationPatient")
        u, _, v = np.linalg.svd(axes, full_matrices=False)
        return u @ v

    @cached_property
    def pixel_spacing(self) -> np.ndarray:
        """Distance in mm of neighbouring pixels along a row, and along a column.

        Raises:
            InputError: the file does not say it.
        """
        values = self.numbers("PixelSpacing", 2)
        if values is None or values.min() <= 0:
            raise _placeless(self, "PixelSpacing")
        return values[::-1]

    @property
    def size(self) -> tuple[int, int]:
        """Number of columns and of rows."""
        return int(self.values["Columns"]), int(self.values["Rows"])

    def numbers(self, keyword: str, count: int) -> np.ndarray | None:
        """Return a tag's finite numbers; None where it is absent or holds something else, or another count."""
        return numbers(self.values.get(keyword), count)

    def text(self, keyword: str) -> str:
        """Return a tag as one line of text, empty where it is absent; equal numbers give equal texts."""
        value = self.values.get(keyword)
        texts = (f"{item:g}" if isinstance(item, float) else str(item) for item in _items(value))
        return "" if value is None else re.sub(r"[\s\x00-\x1f\x7f]+", " ", "\\".join(texts)).strip()


def _placeless(item: Slice, keyword: str) -> InputError:
    return InputError(f"does not say where its slices are: {item.name} has no sound {keyword}; {ORIGINALS}.")


def numbers(value: Any, count: int) -> np.ndarray | None:
    """Return a tag's value as finite numbers; None where it holds something else, or another count."""
    try:
        found = np.array([float(item) for item in _items(value)])
    except (TypeError, ValueError):
        return None
    return found if found.shape == (count,) and np.isfinite(found).all() else None


def _items(value: Any) -> Sequence[Any]:
    """Return what a tag holds as a sequence, also where it holds one thing."""
    return value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else [value]


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its content; its name does not count, and old files have no preamble.

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
    """Return the slices of a DICOM file, none where it holds no image: a report, a plan, a segmentation.

    Raises:
        InputError: it is cut off or damaged; the text goes on after the name of what was given.
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


def read_tags(path: Path, tags: list[str], *, stop_before_pixels: bool) -> FileDataset:
    """Return some tags of a file, also of one without preamble; what pydicom warns of does not reach the terminal.

    Raises:
        InputError: it is cut off or damaged.
    """
    try:
        with pydicom.config.disable_value_validation(), warnings.catch_warnings(record=True):
            dataset = pydicom.dcmread(path, stop_before_pixels=stop_before_pixels, force=True, specific_tags=tags)
            for _ in (*dataset.file_meta, *dataset.iterall()):  # pydicom converts a value when it is looked at
                pass
    except UNREADABLE as error:
        raise damaged(path) from error
    return dataset


def damaged(path: Path) -> InputError:
    """Return the error for a file that cannot be read in full."""
    return InputError(f"holds '{path.name}', which is damaged or incomplete; copy it again.")


def storage_class(path: Path) -> str:
    """Return the name of what a DICOM file stores, such as "MR Image Storage"."""
    return _storage_class(read_tags(path, ["SOPClassUID"], stop_before_pixels=True))


def as_uid(value: Any) -> UID:
    """Return a tag's value as an identifier, without a warning where it is none."""
    return UID(str(value), pydicom.config.IGNORE)


def _storage_class(dataset: FileDataset) -> str:
    """Return the name of what a file stores; empty where its two statements about it differ, as in damaged files."""
    uid = dataset.file_meta.get("MediaStorageSOPClassUID")
    return as_uid(uid).name if uid and uid in (dataset.get("SOPClassUID"), MediaStorageDirectoryStorage) else ""


def _holds_volume(dataset: FileDataset, path: Path) -> bool:
    """Whether it has pixels of intensities; damaged where its class promises them and they are not there."""
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
    return {element.keyword: element.value for element in dataset if element.keyword not in (_FRAMES, _SHARED)}


def _flat(group: Dataset) -> dict[str, Any]:
    """Return the tags of all public functional groups of a frame; vendors repeat tags in groups of their own."""
    return {
        element.keyword: element.value
        for macro in group
        if macro.VR == "SQ" and not macro.tag.is_private and macro.value
        for element in macro.value[0]
    }


def _positions_of_frames(top: Mapping[str, Any], frames: int) -> list[dict[str, Any]]:
    """Return what is known of each frame where there are no functional groups.

    Several frames have places of their own only in an axial radiotherapy dose, relative to the first
    (DICOM PS3.3, C.8.8.3.2); elsewhere the file's one position is not taken for all.
    """
    if frames == 1:
        return [{}]
    position, offsets = numbers(top.get("ImagePositionPatient"), 3), numbers(top.get("GridFrameOffsetVector"), frames)
    axial = numbers(top.get("ImageOrientationPatient"), 6)
    if position is None or offsets is None or axial is None or offsets[0] != 0 or axial.tolist() != _AXIAL:
        return [{"ImagePositionPatient": None}] * frames
    return [{"ImagePositionPatient": [*position[:2], position[2] + offset]} for offset in offsets]
