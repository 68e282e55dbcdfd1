"""A warped segmentation as a DICOM segmentation on the slices of the reference, written by highdicom."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from .. import __version__
from ..errors import InputError
from ..io.dicom import DicomSeries
from ..io.segmentations import Segment, Segmentation
from .decimals import decimal
from .dicom_objects import (
    NAME,
    UTF8,
    frame_of_reference,
    new_uid,
    set_patient_and_study,
    without_patient_and_study,
)

_SERIES_NUMBER, _LABEL = 9000, "SEGMENTATION"
_LONGEST_NAME = 64  # of a DICOM LO, such as the meaning of a code
_CODE = re.compile(r"([^~^|]*)\^([^~^|]*)\^([^~^|]*)")
_TERMINOLOGY = re.compile(r"(?:^|\|)TerminologyEntry:[^~|]*~([^~|]*)~([^~|]*)~")


def check_can_write_segmentations(reference: DicomSeries) -> None:
    """Check that segmentations on the slices of a series can be written.

    Raises:
        InputError: the package highdicom is missing, or the series has no frame of reference.
    """
    frame_of_reference(reference, "reference")
    _highdicom()


def segmentation_object(segmentation: Segmentation, reference: DicomSeries) -> Dataset:
    """Return a segmentation as a DICOM object in the patient and study of a series.

    Names, colours and terminology of the segments are kept; a segment without terminology is "Tissue".

    Args:
        segmentation: on the grid of the series; its segments may overlap.
        reference: the series on whose slices it lies.

    Raises:
        InputError: see `check_can_write_segmentations`.
    """
    highdicom = _highdicom()
    segments = segmentation.segments or tuple(_plain_segments(segmentation))
    arrays = [sitk.GetArrayViewFromImage(layer) for layer in segmentation.layers]
    masks = np.stack([arrays[segment.layer] == segment.label for segment in segments], axis=-1).astype(np.uint8)
    sources = [without_patient_and_study(header) for header in reference.headers]
    for source in sources:  # may be empty in a file, but not for highdicom
        source.SliceThickness = source.get("SliceThickness") or decimal(reference.grid.GetSpacing()[2])
    if len(sources) == 1:  # frames of one file, in their order in the file
        masks = masks[np.argsort(reference.frames)]
    result = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=masks,
        segmentation_type="BINARY",
        segment_descriptions=[_description(highdicom, *item) for item in enumerate(segments, start=1)],
        series_instance_uid=new_uid(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=new_uid(),
        instance_number=1,
        manufacturer=NAME,
        manufacturer_model_name=NAME,
        software_versions=__version__,
        device_serial_number="0",
        series_description="Segmentation warped by a registration",
        content_label=_LABEL,
        specific_character_set=UTF8,
    )
    set_patient_and_study(result, reference)
    return result


def _highdicom() -> ModuleType:
    try:
        import highdicom.seg
    except ImportError as error:
        msg = (
            "DICOM segmentations need the package highdicom: pip install 'FoundationRegistration[dicom]'; or write a "
            ".seg.nrrd file with --output."
        )
        raise InputError(msg) from error
    return highdicom


def _plain_segments(segmentation: Segmentation) -> list[Segment]:
    """Return the labels of a label map as segments without a description."""
    return [
        Segment(number, int(label), {"Name": f"Label {label}"})
        for number, layer in enumerate(segmentation.layers)
        for label in np.unique(sitk.GetArrayViewFromImage(layer))
        if label
    ]


def _description(highdicom: ModuleType, number: int, segment: Segment) -> Any:
    category, kind = _terminology(segment)
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=(segment.name or f"Label {segment.label}")[:_LONGEST_NAME],
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type="SEMIAUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=f"{NAME}: warped from another image", family=codes.cid7162.DeformableModels, version=__version__
        ),
        display_color=_colour(highdicom, segment),
    )


def _terminology(segment: Segment) -> tuple[Code, Code]:
    """Return category and type of a segment, from the entry that 3D Slicer keeps in its tags."""
    entry = _TERMINOLOGY.search(segment.fields.get("Tags", ""))
    found = [_CODE.fullmatch(part) for part in entry.groups()] if entry else []
    parts = [match.groups() for match in found if match is not None and all(match.groups())]
    coded = [Code(value, scheme, meaning[:_LONGEST_NAME]) for scheme, value, meaning in parts]
    tissue = Code("85756007", "SCT", "Tissue")
    return (coded[0], coded[1]) if len(coded) == 2 else (tissue, tissue)


def _colour(highdicom: ModuleType, segment: Segment) -> Any:
    """Return the display colour of a segment; None if it has none."""
    parts = segment.fields.get("Color", "").split()
    if len(parts) != 3:
        return None
    try:
        red, green, blue = (round(255 * min(1.0, max(0.0, float(part)))) for part in parts)
    except ValueError:
        return None
    return highdicom.color.CIELabColor.from_rgb(red, green, blue)
