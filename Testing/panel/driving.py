"""What a person does with the panel: click, choose, unfold."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtTest import QTest


def click(widget: Any) -> None:
    """Click a button that can be clicked."""
    assert widget.visible and widget.enabled, f"{widget.name} cannot be clicked"
    QTest.mouseClick(widget, Qt.MouseButton.LeftButton)


def push(button: Any) -> None:
    """Click a button that can be clicked, also if it became visible a moment ago and has no place yet."""
    assert button.visible and button.enabled, f"{button.name} cannot be clicked"
    button.click()


def press(widget: Any, keys: str) -> None:
    """Press the keys of one of the shortcuts of a widget, which the window would hand on to it."""
    found = [each for each in widget.findChildren(QShortcut) if each.key == QKeySequence(keys) and each.enabled]
    assert found, f"{keys} does nothing"
    found[0].activated.emit()


def choose(selector: Any, text: str) -> None:
    """Choose an entry of a node selector or combo box by its text."""
    combo = getattr(selector, "combo", selector)
    index = combo.findText(text)
    assert index >= 0, f"{selector.name} does not offer '{text}'"
    combo.setCurrentIndex(index)
    combo.activated.emit(index)  # what Qt sends when a person has chosen


def choose_pair(ui: Any, fixed: Any, moving: Any, task: str = "Other") -> None:
    """Choose the fixed and the moving image and the task, all that a registration needs."""
    choose(ui.fixedVolumeSelector, fixed.GetName())
    choose(ui.movingVolumeSelector, moving.GetName())
    choose(ui.taskSelector, task)


def unfold(section: Any) -> None:
    """Open a section by a click on its header."""
    if section.collapsed:
        QTest.mouseClick(section.header, Qt.MouseButton.LeftButton)
    assert not section.collapsed
