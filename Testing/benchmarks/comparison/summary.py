"""Tables, goals and plots from the records alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean, stdev

from FoundationRegistrationLib.files.outputs import complete_or_absent, write_json

from .goals import Goal, judged_goals
from .methods import AFFINE, METHODS
from .plots import write_plots
from .records import DONE, FAILED, NOT_AVAILABLE, Record

_FIGURES: dict[str, Callable[[Record], float | None]] = {
    "TRE, mm": lambda record: record.get("tre_mm", {}).get("mean"),
    "TRE 95 %, mm": lambda record: record.get("tre_mm", {}).get("95 %"),
    "lesion volume, abs. change %": lambda record: _magnitude(record.get("lesion", {}).get("change_percent")),
    "against true motion, abs. %": lambda record: _magnitude(record.get("lesion", {}).get("against_truth_percent")),
    "change seen": lambda record: record.get("change_seen"),
    "folded %": lambda record: record.get("jacobian", {}).get("folded_percent"),
    "SD log J": lambda record: record.get("jacobian", {}).get("sd_log"),
    "time, s": lambda record: record.get("seconds"),
    "processor, s": lambda record: record.get("cpu_seconds"),
    "peak memory, GB": lambda record: record["peak_memory_mb"] / 1e3,
}
_DIGITS = {
    "TRE, mm": 2,
    "TRE 95 %, mm": 2,
    "lesion volume, abs. change %": 1,
    "against true motion, abs. %": 1,
    "time, s": 0,
    "processor, s": 0,
    "peak memory, GB": 2,
}
# Of these, what the short tables tell.
_OF_TASKS = ("TRE, mm", "lesion volume, abs. change %", "against true motion, abs. %", "folded %")
_OF_REAL_PAIRS = ("TRE, mm", "lesion volume, abs. change %", "change seen")
_PHANTOM = "phantom, "
_HEAD_LINES = 2  # of a table


def write_summary(records: list[Record], folder: Path) -> None:
    """Write comparison.md, comparison.json and the plots into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    records = sorted(records, key=lambda record: not record["group"].startswith(_PHANTOM))  # the tasks come first
    goals = judged_goals(records)
    parts = ["# Comparison with other registration programs", _preface(), "## Goals", goals_table(goals)]
    parts += ["## All cases", overall_table(records), "## In short", tasks_table(records), real_pairs_table(records)]
    for group in _in_order(record["group"] for record in records):
        parts += [f"## {group[0].upper()}{group[1:]}", group_table([r for r in records if r["group"] == group])]
    parts += ["## What did not run", failures(records)]
    parts += [f"![]({path.name})" for path in write_plots(records, folder)]
    with complete_or_absent(folder / "comparison.md") as unfinished:
        unfinished.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    write_json(folder / "comparison.json", {"goals": [goal.to_dict() for goal in goals], "records": records})


def _preface() -> str:
    return (
        "Mean ± standard deviation over the cases of a table, of the runs that ended well. All methods begin with "
        "the same affine. Dice and the distance HD95 (mm) are of the warped moving labels; the lesion's volume is "
        'compared with its own before warping, and with what the true motion makes of it; "change seen" is the '
        "contrast of changed lesions against that under the true transform, 1 if they stay as visible; folding and "
        "SD log J are those of the deformable part inside the body; time is that of the method without the affine, "
        "on the clock and of all processors together; memory is of all its processes. For research, not a medical "
        "device."
    )


def goals_table(goals: Iterable[Goal]) -> str:
    """Return the goals, what was found, and whether they are met."""
    lines = ["| goal | found | met |", "|---|---|---|"]
    words = {True: "yes", False: "**no**", None: "not measured"}
    return "\n".join(lines + [f"| {goal.name} | {goal.found} | {words[goal.met]} |" for goal in goals])


