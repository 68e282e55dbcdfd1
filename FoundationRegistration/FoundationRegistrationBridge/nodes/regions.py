"""ROI markups as regions of a registration."""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk

from ..errors import BridgeError
from .grids import VoxelGrid, array_of
from .spaces import linear_matrix, to_world


def box_in_world(roi: Any) -> VoxelGrid:
    """Return a ROI as a grid of one voxel in the world, for the engine.

    Args:
        roi: a ROI markups node.

    Raises:
        BridgeError: it is not placed, has no volume, or is under a transform that bends or shears it.
    """
    name, size = roi.GetName(), np.array(roi.GetSize())
    if roi.GetNumberOfControlPoints() == 0 or not (size > 0).all():
        msg = f"The region '{name}' is empty; draw its box in the fixed volume."
        raise BridgeError(msg)
    parents = linear_matrix(to_world(roi.GetParentTransformNode()))
    if parents is None:
        msg = f"The region '{name}' is under a transform that is not linear; draw it without, in the fixed volume."
        raise BridgeError(msg)
    to_node = vtk.vtkMatrix4x4()
    to_node.DeepCopy(roi.GetObjectToNodeMatrix())
    box = VoxelGrid((1, 1, 1), parents @ array_of(to_node) @ np.diag([*size, 1.0]))
    if not box.is_rectangular:
        msg = f"The region '{name}' is under a transform that shears it; draw it without, in the fixed volume."
        raise BridgeError(msg)
    return box
