"""Rough alignment of a volume by hand: a linear transform with handles above it, for the time of the alignment."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

from ..errors import BridgeError
from ..nodes.grids import grid_of, map_points
from ..nodes.spaces import snapshot, to_world
from ..nodes.volumes import check_scalar_volume
from ..scene.changes import all_or_nothing, batch, remove_with_helpers
from ..views.compare import Comparison


class HandAlignment:
    """The moving volume under a transform that the user drags, both volumes faded into each other in the slice views.

    The transform acts in the world, above copies of the volume's own parents, so that nothing else moves. If the
    volumes lie apart, it begins with their centres on each other.

    Args:
        fixed_node: the volume to align to.
        moving_node: the volume to align.

    Raises:
        BridgeError: a volume has no voxels or is not in the scene.
    """

    def __init__(self, fixed_node: Any, moving_node: Any) -> None:
        for node, role in ((fixed_node, "fixed"), (moving_node, "moving")):
            check_scalar_volume(node, role)
        self._moving, self._parent = moving_node, moving_node.GetParentTransformNode()
        self._scene = moving_node.GetScene()
        self._place: Any | None = None
        centres = [_centre(node) for node in (fixed_node, moving_node)]
        with all_or_nothing(self._scene) as changes:
            self._node = changes.add(slicer.vtkMRMLLinearTransformNode(), f"{moving_node.GetName()} by hand")
            if not _overlap(fixed_node, moving_node):
                start = vtk.vtkTransform()
                start.Translate(*(centres[0] - centres[1]))
                self._node.SetMatrixTransformToParent(start.GetMatrix())
            self._node.SetCenterOfTransformation(*centres[1])
            if self._parent is not None:
                self._place = slicer.vtkMRMLTransformNode()
                self._place.SetAndObserveTransformToParent(snapshot(to_world(self._parent)))
                self._place.SetHideFromEditors(True)
                changes.add(self._place, f"Position of {moving_node.GetName()}")
                changes.set_parent(self._place, self._node)
            changes.set_parent(moving_node, self._place or self._node)
            self._show_handles()
            self._comparison = Comparison(fixed_node, moving_node, clipped=False)
            self._comparison.fade(0.5)

    @property
    def is_open(self) -> bool:
        """Whether the volume is still under the transform; false after `accept` and `cancel`."""
        return self._is_lifted and self._scene.IsNodePresent(self._node)

    def accept(self) -> Any:
        """Put the volume back where it was; return the transform, to start a registration from.

        Raises:
            BridgeError: the transform or the volume was removed, or the volume is under another transform now.
        """
        if not self.is_open:
            self.cancel()
            msg = f"'{self._moving.GetName()}' is no longer aligned by hand; begin again."
            raise BridgeError(msg)
        self._end()
        self._node.GetDisplayNode().SetEditorVisibility(False)
        return self._node

    def cancel(self) -> None:
        """Put the volume back where it was and remove the transform; a second call does nothing."""
        self._end()
        remove_with_helpers(self._scene, self._node)

    def _end(self) -> None:
        self._comparison.close()
        with batch(self._scene):
            if self._is_lifted:
                present = self._parent is not None and self._scene.IsNodePresent(self._parent)
                self._moving.SetAndObserveTransformNodeID(self._parent.GetID() if present else None)
            if self._place is not None:
                remove_with_helpers(self._scene, self._place)

    @property
    def _is_lifted(self) -> bool:
        parent = self._moving.GetParentTransformNode()
        return self._scene.IsNodePresent(self._moving) and parent is not None and parent in (self._node, self._place)

    def _show_handles(self) -> None:
        self._node.CreateDefaultDisplayNodes()
        display = self._node.GetDisplayNode()
        changing = display.StartModify()
        display.SetEditorVisibility(True)
        display.SetEditorVisibility3D(True)
        display.SetEditorSliceIntersectionVisibility(True)
        for switch in (
            display.SetEditorTranslationEnabled,
            display.SetEditorTranslationSliceEnabled,
            display.SetEditorRotationEnabled,
            display.SetEditorRotationSliceEnabled,
        ):
            switch(True)
        display.SetEditorScalingEnabled(False)
        display.SetEditorScalingSliceEnabled(False)
        display.EndModify(changing)


def _centre(volume_node: Any) -> np.ndarray:
    """Return the centre of a volume in the world, RAS mm."""
    points = grid_of(volume_node).sample_points(3)
    return map_points(to_world(volume_node.GetParentTransformNode()), points).mean(axis=0)


def _overlap(*volume_nodes: Any) -> bool:
    """Whether the boxes around two volumes in the world have something in common."""
    bounds = [[0.0] * 6 for _ in volume_nodes]
    for node, found in zip(volume_nodes, bounds, strict=True):
        node.GetRASBounds(found)
    first, second = bounds
    return all(first[low] < second[low + 1] and second[low] < first[low + 1] for low in (0, 2, 4))
