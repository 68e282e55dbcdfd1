"""Label maps and segmentations, with what 3D Slicer's `.seg.nrrd` keeps of each segment.

A `.seg.nrrd` is an NRRD file of label values. Names, colours and terminology stand in its fields `SegmentN_...`.
Segments that overlap lie in several layers, each a component of every voxel; older versions of Slicer gave every
segment a layer of its own. Slicer writes no more voxels than the segments need, so that the file covers a part of
the volume it was drawn on.
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
        messages: take what the user must know of the file.

    Raises:
        InputError: it cannot be read, or is no 3D image of whole numbers.
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
            msg = f"The {role} '{path}' has a segment in a layer that is not there; save it from Slicer again."
            raise InputError(msg)
    return Segmentation(tuple(layers), tuple(segments), file_fields)


def check_can_hold(path: Path, segmentation: Segmentation, messages: list[str]) -> None:
    """Check that a file can hold a segmentation; say what it cannot keep of it.

    Args:
        path: a `.seg.nrrd` file keeps all; any other image file holds the label values of a single layer.
        segmentation: what is to be written.
        messages: take the names that will be lost, with their label values.

    Raises:
        InputError: segments overlap and the file can hold one label map only.
    """
    if _keeps_segments(path):
        return
    if segmentation.overlaps:
        msg = f"The segments overlap, which '{path.name}' cannot hold; give an --output that ends with .seg.nrrd."
        raise InputError(msg)
    if segmentation.segments:
        named = ", ".join(f"{segment.label} = {segment.name}" for segment in segmentation.segments)
        messages.append(f"Names and colours of segments are kept in .seg.nrrd files only; here {named}.")


def write_segmentation_directly(segmentation: Segmentation, path: Path) -> None:
    """Write a segmentation where it is, as 3D Slicer reads it; for folders that are staged already.

    Args:
        segmentation: what a file of this name can hold, see `check_can_hold`.
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
    """Return the fields of each segment by its number, and those of the whole file; none of other files."""
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
            f"The {name} holds more than {_MOST_LABELS} different labels, as an image of intensities does: check "
            "that it is the right file."
        )


def _segment(number: int, fields: Mapping[str, str], layers: int) -> Segment:
    """Return a segment; a file of an older Slicer says neither layer nor value, and has a layer for each of them."""
    try:
        layer = int(fields.get("Layer", number if layers > 1 else 0))
        return Segment(layer, int(fields.get("LabelValue", 1)), fields)
    except ValueError as error:
        msg = f"Segment {number} says that its layer or value is no number ({error}); save it from Slicer again."
        raise InputError(msg) from error


def _text_fields(segmentation: Segmentation) -> dict[str, str]:
    """Return all fields as they stand in a file on the grid that the layers have now."""
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
    """Say in the header that the components are a list, as Slicer expects of layers; ITK writes a vector."""
    content = path.read_bytes()
    header, blank, voxels = content.partition(b"\n\n")
    header = re.sub(rb"(?m)^kinds: \S+ domain domain domain$", b"kinds: list domain domain domain", header)
    path.write_bytes(header + blank + voxels)
