"""Segmentations resampled to the fixed volume, with names, colours and terminology of their segments."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

from .grids import VoxelGrid, grid_of, image_from_array, matrix_of
from .masks import BINARY_LABELMAP, CLOSED_SURFACE, label_layers
from .resampling import resample_labels


def carried_segmentation(node: Any, fixed_node: Any, to_fixed: vtk.vtkAbstractTransform) -> Any:
    """Return a segmentation, in no scene yet, in the coordinates of the fixed volume.

    Segments with a surface as source stay surfaces and are transformed point by point. All others become label maps
    on the voxels of the fixed volume, resampled in one step; hardening in Slicer resamples on a grid that can crop
    segments, and with jagged edges.

    Args:
        node: a segmentation node.
        fixed_node: the fixed volume.
        to_fixed: from the coordinates of `node` to those of `fixed_node`.
    """
    copy = slicer.vtkMRMLSegmentationNode()
    copy.SetReferenceImageGeometryParameterFromVolumeNode(fixed_node)
    source = node.GetSegmentation()
    surfaces = source.GetSourceRepresentationName() == CLOSED_SURFACE
    copy.GetSegmentation().SetSourceRepresentationName(CLOSED_SURFACE if surfaces else BINARY_LABELMAP)
    made = _surfaces(source, to_fixed) if surfaces else _labelmaps(node, grid_of(fixed_node), to_fixed)
    for segment_id in source.GetSegmentIDs():
        segment = slicer.vtkSegment()
        segment.DeepCopyMetadata(source.GetSegment(segment_id))
        representation, label = made.get(segment_id, (None, 1))
        if representation is None:  # an empty segment stays empty
            representation = vtk.vtkPolyData() if surfaces else slicer.vtkOrientedImageData()
        segment.SetLabelValue(label)
        segment.AddRepresentation(CLOSED_SURFACE if surfaces else BINARY_LABELMAP, representation)
        copy.GetSegmentation().AddSegment(segment, segment_id)
    return copy


def _surfaces(segmentation: Any, transform: vtk.vtkAbstractTransform) -> dict[str, tuple[Any, int]]:
    made = {}
    for segment_id in segmentation.GetSegmentIDs():
        surface = segmentation.GetSegment(segment_id).GetRepresentation(CLOSED_SURFACE)
        if surface is not None and surface.GetNumberOfPoints():
            mover = vtk.vtkTransformPolyDataFilter()
            mover.SetInputData(surface)
            mover.SetTransform(transform)
            mover.Update()
            made[segment_id] = (mover.GetOutput(), 1)
    return made


def _labelmaps(node: Any, target: VoxelGrid, to_fixed: vtk.vtkAbstractTransform) -> dict[str, tuple[Any, int]]:
    """Return the image and the label of each segment; segments that do not overlap share an image."""
    made = {}
    for layer in label_layers(node):
        labels = resample_labels(layer.labels, layer.grid, target, to_fixed.GetInverse())
        image = _oriented_image(labels, target)
        for label, segment_id in layer.segment_ids.items():
            made[segment_id] = (image, label)
    return made


def _oriented_image(labels: np.ndarray, grid: VoxelGrid) -> Any:
    image = slicer.vtkOrientedImageData()
    image.ShallowCopy(image_from_array(labels))
    image.SetImageToWorldMatrix(matrix_of(grid.ijk_to_ras))
    return image
