"""What describes a cohort as a whole: table, summary, where the results come from, and the page to look at."""

from __future__ import annotations

import math
import os
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..files.commit import exclusive
from ..files.outputs import complete_or_absent, write_json
from .bids.dataset import BidsDataset
from .bids.derivative import write_derivative
from .figures import FIGURES, report_of, told_by, write_table
from .names import PROVENANCE, RECORD, SUMMARY, TABLE
from .page import write_page
from .plan import Pair
from .record import is_of, read_record

STATES = ("done", "failed", "waiting")
_VERDICTS = ("good", "check", "failed")


class Rows:
    """The rows of the table of a cohort, read again only where a record has changed.

    Args:
        output: folder of the cohort.
        pairs: all pairs of its table.
        copied: titles of the columns that are copied.
        dataset: that the pairs are of, for a derivative of it beside the table; None for none.
    """

    def __init__(
        self, output: Path, pairs: Sequence[Pair], copied: Sequence[str], dataset: BidsDataset | None = None
    ) -> None:
        self._output = output
        self.pairs = tuple(pairs)
        self.dataset = dataset
        self.copied = tuple(copied)
        self._seen: dict[str, tuple[tuple[int, int] | None, bool, dict[str, Any]]] = {}

    def current(self, *, exact: bool) -> list[dict[str, Any]]:
        """Return a row for each pair, in the order of the table.

        A pair is waiting if its results are of other files or settings than it has now.

        Args:
            exact: read files of which only path, size or date differ from those of the results.
        """
        return [self._row(pair, exact) for pair in self.pairs]

    def _row(self, pair: Pair, exact: bool) -> dict[str, Any]:
        try:
            found = os.stat(self._output / pair.folder / RECORD)  # noqa: PTH116 - many, and takes any name
            stamp = found.st_mtime_ns, found.st_size
        except OSError:
            stamp = None
        known = self._seen.get(pair.name)
        if known is None or known[0] != stamp or (exact and not known[1]):
            known = stamp, exact, _row_of(self._output / pair.folder, pair, exact)
            self._seen[pair.name] = known
        return known[2]


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
        draw: whether it is the last summary of a run: its page has all pictures, see `write_page`, and its rows are
            exact, see `Rows.current`.

    Raises:
        OutputError: a file cannot be written.
    """
    try:
        with exclusive(output):
            for unfinished in output.glob(".*.part"):  # of a killed process: all write within this lock
                unfinished.unlink(missing_ok=True)
            current = rows.current(exact=draw)
            write_table(output / TABLE, current, rows.copied)
            with complete_or_absent(output / SUMMARY) as file:
                file.write_text("\n".join(_page(current, group)) + "\n", encoding="utf-8")
            write_json(output / PROVENANCE, provenance)
            if rows.dataset is not None:
                states = {row["name"]: row["state"] for row in current}
                write_derivative(rows.dataset, output, rows.pairs, states)
            write_page(output, draw=draw)
    except OSError as error:
        msg = f"'{output}' cannot be written ({error.strerror or error}); free some space or choose another --output."
        raise OutputError(msg) from error
    return current


def _row_of(folder: Path, pair: Pair, exact: bool) -> dict[str, Any]:
    record = read_record(folder)
    row: dict[str, Any] = {"name": pair.name, "state": "waiting", "folder": pair.folder, **pair.copied}
    if record is None or not is_of(record, pair, exact=exact):
        return row
    row |= {"state": record["state"], "error": record["error"], "seconds": record["seconds"]}
    if record["state"] == "done":
        row |= told_by(report_of(folder))
    return row


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
