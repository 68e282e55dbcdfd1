"""The figures of a pair, as its report gives them, and the table of all pairs, `pairs.csv`."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files.bounded import object_in
from ..files.outputs import complete_or_absent
from ..settings import MOST_SETTINGS_BYTES
from .names import REPORT

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
        "messages": " ".join([*report.get("messages", ()), *evaluation.get("messages", ())]),
        "expected_error_mm": (metrics.get("expected_error") or {}).get("median_mm"),
        "folded_percent": metrics.get("jacobian", {}).get("folded_percent"),
        "inverse_error_mm": metrics.get("inverse_error_mm", {}).get("mean"),
    }
    for stage in ("before", "after"):
        found[f"mean_dice_{stage}"] = labels.get(f"mean_dice_{stage}")
        found[f"mean_hd95_mm_{stage}"] = labels.get(f"mean_hausdorff95_mm_{stage}")
        found[f"tre_mm_{stage}"] = landmarks.get(f"tre_mm_{stage}", {}).get("mean")
    return found


def report_of(folder: Path) -> dict[str, Any]:
    """Return the report in the folder of a pair; empty if there is none that can be read."""
    return object_in(folder / REPORT, MOST_SETTINGS_BYTES)
