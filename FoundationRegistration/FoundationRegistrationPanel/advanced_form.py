"""The Advanced section, made from the engine's `Settings`: one row for each setting without its own widget."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

import qt
from slicer.i18n import tr as _

from FoundationRegistrationLib.settings import Settings

from .facts import setting_title
from .parameters import setting_fields, setting_words

PARAMETER_NAME = "SlicerParameterName"
# Enough for the smallest step of any setting, so that values are not rounded.
_DECIMALS = 4


def add_setting_rows(layout: Any, shown_elsewhere: set[str]) -> None:
    """Add a widget for each remaining setting to a form; `connectGui` connects them to the parameter node.

    Args:
        layout: a `qt.QFormLayout` of a widget.
        shown_elsewhere: names of settings with a widget in the `.ui` file.
    """
    hints = get_type_hints(Settings)
    for name, field in setting_fields().items():
        if name in shown_elsewhere:
            continue
        widget = _widget(field, hints[name])
        widget.objectName = f"{name}Setting"
        widget.setProperty(PARAMETER_NAME, name)
        widget.toolTip = _tip(field)
        label = qt.QLabel(setting_title(name) + ":")
        label.toolTip = widget.toolTip
        layout.addRow(label, widget)


def _widget(field: dataclasses.Field[Any], hint: Any) -> Any:
    if setting_words(field.name, hint) is not None:
        return qt.QComboBox()
    if hint is int:
        box = qt.QSpinBox()
        box.singleStep = 2 if field.metadata["odd"] else 1
        return box
    if hint is float:
        box = qt.QDoubleSpinBox()
        box.decimals = _DECIMALS
        box.singleStep = 0.1
        return box
    return qt.QLineEdit()


def _tip(field: dataclasses.Field[Any]) -> str:
    text = field.metadata["help"]
    return _("{help}. Default: {default}").format(help=text[0].upper() + text[1:], default=field.default)
