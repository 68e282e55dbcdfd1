"""Stand-in for the CTK widget of the .ui file."""

from __future__ import annotations

from typing import Any

import qt
from PySide6 import QtCore, QtWidgets

_HEADER = 24


class ctkCollapsibleButton(qt.facade(QtWidgets.QWidget)):
    """A header that shows and hides the widgets below it."""

    contentsCollapsed = QtCore.Signal(bool)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._collapsed = False
        self._hidden_here: list[Any] = []
        self.header = qt.QPushButton(self)
        self.header.clicked.connect(lambda: self._set_collapsed(not self._collapsed))
        self.setContentsMargins(0, _HEADER, 0, 0)

    def _set_text(self, text: str) -> None:
        self._text = text
        self._refresh()

    def _set_collapsed(self, collapsed: bool) -> None:
        changed = collapsed != self._collapsed
        self._collapsed = collapsed
        self._refresh()
        if changed:
            self.contentsCollapsed.emit(collapsed)

    text = QtCore.Property(str, lambda self: self._text, _set_text)
    collapsed = QtCore.Property(bool, lambda self: self._collapsed, _set_collapsed)

    def _refresh(self) -> None:
        self.header.setText(f"{'▶' if self._collapsed else '▼'}  {self._text}")
        self.header.setStyleSheet("text-align: left; padding-left: 6px; font-weight: bold")
        if self._collapsed:
            children = [child for child in self.children() if isinstance(child, QtWidgets.QWidget)]
            visible = [child for child in children if not child.isHidden() and child is not self.header]
            self._hidden_here += visible
            for child in visible:
                child.hide()
        else:
            while self._hidden_here:
                self._hidden_here.pop().show()
        self.setMaximumHeight(_HEADER if self._collapsed else 16777215)
        self.updateGeometry()

    def minimumSizeHint(self) -> Any:
        return super().minimumSizeHint().expandedTo(self.header.minimumSizeHint())  # never narrower than its text

    def showEvent(self, event: Any) -> None:
        self._refresh()  # widgets that came after `collapsed` was set
        super().showEvent(event)

    def resizeEvent(self, event: Any) -> None:
        self.header.setGeometry(0, 0, self.width, _HEADER - 2)
        super().resizeEvent(event)
