"""The displacement field of a registration as a file of ITK, ANTs and Slicer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer

from ..errors import BridgeError
from ..nodes.grids import grid_of
from ..nodes.spaces import linear_matrix, to_world
from .transforms import fixed_of, sampled_on, world_registration

ENDINGS = (".nii.gz", ".nrrd", ".mha")


def write_displacement_field(transform_node: Any, path: Path) -> None:
    """Write the displacement from fixed to moving points, in the world, at the voxels of the fixed volume.

    Slicer itself saves a field only of a transform that is a single grid; here any registration is sampled.

    Args:
        transform_node: a registration; parents of the volumes count.
        path: a `.nii.gz`, `.nrrd` or `.mha` file; vectors are LPS mm, as ITK and ANTs want them.

    Raises:
        BridgeError: the fixed volume is gone or has no regular grid in the world, or the file cannot be written.
    """
    name, fixed = transform_node.GetName(), fixed_of(transform_node)
    if fixed is None or fixed.GetImageData() is None:
        msg = f"'{name}' has no fixed volume, on whose voxels a displacement field lies; choose a registration."
        raise BridgeError(msg)
    if not path.name.lower().endswith(ENDINGS):
        msg = f"'{path.name}' cannot hold a displacement field; end the name in {', '.join(ENDINGS)}."
        raise BridgeError(msg)
    parent = linear_matrix(to_world(fixed.GetParentTransformNode()))
    grid = None if parent is None else grid_of(fixed).moved(parent)
    if grid is None or not grid.is_rectangular:
        msg = (
            f"'{fixed.GetName()}' lies under a transform that bends its voxel grid; harden the transform, or take "
            "the volume out of it, and register again."
        )
        raise BridgeError(msg)
    node = slicer.vtkMRMLTransformNode()
    node.SetAndObserveTransformFromParent(sampled_on(world_registration(transform_node), grid))
    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(path))
    if not storage.WriteData(node):
        msg = f"'{path}' cannot be written; free some disk space or choose another folder."
        raise BridgeError(msg)
