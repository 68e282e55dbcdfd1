"""What to do if a registration is bad, one click below its verdict; each way prepares the next run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import qt
import slicer
import slicer.util
from FoundationRegistrationBridge.preparing.by_hand import HandAlignment
from FoundationRegistrationBridge.preparing.landmark_placing import LandmarkPlacing
from FoundationRegistrationBridge.preparing.mask_drawing import new_mask
from FoundationRegistrationBridge.scene.transforms import fixed_of, moving_of, stored_record
from slicer.i18n import tr as _

from ..wording.facts import preset_title
from .next_method import next_method

_SEARCHED = ("rigid", "affine")
_BUTTONS = ("alignByLandmarksButton", "alignByHandButton", "drawMaskButton", "anotherTaskButton")


class WaysOut:
    """Connects the buttons below the verdict to the parameter node of the next run; at most one way is under way.

    Args:
        ui: the panel's widgets.
        guarded: context manager that shows errors.
        use_method: called with the name of a task, which is also that of its preset, to choose it.
    """

    def __init__(self, ui: Any, guarded: Callable[[], Any], use_method: Callable[[str], None]) -> None:
        self._ui = ui
        self._guarded = guarded
        self._use_method = use_method
        self._parameters: Any = None
        self._reasons: Sequence[str] = ()
        self._hand: HandAlignment | None = None
        self._landmarks: LandmarkPlacing | None = None
        for name, act in zip(
            _BUTTONS, (self._on_landmarks, self._on_hand, self._on_mask, self._on_method), strict=True
        ):
            getattr(ui, name).connect("clicked(bool)", act)
        ui.wayDoneButton.connect("clicked(bool)", self.finish)
        ui.wayCancelButton.connect("clicked(bool)", self.cancel)

    def show(self, parameters: Any, reasons: Sequence[str], *, offered: bool) -> None:
        """Offer the ways out, or hide them if there is no need."""
        ui, self._parameters = self._ui, parameters
        if list(reasons) != list(self._reasons):
            self._reasons = list(reasons)
            self._say("")
        ui.waysBox.visible = offered or self._under_way
        pair = parameters.fixedVolume is not None and parameters.movingVolume is not None
        for name in _BUTTONS:
            getattr(ui, name).enabled = pair and not self._under_way
        if offered and ui.anotherTaskButton.enabled:
            ui.anotherTaskButton.enabled = bool(self._next_method())
        ui.wayDoneButton.visible = ui.wayCancelButton.visible = self._under_way

    def finish(self, checked: bool = False) -> None:
        """Take over what was prepared for the next run, and restore the user's views."""
        with self._guarded():
            if self._hand is not None:
                hand, self._hand = self._hand, None
                self._parameters.initialTransform = hand.accept()
                self._say(_("Press Register: the next run starts from your alignment."))
            if self._landmarks is not None:
                landmarks, self._landmarks = self._landmarks, None
                self._start_from(landmarks)
        self._renew()

    def _start_from(self, landmarks: LandmarkPlacing) -> None:
        """Let the next run start from landmarks, which only an alignment that is searched for can do."""
        parameters, pairs = self._parameters, landmarks.pairs
        if pairs == 0:
            landmarks.discard()
            self._say("")
            return
        landmarks.close()
        self._say(_("Press Register: {count} pair(s) of landmarks lead the next run.").format(count=pairs))
        parameters.fixedDrivingPoints, parameters.movingDrivingPoints = landmarks.point_lists
        parameters.initialTransform = None
        if parameters.initialization not in _SEARCHED:
            parameters.initialization = "rigid"

    def cancel(self, checked: bool = False) -> None:
        """Leave without a trace: the moving volume is where it was, and new landmarks are removed."""
        if self._hand is not None:
            self._hand.cancel()
        if self._landmarks is not None:
            self._landmarks.discard()
        self._hand = self._landmarks = None
        self._say("")
        self._renew()

    @property
    def _under_way(self) -> bool:
        return self._hand is not None or self._landmarks is not None

    def _on_landmarks(self, checked: bool = False) -> None:
        parameters = self._parameters
        lists = (parameters.fixedDrivingPoints, parameters.movingDrivingPoints)
        with self._guarded():
            self._landmarks = LandmarkPlacing(
                parameters.fixedVolume,
                parameters.movingVolume,
                lists if None not in lists else None,
                later=lambda call: qt.QTimer.singleShot(0, call),
            )
            self._say(
                _(
                    "Click the same spot in the fixed and in the moving volume, which the views show by turns; after "
                    "at least three spots far from each other press Done."
                )
            )
        self._renew()

    def _on_hand(self, checked: bool = False) -> None:
        with self._guarded():
            self._hand = HandAlignment(self._parameters.fixedVolume, self._parameters.movingVolume)
            self._say(
                _(
                    "Drag the handles in the slice or 3D views until the two volumes lie roughly on each other; then "
                    "press Done."
                )
            )
        self._renew()

    def _on_mask(self, checked: bool = False) -> None:
        parameters = self._parameters
        with self._guarded():
            mask = parameters.fixedMask
            if mask is None or not mask.IsA("vtkMRMLSegmentationNode"):
                mask = new_mask(parameters.fixedVolume)
                parameters.fixedMask = mask
                parameters.fixedMaskSegment = ""
            self._say(
                _(
                    "Draw in '{mask}' what is to be registered, such as the organ without the table and other body "
                    "parts; then come back and press Register."
                ).format(mask=mask.GetName())
            )
            _open_in_segment_editor(mask, parameters.fixedVolume)

    def _on_method(self, checked: bool = False) -> None:
        preset = self._next_method()
        if preset:
            self._use_method(preset)
            title = preset_title(preset)
            self._say(_("The method is now '{title}'; press Register.").format(title=title))
        self._renew()

    def _next_method(self) -> str:
        return next_method(self._reasons, _tried(self._parameters))

    def _renew(self) -> None:
        if self._parameters is not None:
            self.show(self._parameters, self._reasons, offered=self._ui.waysBox.visible)

    def _say(self, text: str) -> None:
        self._ui.wayNote.text = text
        self._ui.wayNote.visible = bool(text)


def _tried(parameters: Any) -> set[str]:
    """Return the presets that the chosen volumes were registered with, and the chosen one."""
    pair = (parameters.fixedVolume, parameters.movingVolume)
    nodes = slicer.util.getNodesByClass("vtkMRMLTransformNode")
    records = [stored_record(node) for node in nodes if (fixed_of(node), moving_of(node)) == pair]
    return {
        parameters.preset,
        *(record["settings"]["preset"] for record in records if "preset" in record.get("settings", {})),
    }


def _open_in_segment_editor(mask: Any, volume: Any) -> None:
    """Open Slicer's Segment Editor on a mask, if the application has one."""
    module = getattr(slicer.modules, "segmenteditor", None)
    if module is None:
        return
    slicer.util.selectModule(module)
    editor = module.widgetRepresentation().self().editor
    editor.setSegmentationNode(mask)
    editor.setSourceVolumeNode(volume)
