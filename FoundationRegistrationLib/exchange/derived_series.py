"""A warped volume, or all frames of a series, as a derived DICOM series on the slices of the reference.

The images belong to the patient and the study of the reference, in whose frame of reference they lie. What describes
the acquisition stays that of the moving series, with its dates and times: the age of the images is seen, and the
decay correction of a PET stays right, as do the weight and height from which SUV is computed.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, MRImageStorage, PositronEmissionTomographyImageStorage

from .. import __version__
from ..errors import InputError
from ..io.dicom import DicomSeries
from ..io.dicom.suv import SUV_BODY_WEIGHT
from ..io.units import units_of
from ..spatial.points import index_to_points, positions_in
from ..spatial.warping import displacement_on_grid_of
from .decimals import decimal
from .dicom_objects import (
    NAME,
    check_can_be_referred_to,
    code,
    decoded,
    frame_of_reference,
    new_object,
    new_uid,
    references,
    set_patient_and_study,
    write_object,
)

# Third value of the image type where the source has none.
_IMAGE_TYPES: dict[str, list[str]] = {
    MRImageStorage: ["OTHER"],
    CTImageStorage: ["AXIAL"],
    PositronEmissionTomographyImageStorage: [],
}
# Tags of the moving series that are no longer true: of its pixels and planes, of its study and of its processing.
_NOT_KEPT = {
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceLocation", "SpacingBetweenSlices"),
    *("PixelAspectRatio", "GantryDetectorTilt", "ReconstructionDiameter", "ReconstructionTargetCenterPatient"),
    *("DataCollectionCenterPatient", "PositionReferenceIndicator", "PatientPosition", "PatientOrientation"),
    *("PatientOrientationCodeSequence", "PatientGantryRelationshipCodeSequence"),
    *("SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("SmallestPixelValueInSeries", "LargestPixelValueInSeries", "RescaleSlope", "RescaleIntercept"),
    *(
        "VOILUTSequence",
        "RealWorldValueMappingSequence",
        "IconImageSequence",
        "ImagesInAcquisition",
        "NumberOfSlices",
        "ImageIndex",
    ),
    *("ReferencedImageSequence", "SourceImageSequence", "DerivationDescription", "DerivationCodeSequence"),
    *("ReferencedSeriesSequence", "RequestAttributesSequence", "ReferencedPerformedProcedureStepSequence"),
    *("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime", "PerformedProcedureStepID"),
    *("PerformedProcedureStepDescription", "PerformedProtocolCodeSequence", "OriginalAttributesSequence"),
    *("DigitalSignaturesSequence", "MACParametersSequence", "InstanceCreatorUID", "ContributingEquipmentSequence"),
}
# Tags that may differ between slices but must be there; those of the slice acquired first are taken.
_OF_FIRST = {
    *("AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "AcquisitionNumber"),
    *("FrameReferenceTime", "ActualFrameDuration", "DecayFactor"),
}
# How values are displayed, in their units.
_WINDOW = ("WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction")
_OVERLAYS_AND_CURVES = {*range(0x6000, 0x6100, 2), *range(0x5000, 0x5100, 2)}
_POINTS_PER_AXIS = 24  # at which the slices that a slice shows are looked up
_LONGEST_TEXT = 64  # of a DICOM LO
_SERIES_NUMBERS_FROM = 9000


def check_can_derive(moving: DicomSeries, reference: DicomSeries) -> None:
    """Check that a warped volume can be written as a series derived from `moving`.

    Raises:
        InputError: it is not a classic CT, MR or PET series, the reference has no frame of reference, or one of them
            lacks another UID.
    """
    frame_of_reference(reference, "reference")
    check_can_be_referred_to(moving, "given")
    if moving.text("SOPClassUID") not in _IMAGE_TYPES:
        what = getattr(moving.headers[0].get("SOPClassUID"), "name", "another kind of image")
        msg = (
            f"A derived DICOM series can be made of CT, MR or PET images with one slice a file, not of '{what}'; "
            "write the volume with --output instead."
        )
        raise InputError(msg)


@dataclass(frozen=True, eq=False)
class WarpedVolume:
    """A volume on the grid of the reference.

    Attributes:
        image: its values.
        transform: by which it was warped: maps points of the reference to points of the moving series, LPS mm.
        moving: the series that was warped: CT, MR or PET, see `check_can_derive`.
        is_registered: whether the transform was found by a registration; otherwise the volume is as it was acquired.
    """

    image: sitk.Image
    transform: sitk.Transform
    moving: DicomSeries
    is_registered: bool = True


def write_derived_series(
    volumes: Sequence[WarpedVolume],
    reference: DicomSeries,
    folder: Path,
    times_s: Sequence[float] | None = None,
) -> None:
    """Write volumes as one derived series, a file a slice, directly into a folder; for staging folders.

    Args:
        volumes: the warped volume, or all frames of a dynamic series in the order of time.
        reference: gives patient, study and frame of reference.
        folder: an empty folder.
        times_s: time of each frame, s; None if not known, or for a single volume.
    """
    uid, last, made = new_uid(), 0, datetime.datetime.now()
    for place, volume in enumerate(volumes, start=1):
        content = _series_tags(volume, reference)
        content.SeriesInstanceUID = uid
        if len(volumes) > 1:
            content.TemporalPositionIdentifier, content.NumberOfTemporalPositions = place, len(volumes)
        if times_s is not None:
            content.TemporalPositionTimeOffset = float(times_s[place - 1])
        last = _write_slices(volume, content, folder, last, made)


def _write_slices(volume: WarpedVolume, content: Dataset, folder: Path, last: int, made: datetime.datetime) -> int:
    """Write the slices of a volume with the tags that they share; number them on from `last`, return the last."""
    warped, moving = volume.image, volume.moving
    stored, slope, intercept = stored_values(sitk.GetArrayFromImage(warped))
    _describe_pixels(content, stored, slope, intercept)
    _describe_grid(content, warped)
    _describe_units(content, units_of(warped))
    is_pet = moving.text("SOPClassUID") == PositronEmissionTomographyImageStorage
    for index, (plane, used) in enumerate(zip(stored, _slices_used(warped, volume.transform, moving), strict=True)):
        image = new_object(moving.text("SOPClassUID"), content, made)
        image.SourceImageSequence = references(moving.headers[used])
        for item in image.SourceImageSequence:
            item.PurposeOfReferenceCodeSequence = [code(codes.DCM.SourceImageForImageProcessingOperation)]
        position = warped.TransformIndexToPhysicalPoint((0, 0, index))
        image.ImagePositionPatient = [decimal(value) for value in position]
        number = image.InstanceNumber = last + index + 1
        if is_pet:
            image.NumberOfSlices, image.ImageIndex = len(stored), number
        image.PixelData = plane.tobytes() + bytes(plane.nbytes % 2)
        write_object(image, folder / f"{number:04d}.dcm")
    return last + len(stored)


def stored_values(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return values as 16-bit integers with the slope and the intercept that bring them back.

    Whole numbers that fit are stored as they are; others are scaled by one slope, with intercept 0 as in a PET.
    """
    low, high = float(values.min()), float(values.max())
    if np.issubdtype(values.dtype, np.integer):
        for kind in (np.int16, np.uint16):
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return values.astype(f"<{np.dtype(kind).str[1:]}"), 1.0, 0.0
    slope = float(decimal(max(abs(low), abs(high), np.finfo(np.float32).tiny) / (np.iinfo(np.int16).max - 1)))
    return np.rint(values / slope).astype("<i2"), slope, 0.0


