"""What the tables are made of: how each method went on each case, from the folder of the cohort alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from FoundationRegistrationLib.cohort.figures import report_of
from FoundationRegistrationLib.cohort.record import read_record

from .trial import Trial

DONE, FAILED, NOT_AVAILABLE = "done", "failed", "not available"
Record = dict[str, Any]


def records_of(folder: Path, trials: Sequence[Trial], unavailable: Iterable[Record]) -> list[Record]:
    """Return a record for each trial that has ended, and for each that cannot be made here, case by case."""
    found = [
        {**trial.columns, "status": ended["state"], "reason": ended["error"], **_measured(folder / trial.folder)}
        for trial in trials
        if (ended := read_record(folder / trial.folder)) is not None
    ]
    order = {name: place for place, name in enumerate(dict.fromkeys(trial.columns["case"] for trial in trials))}
    return sorted([*found, *unavailable], key=lambda record: order.get(record["case"], len(order)))


def _measured(folder: Path) -> dict[str, Any]:
    return dict(report_of(folder).get("trial", {}))
