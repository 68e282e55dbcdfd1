"""`foundation-registration register --dry-run`: what a run would do."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..settings import Settings
from .inputs import Inputs

if TYPE_CHECKING:
    from ..pipeline.estimate.expectation import Expectation


def expectation_of(inputs: Inputs, settings: Settings) -> Expectation:
    """Return what a registration would take.

    Args:
        inputs: files of the run.
        settings: as given.

    Raises:
        InputError: a volume, a mask, the region or what drives cannot be used.
        SettingsError: an unknown encoder or an unavailable device.
        WeightsError: weights are missing.
    """
    from ..pipeline.estimate.expectation import expected

    return expected(
        inputs.fixed,
        inputs.moving,
        settings,
        inputs.masks(),
        inputs.region,
        inputs.initial_transform,
        inputs.driving,
    )


def expected_run(inputs: Inputs, settings: Settings) -> Iterator[str]:
    """Yield the settings that a registration would have, and the time and memory that it would take.

    The inputs, weights and device are checked as for the run; nothing is computed but where the patient is.

    Arguments and errors are those of `expectation_of`.
    """
    expectation = expectation_of(inputs, settings)
    yield json.dumps({"settings": dataclasses.asdict(expectation.settings)}, indent=2)
    yield from expectation.messages
    if expectation.grid is not None:
        shape = " x ".join(map(str, reversed(expectation.grid.shape)))
        yield f"working grid: about {shape} voxels of {expectation.grid.spacing:.2g} mm"
    yield f"device: {expectation.device}"
    yield f"memory: about {expectation.memory_bytes / 1e9:.1f} GB"
    if expectation.seconds is None:
        yield "time: not known before the first run with these settings on this machine"
    else:
        yield f"time: about {expectation.seconds:.0f} s, as in {expectation.runs} earlier run(s) on this machine"
    yield "The inputs are in order. Nothing was written."