def _slices_used(warped: sitk.Image, transform: sitk.Transform, moving: DicomSeries) -> list[slice]:
    """Return for each slice the slices of the moving series that it shows, with one more on both sides."""
    steps = [max(1, size // _POINTS_PER_AXIS) for size in warped.GetSize()[:2]]
    grid = sitk.Shrink(warped, [*steps, 1])
    displacement = sitk.GetArrayFromImage(displacement_on_grid_of(grid, transform))
    points = positions_in(grid).swapaxes(0, 2) + displacement
    to_index = np.linalg.inv(index_to_points(moving.grid))
    place = points @ to_index[2, :3] + to_index[2, 3]
    last = len(moving.headers) - 1
    first = np.clip(np.floor(place.min((1, 2))) - 1, 0, last).astype(int)
    end = np.clip(np.ceil(place.max((1, 2))) + 1, 0, last).astype(int) + 1
    return [slice(*ends) for ends in zip(first.tolist(), end.tolist(), strict=True)]


def _series_tags(volume: WarpedVolume, reference: DicomSeries) -> Dataset:
    """Return the tags that all slices of a volume share."""
    moving = volume.moving
    content = _common_tags(moving)
    set_patient_and_study(content, reference)
    kind = [str(value) for value in content.get("ImageType", [])][2:]
    is_pet = content.Modality == "PT"  # every PET image is PRIMARY, see DICOM PS3.3, C.8.9.4.1.3
    content.ImageType = [
        "DERIVED",
        "PRIMARY" if is_pet else "SECONDARY",
        *(kind or _IMAGE_TYPES[content.SOPClassUID]),
    ]
    content.SeriesNumber = _SERIES_NUMBERS_FROM + int(content.get("SeriesNumber") or 0)
    name = moving.text("SeriesDescription") or moving.text("Modality")
    content.SeriesDescription = f"{name} registered to {reference.text('SeriesDescription')}".strip()[:_LONGEST_TEXT]
    content.FrameOfReferenceUID = frame_of_reference(reference, "reference")
    of_reference = decoded(reference.headers[0])
    content.PositionReferenceIndicator = of_reference.get("PositionReferenceIndicator") or ""
    if is_pet:  # describes the position by these instead
        content.PatientOrientationCodeSequence = content.PatientGantryRelationshipCodeSequence = []
    else:
        content.PatientPosition = of_reference.get("PatientPosition") or ""
    if volume.is_registered:
        content.DerivationDescription = f"Warped by {NAME} {__version__} onto the slices of the reference"
        content.DerivationCodeSequence = [code(codes.DCM.DeformedForRegistration)]
    else:
        content.DerivationDescription = f"As acquired: not moved by {NAME} {__version__}"
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [code(codes.DCM.ProcessingEquipment)]
    equipment.Manufacturer, equipment.SoftwareVersions = NAME, __version__
    content.ContributingEquipmentSequence = [equipment]
    return content


def _common_tags(series: DicomSeries) -> Dataset:
    """Return the tags that all slices of a series share, with decoded texts; private ones are left out."""
    headers = [decoded(header) for header in series.headers]
    first = min(headers, key=lambda header: (str(header.get("AcquisitionDate")), str(header.get("AcquisitionTime"))))
    result = Dataset()
    for element in first:
        if element.keyword in _NOT_KEPT or element.tag.group in _OVERLAYS_AND_CURVES:
            continue
        if element.keyword in _OF_FIRST or all(header.get(element.tag) == element for header in headers):
            result[element.tag] = element
    return result


def _describe_units(content: Dataset, units: str) -> None:
    """State the units of the values; a window in other units, or without centre or width, is left out."""
    has_window = "WindowCenter" in content and "WindowWidth" in content
    if units == SUV_BODY_WEIGHT:  # as a PET in Bq/ml or counts is read
        has_window = has_window and content.get("Units") == "GML"
        content.Units, content.SUVType = "GML", "BW"
    for keyword in () if has_window else _WINDOW:
        if keyword in content:
            delattr(content, keyword)


def _describe_pixels(content: Dataset, stored: np.ndarray, slope: float, intercept: float) -> None:
    is_inverted = content.get("PhotometricInterpretation") == "MONOCHROME1"  # as its values are, low ones are white
    content.SamplesPerPixel, content.PhotometricInterpretation = 1, "MONOCHROME1" if is_inverted else "MONOCHROME2"
    if "PresentationLUTShape" in content:
        content.PresentationLUTShape = "INVERSE" if is_inverted else "IDENTITY"
    content.Rows, content.Columns = stored.shape[1:]
    content.BitsAllocated, content.BitsStored, content.HighBit = 16, 16, 15
    content.PixelRepresentation = int(np.issubdtype(stored.dtype, np.signedinteger))
    if content.Modality != "MR" or slope != 1.0:  # MR images have no rescaling unless they need it
        content.RescaleSlope, content.RescaleIntercept = decimal(slope), decimal(intercept)
    if content.Modality == "MR" and slope != 1.0:
        content.RescaleType = content.get("RescaleType") or "US"


def _describe_grid(content: Dataset, grid: sitk.Image) -> None:
    x, y, z = grid.GetSpacing()
    axes = np.reshape(grid.GetDirection(), (3, 3)).T
    content.ImageOrientationPatient = [decimal(value) for value in axes[:2].ravel()]
    content.PixelSpacing = [decimal(y), decimal(x)]
    content.SliceThickness = decimal(z)
    if content.Modality == "MR":
        content.SpacingBetweenSlices = decimal(z)
