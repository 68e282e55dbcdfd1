"""Label maps and segmentations, with what 3D Slicer's `.seg.nrrd` keeps of each segment.

A `.seg.nrrd` is an NRRD file of label values. Names, colours and terminology are in its `SegmentN_...` fields.
Overlapping segments are in separate layers, one component per layer; older versions of Slicer used a layer for every
segment. Slicer crops the file to the segments, so that it covers only part of the volume they were drawn on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..spatial.checks import check_grid
from .segmentations import Segment, Segmentation
from .volumes import header_fields, read_labels, read_volume, write_volume_directly

SEGMENTATION_ENDING = ".seg.nrrd"
_SEGMENT_FIELD = re.compile(r"Segment(\d+)_(\w+)")
_FILE_FIELDS = "Segmentation_"
_GEOMETRY_PARAMETER = "Reference image geometry"
_MOST_LABELS = 500
_VALUES_LOOKED_AT = 1_000_000
_WHOLE = (sitk.sitkUInt8, sitk.sitkInt8, sitk.sitkUInt16, sitk.sitkInt16, sitk.sitkUInt32, sitk.sitkInt32)


def read_segmentation(path: Path, role: str, messages: list[str]) -> Segmentation:
    """Read a label map, a mask or a segmentation of 3D Slicer.

    Args:
        path: any image of whole numbers, or a `.seg.nrrd` with segments in one or more layers.
        role: its name in error messages, such as "fixed label map".
        messages: warnings about the file are appended.

    Raises:
        InputError: it cannot be read, or is not a 3D image of whole numbers.
    """
    segment_fields, file_fields = _fields(path)
    if not segment_fields:
        labels = read_labels(path, role, messages)
        check_grid(labels, role)
        _say_if_many(labels, f"{role} '{path}'", messages)
        return Segmentation((labels,))
    image = read_volume(path, role, messages)
    components = image.GetNumberOfComponentsPerPixel()
    if image.GetDimension() == 3 and "vector" in image.GetPixelIDTypeAsString():
        layers = [sitk.VectorIndexSelectionCast(image, index) for index in range(components)]
    else:
        layers = [image]
    for layer in layers:
        check_grid(layer, role)
        if layer.GetPixelID() not in _WHOLE:
            msg = f"The {role} '{path}' does not hold whole numbers; save the segmentation from Slicer again."
            raise InputError(msg)
    segments = [_segment(number, fields, len(layers)) for number, fields in sorted(segment_fields.items())]
    for segment in segments:
        if not 0 <= segment.layer < len(layers):
            msg = f"The {role} '{path}' has a segment in a missing layer; save it from Slicer again."
            raise InputError(msg)
    return Segmentation(tuple(layers), tuple(segments), file_fields)


def check_can_hold(path: Path, segmentation: Segmentation, messages: list[str]) -> None:
    """Check that a file can hold a segmentation; warn of what it cannot keep.

    Args:
        path: a `.seg.nrrd` file keeps everything; other image files keep the label values of a single layer.
        segmentation: what is to be written.
        messages: names that will be lost are appended, with their label values.

    Raises:
        InputError: segments overlap and the file can hold only one label map.
    """
    if _keeps_segments(path):
        return
    if segmentation.overlaps:
        msg = f"The segments overlap, which '{path.name}' cannot hold; give an --output name that ends in .seg.nrrd."
        raise InputError(msg)
    if segmentation.segments:
        named = ", ".join(f"{segment.label} = {segment.name}" for segment in segmentation.segments)
        messages.append(f"Only .seg.nrrd files keep the names and colours of segments; here {named}.")


def write_segmentation_directly(segmentation: Segmentation, path: Path) -> None:
    """Write a segmentation directly to its path, in the form that 3D Slicer reads; for staging folders.

    Args:
        segmentation: must fit the file type, see `check_can_hold`.
        path: the file.

    Raises:
        OutputError: it cannot be written.
    """
    image = sitk.Compose(segmentation.layers) if segmentation.overlaps else sitk.Image(segmentation.layers[0])
    for key in image.GetMetaDataKeys():
        image.EraseMetaData(key)
    if _keeps_segments(path) and segmentation.segments:
        for key, value in _text_fields(segmentation).items():
            image.SetMetaData(key, value)
    write_volume_directly(image, path)
    if segmentation.overlaps:
        _name_the_list(path)


def _keeps_segments(path: Path) -> bool:
    return path.name.lower().endswith(SEGMENTATION_ENDING)


def _fields(path: Path) -> tuple[dict[int, dict[str, str]], dict[str, str]]:
    """Return the fields of each segment by number, and those of the whole file; none for other files."""
    if not path.name.lower().endswith((".nrrd", ".nhdr")):
        return {}, {}
    segments: dict[int, dict[str, str]] = {}
    others = {}
    for key, value in header_fields(path).items():
        if match := _SEGMENT_FIELD.fullmatch(key):
            segments.setdefault(int(match[1]), {})[match[2]] = value
        elif key.startswith(_FILE_FIELDS):
            others[key] = value
    return segments, others


def _say_if_many(labels: sitk.Image, name: str, messages: list[str]) -> None:
    values = sitk.GetArrayViewFromImage(labels).ravel()
    if len(np.unique(values[:: max(1, values.size // _VALUES_LOOKED_AT)])) > _MOST_LABELS:
        messages.append(
            f"The {name} holds more than {_MOST_LABELS} different labels, like an intensity image: check that it is "
            "the right file."
        )


def _segment(number: int, fields: Mapping[str, str], layers: int) -> Segment:
    """Return a segment; older Slicer files give neither layer nor value, and have one layer per segment."""
    try:
        layer = int(fields.get("Layer", number if layers > 1 else 0))
        return Segment(layer, int(fields.get("LabelValue", 1)), fields)
    except ValueError as error:
        msg = f"Segment {number} has a layer or value that is not a number ({error}); save it from Slicer again."
        raise InputError(msg) from error


def _text_fields(segmentation: Segmentation) -> dict[str, str]:
    """Return all fields for a file on the current grid of the layers."""
    extent = " ".join(f"0 {size - 1}" for size in segmentation.layers[0].GetSize())
    fields = dict(segmentation.fields)
    fields["Segmentation_ReferenceImageExtentOffset"] = "0 0 0"
    parameters = fields.get("Segmentation_ConversionParameters", "").split("&")
    fields["Segmentation_ConversionParameters"] = "&".join(
        f"{_GEOMETRY_PARAMETER}||" if parameter.startswith(_GEOMETRY_PARAMETER) else parameter
        for parameter in parameters
    )
    for number, segment in enumerate(segmentation.segments):
        own = {"LabelValue": str(segment.label), "Layer": str(segment.layer), "Extent": extent}
        fields |= {f"Segment{number}_{key}": value for key, value in {**segment.fields, **own}.items()}
    return fields


def _name_the_list(path: Path) -> None:
    """Declare the components a list in the header, as Slicer expects of layers; ITK writes a vector."""
    content = path.read_bytes()
    header, blank, voxels = content.partition(b"\n\n")
    header = re.sub(rb"(?m)^kinds: \S+ domain domain domain$", b"kinds: list domain domain domain", header)
    path.write_bytes(header + blank + voxels)
