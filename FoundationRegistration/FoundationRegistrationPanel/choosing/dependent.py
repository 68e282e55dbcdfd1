"""A choice that belongs to another one, and is renewed with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer


class Dependent:
    """A parameter that holds only for the value of another one, such as a segment for its mask.

    It is renewed when the other one changes, but not when both change at once: then it was chosen with it. While a
    scene is being opened, its nodes arrive one by one, and nothing is renewed.

    Args:
        name: of the parameter.
        of: name of the other one, a node.
        renewed: returns its value for another node, which may be None.
    """

    def __init__(self, name: str, of: str, renewed: Callable[[Any], Any]) -> None:
        self._name, self._of = name, of
        self._renewed = renewed
        self._seen: tuple[Any, Any] | None = None

    def show(self, parameters: Any) -> None:
        """Renew it if the other one has changed since the last call."""
        if slicer.mrmlScene.IsImporting():
            self.forget()
            return
        before, self._seen = self._seen, (parameters.getValue(self._of), parameters.getValue(self._name))
        if before is not None and self._seen[0] is not before[0] and self._seen[1] == before[1]:
            value = self._renewed(self._seen[0])
            self._seen = (self._seen[0], value)
            parameters.setValue(self._name, value)

    def forget(self) -> None:
        """Take what comes next as chosen together: another scene is being opened."""
        self._seen = None
