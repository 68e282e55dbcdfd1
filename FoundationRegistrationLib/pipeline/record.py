"""Writing the record of a run, and reading it to repeat the run.

The record, `report.json`, lists every input file with its SHA-256; the initial transform is stored beside it. A
repeated run (`--settings report.json`) starts from that transform, and reports other differences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from ..errors import InputError
from ..files.bounded import plain_json, read_bounded
from ..files.digest import file_sha256
from ..io.units import units_of
from ..settings import MOST_SETTINGS_BYTES
from ..spatial.grids import content_sha256

START_FILE = "initial_transform.h5"
_DECISIVE_KINDS = ("", "_mask", "_lesion", "_structures", "_points")
INPUT_ROLES = (
    *(f"{side}{kind}" for kind in (*_DECISIVE_KINDS, "_labels", "_landmarks") for side in ("fixed", "moving")),
    "region",
    "initial_transform",
)
# Files that determine the result; the others only evaluate it.
_DECISIVE = (*(f"{side}{kind}" for kind in _DECISIVE_KINDS for side in ("fixed", "moving")), "region")
_GIVEN_STARTS = ("given transform", "landmarks")


@dataclass(frozen=True)
class RecordedRun:
    """A recorded run.

    Attributes:
        path: its report.
        inputs: by role, such as "fixed_mask", the values of `described_file` and `described_images`.
        start_kind: "given transform", "landmarks" or the `initialization` setting.
        start_sha256: of the file with its initial transform; empty if there is none.
        software: what else the result depends on, by description.
    """

    path: Path
    inputs: Mapping[str, Mapping[str, Any]]
    start_kind: str
    start_sha256: str
    software: Mapping[str, str]

    @property
    def has_given_start(self) -> bool:
        """Whether the initial transform was given, so that it cannot be computed from the volumes."""
        return self.start_kind in _GIVEN_STARTS

    def start_file(self) -> Path:
        """Return the file with the initial transform of the run.

        Raises:
            InputError: it is missing or has changed.
        """
        path = self.path.with_name(START_FILE)
        remedy = "give it with --initial-transform, or choose an --initialization"
        if not self.start_sha256:
            msg = f"'{self.path}' does not include the initial transform of its run; {remedy}."
            raise InputError(msg)
        if not path.is_file():
            msg = (
                f"'{path}', the initial transform of the recorded run, is missing; put it back beside the report, or "
                f"{remedy}."
            )
            raise InputError(msg)
        if file_sha256(path) != self.start_sha256:
            msg = f"'{path}' has changed since the recorded run, which started from it; {remedy}."
            raise InputError(msg)
        return path

    def differences(self, record: Mapping[str, Any]) -> list[str]:
        """Return how another run differs from this one, at most one message.

        Args:
            record: of the other run, as in its report.
        """
        now = _recorded_inputs(record)
        parts = []
        for role in {**now, **self.inputs}:
            name = role.replace("_", " ")
            if role in now and role in self.inputs:
                if not _same_content(now[role], self.inputs[role]):
                    parts.append(f"the {name} differs{_than(self.inputs[role])}")
            elif role in _DECISIVE:
                parts.append(f"a {name} is given only now" if role in now else f"the {name} is missing now")
        software = _software(record)
        parts += [
            f"the {name} differs (then {then}, now {software[name]})"
            for name, then in self.software.items()
            if name in software and software[name] != then
        ]
        return [f"This run does not repeat '{self.path}': {'; '.join(parts)}."] if parts else []


def described_file(path: Path) -> dict[str, str]:
    """Return the path and the SHA-256 of an input."""
    return {"path": str(path.absolute()), "sha256": file_sha256(path)}


def described_images(images: Mapping[str, sitk.Image | None]) -> dict[str, dict[str, str]]:
    """Return the hashes of the input images by role, independent of their file format, and their units if stated."""
    return {
        role: {"content_sha256": content_sha256(image), **({"units": units} if (units := units_of(image)) else {})}
        for role, image in images.items()
        if image is not None
    }


def read_recorded_run(path: Path) -> RecordedRun | None:
    """Return the run of a report, None if the file has only settings.

    Raises:
        InputError: the report is damaged.
    """
    try:
        record = plain_json(read_bounded(path, MOST_SETTINGS_BYTES))
    except (OSError, ValueError):
        return None  # reading the settings of the same file reports the error
    if not isinstance(record, dict) or not isinstance(record.get("settings"), dict) or "initialization" not in record:
        return None
    start = record.get("start", {})
    if not isinstance(start, dict):
        msg = f"'{path}' is damaged: it does not say how its run was initialised; give the original report."
        raise InputError(msg)
    return RecordedRun(
        path,
        _recorded_inputs(record),
        str(start.get("kind", record["initialization"])),
        str(start.get("sha256", "")),
        _software(record),
    )


def recorded_grids(path: Path) -> dict[str, sitk.Image]:
    """Return empty images on the grids of a recorded run's volumes, by side; none if not in the report."""
    grids = {}
    try:
        record = plain_json(read_bounded(path, MOST_SETTINGS_BYTES))
        for side in ("fixed", "moving"):
            grid = sitk.Image(record[side]["size"], sitk.sitkUInt8)
            grid.SetSpacing(record[side]["spacing"])
            grid.SetOrigin(record[side]["origin"])
            grid.SetDirection(record[side]["direction"])
            grids[side] = grid
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError, RuntimeError):
        return {}
    return grids


def recorded_driving(path: Path) -> dict[str, Any]:
    """Return what drove a recorded run besides the volumes; nothing if it is not in the report."""
    try:
        driving = plain_json(read_bounded(path, MOST_SETTINGS_BYTES))["driving"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return driving if isinstance(driving, dict) else {}


def _recorded_inputs(record: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    inputs = record.get("inputs", {})
    if not isinstance(inputs, dict):
        return {}
    return {role: described for role, described in inputs.items() if isinstance(described, dict)}


def _than(described: Mapping[str, Any]) -> str:
    return f" from '{described['path']}'" if "path" in described else ""


def _same_content(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    key = "content_sha256" if "content_sha256" in one and "content_sha256" in other else "sha256"
    return bool(one.get(key) == other.get(key))


def _software(record: Mapping[str, Any]) -> dict[str, str]:
    versions, weights = record.get("versions"), record.get("weights_sha256")
    found = {"device": str(record.get("device", "")).partition(" ")[0]}
    if isinstance(versions, dict) and "FoundationRegistration" in versions:
        found["version of FoundationRegistration"] = str(versions["FoundationRegistration"])
    if isinstance(weights, dict):
        found |= {f"weights file of {name}": str(value) for name, value in weights.items()}
    return found
