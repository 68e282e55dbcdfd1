"""Displacement, maps and PET over the anatomy in the slice views."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
from FoundationRegistrationBridge.scene.displacement_file import ENDINGS, write_displacement_field
from FoundationRegistrationBridge.scene.maps import EXPECTED_ERROR, JACOBIAN, map_of
from FoundationRegistrationBridge.scene.transforms import fixed_of
from FoundationRegistrationBridge.views.field_display import show_displacement, shown_displacement
from FoundationRegistrationBridge.views.overlay import MapOverlay, PetOverlay
from slicer.i18n import tr as _

_MAPS = (JACOBIAN, EXPECTED_ERROR)
_DISPLACEMENTS = ("off", "grid", "arrows")


class MapsView:
    """Connects the rows *Map*, *Displacement* and the section *PET overlay* to the slice views.

    Args:
        ui: the panel's widgets.
        guarded: context manager that shows errors.
        on_changed: called when an overlay begins or ends.
    """

    def __init__(self, ui: Any, guarded: Callable[[], Any], on_changed: Callable[[], None]) -> None:
        self._ui = ui
        self._guarded = guarded
        self._on_changed = on_changed
        self._parameters: Any = None
        self._pet: PetOverlay | None = None
        self._map: MapOverlay | None = None
        self._overlaid: Any = None
        self._displaced: Any = None
        ui.displacementSelector.addItems([_("off"), _("grid"), _("arrows")])
        ui.mapSelector.addItems([_("off"), _("Jacobian"), _("expected error")])
        ui.displacementSelector.connect("activated(int)", self._on_displacement)
        ui.mapSelector.connect("activated(int)", self._on_map)
        ui.petButton.connect("clicked(bool)", self._on_pet)
        ui.saveFieldButton.connect("clicked(bool)", self._on_save_field)

    @property
    def is_open(self) -> bool:
        """Whether the slice views show an overlay."""
        return any(overlay is not None and overlay.is_shown for overlay in (self._pet, self._map))

    def show(self, parameters: Any, *, ready: bool) -> None:
        """Enable what the chosen registration allows, and take over the chosen SUV window and opacity.

        An overlay of another registration ends, and its displacement is hidden.
        """
        ui, transform = self._ui, parameters.resultTransform
        if self.is_open and transform is not self._overlaid:
            self.close()
        self._displace(transform if ready else None)
        self._parameters = parameters
        ui.displacementSelector.enabled = ui.saveFieldButton.enabled = ready
        ui.mapSelector.enabled = ready and any(map_of(transform, kind) is not None for kind in _MAPS)
        ui.petButton.enabled = ready and parameters.petVolume is not None
        if self._pet is not None and self._pet.is_shown:
            self._pet.set_opacity(parameters.petOpacity / 100)
            with self._guarded():
                self._pet.set_window(parameters.petLower, parameters.petUpper)

    def update(self) -> None:
        """Show in the widgets what is still there; others may have ended it."""
        ui = self._ui
        ui.displacementSelector.currentIndex = _DISPLACEMENTS.index(shown_displacement(self._displaced))
        if not (self._map is not None and self._map.is_shown):
            ui.mapSelector.currentIndex = 0
        shown = self._pet is not None and self._pet.is_shown
        ui.petButton.checked = shown
        ui.petButton.text = _("Hide") if shown else _("Show")
        ui.petNote.text = self._pet.caution if shown else ""
        ui.petNote.visible = bool(ui.petNote.text)

    def close(self) -> None:
        """Restore the user's own views."""
        for overlay in (self._pet, self._map):
            if overlay is not None:
                overlay.hide()
        self._pet = self._map = None

    def _displace(self, transform: Any) -> None:
        """Choose whose displacement may be drawn, or None; that of the former registration is hidden."""
        former, self._displaced = self._displaced, transform
        if former is not None and former is not transform and former.GetScene() is not None:
            show_displacement(former, "off", None)

    def _on_displacement(self, index: int) -> None:
        transform = self._parameters.resultTransform
        with self._guarded():
            show_displacement(transform, _DISPLACEMENTS[index], fixed_of(transform))
        self.update()

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
            node = map_of(transform, _MAPS[index - 1]) if index else None
            if self._map is not None:
                self._map.hide()
            if node is not None:
                self._overlaid = transform
                self._map = MapOverlay(node, fixed_of(transform))
                self._map.show()
        self._on_changed()

    def _on_pet(self, checked: bool) -> None:
        parameters = self._parameters
        with self._guarded():
            if checked:
                transform = self._overlaid = parameters.resultTransform
                self._pet = PetOverlay(parameters.petVolume, fixed_of(transform), transform)
                self._pet.show(parameters.petLower, parameters.petUpper, parameters.petOpacity / 100)
            elif self._pet is not None:
                self._pet.hide()
        self._on_changed()
