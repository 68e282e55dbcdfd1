"""The Result section: compare, displacement, maps, PET overlay and quality of one registration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
from FoundationRegistrationBridge.compare import Comparison
from FoundationRegistrationBridge.displacement_file import ENDINGS, write_displacement_field
from FoundationRegistrationBridge.feature_preview import show_features
from FoundationRegistrationBridge.field_display import colour_expected_error, colour_jacobian, show_displacement
from FoundationRegistrationBridge.overlay import MapOverlay, PetOverlay
from FoundationRegistrationBridge.transforms import fixed_of, stored_record
from slicer.i18n import tr as _

_FLICKER_MILLISECONDS = 600
_MOST_CELLS = 32
_MAP_ROLES = ("FoundationRegistration.Jacobian", "FoundationRegistration.ExpectedError")
_FEATURE_ROLES = ("FoundationRegistration.FixedFeatures", "FoundationRegistration.MovingFeatures")
# Of a verdict: background and text. The words tell green, amber and red apart too.
VERDICT_COLOURS = {"good": ("#1f7a42", "white"), "check": ("#ffcf5c", "black"), "failed": ("#b3261e", "white")}
_VERDICT_WORDS = {
    "good": "Good: the volumes agree as in accurate registrations. Look before you rely on it.",
    "check": "Check this result before you use it.",
    "failed": "Failed: do not use this result.",
}
_OFF, _FADE, _FLICKER, _CHECKERBOARD, _FEATURES = range(5)


def keep_maps(outputs: Any) -> None:
    """Link maps and features of a registration to its transform node, and set the colours of the maps.

    Args:
        outputs: `JobOutputs` of the bridge.
    """
    maps = (outputs.jacobian_node, outputs.expected_error_node)
    for role, node in zip(
        (*_MAP_ROLES, *_FEATURE_ROLES), (*maps, *(outputs.feature_nodes or (None, None))), strict=True
    ):
        outputs.transform_node.SetNodeReferenceID(role, node.GetID() if node is not None else None)
    for node, colour in zip(maps, (colour_jacobian, colour_expected_error), strict=True):
        if node is not None:
            colour(node)


class ResultView:
    """Connects the widgets of the Result section to the views; at most one is active at a time.

    Args:
        ui: the panel's widgets.
        guarded: context manager that shows errors.
    """

    def __init__(self, ui: Any, guarded: Callable[[], Any]) -> None:
        self._ui = ui
        self._guarded = guarded
        self._parameters: Any = None
        self._comparison: Comparison | None = None
        self._compares_features = False
        self._pet: PetOverlay | None = None
        self._map: MapOverlay | None = None
        self._flicker = qt.QTimer()
        self._flicker.setInterval(_FLICKER_MILLISECONDS)
        self._flicker.connect("timeout()", self._on_flicker)
        ui.compareSelector.addItems([_("off"), _("fade"), _("flicker"), _("checkerboard"), _("features")])
        ui.displacementSelector.addItems([_("off"), _("grid"), _("arrows")])
        ui.mapSelector.addItems([_("off"), _("Jacobian"), _("expected error")])
        ui.compareSelector.connect("activated(int)", self._on_compare)
        ui.compareSlider.connect("valueChanged(int)", self._on_compare_amount)
        ui.displacementSelector.connect("activated(int)", self._on_displacement)
        ui.mapSelector.connect("activated(int)", self._on_map)
        ui.petButton.connect("clicked(bool)", self._on_pet)
        ui.saveFieldButton.connect("clicked(bool)", self._on_save_field)

    def show(self, parameters: Any) -> None:
        """Show the parameter node's choices, and enable the widgets they allow."""
        self._parameters = parameters
        ui, transform = self._ui, parameters.resultTransform
        ready = transform is not None and fixed_of(transform) is not None
        ui.compareSelector.enabled = ready and parameters.resultVolume is not None
        ui.compareSlider.enabled = ui.compareSelector.enabled
        ui.displacementSelector.enabled = ui.saveFieldButton.enabled = ready
        ui.mapSelector.enabled = ready and any(transform.GetNodeReference(role) for role in _MAP_ROLES)
        ui.petButton.enabled = ready and parameters.petVolume is not None
        ui.qualityButton.enabled = ready
        record = stored_record(transform) if transform is not None else {}
        self._show_verdict(record.get("verdict"))
        ui.resultNote.text = "\n".join(words_of(record))
        if self._pet is not None and self._pet.is_shown:
            self._pet.set_opacity(parameters.petOpacity / 100)
            with self._guarded():
                self._pet.set_window(parameters.petLower, parameters.petUpper)
        self._show_switches()

    def _show_verdict(self, verdict: Any) -> None:
        """Show the verdict of a run in its colour, with the reasons; nothing for a record of an earlier version."""
        note = self._ui.verdictNote
        note.visible = verdict is not None
        if verdict is not None:
            background, text = VERDICT_COLOURS[verdict["level"]]
            note.text = "\n".join([_(_VERDICT_WORDS[verdict["level"]]), *verdict["reasons"]])
            note.setStyleSheet(f"background-color: {background}; color: {text}; padding: 4px;")

    def close(self) -> None:
        """Restore the user's own views."""
        self._flicker.stop()
        if self._comparison is not None:
            self._comparison.close()
        for overlay in (self._pet, self._map):
            if overlay is not None:
                overlay.hide()
        self._comparison = self._pet = self._map = None
        self._show_switches()

    def _show_switches(self) -> None:
        """Update the switches to what is shown now: a new view ends another, and so may scene changes."""
        ui = self._ui
        if not (self._comparison is not None and self._comparison.is_open):
            ui.compareSelector.currentIndex = 0
            self._flicker.stop()
        if not (self._map is not None and self._map.is_shown):
            ui.mapSelector.currentIndex = 0
        shown = self._pet is not None and self._pet.is_shown
        ui.petButton.checked = shown
        ui.petButton.text = _("Hide") if shown else _("Show")
        ui.petNote.text = self._pet.caution if shown else ""
        ui.petNote.visible = bool(ui.petNote.text)

    def _on_compare(self, index: int) -> None:
        with self._guarded():
            if index == _OFF:
                self.close()
                return
            of_features = index == _FEATURES
            if self._comparison is None or not self._comparison.is_open or of_features != self._compares_features:
                self._comparison = self._new_comparison(of_features)
                self._compares_features = of_features
            if index == _FLICKER:
                self._comparison.flicker(True)
                self._flicker.start()
            else:
                self._flicker.stop()
                self._on_compare_amount(self._ui.compareSlider.value)
        self._show_switches()

    def _new_comparison(self, of_features: bool) -> Comparison:
        transform = self._parameters.resultTransform
        if of_features:
            return show_features(*(transform.GetNodeReference(role) for role in _FEATURE_ROLES))
        return Comparison(fixed_of(transform), self._parameters.resultVolume)

    def _on_compare_amount(self, percent: int) -> None:
        if self._comparison is None or not self._comparison.is_open:
            return
        with self._guarded():
            if self._ui.compareSelector.currentIndex in (_FADE, _FEATURES):
                self._comparison.fade(percent / 100)
            elif self._ui.compareSelector.currentIndex == _CHECKERBOARD:
                self._comparison.checkerboard(2 + round(percent / 100 * (_MOST_CELLS - 2)))

    def _on_flicker(self) -> None:
        if self._comparison is not None and self._comparison.is_open:
            self._comparison.tick()
        else:
            self._show_switches()

    def _on_displacement(self, index: int) -> None:
        transform = self._parameters.resultTransform
        with self._guarded():
            show_displacement(transform, ("off", "grid", "arrows")[index], fixed_of(transform))

    def _on_save_field(self, checked: bool = False) -> None:
        transform = self._parameters.resultTransform
        name, kinds = f"{transform.GetName()}.nii.gz", " ".join(f"*{ending}" for ending in ENDINGS)
        title, kinds = _("Save displacement field"), f"{_('Displacement field')} ({kinds})"
        path = qt.QFileDialog.getSaveFileName(self._ui.saveFieldButton, title, name, kinds)
        if path:
            with self._guarded():
                write_displacement_field(transform, Path(path))

    def _on_map(self, index: int) -> None:
        transform = self._parameters.resultTransform
        with self._guarded():
            node = transform.GetNodeReference(_MAP_ROLES[index - 1]) if index else None
            if node is None:
                self.close()
                return
            if self._map is not None:
                self._map.hide()
            self._map = MapOverlay(node, fixed_of(transform))
            self._map.show()
        self._show_switches()

    def _on_pet(self, checked: bool) -> None:
        parameters = self._parameters
        with self._guarded():
            if checked:
                self._pet = PetOverlay(
                    parameters.petVolume, fixed_of(parameters.resultTransform), parameters.resultTransform
                )
                self._pet.show(parameters.petLower, parameters.petUpper, parameters.petOpacity / 100)
            elif self._pet is not None:
                self._pet.hide()
        self._show_switches()