def group_table(records: list[Record]) -> str:
    """Return one table: a row a method, mean ± SD over the cases of a group."""
    done = [record for record in records if record["status"] == DONE]
    if not done:
        return records[0].get("reason", "nothing was run")
    columns: dict[str, tuple[Callable[[Record], float | None], int]] = {}
    for measure, words, digits in (("dice", "Dice", 3), ("hausdorff95_mm", "HD95", 1)):
        for name in _in_order(name for record in done for name in record.get(measure, {})):
            columns[f"{words} {name}"] = (_getter(measure, name), digits)
    columns |= {name: (getter, _DIGITS.get(name, 3)) for name, getter in _FIGURES.items()}
    columns = {
        name: (getter, digits)
        for name, (getter, digits) in columns.items()
        if any(getter(record) is not None for record in done)
    }
    lines = ["| method | runs | " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) + 1)]
    for method, rows in _by_method(records).items():
        good = [row for row in rows if row["status"] == DONE]
        tried = [row for row in rows if row["status"] != NOT_AVAILABLE]
        cells = [_mean_sd([getter(row) for row in good], digits) for getter, digits in columns.values()]
        lines.append(f"| {method} | {len(good)} of {len(tried)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def overall_table(records: list[Record]) -> str:
    """Return mean Dice over all cases and targets and mean TRE, beside those of the start on the same cases."""
    starts = {r["case"]: r for r in records if r["method"] == AFFINE.name and r["status"] == DONE}
    heads = ("Dice", "Dice of the start", "targets", "TRE, mm", "TRE of the start, mm", "cases", "failed runs")
    lines = ["| method | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for method, rows in _by_method(records).items():
        good = [row for row in rows if row["status"] == DONE and row["case"] in starts]
        began = [starts[row["case"]] for row in good]
        cells = []
        for values, digits in ((_all_dice, 3), (_all_tre, 2)):
            cells += [_mean(values(good), digits), _mean(values(began), digits), str(len(values(good)))]
        failed = sum(row["status"] == FAILED for row in rows)
        lines.append(f"| {method} | " + " | ".join(cells) + f" | {failed} |")
    return "\n".join(lines)


def tasks_table(records: list[Record]) -> str:
    """Return one table of all tasks of the phantom: a row a task and method, mean ± SD over the seeds."""
    columns: dict[str, Callable[[Record], float | None]] = {
        "Dice breast": _getter("dice", "breast"),
        "Dice fibroglandular": _getter("dice", "fibroglandular"),
        **{name: getter for name, getter in _FIGURES.items() if name in _OF_TASKS},
    }
    lines = ["| task | method | runs | " + " | ".join(columns) + " |", "|---|---|" + "---:|" * (len(columns) + 1)]
    for group in _in_order(record["group"] for record in records if record["group"].startswith(_PHANTOM)):
        task = group.removeprefix(_PHANTOM)
        done = [record for record in records if record["group"] == group and record["status"] == DONE]
        for method, rows in _by_method(done).items():
            cells = [_mean_sd(list(map(getter, rows)), _DIGITS.get(name, 3)) for name, getter in columns.items()]
            lines.append(f"| {task} | {method} | {len(rows)} | " + " | ".join(cells) + " |")
            task = ""
    return "\n".join(lines) if len(lines) > _HEAD_LINES else "No phantom was run."


def real_pairs_table(records: list[Record]) -> str:
    """Return one table of all real pairs: a row a method, all figures of a pair in one cell."""
    done = [r for r in records if r["status"] == DONE and not r["group"].startswith(_PHANTOM)]
    columns = {}
    for group in _in_order(record["group"] for record in done):
        rows = [record for record in done if record["group"] == group]
        names = _in_order(name for record in rows for name in record.get("dice", {}))
        figures = {f"Dice {name}": (_getter("dice", name), 3) for name in names}
        figures |= {name: (_FIGURES[name], _DIGITS.get(name, 2)) for name in _OF_REAL_PAIRS}
        columns[group] = {
            name: (getter, digits)
            for name, (getter, digits) in figures.items()
            if any(getter(record) is not None for record in rows)
        }
    heads = [f"{group}: {'; '.join(figures)}" for group, figures in columns.items()]
    lines = ["| method | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for method, rows in _by_method(done).items():
        cells = []
        for group, figures in columns.items():
            found = [record for record in rows if record["group"] == group]
            values = [_mean_sd(list(map(getter, found)), digits) for getter, digits in figures.values()]
            cells.append("; ".join(values) if found else "")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) if len(lines) > _HEAD_LINES else "No real pair was run."


def failures(records: list[Record]) -> str:
    """Return what failed or could not run, with the reason."""
    lines = [
        f"- {record['case']}, {record['label']}: {record['status']}: {record['reason']}"
        for record in records
        if record["status"] != DONE
    ]
    return "\n".join(lines) or "Everything ran."


def _all_dice(records: list[Record]) -> list[float]:
    return [value for record in records for value in record.get("dice", {}).values() if value is not None]


def _all_tre(records: list[Record]) -> list[float]:
    return [record["tre_mm"]["mean"] for record in records if "tre_mm" in record]


def _mean(values: list[float], digits: int) -> str:
    return f"{fmean(values):.{digits}f}" if values else ""


def _getter(measure: str, name: str) -> Callable[[Record], float | None]:
    return lambda record: record.get(measure, {}).get(name)


def _magnitude(value: float | None) -> float | None:
    return None if value is None else abs(value)


def _by_method(records: list[Record]) -> dict[str, list[Record]]:
    """Return the records by the label of their method, in the order of the list of methods."""
    known = [method.label for method in METHODS]
    labels = sorted({r["label"] for r in records}, key=lambda label: known.index(label) if label in known else 99)
    return {label: [record for record in records if record["label"] == label] for label in labels}


def _in_order(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _mean_sd(values: list[float | None], digits: int) -> str:
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known:
        return ""
    if len(known) == 1:
        return f"{known[0]:.{digits}f}"
    return f"{fmean(known):.{digits}f} ± {stdev(known):.{digits}f}"
