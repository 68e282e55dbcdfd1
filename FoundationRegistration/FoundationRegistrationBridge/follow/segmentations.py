"""Segmentations resampled to the fixed volume, with names, colours and terminology of their segments."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

from ..nodes.grids import VoxelGrid, grid_of, image_from_array, matrix_of
from ..nodes.lattice import finer_grid
from ..nodes.masks import BINARY_LABELMAP, CLOSED_SURFACE, label_layers
from ..nodes.resampling import resample_labels

# Of Slicer's conversion of label maps into surfaces.
_SURFACE_PARAMETERS = (
    "Conversion method",
    "Decimation factor",
    "Joint smoothing",
    "Smoothing factor",
    "SurfaceNets smoothing",
)


def carried_segmentation(node: Any, fixed_node: Any, to_fixed: vtk.vtkAbstractTransform) -> Any:
    """Return a segmentation, in no scene yet, in the coordinates of the fixed volume.

    Segments with a surface as source stay surfaces and are transformed point by point. All others become label maps
    on the voxels of the fixed volume, resampled in one step; hardening in Slicer resamples on a grid that can crop
    segments, and with jagged edges. Where the voxels of the fixed volume are larger than those of the segments, they
    are divided, so that small lesions keep their volume. If the segmentation also has surfaces, for the 3D view, so
    does the copy.

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
    made = _surfaces(source, to_fixed) if surfaces else _labelmaps(node, copy, grid_of(fixed_node), to_fixed)
    for segment_id in source.GetSegmentIDs():
        segment = slicer.vtkSegment()
        segment.DeepCopyMetadata(source.GetSegment(segment_id))
        representation, label = made.get(segment_id, (None, 1))
        if representation is None:  # an empty segment stays empty
            representation = vtk.vtkPolyData() if surfaces else slicer.vtkOrientedImageData()
        segment.SetLabelValue(label)
        segment.AddRepresentation(CLOSED_SURFACE if surfaces else BINARY_LABELMAP, representation)
        copy.GetSegmentation().AddSegment(segment, segment_id)
    if not surfaces and source.ContainsRepresentation(CLOSED_SURFACE):
        for name in _SURFACE_PARAMETERS:
            if value := source.GetConversionParameter(name):
                copy.GetSegmentation().SetConversionParameter(name, value)
        copy.CreateClosedSurfaceRepresentation()
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


def volumes_of(node: Any) -> dict[str, float]:
    """Return the volume of each segment that is a label map, mm³ in the coordinates of the node, by segment ID."""
    if node.GetSegmentation().GetSourceRepresentationName() != BINARY_LABELMAP:
        return {}
    volumes = {}
    for layer in label_layers(node):
        voxel = abs(float(np.linalg.det(layer.grid.ijk_to_ras[:3, :3])))
        for label, segment_id in layer.segment_ids.items():
            volumes[segment_id] = voxel * int(np.count_nonzero(layer.labels == label))
    return volumes


def volumes_in_words(node: Any, carried: Any) -> list[str]:
    """Return the volume of each segment before and after it was resampled, one line each."""
    after, lines = volumes_of(carried), []
    for segment_id, volume in volumes_of(node).items():
        name, now = node.GetSegmentation().GetSegment(segment_id).GetName(), after.get(segment_id, 0.0)
        if volume > 0.0:
            digits, percent = 1 if volume < 100.0 else 0, 100.0 * (now / volume - 1.0)
            lines.append(
                f"'{name}' of '{node.GetName()}': {volume:.{digits}f} mm³ before, {now:.{digits}f} mm³ after "
                f"({percent:+.0f} %)."
            )
    return lines


def _labelmaps(
    node: Any, copy: Any, fixed: VoxelGrid, to_fixed: vtk.vtkAbstractTransform
) -> dict[str, tuple[Any, int]]:
    """Return the image and the label of each segment; segments that do not overlap share an image.

    If they get a finer lattice, it becomes that of the copy, so that editing a segment does not make it coarser.
    """
    made, layers = {}, label_layers(node)
    finer = finer_grid(layers, fixed, to_fixed)
    target, whole = finer or (fixed, fixed)
    if finer is not None:
        geometry = slicer.vtkOrientedImageData()
        geometry.SetExtent(*(end for count in whole.dimensions for end in (0, count - 1)))
        geometry.SetImageToWorldMatrix(matrix_of(whole.ijk_to_ras))
        converter = slicer.vtkSegmentationConverter
        copy.GetSegmentation().SetConversionParameter(
            converter.GetReferenceImageGeometryParameterName(), converter.SerializeImageGeometry(geometry)
        )
    for layer in layers:
        labels = resample_labels(layer.labels, layer.grid, target, to_fixed.GetInverse(), smooth=finer is None)
        image = _oriented_image(labels, target)
        for label, segment_id in layer.segment_ids.items():
            made[segment_id] = (image, label)
    return made


def _oriented_image(labels: np.ndarray, grid: VoxelGrid) -> Any:
    image = slicer.vtkOrientedImageData()
    image.ShallowCopy(image_from_array(labels))
    image.SetImageToWorldMatrix(matrix_of(grid.ijk_to_ras))
    return image