def words_of(record: Any) -> list[str]:
    """Return the messages of a run, the most serious first, followed by its key figures."""
    return [line for line in (*record.get("messages", ()), summary(record)) if line]


def summary(record: Any) -> str:
    """Return the key figures of a run record in a line; empty if there is none."""
    metrics = record.get("metrics")
    if not metrics:
        return ""
    stages = record["settings"].get("stages", "deformable")
    if stages != "deformable":
        return _(
            "{stages} registration: volumes change by {percent:+.1f} %; the expected error is not known."
        ).format(stages=stages.capitalize(), percent=100.0 * (1.0 / metrics["jacobian"]["mean"] - 1.0))
    text = _(
        "{folded:.3f} % of the anatomy folded; inverse consistency error {mean:.2f} mm; encoder {encoder}."
    ).format(
        folded=metrics["jacobian"]["folded_percent"],
        mean=metrics["inverse_error_mm"]["mean"],
        encoder=record["settings"]["encoder"],
    )
    if lesions := metrics.get("lesion_volume_change_percent"):
        largest = max(abs(lesion["percent"]) for lesion in lesions)
        text += " " + _("Marked lesions keep their volume within {percent:.1f} %.").format(percent=largest)
    expected = metrics.get("expected_error")
    if expected is None:  # record of an earlier version
        return text
    if expected["median_mm"] is None:
        return text
    words = _(
        "Expected error {median:.1f} mm (median; 90 % of true errors are below {spread:.1f} mm), above 5 mm in "
        "{above:.0f} % of the anatomy."
    )
    figures = {
        "median": expected["median_mm"],
        "spread": expected["spread_mm"],
        "above": expected["above_5_mm_percent"],
    }
    return f"{text} {words.format(**figures)}"
