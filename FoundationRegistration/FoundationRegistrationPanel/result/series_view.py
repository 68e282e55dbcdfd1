"""What the Result section offers for a contrast series: its subtraction over the anatomy, and curves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from FoundationRegistrationBridge.series.sequences import Browsed, time_points
from FoundationRegistrationBridge.views.overlay import MapOverlay
from slicer.i18n import tr as _

from ..choosing.mask_segments import SegmentSelector
from ..parameters import mask_of
from ..tasks import SERIES

_LABELS = "curveLabels"
_OPACITY = 0.6  # the anatomy stays visible below


class SeriesView:
    """Connects the rows *Subtraction* and *Curve* to the slice views and the plot.

    Args:
        ui: the panel's widgets.
        guarded: context manager that shows errors.
        subtract: returns the volume node of a subtraction, from a registered series and a time point or None.
        plot: shows the curves of a registered series in labels.
        on_changed: called when an overlay begins or ends.
    """

    def __init__(
        self,
        ui: Any,
        guarded: Callable[[], Any],
        subtract: Callable[..., Any],
        plot: Callable[..., Any],
        on_changed: Callable[[], None],
    ) -> None:
        self._ui = ui
        self._guarded = guarded
        self._subtract = subtract
        self._plot = plot
        self._on_changed = on_changed
        self._segments = SegmentSelector(ui.curveSegmentSelector, _LABELS)
        self._parameters: Any = None
        self._overlay: MapOverlay | None = None
        self._titles: list[str] = []
        self._overlaid: Any = None
        ui.subtractionSelector.connect("activated(int)", self._on_time_point)
        ui.subtractionButton.connect("clicked(bool)", self._on_subtraction)
        ui.curveButton.connect("clicked(bool)", self._on_curve)

    @property
    def is_open(self) -> bool:
        """Whether the slice views show a subtraction."""
        return self._overlay is not None and self._overlay.is_shown

    def show(self, parameters: Any) -> None:
        """Show the rows if the task is a contrast series with a result; a subtraction of another one ends."""
        self._parameters = parameters
        ui, series = self._ui, parameters.resultSeries if parameters.task == SERIES else None
        if self.is_open and series is not self._overlaid:
            self.close()
        ui.seriesBox.visible = series is not None
        titles = time_points(series)[1:] if series is not None else []
        if titles != self._titles:
            self._titles = titles
            ui.subtractionSelector.clear()
            ui.subtractionSelector.addItems(
                [_("First minute"), *[_("Time point {title}").format(title=title) for title in titles]]
            )
        self._segments.show(parameters)
        ui.curveButton.enabled = series is not None and parameters.curveLabels is not None

    def update(self) -> None:
        """Show in the widgets whether the subtraction is still there; others may have ended it."""
        self._ui.subtractionButton.checked = self.is_open
        self._ui.subtractionButton.text = _("Hide") if self.is_open else _("Show")

    def close(self) -> None:
        """Restore the user's own views."""
        if self._overlay is not None:
            self._overlay.hide()
        self._overlay = None

    def forget(self) -> None:
        """Forget the labels of the curves: another scene is being opened."""
        self._segments.forget()

    def _on_time_point(self, index: int) -> None:
        if self.is_open:
            self._on_subtraction(True)

    def _on_subtraction(self, checked: bool) -> None:
        series = self._parameters.resultSeries
        with self._guarded():
            self.close()
            if checked:
                chosen = self._ui.subtractionSelector.currentIndex
                volume = self._subtract(series, chosen or None)
                self._overlay = MapOverlay(volume, Browsed.of(series).proxy)
                self._overlay.show(_OPACITY)
                self._overlaid = series
        self._on_changed()

    def _on_curve(self, checked: bool = False) -> None:
        with self._guarded():
            self._plot(self._parameters.resultSeries, mask_of(self._parameters, _LABELS))
