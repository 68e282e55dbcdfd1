"""What a registration was given, noted at its start: the result is made of that, whatever happens to the nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import vtk

from .grids import VoxelGrid, grid_of, map_points
from .job_inputs import JobInputs
from .spaces import composed, parent_without, snapshot, to_world
from .stamps import voxels_stamp

_SAME_MM = 1e-3


@dataclass(frozen=True)
class Side:
    """The fixed or the moving volume as it was.

    Attributes:
        node: the volume.
        parent: transform node above it, the output transform left out, or None.
        to_world: from its coordinates to the world.
        grid: in its own coordinates.
        voxels: what they were; only where they will be resampled.
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
        """Note how a volume is now."""
        image, voxels = node.GetImageData(), None
        if keep_voxels:
            voxels = vtk.vtkImageData()
            voxels.DeepCopy(image)
        parent = parent_without(node, left_out)
        return cls(node, parent, snapshot(to_world(parent)), grid_of(node), voxels, voxels_stamp(image))

    def since_then(self) -> vtk.vtkGeneralTransform:
        """Return how the parent has moved, from the world of the start to that of now; nothing for the same place."""
        points = map_points(self.to_world, self.grid.sample_points())
        moved = composed(self.to_world.GetInverse(), to_world(self.parent))
        if np.abs(map_points(to_world(self.parent), self.grid.sample_points()) - points).max() < _SAME_MM:
            return composed()
        return moved

    def change(self, left_out: Any) -> str:
        """Return in words what has happened to the volume since; empty if nothing that matters."""
        name, image = self.node.GetName(), self.node.GetImageData()
        if image is None or voxels_stamp(image) != self.stamp:
            return (
                f"'{name}' shows other voxels than when the registration began (another time point, a crop, an "
                "edit); the result is made of, and holds for, what it showed then."
            )
        before = map_points(self.to_world, self.grid.sample_points())
        now = map_points(to_world(parent_without(self.node, left_out)), grid_of(self.node).sample_points())
        if np.abs(before - now).max() < _SAME_MM:
            return ""
        return (
            f"'{name}' or a transform above it was moved while the registration ran; the result holds for where it "
            "was when that began, so check it, or register again."
        )


@dataclass(frozen=True)
class Placement:
    """Both volumes as they were when the registration began; it holds for those places."""

    fixed: Side
    moving: Side

    @classmethod
    def of(cls, inputs: JobInputs) -> Placement:
        """Note how the volumes of a registration are now."""
        resampled = inputs.create_volume or inputs.output_volume is not None
        return cls(
            Side.of(inputs.fixed, inputs.output_transform, keep_voxels=False),
            Side.of(inputs.moving, inputs.output_transform, keep_voxels=resampled),
        )

    def changes(self, left_out: Any) -> list[str]:
        """Return in words what has happened to the volumes since."""
        return [words for side in (self.moving, self.fixed) if (words := side.change(left_out))]
