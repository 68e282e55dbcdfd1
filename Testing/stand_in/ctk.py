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
            for child in self.children():
                if isinstance(child, QtWidgets.QWidget) and child is not self.header:
                    child.installEventFilter(self)
                    if not child.isHidden():
                        self._hide(child)
        else:
            while self._hidden_here:
                self._hidden_here.pop().show()
        self.setMaximumHeight(_HEADER if self._collapsed else 16777215)
        self.updateGeometry()

    def _hide(self, child: Any) -> None:
        child.hide()
        child.setAttribute(QtCore.Qt.WidgetAttribute.WA_WState_ExplicitShowHide, False)  # hide() is heard again
        self._hidden_here.append(child)

    def eventFilter(self, child: Any, event: Any) -> bool:
        """A child that is shown or hidden while the button is closed becomes so when it is opened."""
        if self._collapsed and event.type() == QtCore.QEvent.Type.ShowToParent:
            self._hide(child)
        elif self._collapsed and event.type() == QtCore.QEvent.Type.HideToParent and child in self._hidden_here:
            self._hidden_here.remove(child)
        return False

    def minimumSizeHint(self) -> Any:
        return super().minimumSizeHint().expandedTo(self.header.minimumSizeHint())  # never narrower than its text

    def showEvent(self, event: Any) -> None:
        self._refresh()  # widgets that came after `collapsed` was set
        super().showEvent(event)

    def resizeEvent(self, event: Any) -> None:
        self.header.setGeometry(0, 0, self.width, _HEADER - 2)
        super().resizeEvent(event)
