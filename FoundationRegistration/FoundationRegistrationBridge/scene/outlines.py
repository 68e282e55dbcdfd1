"""Outlines of node data, stored as text, to detect later whether a transform was hardened."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from ..nodes.grids import VoxelGrid, grid_of, grid_of_oriented_image, map_points
from ..nodes.spaces import linear_matrix
from .stamps import labels_stamp

_EXACT_MM = 1e-2
_SAME_AXES_MM = 1e-4
_WHOLE_VOXEL = 1e-2
# Slicer enlarges a hardened image to its bounding box, with its own rounding.
_BOX_VOXELS = 1.5
_MOST_POINTS = 32
_STEPS = 9


class Fit(Enum):
    """The current position of a node's data, compared with the earlier one."""

    SAME = "unchanged"
    MOVED = "moved by the transform"
    OTHER = "elsewhere"


@dataclass(frozen=True, eq=False)
class Outline:
    """The position of data in the coordinates of their node, RAS mm.

    Attributes:
        grid: of an image; None for point data.
        points: (N, 3); of an image, out to the faces of its outer voxels.
        labels: stamp of label maps, which may be hardened onto the same grid; differs after editing or hardening.
    """

    grid: VoxelGrid | None
    points: np.ndarray
    labels: int | None = None

    @classmethod
    def of(cls, node: Any) -> Outline | None:
        """Return the outline of a node's data, None if it has none."""
        if node.IsA("vtkMRMLVolumeNode"):
            return cls.of_image(grid_of(node)) if node.GetImageData() is not None else None
        if node.IsA("vtkMRMLSegmentationNode"):
            return cls._of_segmentation(node.GetSegmentation())
        if node.IsA("vtkMRMLMarkupsNode"):
            count = min(node.GetNumberOfControlPoints(), _MOST_POINTS)
            return cls._of_points(np.array([node.GetNthControlPointPosition(number) for number in range(count)]))
        if node.IsA("vtkMRMLModelNode") and node.GetMesh() is not None and node.GetMesh().GetNumberOfPoints():
            return cls._of_points(vtk_to_numpy(node.GetMesh().GetPoints().GetData()))
        return None

    @classmethod
    def of_image(cls, grid: VoxelGrid) -> Outline:
        """Return the outline of an image on a grid."""
        return cls(grid, grid.sample_points(_STEPS))

    @classmethod
    def from_text(cls, text: str) -> Outline:
        """Return the outline that `as_text` wrote."""
        kept = json.loads(text)
        if "matrix" in kept:
            grid = VoxelGrid(tuple(kept["dimensions"]), np.array(kept["matrix"]))
            return cls(grid, grid.sample_points(_STEPS), kept["labels"])
        return cls(None, np.array(kept["points"]))

    def as_text(self) -> str:
        """Return it as JSON."""
        if self.grid is not None:
            kept = {"dimensions": list(self.grid.dimensions), "matrix": self.grid.ijk_to_ras.tolist()}
            return json.dumps({**kept, "labels": self.labels})
        return json.dumps({"points": self.points.tolist()})

    def mapped(self, transform: vtk.vtkAbstractTransform) -> Outline:
        """Return this outline transformed; for an image under a nonlinear transform, as single points."""
        matrix = linear_matrix(transform)
        if self.grid is not None and matrix is not None:
            return Outline.of_image(self.grid.moved(matrix))
        return Outline(None, map_points(transform, self.points))

    def fit(self, now: Outline | None, transform: vtk.vtkAbstractTransform) -> Fit:
        """Compare with the current outline: unchanged, moved by a transform, or neither.

        Single points may have been added, removed or edited, and an image cropped; the majority decides.
        """
        if now is None or (self.grid is None) != (now.grid is None):
            return Fit.OTHER
        image = self.grid is not None
        if self.labels == now.labels and (
            _mostly_equal(self.points, now.points, whole=image) or self._is_cropped_to(now)
        ):
            return Fit.SAME
        moved = map_points(transform, self.points)
        if self.labels == now.labels and _mostly_equal(moved, now.points, whole=image):
            return Fit.MOVED
        edited_at_most = self.labels is not None and self._is_box_around(self.points, now)
        return Fit.MOVED if self._is_box_around(moved, now) and not edited_at_most else Fit.OTHER

    def _is_box_around(self, moved: np.ndarray, now: Outline) -> bool:
        """Whether an image now fills the bounding box, along the old axes, of the transformed old one."""
        if self.grid is None or now.grid is None or not self._has_axes_of(now.grid):
            return False
        expected, found = self.grid.indices(moved), self.grid.indices(now.points)
        ends = (expected.min(0) - found.min(0), expected.max(0) - found.max(0))
        return bool(np.abs(ends).max() < _BOX_VOXELS)

    def _is_cropped_to(self, now: Outline) -> bool:
        """Whether an image now consists of a subset of the same voxels."""
        if self.grid is None or now.grid is None or not self._has_axes_of(now.grid):
            return False
        ends = self.grid.indices(now.grid.ras(np.array([[0, 0, 0], np.array(now.grid.dimensions) - 1])))
        whole = np.abs(ends - ends.round()).max() < _WHOLE_VOXEL
        return bool(whole and ends[0].min() > -0.5 and (ends[1] < np.array(self.grid.dimensions) - 0.5).all())

    def _has_axes_of(self, grid: VoxelGrid) -> bool:
        return bool(np.abs(self.grid.ijk_to_ras[:3, :3] - grid.ijk_to_ras[:3, :3]).max() < _SAME_AXES_MM)

    @classmethod
    def _of_points(cls, points: np.ndarray) -> Outline | None:
        if not len(points):
            return None
        chosen = np.linspace(0, len(points) - 1, min(len(points), _MOST_POINTS)).round().astype(int)
        return cls(None, np.asarray(points, dtype=float)[chosen])

    @classmethod
    def _of_segmentation(cls, segmentation: Any) -> Outline | None:
        source = segmentation.GetSourceRepresentationName()
        for segment_id in segmentation.GetSegmentIDs():
            data = segmentation.GetSegment(segment_id).GetRepresentation(source)
            if data is not None and data.IsA("vtkOrientedImageData") and not data.IsEmpty():
                grid = grid_of_oriented_image(data)
                return cls(grid, grid.sample_points(_STEPS), labels_stamp(segmentation))
            if data is not None and data.IsA("vtkPolyData") and data.GetNumberOfPoints():
                return cls._of_points(vtk_to_numpy(data.GetPoints().GetData()))
        return None


def _mostly_equal(expected: np.ndarray, found: np.ndarray, *, whole: bool) -> bool:
    """Whether points agree: all of an image's, more than half of others."""
    if whole:
        return bool(np.abs(expected - found).max() < _EXACT_MM)
    count = min(len(expected), len(found))
    equal = np.abs(expected[:count] - found[:count]).max(axis=1) < _EXACT_MM
    return bool(equal.sum() * 2 > max(len(expected), len(found)))
