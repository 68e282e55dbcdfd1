"""Taking back what followed a registration, as far as it is still as it was left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .marks import put_back_marks
from .outlines import Fit, Outline
from .scene_changes import batch, remove_with_helpers
from .spaces import chain, hanging_under, to_world
from .stamps import stamp_of

_Marks = Any


@dataclass(frozen=True)
class _Made:
    """A node that was made, and what it held then."""

    node: Any
    stamp: tuple[Any, ...]


@dataclass(frozen=True)
class _Attached:
    """A node that was put under another parent, and all there was before."""

    node: Any
    before: Any
    parent: Any
    marks: _Marks
    own: Any
    own_stamp: tuple[Any, ...]
    outline: Outline | None


class Undo:
    """Takes back what was done to nodes, each only if nobody has changed it since.

    Args:
        scene: of the nodes.
    """

    def __init__(self, scene: Any) -> None:
        self._scene = scene
        self._steps: list[_Made | _Attached] = []

    @property
    def created(self) -> list[Any]:
        """The nodes that were made, in their order."""
        return [step.node for step in self._steps if isinstance(step, _Made)]

    def made(self, node: Any) -> None:
        """Note a node that was made, once it is as it will be."""
        self._steps.append(_Made(node, stamp_of(node)))

    def attached(self, node: Any, before: Any, marks: _Marks, own: Any) -> None:
        """Note a node that was put under another parent.

        Args:
            node: under its new parent already.
            before: the parent it had.
            marks: that it had, see `marks.kept_marks`.
            own: a transform node that was made for it; None if there is none.
        """
        own_stamp = stamp_of(own) if own is not None else ()
        outline = Outline.of(node)
        self._steps.append(_Attached(node, before, node.GetParentTransformNode(), marks, own, own_stamp, outline))

    def undo(self) -> list[str]:
        """Take it all back, the last first; a second call does nothing.

        Returns:
            In words what was left as it is, since somebody has changed it.
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
            return f"'{step.node.GetName()}' has been changed since it was made; it stays."
        remove_with_helpers(self._scene, step.node)
        return ""

    def _detach(self, step: _Attached) -> str:
        node, before = step.node, step.before
        if node.GetParentTransformNode() is not step.parent:
            return f"'{node.GetName()}' has been put elsewhere or hardened since; it stays where it is."
        if step.outline is not None and step.outline.fit(Outline.of(node), to_world(step.parent)) is Fit.MOVED:
            return f"'{node.GetName()}' has been hardened since; it stays where it is."
        if step.own is not None and stamp_of(step.own) != step.own_stamp:
            return f"'{step.own.GetName()}', which '{node.GetName()}' hangs under, has been changed since; both stay."
        if before is not None and (not self._scene.IsNodePresent(before) or node in chain(before)):
            return (
                f"'{node.GetName()}' cannot go back, since the transform it was under is gone; it stays where it is."
            )
        node.SetAndObserveTransformNodeID(before.GetID() if before is not None else None)
        put_back_marks(node, step.marks)
        if step.own is not None and not hanging_under(step.own):
            remove_with_helpers(self._scene, step.own)
        return ""
