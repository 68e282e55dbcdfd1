"""The parts of a cohort that a workflow sends as jobs, and the markers of those that are done."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ... import __version__
from ...errors import OutputError
from ..names import PARTS_FOLDER
from ..plan import Pair, share
from ..record import is_whole, read_record

_DIGITS = 20


def part_markers(pairs: Sequence[Pair], pairs_per_job: int) -> dict[str, tuple[Pair, ...]]:
    """Return the pairs of each part by the name of its marker, which changes with their files and settings.

    Files are told apart by size and time, which is quick; what is registered again is decided by their content.

    Args:
        pairs: all of a table.
        pairs_per_job: at most.
    """
    count = -(-len(pairs) // pairs_per_job)
    parts = [share(pairs, number, count) for number in range(1, count + 1)]
    return {f"{number}-of-{count}-{_stamp(part)}.done": part for number, part in enumerate(parts, 1)}


def tidy_markers(output: Path, parts: dict[str, tuple[Pair, ...]], *, retry_failed: bool) -> None:
    """Remove the markers that are out of date, so that their parts are sent again.

    Args:
        output: folder of the cohort.
        parts: see `part_markers`.
        retry_failed: parts with failed pairs are sent again too.

    Raises:
        OutputError: a marker cannot be removed.
    """
    for marker in (output / PARTS_FOLDER).glob("*.done"):
        pairs = parts.get(marker.name)
        if pairs is not None and all(_has_ended(pair, output / pair.folder, retry_failed) for pair in pairs):
            continue
        try:
            marker.unlink(missing_ok=True)
        except OSError as error:
            msg = f"'{marker}' cannot be removed ({error.strerror or error}); remove it, or choose another --output."
            raise OutputError(msg) from error


def _has_ended(pair: Pair, folder: Path, retry_failed: bool) -> bool:
    record = read_record(folder)
    if record is None:
        return False
    return is_whole(pair, folder) if record["state"] == "done" else not retry_failed


def _stamp(pairs: Sequence[Pair]) -> str:
    told = [__version__, [_facts(pair) for pair in pairs]]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:_DIGITS]


def _facts(pair: Pair) -> dict[str, Any]:
    followed = [[column, list(_stamps(path)), name] for column, path, name in pair.followed]
    return {
        "name": pair.name,
        "files": {column: list(_stamps(path)) for column, path in pair.paths.items()},
        "followed": followed,
        "settings": dict(pair.settings),
        "series": dict(pair.series),
        "weights": list(pair.weights),
    }


def _stamps(path: Path) -> Iterator[tuple[str, int, int]]:
    """Yield path, size and time of a file, or of all in a folder."""
    for found in sorted(path.rglob("*")) if path.is_dir() else [path]:
        with contextlib.suppress(OSError):
            known = found.stat()
            yield str(found), known.st_size, known.st_mtime_ns
