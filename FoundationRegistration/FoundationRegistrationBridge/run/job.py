"""One registration: nodes in, the engine in its own process, nodes out, all of them or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..nodes.spaces import chain
from ..process.engine_job import EngineJob
from .files_to_nodes import JobOutputs, take_over
from .inputs import JobInputs, check_inputs
from .nodes_to_files import RESULT, export_inputs
from .placement import Placement
from .stored_files import with_messages

__all__ = ["JobInputs", "JobOutputs", "RegistrationJob"]


class RegistrationJob(EngineJob[JobOutputs]):
    """Starts, follows and ends one registration of a pair; see `EngineJob`.

    Args:
        inputs: what to register.
        scene: where the nodes are; `slicer.mrmlScene` if None.
        **options: of `EngineJob`.
    """

    def __init__(self, inputs: JobInputs, scene: Any = None, **options: Any) -> None:
        super().__init__(scene, **options)
        self.inputs = inputs
        self._messages: list[str] = []

    def _prepare(self) -> None:
        check_inputs(self.inputs)
        self._placement = Placement.of(self.inputs)

    def _needed_nodes(self) -> list[tuple[str, Any]]:
        inputs = self.inputs
        parents = [*chain(inputs.fixed.GetParentTransformNode()), *chain(self._placement.moving.parent)]
        return [
            ("fixed volume", inputs.fixed),
            ("moving volume", inputs.moving),
            *(("parent transform", parent) for parent in parents),
            *(("output", node) for node in (inputs.output_transform, inputs.output_volume) if node is not None),
        ]

    def _export(self, folder: Path) -> list[str | Path]:
        return export_inputs(self.inputs, folder, self._messages)

    def _take_over(self, folder: Path) -> JobOutputs:
        outputs = take_over(self.inputs, self._placement, self._scene, folder / RESULT)
        return with_messages(outputs, self._messages)
