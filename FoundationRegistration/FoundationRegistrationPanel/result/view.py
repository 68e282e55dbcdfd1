"""The Result section: the verdict first, comparison and maps, figures, and what to do if it is bad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from FoundationRegistrationBridge.run.files_to_nodes import registered_volume_of
from FoundationRegistrationBridge.scene.transforms import fixed_of, stored_record
from FoundationRegistrationBridge.series.sequences import time_points

from ..choosing.dependent import Dependent
from ..tasks import SERIES
from .comparison_view import FADE, ComparisonView
from .maps_view import MapsView
from .series_view import SeriesView
from .verdict_view import VerdictView
from .ways_out import WaysOut

# What the result of a series does not have.
_OF_A_PAIR = (
    *("compareLabel", "compareSelector", "compareSlider", "mapLabel", "mapSelector"),
    *("displacementLabel", "displacementSelector", "petSection", "resultTransformLabel", "resultTransformSelector"),
    *("resultVolumeLabel", "resultVolumeSelector", "saveFieldButton", "qualitySection"),
)


class ResultView:
    """Shows one registration, of a pair or of a series; of its views at most one is active at a time.

    Args:
        ui: the panel's widgets.
        guarded: context manager that shows errors.
        use_method: called with the name of a task to choose it for the next run.
        logic: makes the subtraction and the curves of a series.
    """

    def __init__(self, ui: Any, guarded: Callable[[], Any], use_method: Callable[[str], None], logic: Any) -> None:
        self._ui = ui
        # How the last run without a result has ended, by whether it was one of a series.
        self._ended: dict[bool, str | None] = {}
        self._run_is_lost = False  # its scene was closed
        self._volume = Dependent("resultVolume", "resultTransform", _volume_of)
        self._verdict = VerdictView(ui)
        self._comparison = ComparisonView(ui, guarded, self._update)
        self._maps = MapsView(ui, guarded, self._update)
        self._series = SeriesView(ui, guarded, logic.subtractSeries, logic.plotCurves, self._update)
        self._ways = WaysOut(ui, guarded, use_method)
        ui.stopButton.connect("clicked(bool)", self.close)

    def show(self, parameters: Any, *, busy: bool = False) -> None:
        """Show the registration chosen in a parameter node, or how the run without one has ended.

        Args:
            parameters: the parameter node.
            busy: a run goes on, for which nothing must be moved.
        """
        self._volume.show(parameters)
        of_series = parameters.task == SERIES
        for name in _OF_A_PAIR:
            getattr(self._ui, name).visible = not of_series
        result = parameters.resultSeries if of_series else parameters.resultTransform
        ready = not of_series and result is not None and fixed_of(result) is not None
        self._comparison.show(parameters, ready=ready)
        self._maps.show(parameters, ready=ready)
        self._series.show(parameters)
        record = stored_record(result) if result is not None else {}
        if result is not None:
            self._ended.pop(of_series, None)
        has_ended = of_series in self._ended
        if of_series and not has_ended:
            self._verdict.show_series(record, time_points(result) if result is not None else [])
            self._ways.show(parameters, [], offered=False)
        elif not has_ended:
            self._verdict.show(record)
            verdict = record.get("verdict") or {"level": "good", "reasons": []}
            self._ways.show(parameters, verdict["reasons"], offered=verdict["level"] != "good" and not busy)
        else:
            error = self._ended[of_series]
            self._verdict.show_end(error)
            reasons = [error] if error else []
            self._ways.show(parameters, reasons, offered=bool(reasons) and not busy and not of_series)
        self._update()

    def begin(self, parameters: Any, *, fade: bool) -> None:
        """Show a new result.

        Args:
            parameters: the parameter node with the result.
            fade: show a fade that runs by itself, if there is a registered volume.
        """
        self.close()
        self.show(parameters, busy=True)
        self._ui.resultSection.collapsed = False
        if fade and parameters.task != SERIES and parameters.resultVolume is not None:
            self._comparison.compare(FADE)

    def end(self, parameters: Any, error: str | None, *, of_series: bool) -> None:
        """Show that a run has ended without a result; of an earlier one of its kind nothing remains here.

        In another scene than its own it changes nothing.

        Args:
            parameters: the parameter node, which no longer has a result of this kind.
            error: why it failed; None if it was cancelled.
            of_series: whether it was the run of a series, whatever the task is now.
        """
        if self._run_is_lost:
            return
        self.close()
        self._ended[of_series] = error
        if of_series:
            parameters.resultSeries = None
        else:
            parameters.resultTransform = parameters.resultVolume = None
        self.show(parameters, busy=True)
        self._ui.resultSection.collapsed = False

    def prepare_run(self) -> None:
        """Take over what a way out has prepared, and give back the views."""
        self._run_is_lost = False
        self._ways.finish()
        self._comparison.hold()

    def leave(self) -> None:
        """Let the picture stand still while another module is open."""
        self._comparison.hold()

    def close(self, checked: bool = False) -> None:
        """Restore the user's own views."""
        self._comparison.close()
        self._maps.close()
        self._series.close()
        self._update()

    def close_all(self) -> None:
        """Also end what a way out has begun, without a trace, and forget the last run: the scene is closed."""
        self._run_is_lost = True
        self._ended.clear()
        self._ways.cancel()
        self.close()

    def forget(self) -> None:
        """Forget what was chosen: another scene is being opened."""
        self._volume.forget()
        self._series.forget()

    def _update(self) -> None:
        self._comparison.update()
        self._maps.update()
        self._series.update()
        self._ui.stopButton.enabled = any(view.is_open for view in (self._comparison, self._maps, self._series))


def _volume_of(transform: Any) -> Any:
    return registered_volume_of(transform) if transform is not None else None
