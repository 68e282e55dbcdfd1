"""What is known of all pairs of a cohort: table, figures, where they come from, and the page to look at."""

from __future__ import annotations

import csv
import math
import os
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..files.bounded import plain_json, read_bounded
from ..files.commit import exclusive
from ..files.outputs import complete_or_absent, write_json
from ..settings import MOST_SETTINGS_BYTES
from .names import PROVENANCE, SUMMARY, TABLE
from .page import write_page
from .plan import Pair
from .record import RECORD, read_record

FIGURES = (
    "expected_error_mm",
    "folded_percent",
    "inverse_error_mm",
    "mean_dice_before",
    "mean_dice_after",
    "mean_hd95_mm_before",
    "mean_hd95_mm_after",
    "tre_mm_before",
    "tre_mm_after",
)
COLUMNS = ("name", "state", "error", "verdict", "reasons", "messages", *FIGURES, "seconds", "folder")
STATES = ("done", "failed", "waiting")
_VERDICTS = ("good", "check", "failed")


class Rows:
    """The rows of the table of a cohort, read again only where a record has changed.

    Args:
        output: folder of the cohort.
        pairs: all pairs of its table.
        copied: titles of the columns that are copied.
    """

    def __init__(self, output: Path, pairs: Sequence[Pair], copied: Sequence[str]) -> None:
        self._output = output
        self._pairs = pairs
        self.copied = tuple(copied)
        self._seen: dict[str, tuple[tuple[int, int] | None, dict[str, Any]]] = {}

    def current(self) -> list[dict[str, Any]]:
        """Return a row for each pair, in the order of the table."""
        return [self._row(pair) for pair in self._pairs]

    def _row(self, pair: Pair) -> dict[str, Any]:
        try:
            found = os.stat(self._output / pair.name / RECORD)  # noqa: PTH116 - many, and takes any name
            stamp = found.st_mtime_ns, found.st_size
        except OSError:
            stamp = None
        known = self._seen.get(pair.name)
        if known is None or known[0] != stamp:
            known = stamp, _row_of(self._output / pair.name, pair)
            self._seen[pair.name] = known
        return known[1]


def write_summaries(
    output: Path, rows: Rows, provenance: Mapping[str, Any], group: str = "", *, draw: bool = True
) -> list[dict[str, Any]]:
    """Write all that describes a cohort as a whole, each file completely or not at all; return the rows.

    Two runs into one folder take turns, so that the later one sees what the earlier one has finished.

    Args:
        output: folder of the cohort.
        rows: of its pairs.
        provenance: see `provenance_of`.
        group: title of the column to group figures by; empty for none.
        draw: see `write_page`.

    Raises:
        OutputError: a file cannot be written.
    """
    try:
        with exclusive(output):
            for unfinished in output.glob(".*.part"):  # of a killed process: all write within this lock
                unfinished.unlink(missing_ok=True)
            current = rows.current()
            write_table(output / TABLE, current, rows.copied)
            with complete_or_absent(output / SUMMARY) as file:
                file.write_text("\n".join(_page(current, group)) + "\n", encoding="utf-8")
            write_json(output / PROVENANCE, provenance)
            write_page(output, draw=draw)
    except OSError as error:
        msg = f"'{output}' cannot be written ({error.strerror or error}); free some space or choose another --output."
        raise OutputError(msg) from error
    return current


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], copied: Sequence[str] = ()) -> None:
    """Write the table of all pairs, completely or not at all.

    Args:
        path: the file.
        rows: values by `COLUMNS`; those that are missing are left empty.
        copied: titles of further columns.

    Raises:
        OutputError: it cannot be written.
    """
    with complete_or_absent(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *copied], restval="")
        writer.writeheader()
        writer.writerows(rows)


def told_by(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a report says of a pair, by the columns of the table; None where there is no figure."""
    metrics, evaluation = report.get("metrics", {}), report.get("evaluation", {})
    labels, landmarks = evaluation.get("labels", {}), evaluation.get("landmarks", {})
    verdict = report.get("verdict", {})
    found = {
        "verdict": verdict.get("level", ""),
        "reasons": " ".join(verdict.get("reasons", ())),
        "messages": " ".join(report.get("messages", ())),
        "expected_error_mm": (metrics.get("expected_error") or {}).get("median_mm"),
        "folded_percent": metrics.get("jacobian", {}).get("folded_percent"),
        "inverse_error_mm": metrics.get("inverse_error_mm", {}).get("mean"),
    }
    for stage in ("before", "after"):
        found[f"mean_dice_{stage}"] = labels.get(f"mean_dice_{stage}")
        found[f"mean_hd95_mm_{stage}"] = labels.get(f"mean_hausdorff95_mm_{stage}")
        found[f"tre_mm_{stage}"] = landmarks.get(f"tre_mm_{stage}", {}).get("mean")
    return found


def _row_of(folder: Path, pair: Pair) -> dict[str, Any]:
    record = read_record(folder)
    row: dict[str, Any] = {"name": pair.name, "state": "waiting", "folder": pair.name, **pair.copied}
    if record is None:
        return row
    row |= {"state": record["state"], "error": record["error"], "seconds": record["seconds"]}
    if record["state"] == "done":
        row |= told_by(report_of(folder))
    return row


def report_of(folder: Path) -> dict[str, Any]:
    """Return the report in the folder of a pair; empty if there is none that can be read."""
    try:
        report = plain_json(read_bounded(folder / "report.json", MOST_SETTINGS_BYTES))
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}


def _page(rows: Sequence[Mapping[str, Any]], group: str) -> Iterator[str]:
    yield "# Cohort"
    yield ""
    states = Counter(str(row["state"]) for row in rows)
    yield f"{len(rows)} pairs: " + ", ".join(f"{states[state]} {state}" for state in STATES) + "."
    verdicts = Counter(str(row["verdict"]) for row in rows if row["state"] == "done")
    words = [*_VERDICTS, *sorted(set(verdicts) - {*_VERDICTS})]
    yield "Verdicts: " + ", ".join(f"{verdicts[word]} {word or 'unknown'}" for word in words) + "."
    yield from _figures(rows, "All pairs")
    groups = defaultdict(list)
    for row in rows:
        groups[str(row.get(group, ""))].append(row)
    if group:
        for value, members in sorted(groups.items()):
            yield from _figures(members, f"{group}: {value or '(empty)'}")


def _figures(rows: Sequence[Mapping[str, Any]], title: str) -> Iterator[str]:
    yield ""
    yield f"## {' '.join(title.split())}"
    yield ""
    yield "| figure | pairs | mean | SD | median |"
    yield "|---|---:|---:|---:|---:|"
    for name in (*FIGURES, "seconds"):
        values = [row[name] for row in rows if row["state"] == "done" and row.get(name) is not None]
        if values:
            spread = statistics.stdev(values) if len(values) > 1 else math.nan
            figures = (statistics.fmean(values), spread, statistics.median(values))
            yield (
                f"| {name} | {len(values)} | "
                + " | ".join("-" if math.isnan(v) else f"{v:.4g}" for v in figures)
                + " |"
            )
