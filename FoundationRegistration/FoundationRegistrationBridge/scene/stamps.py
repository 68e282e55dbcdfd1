"""Stamps of node content, to detect later changes."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from ..nodes.grids import array_of, map_points

_PROBES = np.array([[x, y, z] for x in (-90.0, 10.0, 70.0) for y in (-80.0, 20.0) for z in (-70.0, 30.0)])


def stamp_of(node: Any) -> tuple[Any, ...]:
    """Return a value that changes when a node is renamed, gets another parent, or its data are edited.

    Display properties and derived data are ignored.
    """
    return (node.GetName(), node.GetTransformNodeID(), *_content(node))


def voxels_stamp(image: vtk.vtkImageData | None) -> tuple[Any, ...]:
    """Return a value that changes with the voxels of an image, however they are written."""
    if image is None:
        return ()
    return (image.GetDimensions(), _sum(image.GetPointData().GetScalars()))


def labels_stamp(segmentation: Any) -> int:
    """Return a number that changes with the voxels of a segmentation's label maps, independent of their position."""
    source, seen, total = segmentation.GetSourceRepresentationName(), [], 0
    for segment_id in segmentation.GetSegmentIDs():
        image = segmentation.GetSegment(segment_id).GetRepresentation(source)
        if image is not None and image not in seen and image.GetPointData().GetScalars() is not None:
            seen.append(image)
            total = zlib.crc32(vtk_to_numpy(image.GetPointData().GetScalars()).tobytes(), total)
    return total


def _content(node: Any) -> tuple[Any, ...]:
    if node.IsA("vtkMRMLVolumeNode"):
        matrix = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(matrix)
        return (*voxels_stamp(node.GetImageData()), *array_of(matrix).ravel().tolist())
    if node.IsA("vtkMRMLSegmentationNode"):
        return tuple(_segments(node.GetSegmentation()))
    if node.IsA("vtkMRMLMarkupsNode"):
        numbers = range(node.GetNumberOfControlPoints())
        return tuple((node.GetNthControlPointLabel(n), *node.GetNthControlPointPosition(n)) for n in numbers)
    if node.IsA("vtkMRMLModelNode"):
        return (_sum(node.GetMesh().GetPoints().GetData()) if node.GetMesh() else None,)
    if node.IsA("vtkMRMLTransformNode"):
        return tuple(map_points(node.GetTransformToParent(), _PROBES).round(6).ravel().tolist())
    return ()


def _segments(segmentation: Any) -> list[tuple[Any, ...]]:
    source, rows = segmentation.GetSourceRepresentationName(), []
    for segment_id in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(segment_id)
        data = segment.GetRepresentation(source)
        content: tuple[Any, ...] = ()
        if data is not None and data.IsA("vtkOrientedImageData"):
            matrix = vtk.vtkMatrix4x4()
            data.GetImageToWorldMatrix(matrix)
            content = (data.GetExtent(), _sum(data.GetPointData().GetScalars()), *array_of(matrix).ravel().tolist())
        elif data is not None and data.GetNumberOfPoints():
            content = (_sum(data.GetPoints().GetData()),)
        rows.append((segment_id, segment.GetName(), segment.GetColor(), segment.GetLabelValue(), *content))
    return rows


def _sum(values: vtk.vtkDataArray | None) -> int | None:
    return None if values is None else zlib.crc32(np.ascontiguousarray(vtk_to_numpy(values)))
