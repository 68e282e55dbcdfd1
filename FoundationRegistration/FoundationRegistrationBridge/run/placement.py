"""The inputs of a registration as recorded at its start; the result is made from these, even if nodes change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import vtk

from ..nodes.grids import VoxelGrid, grid_of, map_points
from ..nodes.spaces import composed, parent_without, snapshot, to_world
from ..scene.stamps import voxels_stamp
from .inputs import JobInputs

_SAME_MM = 1e-3


@dataclass(frozen=True)
class Side:
    """The fixed or the moving volume as it was.

    Attributes:
        node: the volume.
        parent: transform node above it, ignoring the output transform, or None.
        to_world: from its coordinates to the world.
        grid: in its own coordinates.
        voxels: a copy; only if they will be resampled.
        stamp: of the voxels.
    """

    node: Any
    parent: Any
    to_world: vtk.vtkAbstractTransform
    grid: VoxelGrid
    voxels: vtk.vtkImageData | None
    stamp: tuple[Any, ...]

    @classmethod
    def of(cls, node: Any, left_out: Any, *, keep_voxels: bool) -> Side:
        """Record the current state of a volume."""
        image, voxels = node.GetImageData(), None
        if keep_voxels:
            voxels = vtk.vtkImageData()
            voxels.DeepCopy(image)
        parent = parent_without(node, left_out)
        return cls(node, parent, snapshot(to_world(parent)), grid_of(node), voxels, voxels_stamp(image))

    def since_then(self) -> vtk.vtkGeneralTransform:
        """Return the motion of the parent since the start, in the world; None if it did not move."""
        points = map_points(self.to_world, self.grid.sample_points())
        moved = composed(self.to_world.GetInverse(), to_world(self.parent))
        if np.abs(map_points(to_world(self.parent), self.grid.sample_points()) - points).max() < _SAME_MM:
            return composed()
        return moved

    def change(self, left_out: Any) -> str:
        """Return a warning about relevant changes of the volume since then, else empty."""
        name, image = self.node.GetName(), self.node.GetImageData()
        if image is None or voxels_stamp(image) != self.stamp:
            return (
                f"'{name}' has other voxels than at the start of the registration (another time point, a crop, an "
                "edit); the result is made from, and valid for, the previous ones."
            )
        before = map_points(self.to_world, self.grid.sample_points())
        now = map_points(to_world(parent_without(self.node, left_out)), grid_of(self.node).sample_points())
        if np.abs(before - now).max() < _SAME_MM:
            return ""
        return (
            f"'{name}' or a transform above it was moved during the registration; the result is valid for its "
            "position at the start, so check it, or register again."
        )


@dataclass(frozen=True)
class Placement:
    """Both volumes at the start of the registration, for which its result is valid."""

    fixed: Side
    moving: Side

    @classmethod
    def of(cls, inputs: JobInputs) -> Placement:
        """Record the current state of the volumes of a registration."""
        resampled = inputs.create_volume or inputs.output_volume is not None
        return cls(
            Side.of(inputs.fixed, inputs.output_transform, keep_voxels=False),
            Side.of(inputs.moving, inputs.output_transform, keep_voxels=resampled),
        )

    def changes(self, left_out: Any) -> list[str]:
        """Return warnings about changes of the volumes since then."""
        return [words for side in (self.moving, self.fixed) if (words := side.change(left_out))]
