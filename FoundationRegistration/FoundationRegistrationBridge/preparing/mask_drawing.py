"""An empty mask of a volume to draw into."""

from __future__ import annotations

from typing import Any

import slicer

from ..scene.changes import all_or_nothing


def new_mask(volume_node: Any) -> Any:
    """Return a new segmentation with one empty segment, on the voxels and under the parent of a volume."""
    node = slicer.vtkMRMLSegmentationNode()
    with all_or_nothing(volume_node.GetScene()) as changes:
        changes.add_displayed(node, f"Mask of {volume_node.GetName()}")
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
        changes.set_parent(node, volume_node.GetParentTransformNode())
        node.GetSegmentation().AddEmptySegment("mask", "mask")
    return node
