"""Corresponding landmarks placed by turns in the fixed and the moving volume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer

from ..nodes.volumes import check_scalar_volume
from ..scene.changes import all_or_nothing, remove_with_helpers
from ..views.borrowed import SLICE_VIEWS, BorrowedViews

_COLOURS = ((0.2, 0.8, 0.3), (0.9, 0.3, 0.9))


class LandmarkPlacing:
    """Shows the volume whose turn it is in the slice views, with Slicer in the mode that places points.

    It ends with `close`, and when the views are used otherwise or a node is removed.

    Args:
        fixed_node: the fixed volume.
        moving_node: the moving volume.
        point_lists: those of both volumes to go on with; new ones, under the parents of the volumes, if None.
        later: calls a function once the click that placed a point has been dealt with.

    Attributes:
        point_lists: of the fixed and the moving volume; points of the same name correspond.

    Raises:
        BridgeError: a volume has no voxels or is not in the scene.
    """

    def __init__(
        self,
        fixed_node: Any,
        moving_node: Any,
        point_lists: tuple[Any, Any] | None = None,
        later: Callable[[Callable[[], None]], None] = lambda call: call(),
    ) -> None:
        self._volumes = (fixed_node, moving_node)
        for node, role in zip(self._volumes, ("fixed", "moving"), strict=True):
            check_scalar_volume(node, role)
        self._later = later
        self._are_new = point_lists is None
        self.point_lists = point_lists or self._new_lists()
        self._before = [node.GetNumberOfControlPoints() for node in self.point_lists]
        needed = [*self._volumes, *self.point_lists]
        self._views = BorrowedViews(SLICE_VIEWS, needed, on_given_back=self._stop_placing)
        for node in self.point_lists:
            self._views.observe(node, slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent, self._on_placed)
        self._take_turn()

    @property
    def is_open(self) -> bool:
        """False after the end."""
        return self._views.held

    @property
    def pairs(self) -> int:
        """Number of landmarks that are placed in both volumes."""
        return min(node.GetNumberOfDefinedControlPoints() for node in self.point_lists)

    def close(self) -> None:
        """End: restore the views and the usual mouse mode; the points stay. A second call does nothing."""
        self._views.give_back()

    def discard(self) -> None:
        """End, and remove the points that were placed, with their lists if these are new."""
        self.close()
        for node, count in zip(self.point_lists, self._before, strict=True):
            scene = node.GetScene()
            if scene is not None and self._are_new:
                remove_with_helpers(scene, node)
                continue
            while node.GetNumberOfControlPoints() > count:
                node.RemoveNthControlPoint(node.GetNumberOfControlPoints() - 1)

    def _new_lists(self) -> tuple[Any, Any]:
        lists = []
        with all_or_nothing(self._volumes[0].GetScene()) as changes:
            for volume, colour in zip(self._volumes, _COLOURS, strict=True):
                node = changes.add_displayed(slicer.vtkMRMLMarkupsFiducialNode(), f"Landmarks in {volume.GetName()}")
                node.SetControlPointLabelFormat("%d")
                node.GetDisplayNode().SetSelectedColor(*colour)
                changes.set_parent(node, volume.GetParentTransformNode())
                lists.append(node)
        return lists[0], lists[1]

    def _on_placed(self, *_event: Any) -> None:
        self._later(self._take_turn)

    def _take_turn(self) -> None:
        """Show the volume with fewer landmarks, the fixed one first, and let the next click place one in it."""
        if not self.is_open:
            return
        counts = [node.GetNumberOfDefinedControlPoints() for node in self.point_lists]
        side = 0 if counts[0] <= counts[1] else 1
        self._views.show(self._volumes[side], None, 0.0)
        markups = slicer.modules.markups.logic()
        markups.SetActiveList(self.point_lists[side])
        markups.StartPlaceMode(True)

    def _stop_placing(self) -> None:
        interaction = self._volumes[0].GetScene()
        interaction = interaction.GetFirstNodeByClass("vtkMRMLInteractionNode") if interaction else None
        if interaction is not None:
            interaction.SetPlaceModePersistence(False)
            interaction.SetCurrentInteractionMode(slicer.vtkMRMLInteractionNode.ViewTransform)
