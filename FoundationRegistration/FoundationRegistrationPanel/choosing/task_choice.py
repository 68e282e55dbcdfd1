"""The task selector, the proposal below it, and what is doubtful about the images of the task."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from FoundationRegistrationBridge.run.stored_files import file_messages_of_pair
from slicer.i18n import tr as _

from ..parameters import MASKS_OF_A_PAIR, apply_preset, swap_sides
from ..tasks import NO_TASK, SERIES, TASKS, are_swapped, cautions, contradiction, proposed_task
from .observed import Observed
from .section_states import has_points
from .series_choice import likely_series

# What a registration of a series does not take: only its reference is drawn in, and it has an output of its own.
_OF_A_PAIR = (
    *("drivingSection", "alongSection", "outputsSection"),
    *(f"{name}{kind}" for name in MASKS_OF_A_PAIR for kind in ("Label", "Selector")),
)
_START_OF_A_PAIR = ("landmarksLabel", "landmarksButton", "initialTransformLabel", "initialTransformSelector")


class TaskChoice:
    """Sets the method by the chosen task. A proposal is only taken by a click, and never replaces a choice.

    Args:
        ui: the panel's widgets.
    """

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._parameters: Any = None
        self._proposed = NO_TASK
        self._swapped: tuple[tuple[Any, Any], list[str]] = ((None, None), [])  # images, and what went when swapped
        self._images = Observed(self._renew)
        ui.taskSelector.connect("activated(int)", self._on_task)
        ui.proposalButton.connect("clicked(bool)", self._on_proposal)
        ui.swapButton.connect("clicked(bool)", self._on_swap)

    def show(self, parameters: Any) -> None:
        """Show the proposal and the cautions for the chosen images; renew them when these are moved or renamed."""
        self._parameters = parameters
        events = (vtk.vtkCommand.ModifiedEvent, slicer.vtkMRMLTransformableNode.TransformModifiedEvent)
        self._images.watch((parameters.fixedVolume, parameters.movingVolume), lambda _volume: events)
        self._renew()

    def release(self) -> None:
        """Observe the images no longer."""
        self._images.release()

    def _renew(self, caller: Any = None, event: Any = None) -> None:
        parameters = self._parameters
        ui, task = self._ui, parameters.task
        fixed, moving = parameters.fixedVolume, parameters.movingVolume
        open_to_proposals = task == NO_TASK or bool(contradiction(task, fixed, moving))
        self._proposed = proposed_task(fixed, moving) if open_to_proposals else NO_TASK
        ui.proposalButton.visible = self._proposed not in (NO_TASK, task)
        ui.proposalButton.text = _("Proposed: {task}").format(task=_(TASKS[self._proposed].title))
        ui.swapButton.visible = are_swapped(task, fixed, moving)
        ui.taskNote.text = _(TASKS[task].hint)
        ui.taskNote.visible = bool(ui.taskNote.text)
        start = parameters.initialTransform is not None or has_points(parameters)
        lines = [*cautions(task, fixed, moving, has_start=start)]
        lines += self._gone_by_swap((fixed, moving))
        lines += file_messages_of_pair(fixed, moving) if task != SERIES else []
        ui.cautionNote.text = "\n".join(lines)
        ui.cautionNote.visible = bool(lines)
        for name in (*_OF_A_PAIR, *_START_OF_A_PAIR):
            getattr(ui, name).visible = task != SERIES

    def choose(self, task: str) -> None:
        """Set a task and its method.

        Args:
            task: one of `tasks.TASKS`.
        """
        parameters = self._parameters
        parameters.task = task
        if task != NO_TASK:
            apply_preset(parameters, TASKS[task].preset)
        if task == SERIES and parameters.series is None:
            parameters.series = likely_series(parameters)

    def _on_task(self, index: int) -> None:
        self.choose(list(TASKS)[index])

    def _on_proposal(self, checked: bool = False) -> None:
        self.choose(self._proposed)

    def _on_swap(self, checked: bool = False) -> None:
        parameters = self._parameters
        gone = swap_sides(parameters)
        self._swapped = ((parameters.fixedVolume, parameters.movingVolume), gone)
        self._renew()

    def _gone_by_swap(self, images: tuple[Any, Any]) -> list[str]:
        """Return what is no longer chosen since these images were swapped, in one sentence; none after any other."""
        swapped, gone = self._swapped
        if images != swapped:
            self._swapped = ((None, None), [])
            return []
        names = ", ".join(f"'{name}'" for name in gone)
        words = _("The images are swapped; made for the former sides, and no longer chosen: {names}.")
        return [words.format(names=names)] if gone else []
