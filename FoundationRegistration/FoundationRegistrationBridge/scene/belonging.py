"""Which nodes belong to the moving volume and may move with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer

from ..nodes.bounds import gap_mm, world_bounds
from .marks import REGISTRATION_ROLE, is_registration, marks_of


def movable_with(fixed: Any, moving: Any, *, by_place: bool = True) -> Callable[[Any], bool]:
    """Return which nodes may be offered for moving with a volume.

    These are the moving volume itself, and what is in its folder or study of the subject hierarchy, or was drawn on
    it, or overlaps it. Never the fixed volume, what was drawn on it or is in its own folder or study, nor what an
    earlier registration has made.

    Args:
        fixed: the fixed volume, or None.
        moving: the moving volume; with None, everything but products of registrations may be offered.
        by_place: also what only overlaps the moving volume, but is neither in its folder or study nor drawn on it.
    """
    groups = [_groups(volume) for volume in (fixed, moving)]
    of_fixed, of_moving = groups[0] - groups[1], groups[1] - groups[0]
    place = world_bounds(moving)

    def offered(node: Any) -> bool:
        if node is fixed or _is_product(node):
            return False
        if moving is None or node is moving:
            return True
        drawn_on = _drawn_on(node)
        if drawn_on in (fixed, moving) and drawn_on is not None:
            return drawn_on is moving
        own = _groups(node)
        if own & (of_fixed | of_moving):
            return bool(own & of_moving)
        return by_place and (place is None or gap_mm(world_bounds(node), place) == 0.0)

    return offered


def _is_product(node: Any) -> bool:
    """Whether a registration has made the node: a resampled node, a map, features or a transform."""
    if is_registration(node) or any(not mark.attached for mark in marks_of(node)):
        return True
    return node.GetNodeReferenceID(REGISTRATION_ROLE) is not None and not marks_of(node)


def _drawn_on(node: Any) -> Any:
    """Return the volume whose voxels a segmentation was drawn on, or None."""
    if not node.IsA("vtkMRMLSegmentationNode"):
        return None
    return node.GetNodeReference(slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole())


def _groups(node: Any) -> set[int]:
    """Return the folders, studies and patients above a node in the subject hierarchy."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = hierarchy.GetItemByDataNode(node) if node is not None and hierarchy is not None else 0
    found: set[int] = set()
    while item and item != hierarchy.GetSceneItemID():
        if hierarchy.GetItemDataNode(item) is None:
            found.add(int(item))
        item = hierarchy.GetItemParent(item)
    return found
