"""Segmentations, single segments and label maps as arrays of labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from ..errors import BridgeError
from .grids import VoxelGrid, array_from_image, grid_of, grid_of_oriented_image, map_points
from .resampling import resample_labels
from .spaces import from_world, parent_without

BINARY_LABELMAP = "Binary labelmap"
CLOSED_SURFACE = "Closed surface"
_AROUND = 3  # voxels


@dataclass(frozen=True, eq=False)
class LabelLayer:
    """Segments that do not overlap, in one array.

    Attributes:
        labels: (k, j, i), 0 for background.
        grid: in the coordinates of the segmentation node.
        segment_ids: the segment ID of each label.
    """

    labels: np.ndarray
    grid: VoxelGrid
    segment_ids: dict[int, str]


def label_layers(node: Any, segment_ids: Sequence[str] | None = None) -> list[LabelLayer]:
    """Return the segments of a segmentation as label arrays; the node is unchanged.

    Args:
        node: a segmentation node, whatever its representations.
        segment_ids: the segments to return, all if None.

    Raises:
        BridgeError: the segments have neither voxels nor a surface.
    """
    segmentation = _with_labelmaps(node)
    wanted = set(segment_ids if segment_ids is not None else segmentation.GetSegmentIDs())
    layers = []
    for index in range(segmentation.GetNumberOfLayers(BINARY_LABELMAP)):
        image = segmentation.GetLayerDataObject(index, BINARY_LABELMAP)
        ids = [name for name in segmentation.GetSegmentIDsForLayer(index, BINARY_LABELMAP) if name in wanted]
        if image is None or image.IsEmpty() or not ids:
            continue
        by_label = {segmentation.GetSegment(name).GetLabelValue(): name for name in ids}
        labels = array_from_image(image)
        labels = np.where(np.isin(labels, list(by_label)), labels, 0)
        layers.append(LabelLayer(labels, grid_of_oriented_image(image), by_label))
    return layers


def _with_labelmaps(node: Any) -> Any:
    segmentation = node.GetSegmentation()
    if segmentation.GetNumberOfSegments() == 0 or segmentation.ContainsRepresentation(BINARY_LABELMAP):
        return segmentation
    copy = slicer.vtkSegmentation()
    copy.DeepCopy(segmentation)
    if not copy.CreateRepresentation(BINARY_LABELMAP):
        msg = f"The segmentation '{node.GetName()}' cannot be converted to a label map; check its segments."
        raise BridgeError(msg)
    return copy


def marks_nothing(mask: Any) -> bool:
    """Whether a mask, as `mask_on` takes it, has neither a marked voxel nor a surface; its segment must be there."""
    node, segment_ids = (mask[0], [mask[1]]) if isinstance(mask, tuple) else (mask, None)
    if not node.IsA("vtkMRMLSegmentationNode"):
        return not _holds(node.GetImageData(), None)
    segmentation = node.GetSegmentation()
    segments = [segmentation.GetSegment(name) for name in segment_ids or segmentation.GetSegmentIDs()]
    return not any(_is_drawn(segment) for segment in segments)


def _is_drawn(segment: Any) -> bool:
    labels = segment.GetRepresentation(BINARY_LABELMAP)
    if labels is not None:
        return not labels.IsEmpty() and _holds(labels, segment.GetLabelValue())
    surface = segment.GetRepresentation(CLOSED_SURFACE)
    return surface is not None and surface.GetNumberOfPoints() > 0


def _holds(image: Any, label: int | None) -> bool:
    """Whether an image has a voxel of a label, or any that is not 0; its range, which VTK keeps, mostly tells."""
    if image is None or image.GetPointData().GetScalars() is None or image.GetNumberOfPoints() == 0:
        return False
    least, most = image.GetScalarRange()
    if label is None:
        return least != 0 or most != 0
    return label in (least, most) or (least < label < most and bool(np.any(array_from_image(image) == label)))


def mask_on(mask: Any, grid: VoxelGrid, role: str, left_out: Any = None) -> np.ndarray:
    """Return a mask as a (k, j, i) array of 0 and 1 on a grid in the world.

    Args:
        mask: a segmentation node, a pair of such a node and a segment id, or a label map volume node.
        grid: of the volume that the mask belongs to, in the world.
        role: its name in messages, such as "fixed mask" or "moving lesion"; the first word is the side.
        left_out: a transform node to ignore above the mask, such as an earlier result.

    Raises:
        BridgeError: it is not a mask, or it is empty there.
    """
    node, segment_ids = (mask[0], [mask[1]]) if isinstance(mask, tuple) else (mask, None)
    if node.IsA("vtkMRMLSegmentationNode"):
        if segment_ids and node.GetSegmentation().GetSegment(segment_ids[0]) is None:
            msg = f"'{node.GetName()}' has no segment '{segment_ids[0]}'; choose another {role}."
            raise BridgeError(msg)
        layers = label_layers(node, segment_ids)
    elif node.IsA("vtkMRMLScalarVolumeNode") and node.GetImageData() is not None:
        layers = [LabelLayer(_marked(node, role), grid_of(node), {})]
    else:
        msg = f"'{node.GetName()}' is not a mask; choose a segmentation or a label map as the {role}."
        raise BridgeError(msg)
    found = union_on(layers, grid, from_world(parent_without(node, left_out)))
    if not found.any():
        msg = f"The {role} '{node.GetName()}' marks nothing within the {role.split()[0]} volume; choose another."
        raise BridgeError(msg)
    return found


def _marked(volume: Any, role: str) -> np.ndarray:
    """Return what a label map marks as (k, j, i) of 0 and 1.

    Raises:
        BridgeError: it holds fractions, NaN or numbers below 0, looks like an intensity image, or is empty.
    """
    import SimpleITK as sitk

    from FoundationRegistrationLib.errors import InputError
    from FoundationRegistrationLib.pipeline.preprocessing.masks import checked_mask

    image = sitk.GetImageFromArray(array_from_image(volume.GetImageData()))
    try:
        return sitk.GetArrayFromImage(checked_mask(image, image, role.removesuffix(" mask")))
    except InputError as error:
        msg = f"'{volume.GetName()}' is not a mask. {error}"
        raise BridgeError(msg) from error


def union_on(layers: Iterable[LabelLayer], grid: VoxelGrid, to_layers: vtk.vtkAbstractTransform) -> np.ndarray:
    """Return all that layers mark as one (k, j, i) array of 0 and 1 on another grid.

    Args:
        layers: in the coordinates of their node.
        grid: of the result.
        to_layers: from the coordinates of the grid to those of the node, RAS.
    """
    found = np.zeros(grid.dimensions[::-1], dtype=np.uint8)
    for layer in layers:
        # Only around the layer, which may be much smaller than the grid.
        indices = grid.indices(map_points(to_layers.GetInverse(), layer.grid.sample_points()))
        low = np.clip(np.floor(indices.min(0)).astype(int) - _AROUND, 0, grid.dimensions)
        high = np.clip(np.ceil(indices.max(0)).astype(int) + _AROUND, -1, np.array(grid.dimensions) - 1)
        if (low <= high).all():
            inside = (layer.labels != 0).astype(np.uint8)
            box = tuple(slice(start, stop + 1) for start, stop in zip(low[::-1], high[::-1], strict=True))
            found[box] |= resample_labels(inside, layer.grid, grid.extended(low, high), to_layers)
    return found
