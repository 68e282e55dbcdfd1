"""The selector beside a mask for one of its segments."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from ..parameters import MASKS, mask_of, masks_of_task
from .dependent import Dependent


class SegmentSelector:
    """Shows the segments of a mask and stores the choice in the parameter node.

    Args:
        combo: a `qt.QComboBox`.
        name: of the mask's parameter, such as one of `parameters.MASKS`, whose segment is another parameter.
    """

    def __init__(self, combo: Any, name: str) -> None:
        self._combo = combo
        self._name = name
        self._parameters: Any = None
        self._segment = Dependent(f"{name}Segment", name, lambda _mask: "")
        self._ids: list[str] = []
        combo.connect("activated(int)", self._on_activated)

    def show(self, parameters: Any) -> None:
        """Show the segments of the chosen mask; hidden if it has none, or the task takes no such mask."""
        self._parameters = parameters
        self._segment.show(parameters)
        mask = parameters.getValue(self._name)
        is_segmentation = mask is not None and mask.IsA("vtkMRMLSegmentationNode")
        segmentation = mask.GetSegmentation() if is_segmentation else None
        self._ids = list(segmentation.GetSegmentIDs()) if segmentation else []
        self._combo.clear()
        self._combo.addItem(_("all segments"))
        for segment_id in self._ids:
            self._combo.addItem(segmentation.GetSegment(segment_id).GetName())
        chosen = mask_of(parameters, self._name)
        segment = chosen[1] if isinstance(chosen, tuple) else ""
        self._combo.currentIndex = self._ids.index(segment) + 1 if segment in self._ids else 0
        not_taken = self._name in MASKS and self._name not in masks_of_task(parameters)
        self._combo.visible = is_segmentation and not not_taken

    def forget(self) -> None:
        """Forget the mask: another scene is being opened."""
        self._segment.forget()

    def _on_activated(self, index: int) -> None:
        chosen = self._ids[index - 1] if index > 0 else ""
        self._parameters.setValue(f"{self._name}Segment", chosen)
