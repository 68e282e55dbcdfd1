"""Segmentations: label maps with the names, colours and terminology of their segments, which may overlap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import SimpleITK as sitk

from ..errors import InputError

_ON_THE_GRID = 0.01  # voxels


@dataclass(frozen=True)
class Segment:
    """One structure of a segmentation.

    Attributes:
        layer: index of its layer.
        label: its value in that layer.
        fields: its other entries in the file, such as "Name", "Color" and "Tags" (terminology), as written.
    """

    layer: int
    label: int
    fields: Mapping[str, str]

    @property
    def name(self) -> str:
        """Its display name; empty if it has none."""
        return self.fields.get("Name", "")


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A label map, or several that overlap.

    Attributes:
        layers: label maps on one grid, 0 for background.
        segments: the structures that the file describes; none for a plain label map.
        fields: the entries of the file as a whole, as written.
    """

    layers: tuple[sitk.Image, ...]
    segments: tuple[Segment, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def overlaps(self) -> bool:
        """Whether it has more than one layer."""
        return len(self.layers) > 1

    def label_map(self) -> sitk.Image:
        """Return it as one label map; where layers overlap, as a mask of 0 and 1."""
        if not self.overlaps:
            return self.layers[0]
        return sitk.Cast(sitk.NaryMaximum(*(layer != 0 for layer in self.layers)), sitk.sitkUInt8)

    def masks(self) -> dict[str, sitk.Image]:
        """Return the mask, uint8, of each segment by name."""
        return {segment.name: self.layers[segment.layer] == segment.label for segment in self.segments}

    def name_of(self, layer: int, label: int) -> str:
        """Return the name of a structure in messages."""
        for segment in self.segments:
            if (segment.layer, segment.label) == (layer, label) and segment.name:
                return f"segment '{segment.name}'"
        return f"label {label}"

    def on_grid_of(self, volume: sitk.Image, role: str, messages: list[str]) -> Segmentation:
        """Return it on the full grid of the volume it was drawn on; Slicer writes a cropped one.

        Without segments, or on a grid of its own, it is returned unchanged.

        Args:
            volume: gives the grid.
            role: its name in messages.
            messages: warnings are appended.
        """
        if not self.segments or not _same_grid(self.layers[0], volume):
            return self
        identity = sitk.TranslationTransform(3)
        placed = tuple(sitk.Resample(layer, volume, identity, sitk.sitkNearestNeighbor, 0) for layer in self.layers)
        for layer, whole in zip(self.layers, placed, strict=True):
            lost = _voxels(layer) - _voxels(whole)
            if lost:
                messages.append(f"{lost} voxels of the {role} lie outside its volume and are discarded.")
        return replace(self, layers=placed)


def _same_grid(one: sitk.Image, other: sitk.Image) -> bool:
    """Whether the voxels of two images coincide where the images overlap."""
    corners = [(0, 0, 0), *np.diag(np.array(one.GetSize()) - 1).tolist()]
    indices = [other.TransformPhysicalPointToContinuousIndex(one.TransformIndexToPhysicalPoint(c)) for c in corners]
    steps = np.subtract(indices, corners)
    return bool(np.abs(steps - np.round(steps[0])).max() <= _ON_THE_GRID)


def _voxels(labels: sitk.Image) -> int:
    return int(np.count_nonzero(sitk.GetArrayViewFromImage(labels)))


def check_marked(segmentation: Segmentation, role: str) -> None:
    """Check that a label map marks something.

    Raises:
        InputError: it is empty.
    """
    if not any(_voxels(layer) for layer in segmentation.layers):
        msg = f"The {role} is empty; give one that marks a structure."
        raise InputError(msg)
