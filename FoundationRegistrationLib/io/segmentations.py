"""Label maps and segmentations, with what 3D Slicer's `.seg.nrrd` keeps of each segment.

A `.seg.nrrd` is an NRRD file of label values. Names, colours and terminology stand in its fields `SegmentN_...`.
Segments that overlap lie in several layers, each a component of every voxel; older versions of Slicer gave every
segment a layer of its own. Slicer writes no more voxels than the segments need, so that the file covers a part of
the volume it was drawn on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..geometry import check_grid
from .volumes import header_fields, read_labels, read_volume, write_volume_directly

SEGMENTATION_ENDING = ".seg.nrrd"
_SEGMENT_FIELD = re.compile(r"Segment(\d+)_(\w+)")
_FILE_FIELDS = "Segmentation_"
_GEOMETRY_PARAMETER = "Reference image geometry"
_ON_THE_LATTICE = 0.01  # voxels
_MOST_LABELS = 500
_VALUES_LOOKED_AT = 1_000_000
_WHOLE = (sitk.sitkUInt8, sitk.sitkInt8, sitk.sitkUInt16, sitk.sitkInt16, sitk.sitkUInt32, sitk.sitkInt32)


@dataclass(frozen=True)
class Segment:
    """One structure of a segmentation.

    Attributes:
        layer: the layer it lies in.
        label: its value there.
        fields: what else the file says of it, such as "Name", "Color" and "Tags" (terminology), as it stands there.
    """

    layer: int
    label: int
    fields: Mapping[str, str]

    @property
    def name(self) -> str:
        """Its name for people; empty if it has none."""
        return self.fields.get("Name", "")


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A label map, or several that overlap.

    Attributes:
        layers: label maps on one grid, 0 where there is nothing.
        segments: the structures that the file describes; none for a plain label map.
        fields: what the file says of all of them, as it stands there.
    """

    layers: tuple[sitk.Image, ...]
    segments: tuple[Segment, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def overlaps(self) -> bool:
        """Whether it takes more than one layer."""
        return len(self.layers) > 1

    def label_map(self) -> sitk.Image:
        """Return it as one label map; where layers overlap, as a mask of 0 and 1."""
        if not self.overlaps:
            return self.layers[0]
        return sitk.Cast(sitk.NaryMaximum(*(layer != 0 for layer in self.layers)), sitk.sitkUInt8)

    def name_of(self, layer: int, label: int) -> str:
        """Return what a structure is called in messages."""
        for segment in self.segments:
            if (segment.layer, segment.label) == (layer, label) and segment.name:
                return f"segment '{segment.name}'"
        return f"label {label}"

    def on_grid_of(self, volume: sitk.Image, role: str, messages: list[str]) -> Segmentation:
        """Return it with all voxels of the volume it was drawn on, of which Slicer writes a part only.

        Without segments, and on a lattice of its own, it is returned as it is.

        Args:
            volume: gives the grid.
            role: its name in messages.
            messages: take what the user must know.
        """
        if not self.segments or not _same_lattice(self.layers[0], volume):
            return self
        identity = sitk.TranslationTransform(3)
        placed = tuple(sitk.Resample(layer, volume, identity, sitk.sitkNearestNeighbor, 0) for layer in self.layers)
        for layer, whole in zip(self.layers, placed, strict=True):
            lost = _voxels(layer) - _voxels(whole)
            if lost:
                messages.append(f"{lost} voxels of the {role} lie outside of its volume and are left out.")
        return replace(self, layers=placed)


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


def _same_lattice(one: sitk.Image, other: sitk.Image) -> bool:
    """Whether the voxels of two images coincide where both have some."""
    corners = [(0, 0, 0), *np.diag(np.array(one.GetSize()) - 1).tolist()]
    indices = [other.TransformPhysicalPointToContinuousIndex(one.TransformIndexToPhysicalPoint(c)) for c in corners]
    steps = np.subtract(indices, corners)
    return bool(np.abs(steps - np.round(steps[0])).max() <= _ON_THE_LATTICE)


def _voxels(labels: sitk.Image) -> int:
    return int(np.count_nonzero(sitk.GetArrayViewFromImage(labels)))


@dataclass(frozen=True, eq=False)
class PairedLabels:
    """The structures of two segmentations that belong together.

    Attributes:
        fixed: in fixed space.
        moving: in moving space.
        values: one label for each name; none where structures are paired by the values they have.
    """

    fixed: Segmentation
    moving: Segmentation
    values: Mapping[str, int]

    @property
    def pairs(self) -> Iterator[tuple[sitk.Image, sitk.Image]]:
        """Label maps, fixed and moving, of all structures or, where segments overlap, of each of them."""
        if self.values and (self.fixed.overlaps or self.moving.overlaps):
            yield from (self._maps({name: value}) for name, value in self.values.items())
        else:
            yield self.drawn

    @property
    def drawn(self) -> tuple[sitk.Image, sitk.Image]:
        """One label map for each side, of which a later structure hides an earlier one."""
        return self._maps(self.values) if self.values else (self.fixed.layers[0], self.moving.layers[0])

    def _maps(self, values: Mapping[str, int]) -> tuple[sitk.Image, sitk.Image]:
        return _valued(self.fixed, values), _valued(self.moving, values)


def check_marked(segmentation: Segmentation, role: str) -> None:
    """Check that a label map marks something.

    Raises:
        InputError: it is empty.
    """
    if not any(_voxels(layer) for layer in segmentation.layers):
        msg = f"The {role} is empty; give one that marks a structure."
        raise InputError(msg)


def paired_labels(fixed: Segmentation, moving: Segmentation, messages: list[str]) -> PairedLabels:
    """Find the structures that belong together: by name if both files give names, else by label value.

    Args:
        fixed: in fixed space.
        moving: in moving space.
        messages: take what the user must know.

    Raises:
        InputError: a name is missing or occurs twice, none is shared, or segments overlap and one file has no names.
    """
    if fixed.segments and moving.segments:
        names = {side: _names(labels, side) for side, labels in (("fixed", fixed), ("moving", moving))}
        if not set(names["fixed"]) & set(names["moving"]):
            said = "; ".join(f"{side}: {', '.join(of_side)}" for side, of_side in names.items())
            msg = f"The two segmentations share no name ({said}); give a structure the same name in both."
            raise InputError(msg)
        return PairedLabels(fixed, moving, _values([*names["fixed"], *names["moving"]], fixed))
    for side, segmentation in (("fixed", fixed), ("moving", moving)):
        if segmentation.overlaps:
            msg = (
                f"The segments of the {side} label map overlap, so that they are paired by name, and the other file "
                "has no names; give a .seg.nrrd for both."
            )
            raise InputError(msg)
    if fixed.segments or moving.segments:
        messages.append("Only one of the two label maps has names: structures are paired by their label values.")
    return PairedLabels(fixed, moving, {})


def _names(segmentation: Segmentation, side: str) -> list[str]:
    names: list[str] = []
    for segment in segmentation.segments:
        if not segment.name or segment.name in names:
            what = f"two segments named '{segment.name}'" if segment.name else "a segment without a name"
            msg = f"The {side} segmentation has {what}; give every segment a name of its own."
            raise InputError(msg)
        names.append(segment.name)
    return names


def _values(names: Sequence[str], fixed: Segmentation) -> dict[str, int]:
    """Return a label for each name: the fixed one's own where these tell the structures apart."""
    values = {} if fixed.overlaps else {segment.name: segment.label for segment in fixed.segments}
    for name in names:
        values.setdefault(name, 1 + max([0, *values.values()]))
    return values


def _valued(segmentation: Segmentation, values: Mapping[str, int]) -> sitk.Image:
    """Return a label map of the structures that are named, with these values."""
    array = np.zeros(segmentation.layers[0].GetSize()[::-1], np.int32)
    for segment in segmentation.segments:
        if segment.name in values:
            inside = sitk.GetArrayViewFromImage(segmentation.layers[segment.layer]) == segment.label
            array[inside] = values[segment.name]
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(segmentation.layers[0])
    return image
