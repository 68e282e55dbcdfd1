"""Compares fixed and registered volume in the slice views: fade, flicker, checkerboard, features."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import qt
from FoundationRegistrationBridge.scene.maps import FIXED_FEATURES, MOVING_FEATURES, map_of
from FoundationRegistrationBridge.scene.transforms import fixed_of
from FoundationRegistrationBridge.views.compare import Comparison
from FoundationRegistrationBridge.views.feature_preview import show_features
from slicer.i18n import tr as _

OFF, FADE, FLICKER, CHECKERBOARD, FEATURES = range(5)
_FADE_MILLISECONDS = 60
_FADE_TICKS = 100
"""From one volume to the other and back."""
_FLICKER_MILLISECONDS = 600
_MOST_CELLS = 32
_STEP_PERCENT = 10
_NO_VOLUME = (
    "The registration under Details has no registered volume, or it was removed: choose or make one to compare"
)
_KEYS = {"Alt+Left": "step_back", "Alt+Right": "step_on", "Alt+Up": "toggle", "Alt+Down": "stop"}


class ComparisonView:
    """Connects the row *Compare* to the slice views.

    Args:
        ui: the panel's widgets.
        guarded: context manager that shows errors.
        on_changed: called when it begins or ends.
    """

    def __init__(self, ui: Any, guarded: Callable[[], Any], on_changed: Callable[[], None]) -> None:
        self._ui = ui
        self._guarded = guarded
        self._on_changed = on_changed
        self._parameters: Any = None
        self._comparison: Comparison | None = None
        self._compares_features = False
        self._compared: tuple[Any, Any] = (None, None)
        self._ticks = 0
        self._tip = ui.compareSelector.toolTip
        self._timer = qt.QTimer()
        self._timer.connect("timeout()", self._on_tick)
        ui.compareSelector.addItems([_("off"), _("fade"), _("flicker"), _("checkerboard"), _("features")])
        ui.compareSelector.connect("activated(int)", self.compare)
        ui.compareSlider.connect("valueChanged(int)", self._on_amount)
        ui.compareSlider.connect("actionTriggered(int)", self._on_hand)
        self._shortcuts = [self._shortcut(key, getattr(self, name)) for key, name in _KEYS.items()]

    @property
    def is_open(self) -> bool:
        """Whether the slice views show a comparison."""
        return self._comparison is not None and self._comparison.is_open

    @property
    def runs(self) -> bool:
        """Whether the picture changes by itself."""
        return self._timer.isActive()

    def show(self, parameters: Any, *, ready: bool) -> None:
        """Enable what the chosen registration allows; a comparison of another one ends."""
        self._parameters = parameters
        if self.is_open and self._compared != (parameters.resultTransform, parameters.resultVolume):
            self.close()
        without_volume = ready and parameters.resultVolume is None
        self._ui.compareSelector.enabled = self._ui.compareSlider.enabled = ready and not without_volume
        self._ui.compareSelector.toolTip = _(_NO_VOLUME) if without_volume else self._tip

    def update(self) -> None:
        """Show in the widgets whether the comparison is still there; others may have ended it."""
        if not self.is_open:
            self._ui.compareSelector.currentIndex = OFF
            self._timer.stop()
        for shortcut in self._shortcuts:
            shortcut.enabled = self.is_open

    def compare(self, kind: int) -> None:
        """Begin one of the comparisons, or end with `OFF`."""
        self._ui.compareSelector.currentIndex = kind
        with self._guarded():
            if kind == OFF:
                self.close()
            else:
                self._begin(kind)
        self._on_changed()

    def close(self) -> None:
        """Restore the user's own views."""
        self._timer.stop()
        if self._comparison is not None:
            self._comparison.close()
        self._comparison = None

    def hold(self) -> None:
        """Let the picture stand still."""
        self._timer.stop()

    def step_back(self) -> None:
        """Show more of the fixed volume."""
        self._step(-_STEP_PERCENT)

    def step_on(self) -> None:
        """Show more of the registered volume."""
        self._step(_STEP_PERCENT)

    def toggle(self) -> None:
        """Hold the fade or flicker, or let it go on."""
        if self.runs:
            self.hold()
        elif self._ui.compareSelector.currentIndex in (FADE, FLICKER):
            self._run(self._ui.compareSelector.currentIndex)

    def stop(self) -> None:
        """End, as the entry *off* does."""
        self.compare(OFF)

    def _begin(self, kind: int) -> None:
        of_features = kind == FEATURES
        if not self.is_open or of_features != self._compares_features:
            self._comparison = self._new(of_features)
            self._compares_features = of_features
            self._compared = (self._parameters.resultTransform, self._parameters.resultVolume)
        if kind == FLICKER:
            self._comparison.flicker(True)
        else:
            self._on_amount(self._ui.compareSlider.value)
        self._timer.stop()
        if kind in (FADE, FLICKER):
            self._run(kind)

    def _run(self, kind: int) -> None:
        self._ticks = round(math.acos(1.0 - self._ui.compareSlider.value / 50.0) / (2.0 * math.pi) * _FADE_TICKS)
        self._timer.start(_FLICKER_MILLISECONDS if kind == FLICKER else _FADE_MILLISECONDS)

    def _new(self, of_features: bool) -> Comparison:
        transform = self._parameters.resultTransform
        if of_features:
            return show_features(*(map_of(transform, kind) for kind in (FIXED_FEATURES, MOVING_FEATURES)))
        return Comparison(fixed_of(transform), self._parameters.resultVolume)

    def _on_amount(self, percent: int) -> None:
        if not self.is_open:
            return
        with self._guarded():
            if self._ui.compareSelector.currentIndex in (FADE, FEATURES):
                self._comparison.fade(percent / 100)
            elif self._ui.compareSelector.currentIndex == CHECKERBOARD:
                self._comparison.checkerboard(2 + round(percent / 100 * (_MOST_CELLS - 2)))

    def _on_hand(self, action: int) -> None:
        """The user took the slider."""
        if self._ui.compareSelector.currentIndex == FADE:
            self.hold()

    def _step(self, percent: int) -> None:
        self.hold()
        self._ui.compareSlider.value = min(max(self._ui.compareSlider.value + percent, 0), 100)

    def _on_tick(self) -> None:
        if not self.is_open:
            self._on_changed()
        elif self._comparison.flickers:
            self._comparison.tick()
        else:
            self._ticks += 1
            self._ui.compareSlider.value = round(50.0 * (1.0 - math.cos(2.0 * math.pi * self._ticks / _FADE_TICKS)))

    def _shortcut(self, key: str, act: Callable[[], None]) -> Any:
        shortcut = qt.QShortcut(qt.QKeySequence(key), self._ui.compareSlider)
        shortcut.connect("activated()", act)
        shortcut.enabled = False
        return shortcut
