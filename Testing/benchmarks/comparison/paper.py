"""Table 1 of the paper, beside which measured figures stand."""

from __future__ import annotations

import csv
from pathlib import Path

_TABLE = Path(__file__).with_name("paper_table1.csv")


def paper_rows(task: str) -> dict[str, dict[str, str]]:
    """Return the rows of a task by the name of the method, as printed; empty for a task that the paper lacks."""
    with _TABLE.open(encoding="utf-8") as lines:
        printed = csv.DictReader(line for line in lines if not line.startswith("#"))
        return {row["method"]: row for row in printed if row["task"] == task}


def paper_figure(task: str, method: str, column: str) -> tuple[float, float] | None:
    """Return mean and SD over the paper's pairs, percent; None where the paper has none."""
    row = paper_rows(task).get(method, {})
    mean, spread = row.get(column), row.get(f"{column} SD")
    return (float(mean), float(spread)) if mean and spread else None
