"""The record of a pair, from which an interrupted cohort goes on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import FoundationRegistrationError, OutputError
from ..files.bounded import object_in, plain_json, read_bounded
from ..files.digest import file_sha256
from ..files.outputs import write_json
from ..files.results import RESULTS
from ..settings import MOST_SETTINGS_BYTES
from .names import LOG, RECORD, REPORT
from .plan import EVALUATING, FOLLOWED, Pair

MEASURED = ".evaluation.json.part"  # until it is in the report
_MOST_BYTES = 1_000_000
_DIGITS = 40


def key_of(pair: Pair) -> str:
    """Return what identifies all that determines the result of a pair: inputs, settings, version and weights.

    It has two parts, see `is_registered`.

    Raises:
        InputError: a file cannot be read.
    """
    parts = ({"version": __version__, **pair.deciding()}, pair.evaluating())
    hashes = (hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest() for part in parts)
    return "-".join(found[:_DIGITS] for found in hashes)


def is_registered(record: Mapping[str, Any], key: str) -> bool:
    """Whether a recorded pair was registered with all that a key stands for, whatever it was evaluated with."""
    return bool(record["state"] == "done" and record["key"].split("-")[0] == key.split("-")[0])


def made_with(pair: Pair) -> list[str]:
    """Return hashes of what is quickly known of all that determines a result: of the settings, and of the files.

    A file is known by its path, size and date.
    """
    settings = [__version__, dict(pair.settings), dict(pair.series), list(pair.weights), sorted(pair.paths)]
    settings += [[column, name] for column, _, name in pair.followed]
    files = [[str(path), *_size_and_date(path)] for path in (*pair.paths.values(), *(f[1] for f in pair.followed))]
    return [
        hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:_DIGITS] for part in (settings, files)
    ]


def _size_and_date(path: Path) -> tuple[int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116 - takes any name
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def is_of(record: Mapping[str, Any], pair: Pair, *, exact: bool) -> bool:
    """Whether a record is of the files and settings that a pair has now.

    Args:
        record: of the pair of this name.
        pair: as the table has it.
        exact: read files whose path, size or date differ; else they are taken as the same.
    """
    then, now = record.get("made_with"), made_with(pair)
    if then == now:
        return True
    if isinstance(then, list) and then[:1] != now[:1]:
        return False
    try:
        return not exact or bool(record["key"] == key_of(pair))
    except FoundationRegistrationError:  # it cannot be read now, so nothing says that it has changed
        return True


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record in the folder of a pair; None if there is none that can be read."""
    record = object_in(folder / RECORD, _MOST_BYTES)
    if record.get("state") not in ("done", "failed"):
        return None
    kinds = {"key": str, "error": str, "seconds": (int, float)}
    return record if all(isinstance(record.get(name), kind) for name, kind in kinds.items()) else None  # type: ignore[arg-type]


def is_whole(pair: Pair, folder: Path) -> bool:
    """Whether all files of a finished pair are there."""
    return all((folder / name).is_file() for name in pair.needed)


def write_record(
    pair: Pair, folder: Path, *, key: str, made: list[str], error: str, seconds: float, log: bytes = b""
) -> None:
    """Keep how a pair ended: its record and, if it failed, its log in place of its results.

    Args:
        pair: the pair.
        folder: its folder.
        key: see `key_of`.
        made: see `made_with`, of before it was registered: its files may have been edited since.
        error: why it failed; empty if it did not.
        seconds: that it took.
        log: what its process said.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        _tidy(pair, folder, log if error else None)
    except OSError as problem:
        msg = f"'{folder}' cannot be written ({problem.strerror or problem}); free some space, or close it elsewhere."
        raise OutputError(msg) from problem
    write_json(folder / RECORD, _content(pair, key, made, error, seconds))


def keep_evaluation(pair: Pair, folder: Path, record: Mapping[str, Any], key: str, measured: Path) -> None:
    """Put a new evaluation in place of that in the report of a pair.

    Args:
        pair: the pair.
        folder: its folder.
        record: its record.
        key: see `key_of`.
        measured: file with the evaluation, which is removed; if there is none, nothing could be measured.

    Raises:
        OutputError: the report cannot be read or written.
    """
    try:
        evaluation = plain_json(read_bounded(measured, MOST_SETTINGS_BYTES)) if measured.is_file() else {}
        report = plain_json(read_bounded(folder / REPORT, MOST_SETTINGS_BYTES))
        inputs = {name: facts for name, facts in report["inputs"].items() if name not in EVALUATING}
        given = {name: path for name, path in pair.paths.items() if name in EVALUATING}
        inputs |= {name: {"path": str(path), "sha256": file_sha256(path)} for name, path in given.items()}
        write_json(folder / REPORT, {**report, "evaluation": evaluation, "inputs": inputs})
        measured.unlink(missing_ok=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"The report in '{folder}' cannot be brought up to date ({error}); register the pair again."
        raise OutputError(msg) from error
    write_json(folder / RECORD, _content(pair, key, made_with(pair), "", record["seconds"]))


def keep_current(pair: Pair, folder: Path, record: dict[str, Any]) -> None:
    """Bring what a record says of the table up to date: line, paths and copied cells.

    Raises:
        OutputError: it cannot be written.
    """
    content = _content(pair, record["key"], made_with(pair), record["error"], record["seconds"])
    if content != record:
        write_json(folder / RECORD, content)


def _tidy(pair: Pair, folder: Path, log: bytes | None) -> None:
    """Keep the log of a failed pair in place of its results, or those results alone that a finished pair has now."""
    carried = folder / FOLLOWED
    there = {path for path in carried.iterdir() if path.is_file()} if carried.is_dir() else set()
    if log is None:
        stale = {folder / LOG, *there} - {carried / name for _, _, name in pair.followed}
    else:
        stale = {folder / name for name in RESULTS} | there
        (folder / LOG).write_bytes(log)
    for path in stale:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        carried.rmdir()


def _content(pair: Pair, key: str, made: list[str], error: str, seconds: float) -> dict[str, Any]:
    return {
        "name": pair.name,
        "line": pair.line,
        "state": "failed" if error else "done",
        "error": error,
        "key": key,
        "made_with": made,
        "seconds": round(seconds, 1),
        "fixed": str(pair.paths["fixed"]),
        "moving": str(pair.paths["moving"]),
        "columns": dict(pair.copied),
    }
