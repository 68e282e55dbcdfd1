"""The registration of all time points of a sequence: written to files at the start, a new sequence at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BridgeError
from ..nodes.masks import mask_on
from ..nodes.spaces import chain
from ..nodes.volumes import volume_in_world, write_array, write_volume
from ..process.engine_job import EngineJob
from ..run.nodes_to_files import RESULT, settings_as_json
from .results import SequenceOutputs, take_over_sequence
from .sequences import Browsed, SequenceState

FRAMES = "frames"


@dataclass(frozen=True)
class SequenceInputs:
    """The inputs and options of the registration of a sequence.

    Attributes:
        sequence: sequence node of volumes, its browser node, or a volume that its browser shows, whose parent
            transforms are then those of all time points.
        reference_frame: number of the time point that the others are registered to, from 0, or "mean".
        settings: names and values of `FoundationRegistrationLib.settings.Settings`, "preset" among them.
        mask: region of the reference to register: a segmentation node, (segmentation node, segment ID) or a labelmap
            node; of the first time point for "mean".
    """

    sequence: Any
    reference_frame: int | str = 0
    settings: Mapping[str, Any] = field(default_factory=lambda: {"preset": "dce"})
    mask: Any = None


class SequenceJob(EngineJob[SequenceOutputs]):
    """Starts, follows and ends the registration of a sequence; see `EngineJob`.

    All time points are written at the start, so that the browser may be moved meanwhile.

    Args:
        inputs: what to register.
        scene: where the nodes are; `slicer.mrmlScene` if None.
        **options: of `EngineJob`.
    """

    def __init__(self, inputs: SequenceInputs, scene: Any = None, **options: Any) -> None:
        super().__init__(scene, **options)
        self.inputs = inputs

    def _prepare(self) -> None:
        self._state = SequenceState.of(Browsed.of(self.inputs.sequence))
        reference, count = self.inputs.reference_frame, len(self._state.frames)
        is_number = isinstance(reference, int) and not isinstance(reference, bool)
        if reference != "mean" and not (is_number and 0 <= reference < count):
            msg = f"There is no time point {reference!r}; give a number from 0 to {count - 1}, or 'mean'."
            raise BridgeError(msg)

    def _needed_nodes(self) -> list[tuple[str, Any]]:
        parents = [("parent transform", parent) for parent in chain(self._state.parent)]
        mask = self.inputs.mask[0] if isinstance(self.inputs.mask, tuple) else self.inputs.mask
        masks = [("mask", mask)] if mask is not None else []
        return [("sequence", self._state.browsed.sequence), *masks, *parents]

    def _export(self, folder: Path) -> list[str | Path]:
        number = self._reference_number()
        settings, frames, grids = folder / "settings.json", folder / FRAMES, []
        settings.write_text(settings_as_json(self.inputs.settings), encoding="utf-8")
        frames.mkdir()
        for index, frame in enumerate(self._state.frames):
            image, grid = volume_in_world(frame, self._state.parent)
            grids.append(grid)
            write_volume(image, grid, frames / f"frame_{index:04d}.nrrd")
        reference = str(self.inputs.reference_frame)
        options: list[str | Path] = ["--reference", reference, "--settings", settings, "--progress", "json"]
        if self.inputs.mask is not None:
            file = folder / "mask.nrrd"
            write_array(mask_on(self.inputs.mask, grids[number], "reference mask"), grids[number], file)
            options += ["--mask", file]
        return ["series", frames, "--output", folder / RESULT, *options]

    def _take_over(self, folder: Path) -> SequenceOutputs:
        number = self._reference_number()
        return take_over_sequence(self._state, number, self._scene, folder / RESULT, folder / FRAMES)

    def _reference_number(self) -> int:
        """Return the number of the time point on whose voxels the results are."""
        return 0 if self.inputs.reference_frame == "mean" else int(self.inputs.reference_frame)
