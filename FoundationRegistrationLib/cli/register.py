"""`foundation-registration register`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from ..files.outputs import staged_folder, write_json
from ..runtime.interruption import Interruption
from ..runtime.memory import check_limits, check_loading
from ..runtime.progress import ProgressCallback
from ..settings import Settings, read_settings_file
from .files import RESULTS
from .inputs import Inputs, evaluated, read_inputs
from .overview import draw_overview, summary
from .terminal import say


def settings_from(arguments: argparse.Namespace) -> Settings:
    """Return the settings of a command line: preset, then settings file, then options, later ones winning."""
    given = {
        field.name: getattr(arguments, field.name)
        for field in dataclasses.fields(Settings)
        if getattr(arguments, field.name, None) is not None
    }
    if given.get("initialization") == "landmarks":
        given["initialization"] = "none"
    from_file = read_settings_file(arguments.settings) if arguments.settings else {}
    if "preset" in from_file and given.get("preset", from_file["preset"]) != from_file["preset"]:
        msg = f"'{arguments.settings}' is of another preset than --preset {given['preset']}; give one of the two."
        raise SettingsError(msg)
    values = {**from_file, **given}
    return Settings.from_preset(values.pop("preset", "default"), **values)


def register_command(arguments: argparse.Namespace, report: ProgressCallback, interruption: Interruption) -> None:
    """Register two files and write everything about it into a folder."""
    settings = settings_from(arguments)
    check_limits()  # before anything is read: libraries fail in any way where there is next to no memory
    check_loading()
    from ..pipeline.record import read_recorded_run
    from ..pipeline.registration import register

    recorded = read_recorded_run(arguments.settings) if arguments.settings else None
    of_volumes: list[str] = []
    notes: list[str] = []
    inputs = read_inputs(arguments, recorded, of_volumes, notes)
    from ..io.transforms import write_transform
    from ..io.volumes import write_volume_directly

    with staged_folder(arguments.output, interruption, RESULTS) as staging:
        result = register(
            inputs.fixed,
            inputs.moving,
            settings,
            fixed_mask=inputs.fixed_mask,
            moving_mask=inputs.moving_mask,
            fixed_lesion=inputs.fixed_lesion,
            moving_lesion=inputs.moving_lesion,
            initial_transform=inputs.initial_transform,
            preview_features=arguments.feature_preview,
            progress=report,
            cancelled=interruption.requested,
        )
        write_transform(result.transform, staging / "transform.h5")
        write_transform(result.inverse, staging / "inverse.h5")
        write_volume_directly(result.warped, staging / "warped.nii.gz")
        if arguments.maps:
            write_volume_directly(result.jacobian, staging / "jacobian.nii.gz")
            write_volume_directly(result.confidence, staging / "confidence.nii.gz")
        if result.feature_preview is not None:
            for role, preview in zip(("fixed", "moving"), result.feature_preview, strict=True):
                write_volume_directly(preview, staging / f"features_{role}.nii.gz")
        evaluation = evaluated(result.transform, inputs)
        record = {**result.record, "inputs": inputs.described, "start": _kept_start(result, inputs, staging)}
        notes += recorded.differences(record) if recorded else []
        messages = [*of_volumes, *result.messages, *notes]  # the most alarming first
        content = {
            "metrics": result.metrics,
            "evaluation": evaluation,
            "messages": messages,
            "timings_seconds": result.timings,
            "peak_memory_bytes": result.peak_memory,
            **record,
        }
        write_json(staging / "report.json", content)
        draw_overview(staging / "overview.png", inputs, result, messages, evaluation)
    say((*messages, *summary(result, evaluation)))


def _kept_start(result: Any, inputs: Inputs, staging: Path) -> dict[str, Any]:
    """Keep the transform that the run started from beside its results; return what the record says of it."""
    from ..io.transforms import write_transform
    from ..pipeline.record import START_FILE, file_sha256

    file = staging / START_FILE
    write_transform(result.initial_transform, file)
    kind = inputs.start_kind or result.record["settings"]["initialization"]
    return {"kind": kind, "file": file.name, "sha256": file_sha256(file), **result.record["start"]}
