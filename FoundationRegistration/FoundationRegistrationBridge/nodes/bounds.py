"""The boxes around nodes in the world, and how far these lie apart. RAS mm."""

from __future__ import annotations

import math
from typing import Any

Bounds = tuple[float, ...]


def world_bounds(node: Any) -> Bounds | None:
    """Return the box around a node under its parent transforms, RAS mm: x from, to, y from, to, z from, to.

    None if there is no node, or nothing in it.
    """
    if node is None or not node.IsA("vtkMRMLDisplayableNode"):
        return None
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    return tuple(bounds) if all(low <= high for low, high in zip(bounds[::2], bounds[1::2], strict=True)) else None


def gap_mm(first: Bounds | None, second: Bounds | None) -> float:
    """Return the distance between two boxes in the world, mm; 0 if they overlap or one is unknown."""
    if first is None or second is None:
        return 0.0
    along = [
        max(first[axis] - second[axis + 1], second[axis] - first[axis + 1], 0.0) for axis in range(0, len(first), 2)
    ]
    return math.hypot(*along)
