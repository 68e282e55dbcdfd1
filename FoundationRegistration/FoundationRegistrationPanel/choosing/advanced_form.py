"""The Advanced section, made from the engine's `Settings` in groups: those that a person could want to change.

The others keep the values of the preset; scripts and the command line may set them.
"""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

import qt
from slicer.i18n import tr as _

from FoundationRegistrationLib.settings import Settings

from ..parameters import preset_values, setting_fields, setting_words
from ..wording.facts import choice_titles, setting_title

PARAMETER_NAME = "SlicerParameterName"
GROUPS = {
    "Images": ("fixed_modality", "moving_modality", "working_spacing_mm", "interpolation"),
    "Features": ("detail_encoder", "slice_gap", "components", "input_size"),
    "Search": ("search_range_mm", "regularization", "iterations"),
    "Tissue": ("compressibility", "fluid_iterations", "fluid_smoothing", "motion_floor"),
    "Structures and points": ("structure_weight", "points_weight"),
    "Computer": ("device", "precision", "memory_budget_gb", "feature_cache_gb", "weights"),
}
# Of these settings, 0 lets the engine choose.
_AUTOMATIC_AT_ZERO = ("working_spacing_mm", "slice_gap", "components", "input_size", "memory_budget_gb")
# Enough for the values of all presets, so that none is rounded.
_DECIMALS = 3
# Widgets that need little room, however long what they hold.
_FEW_LETTERS = 8


def add_setting_rows(layout: Any) -> None:
    """Add a heading for each group and a widget for each setting; `connectGui` connects them to the parameter node.

    Args:
        layout: a `qt.QFormLayout` of a widget.
    """
    hints, fields = get_type_hints(Settings), setting_fields()
    for title, names in GROUPS.items():
        layout.addRow(qt.QLabel(f"<b>{_(title)}</b>"))
        for name in names:
            widget = _widget(fields[name], hints[name])
            widget.objectName = f"{name}Setting"
            widget.setProperty(PARAMETER_NAME, name)
            text = fields[name].metadata["help"]
            widget.toolTip = f"{text[0].upper()}{text[1:]}."
            label = qt.QLabel(setting_title(name) + ":")
            label.toolTip = widget.toolTip
            layout.addRow(label, widget)


def _widget(field: dataclasses.Field[Any], hint: Any) -> Any:
    if setting_words(field.name, hint) is not None:
        combo = qt.QComboBox()
        combo.sizeAdjustPolicy = qt.QComboBox.AdjustToMinimumContentsLengthWithIcon
        combo.minimumContentsLength = _FEW_LETTERS
        combo.setSizePolicy(qt.QSizePolicy.Expanding, qt.QSizePolicy.Fixed)
        return combo
    if hint in (int, float):
        box = qt.QSpinBox() if hint is int else qt.QDoubleSpinBox()
        if hint is float:
            box.decimals = _DECIMALS
            box.singleStep = 0.1
        if field.name in _AUTOMATIC_AT_ZERO:
            box.specialValueText = _("automatic")
        return box
    edit = qt.QLineEdit()
    edit.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed)
    return edit


class DefaultTips:
    """Tooltips of settings, with the value that the chosen preset gives them.

    Args:
        ui: the panel's widgets.
    """

    def __init__(self, ui: Any) -> None:
        named = {widget.property(PARAMETER_NAME): widget for widget in vars(ui).values()}
        self._widgets = {name: named[name] for name in setting_fields() if name in named and name != "preset"}
        self._texts = {name: widget.toolTip for name, widget in self._widgets.items()}

    def show(self, preset: str) -> None:
        """Renew the tooltips for a preset."""
        values = preset_values(preset)
        for name, widget in self._widgets.items():
            value = choice_titles(name).get(values[name], values[name])
            shown = value if value != "" else _("none")
            widget.toolTip = f"{self._texts[name]}\n" + _("By this preset: {value}").format(value=shown)
