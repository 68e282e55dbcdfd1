"""What the tests compare nodes and scenes by."""

from __future__ import annotations

import math
from typing import Any

import slicer


def landmark_error(fixed: Any, moving: Any) -> float:
    """Return the mean distance of landmarks of the same index, mm."""
    count = fixed.GetNumberOfControlPoints()
    assert count == moving.GetNumberOfControlPoints() > 0
    distances = [
        math.dist(fixed.GetNthControlPointPosition(index), moving.GetNthControlPointPosition(index))
        for index in range(count)
    ]
    return sum(distances) / count


def scene_state() -> list[tuple[Any, ...]]:
    """Return what a run that left no trace must not have changed: nodes, names, references, transforms, data."""
    state = []
    for index in range(slicer.mrmlScene.GetNumberOfNodes()):
        node = slicer.mrmlScene.GetNthNode(index)
        image = node.GetImageData() if node.IsA("vtkMRMLVolumeNode") else None
        parent = node.GetTransformNodeID() if node.IsA("vtkMRMLTransformableNode") else None
        state.append((node.GetID(), node.GetName(), parent, image.GetMTime() if image else 0))
    return state
