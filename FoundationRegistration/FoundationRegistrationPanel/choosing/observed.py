"""Nodes that are watched as long as they are chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


class Observed:
    """Watches some nodes, and then others.

    Args:
        on_event: called with the node and the event, as VTK does.
    """

    def __init__(self, on_event: Callable[[Any, Any], None]) -> None:
        self._on_event = on_event
        self._tags: list[tuple[Any, int]] = []

    def watch(self, nodes: Iterable[Any], events: Callable[[Any], Iterable[int]]) -> None:
        """Watch these nodes, and no others.

        Args:
            nodes: with None where none is chosen.
            events: returns those of a node.
        """
        self.release()
        for node in nodes:
            if node is not None:
                self._tags += [(node, node.AddObserver(event, self._on_event)) for event in events(node)]

    def release(self) -> None:
        """Watch none."""
        for node, tag in self._tags:
            node.RemoveObserver(tag)
        self._tags = []


def content_events(node: Any) -> list[int]:
    """Return the events by which a node says that its content has changed: voxels, segments, points."""
    events = node.GetContentModifiedEvents()
    return [events.GetValue(index) for index in range(events.GetNumberOfTuples())]
