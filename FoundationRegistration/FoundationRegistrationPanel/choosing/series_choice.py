"""Fixed and moving image of a contrast series: one of its time points, and the series."""

from __future__ import annotations

from typing import Any

import slicer.util
from FoundationRegistrationBridge.series.sequences import sequence_shown_in, time_points
from slicer.i18n import tr as _

from ..tasks import SERIES

MEAN = "mean"
_FIRST = "0"
# Of the volumes, those that a sequence browser shows have this attribute.
_SHOWN_BY_BROWSER = "Sequences.BaseName"


class SeriesChoice:
    """Takes the place of the two volume selectors while the task is a contrast series.

    Args:
        ui: the panel's widgets.
    """

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._parameters: Any = None
        ui.seriesSelector.addAttribute("vtkMRMLScalarVolumeNode", _SHOWN_BY_BROWSER)
        ui.referenceSelector.connect("activated(int)", self._on_reference)

    def show(self, parameters: Any) -> None:
        """Show the rows of the task, and the time points of the chosen series."""
        self._parameters = parameters
        ui, of_series = self._ui, parameters.task == SERIES
        for widget in (ui.seriesLabel, ui.seriesSelector, ui.referenceLabel, ui.referenceSelector):
            widget.visible = of_series
        for widget in (ui.fixedVolumeLabel, ui.fixedVolumeSelector, ui.movingVolumeLabel, ui.movingVolumeSelector):
            widget.visible = not of_series
        titles = time_points(parameters.series) if of_series and parameters.series is not None else []
        ui.referenceSelector.clear()
        ui.referenceSelector.addItems([_("Time point {title}").format(title=title) for title in titles])
        ui.referenceSelector.enabled = bool(titles)
        if titles:
            ui.referenceSelector.addItem(_("Mean of all time points"))
            reference = reference_of(parameters)
            if reference != MEAN and reference >= len(titles):  # it was one of a longer series
                reference, parameters.referenceTimePoint = 0, _FIRST
            ui.referenceSelector.currentIndex = len(titles) if reference == MEAN else reference

    def _on_reference(self, index: int) -> None:
        last = self._ui.referenceSelector.count - 1
        self._parameters.referenceTimePoint = MEAN if index == last else str(index)


def reference_of(parameters: Any) -> int | str:
    """Return the time point that does not move: its number from 0, or "mean"."""
    chosen = parameters.referenceTimePoint
    return MEAN if chosen == MEAN else int(chosen)


def likely_series(parameters: Any) -> Any:
    """Return the series of a scene that a person most likely means: what shows the images, else the only one."""
    for volume in (parameters.movingVolume, parameters.fixedVolume):
        if volume is not None and sequence_shown_in(volume) is not None:
            return volume
    found = [node for node in slicer.util.getNodesByClass("vtkMRMLSequenceNode") if len(time_points(node)) > 1]
    return found[0] if len(found) == 1 else None
