"""What the page says of one pair when it is opened, from the record and the log that lie in its folder."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...files.bounded import open_regular, plain_json, read_bounded
from ...files.results import RESULTS
from ...pipeline.record import INPUT_ROLES
from ...settings import MOST_SETTINGS_BYTES

PAIR_FILE, REPORT_FILE, LOG_FILE = "pair.json", "report.json", "log.txt"
_LOG_BYTES = 8_000  # of its end are shown
_SERIES = ("fixed_series", "moving_series")


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a record; nothing if it is missing or damaged."""
    try:
        content = plain_json(read_bounded(path, MOST_SETTINGS_BYTES))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def details_of(folder: Path, pair: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of a pair besides its row in the table.

    Args:
        folder: of the pair.
        pair: content of its pair.json.
        report: content of its report.json, empty if it has none.
    """
    verdict, evaluation = _part(report, "verdict"), _part(report, "evaluation")
    return {
        "line": pair.get("line"),
        "fixed": pair.get("fixed"),
        "moving": pair.get("moving"),
        "reasons": verdict.get("reasons", []),
        "messages": report.get("messages", []),
        "settings": _part(report, "settings"),
        "versions": _part(report, "versions"),
        "device": report.get("device"),
        "made": report.get("made"),
        "labels": _part(evaluation, "labels").get("labels", []),
        "landmarks": _part(evaluation, "landmarks").get("count"),
        "command": repeating_command(folder, pair, report) if report else "",
        "files": [name for name in (*RESULTS, LOG_FILE) if (folder / name).is_file()],
        "log": "" if report else _end_of(folder / LOG_FILE),
    }


def repeating_command(folder: Path, pair: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    """Return the command line that repeats a recorded registration into a new folder.

    Args:
        folder: of the pair; the command reads the settings and the initial alignment of its report.
        pair: content of its pair.json, which names the volumes.
        report: content of its report.json, which names all other inputs.
    """
    inputs = _part(report, "inputs")
    given = {role: described for role in inputs if isinstance(described := inputs[role], dict)}
    words = ["foundation-registration", "register"]
    words += [str(pair.get(side) or given.get(side, {}).get("path", side)) for side in ("fixed", "moving")]
    words += ["--settings", str(folder.absolute() / REPORT_FILE), "--output", f"repeated/{folder.name}"]
    for role in (*INPUT_ROLES, *_SERIES):
        side, _, kind = role.partition("_")
        value = given.get(side, {}).get("series") if kind == "series" else given.get(role, {}).get("path")
        if value is not None and role not in ("fixed", "moving"):
            words += [f"--{role.replace('_', '-')}", str(value)]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def _part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a dictionary in a record, empty if there is none."""
    part = record.get(name)
    return part if isinstance(part, dict) else {}


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
