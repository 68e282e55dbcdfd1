"""The section *What moves along*: what may be checked there, and what is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer.util
from FoundationRegistrationBridge.scene.belonging import movable_with
from FoundationRegistrationBridge.scene.transforms import fixed_of, moving_of
from slicer.i18n import tr as _

from ..parameters import OF_A_SIDE, TO_MOVING
from .section_states import header


def _count(nodes: int) -> str:
    if nodes == 0:
        return _("none")
    return _("1 node") if nodes == 1 else _("{count} nodes").format(count=nodes)


class MovesAlong:
    """Offers the nodes of the moving side, looked up only while the section is open, and keeps the checked ones.

    Args:
        ui: the panel's widgets.
        on_changed: called when other nodes are checked.
    """

    def __init__(self, ui: Any, on_changed: Callable[[], None]) -> None:
        self._selector = ui.followSelector
        self._section = ui.alongSection
        self._on_changed = on_changed
        self._parameters: Any = None
        self._checked: list[Any] = []
        self._hidden: list[str] = []
        self._sides: tuple[Any, Any] = (None, None)  # the image that stays, and the one whose nodes are offered
        self._selector.connect("checkedNodesChanged()", self._on_checked)
        self._section.connect("contentsCollapsed(bool)", self._on_folded)

    def nodes(self) -> list[Any]:
        """Return the checked nodes that are still in the scene."""
        self._checked = [node for node in self._checked if node.GetScene() is not None]
        return list(self._checked)

    def show(self, parameters: Any) -> None:
        """Offer what belongs to the moving image, or to that of the registration under Result.

        In the direction from fixed to moving, it is what belongs to the fixed image. The checked stay, but for those
        of another image than before.
        """
        self._parameters = parameters
        self._uncheck_others()
        self._section.text = header(_("What moves along"), _count(len(self.nodes())))
        if self._section.collapsed:
            return
        checked, of_other, may_move = self.nodes(), self._of_other(), movable_with(*self._sides_now())
        hidden = [
            node.GetID()
            for node in self._listed()
            if node not in checked and (node in of_other or not may_move(node))
        ]
        if hidden != self._hidden:
            self._hidden = hidden
            self._selector.sortFilterProxyModel().hiddenNodeIDs = hidden

    def _uncheck_others(self) -> None:
        """Uncheck what was checked for another moving image and is not surely of the new one, or is of the fixed."""
        before, now = self._sides, self._sides_now()
        if now[1] is None or now == before:
            return
        self._sides = now
        if before[1] is None:  # the user has checked these nodes for the image that is chosen now
            return
        of_other, may_move = self._of_other(), movable_with(*now, by_place=now[1] is before[1])
        for node in self.nodes():
            if node in of_other or not may_move(node):
                self._selector.setCheckState(node, qt.Qt.Unchecked)

    def _backwards(self) -> bool:
        return self._parameters.followDirection == TO_MOVING

    def _sides_now(self) -> tuple[Any, Any]:
        """Return the image that stays and the one whose nodes move along; None where nothing tells."""
        parameters, result = self._parameters, self._parameters.resultTransform
        fixed = parameters.fixedVolume or (fixed_of(result) if result is not None else None)
        moving = parameters.movingVolume or (moving_of(result) if result is not None else None)
        return (moving, fixed) if self._backwards() else (fixed, moving)

    def _of_other(self) -> list[Any]:
        """Return what is chosen elsewhere in the panel for the image that stays."""
        names = [f"{'moving' if self._backwards() else 'fixed'}{kind}" for kind in OF_A_SIDE]
        names += [] if self._backwards() else ["region"]
        return [node for name in names if (node := self._parameters.getValue(name)) is not None]

    def _listed(self) -> list[Any]:
        """Return the nodes of the types that the selector lists."""
        nodes = slicer.util.getNodesByClass("vtkMRMLDisplayableNode")
        return [node for node in nodes if any(node.IsA(name) for name in self._selector.nodeTypes)]

    def _on_checked(self) -> None:
        self._checked = [node for node in self._listed() if self._selector.checkState(node) == qt.Qt.Checked]
        self._on_changed()

    def _on_folded(self, collapsed: bool) -> None:
        if self._parameters is not None:
            self.show(self._parameters)
