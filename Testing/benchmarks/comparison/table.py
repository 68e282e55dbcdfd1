"""The table of the benchmark's cohort: a row for each method on each case, whose volumes it writes."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from FoundationRegistrationLib.cohort.names import folder_names
from FoundationRegistrationLib.cohort.table import read_table
from FoundationRegistrationLib.files.outputs import complete_or_absent, staged_folder, write_json

from .case import CaseSource
from .methods import Method
from .runner import Limits, bare
from .trial import COLUMNS, Trial

TABLE = "cohort.csv"
_CASES, _FACTS = "cases", "facts.json"
_VOLUMES = ("fixed", "moving")


def write_table(folder: Path, runnable: Sequence[tuple[CaseSource, Method]]) -> None:
    """Write the table of some cases and methods, and with it what their cases are known to be like."""
    facts = {source.name: _facts(folder, source) for source, _ in runnable}
    titles = list(dict.fromkeys(title for of_case in facts.values() for title in of_case))
    rows = [
        {
            **{side: f"{_CASES}/{source.name}/{side}.mha" for side in _VOLUMES},
            "name": f"{method.name}__{source.name}",
            **dict(zip(COLUMNS, (source.name, source.group, method.name, method.label), strict=True)),
            **facts[source.name],
        }
        for source, method in runnable
    ]
    folder.mkdir(parents=True, exist_ok=True)
    with complete_or_absent(folder / TABLE) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*_VOLUMES, "name", *COLUMNS, *titles], restval="")
        writer.writeheader()
        writer.writerows(rows)


def read_trials(folder: Path, peers: Path, limits: Limits) -> tuple[list[Trial], tuple[str, ...]]:
    """Return the trials of the table, and the titles of its further columns."""
    table = read_table(folder / TABLE)
    names = folder_names([row.name for row in table.rows])
    trials = [
        Trial(row.name, name, row.line, row.paths, copied=row.copied, peers=peers, limits=limits)
        for row, name in zip(table.rows, names, strict=True)
    ]
    return trials, table.copied


def prepare_case(folder: Path, source: CaseSource, *, again: bool) -> None:
    """Write the volumes of a case and its facts, unless they are there."""
    place = folder / _CASES / source.name
    if not again and all((place / name).is_file() for name in ("fixed.mha", "moving.mha", _FACTS)):
        return
    case = source.build()
    with staged_folder(place) as staging:
        for side in _VOLUMES:
            sitk.WriteImage(bare(getattr(case, side)), str(staging / f"{side}.mha"))
        write_json(staging / _FACTS, case.facts)


def _facts(folder: Path, source: CaseSource) -> dict[str, Any]:
    path = folder / _CASES / source.name / _FACTS
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
