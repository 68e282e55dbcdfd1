"""`foundation-registration register`."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..files.outputs import staged_folder
from ..files.results import RESULTS
from ..runtime.interruption import Interruption, OneOfMany
from ..runtime.memory import check_limits, check_loading
from ..runtime.progress import ProgressCallback
from ..settings import Settings, combined, read_settings_file
from .inputs import Inputs, read_inputs
from .settings_options import given_settings
from .terminal import say

if TYPE_CHECKING:
    from ..pipeline.assessment.verdict import Verdict


def settings_from(arguments: argparse.Namespace, preset: str = "default") -> Settings:
    """Return the settings of a command line: preset, settings file and options, later ones override.

    Args:
        arguments: of the command line.
        preset: used if none is given.
    """
    from_file = read_settings_file(arguments.settings) if arguments.settings else {}
    return combined(from_file, given_settings(arguments), preset)


def register_command(
    arguments: argparse.Namespace, report: ProgressCallback, interruption: Interruption | OneOfMany
) -> None:
    """Register two files and write all results into a folder, or say what would be done."""
    began = time.perf_counter()
    settings = settings_from(arguments)
    check_limits()  # first of all: libraries fail unpredictably when memory is very low
    check_loading()
    from ..pipeline.estimate.history import READING, WRITING, past_run, remember
    from ..pipeline.overview import summary
    from ..pipeline.propagation.extent import check_spacing
    from ..pipeline.record import read_recorded_run
    from ..pipeline.registration import register
    from ..pipeline.saving import write_results

    check_spacing(arguments.spacing)
    recorded = read_recorded_run(arguments.settings) if arguments.settings else None
    of_volumes: list[str] = []
    notes: list[str] = []
    inputs = read_inputs(arguments, settings, recorded, of_volumes, notes)
    if arguments.dry_run:
        from .dry_run import expected_run

        say((*of_volumes, *notes))
        print("\n".join(expected_run(inputs, settings)))  # noqa: T201 - the answer of a command
        return
    reading = {READING: time.perf_counter() - began}
    with staged_folder(arguments.output, interruption, RESULTS) as staging:
        result = register(
            inputs.fixed,
            inputs.moving,
            settings,
            **inputs.masks(),
            region=inputs.region,
            initial_transform=inputs.initial_transform,
            **inputs.driving,
            preview_features=arguments.feature_preview,
            progress=report,
            cancelled=interruption.requested,
        )
        record = _completed(result.record, inputs)
        notes += recorded.differences(record) if recorded else []
        messages = (*of_volumes, *result.messages, *notes)  # the most serious first
        timings = {**reading, **result.timings}
        result = dataclasses.replace(result, messages=messages, record=record, timings=timings)
        warped = None
        if arguments.extent is not None or arguments.spacing is not None:
            grid = {"extent": arguments.extent, "spacing_mm": arguments.spacing}
            warped = result.warp_image(inputs.moving, interpolation=settings.interpolation, **grid)
        evaluation = write_results(
            staging,
            result,
            labels=inputs.labels,
            landmarks=inputs.landmarks,
            maps=arguments.maps,
            warped=warped,
        )
        written = sorted(path.name for path in staging.iterdir())
    timings = {**timings, WRITING: time.perf_counter() - began - sum(timings.values())}
    result = dataclasses.replace(result, timings=timings)
    remember(past_run(result))
    say((*messages, *summary(result, evaluation), *_ending(arguments, result.verdict, timings, written)))


def _ending(
    arguments: argparse.Namespace, verdict: Verdict, timings: Mapping[str, float], written: Sequence[str]
) -> Iterator[str]:
    """Yield the last lines of a run: the verdict, what was written, and where to look."""
    if arguments.verbose:
        for step, seconds in timings.items():
            yield f"{seconds:7.1f} s  {step}"
    yield str(verdict)
    if arguments.progress == "json":  # the program has named the folder, and may remove it
        return
    yield f"Written to {arguments.output}: {', '.join(written)}"
    yield f"Look at {arguments.output / 'overview.png'}"


def _completed(record: Mapping[str, Any], inputs: Inputs) -> dict[str, Any]:
    """Return the record of a run with its input files and the kind of its initial alignment."""
    images = record["inputs"]
    files = {role: {**described, **images.get(role, {})} for role, described in inputs.described.items()}
    kind = inputs.start_kind or record["start"]["kind"]
    return {**record, "inputs": files, "start": {**record["start"], "kind": kind}}
