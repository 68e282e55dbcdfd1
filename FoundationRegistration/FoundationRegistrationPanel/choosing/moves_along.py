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
        self._selector.connect("checkedNodesChanged()", self._on_checked)
        self._section.connect("contentsCollapsed(bool)", self._on_folded)

    def nodes(self) -> list[Any]:
        """Return the checked nodes that are still in the scene."""
        self._checked = [node for node in self._checked if node.GetScene() is not None]
        return list(self._checked)

    def show(self, parameters: Any) -> None:
        """Offer what belongs to the moving image, or to that of the registration under Result; the checked stay.

        In the direction from fixed to moving, it is what belongs to the fixed image.
        """
        self._parameters = parameters
        self._section.text = header(_("What moves along"), _count(len(self.nodes())))
        if self._section.collapsed:
            return
        result = parameters.resultTransform
        moving = parameters.movingVolume or (moving_of(result) if result is not None else None)
        fixed = parameters.fixedVolume or (fixed_of(result) if result is not None else None)
        backwards = parameters.followDirection == TO_MOVING
        may_move = movable_with(moving, fixed) if backwards else movable_with(fixed, moving)
        names = [f"{'moving' if backwards else 'fixed'}{kind}" for kind in OF_A_SIDE]
        names += [] if backwards else ["region"]
        of_other = [node for name in names if (node := parameters.getValue(name)) is not None]
        checked = self.nodes()
        hidden = [
            node.GetID()
            for node in self._listed()
            if node not in checked and (node in of_other or not may_move(node))
        ]
        if hidden != self._hidden:
            self._hidden = hidden
            self._selector.sortFilterProxyModel().hiddenNodeIDs = hidden

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
