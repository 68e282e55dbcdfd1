"""Undoing the transformation of nodes, unless they were changed since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..nodes.spaces import chain, hanging_under, to_world
from .changes import batch, remove_with_helpers
from .marks import put_back_marks
from .outlines import Fit, Outline
from .stamps import stamp_of

_Marks = Any


@dataclass(frozen=True)
class _Made:
    """A created node and its stamp."""

    node: Any
    stamp: tuple[Any, ...]


@dataclass(frozen=True)
class _Attached:
    """A node that got another parent, and its previous state."""

    node: Any
    before: Any
    parent: Any
    marks: _Marks
    own: Any
    own_stamp: tuple[Any, ...]
    outline: Outline | None


class Undo:
    """Undoes changes of nodes, each only if it was not changed since.

    Args:
        scene: of the nodes.

    Attributes:
        notes: what the user should know of the changes.
    """

    def __init__(self, scene: Any) -> None:
        self.notes: list[str] = []
        self._scene = scene
        self._steps: list[_Made | _Attached] = []

    @property
    def created(self) -> list[Any]:
        """The created nodes, in order."""
        return [step.node for step in self._steps if isinstance(step, _Made)]

    def made(self, node: Any) -> None:
        """Record a created node, once it is complete."""
        self._steps.append(_Made(node, stamp_of(node)))

    def attached(self, node: Any, before: Any, marks: _Marks, own: Any) -> None:
        """Record a node that got another parent.

        Args:
            node: already under its new parent.
            before: its previous parent.
            marks: its previous marks, see `marks.kept_marks`.
            own: its own transform node; None if there is none.
        """
        own_stamp = stamp_of(own) if own is not None else ()
        outline = Outline.of(node)
        self._steps.append(_Attached(node, before, node.GetParentTransformNode(), marks, own, own_stamp, outline))

    def undo(self) -> list[str]:
        """Undo everything, the last first; a second call does nothing.

        Returns:
            Messages about nodes that stay, since they were changed.
        """
        words = []
        with batch(self._scene):
            while self._steps:
                step = self._steps.pop()
                if self._scene.IsNodePresent(step.node):
                    words.append(self._remove(step) if isinstance(step, _Made) else self._detach(step))
        return [text for text in words if text]

    def _remove(self, step: _Made) -> str:
        if stamp_of(step.node) != step.stamp:
            return f"'{step.node.GetName()}' has been changed since it was created; it stays."
        remove_with_helpers(self._scene, step.node)
        return ""

    def _detach(self, step: _Attached) -> str:
        node, before = step.node, step.before
        if node.GetParentTransformNode() is not step.parent:
            return f"'{node.GetName()}' has been moved to another parent or hardened since; it stays as it is."
        if step.outline is not None and step.outline.fit(Outline.of(node), to_world(step.parent)) is Fit.MOVED:
            return f"'{node.GetName()}' has been hardened since; it stays as it is."
        if step.own is not None and stamp_of(step.own) != step.own_stamp:
            return f"'{step.own.GetName()}', the parent of '{node.GetName()}', has been changed since; both stay."
        if before is not None and (not self._scene.IsNodePresent(before) or node in chain(before)):
            return (
                f"'{node.GetName()}' cannot be restored, since its previous transform was removed; it stays as it is."
            )
        node.SetAndObserveTransformNodeID(before.GetID() if before is not None else None)
        put_back_marks(node, step.marks)
        if step.own is not None and not hanging_under(step.own):
            remove_with_helpers(self._scene, step.own)
        return ""
