"""What the page says of one pair when it is opened, from the record and the log that lie in its folder."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...files.bounded import open_regular
from ...files.results import RESULTS
from ...pipeline.record import INPUT_ROLES
from ..names import LOG, REPORT

_LOG_BYTES = 8_000  # of its end are shown
_MEASURES = ("dice_before", "dice_after", "hausdorff95_mm_before", "hausdorff95_mm_after")
_SERIES = ("fixed_series", "moving_series")


def details_of(folder: Path, pair: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a pair besides its row in the table.

    Args:
        folder: of the pair.
        pair: content of its pair.json.
        report: content of its report.json, empty if it has none.
    """
    verdict, evaluation = part_of(report, "verdict"), part_of(report, "evaluation")
    return {
        "line": pair.get("line") or None,
        "fixed": pair.get("fixed"),
        "moving": pair.get("moving"),
        "reasons": _texts(verdict.get("reasons")),
        "messages": _texts(report.get("messages")),
        "settings": part_of(report, "settings"),
        "versions": part_of(report, "versions"),
        "device": report.get("device"),
        "made": str(report.get("made", "")),
        "labels": _structures(part_of(evaluation, "labels").get("labels")),
        "landmarks": part_of(evaluation, "landmarks").get("count"),
        "command": repeating_command(folder, pair, report) if "settings" in report else "",
        "files": [name for name in (*RESULTS, LOG) if (folder / name).is_file()],
        "log": "" if report else _end_of(folder / LOG),
    }


def repeating_command(folder: Path, pair: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """Return the command line that repeats a recorded registration into a new folder.

    Args:
        folder: of the pair; the command reads the settings and the initial alignment of its report.
        pair: content of its pair.json, which names the volumes.
        report: content of its report.json, which names all other inputs.
    """
    inputs = part_of(report, "inputs")
    given = {role: described for role in inputs if isinstance(described := inputs[role], dict)}
    words = ["foundation-registration", "register"]
    words += [str(pair.get(side) or given.get(side, {}).get("path", side)) for side in ("fixed", "moving")]
    words += ["--settings", str(folder.absolute() / REPORT), "--output", f"repeated/{folder.name}"]
    for role in (*INPUT_ROLES, *_SERIES):
        side, _, kind = role.partition("_")
        value = given.get(side, {}).get("series") if kind == "series" else given.get(role, {}).get("path")
        if value is not None and role not in ("fixed", "moving"):
            words += [f"--{role.replace('_', '-')}", str(value)]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def part_of(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a dictionary in a record, empty if there is none."""
    part = record.get(name)
    return part if isinstance(part, dict) else {}


def _texts(value: Any) -> list[str]:
    """Return a list of texts in a record, empty if there is none."""
    return [str(item) for item in value] if isinstance(value, list) else []


def _structures(rows: Any) -> list[dict[str, Any]]:
    """Return name, Dice and HD95 of each structure, None for what is not known."""
    return [
        {
            "name": str(row.get("name", row.get("label", ""))),
            **{key: value if isinstance(value := row.get(key), int | float) else None for key in _MEASURES},
        }
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict)
    ]


def _end_of(path: Path) -> str:
    """Return the last lines of a log."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LOG_BYTES))
            text = file.read(_LOG_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    return text if size <= _LOG_BYTES else f"… {text.partition(chr(10))[2]}"
