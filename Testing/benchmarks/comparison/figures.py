"""The figures of a record that tables, tests and plots show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .records import DONE, Record

TARGETS = ("breast", "fibroglandular", "organ")


@dataclass(frozen=True)
class Figure:
    """One figure of a record.

    Attributes:
        name: head of its column, with the unit.
        of: the record's figure; None if it has none.
        digits: behind the point.
        sign: +1 if more is better, -1 if less is, 0 if neither.
        accuracy: whether it tells how good a registration is, and not what it costs or how it deforms.
    """

    name: str
    of: Callable[[Record], float | None]
    digits: int
    sign: int
    accuracy: bool = True

    def known(self, records: Iterable[Record]) -> dict[str, float]:
        """Return the figure by case, of the runs that ended well."""
        values = {record["case"]: self.of(record) for record in records if record["status"] == DONE}
        return {case: value for case, value in values.items() if value is not None and math.isfinite(value)}


LESION = Figure("lesion volume error, %", lambda r: _size(_inner(r, "lesion", "change_percent")), 1, -1)
TRE = Figure("TRE, mm", lambda r: _inner(r, "tre_mm", "mean"), 2, -1)
FOLDED = Figure("folded, %", lambda r: _inner(r, "jacobian", "folded_percent"), 4, -1, accuracy=False)
CPU = Figure("CPU, s", lambda r: r.get("cpu_seconds"), 1, -1, accuracy=False)
CHANGE_SEEN = Figure("change seen", lambda r: r.get("change_seen"), 2, 1)
_OTHERS = (
    TRE,
    LESION,
    Figure("against true motion, %", lambda r: _size(_inner(r, "lesion", "against_truth_percent")), 1, -1),
    CHANGE_SEEN,
    FOLDED,
    Figure("SD of log J", lambda r: _inner(r, "jacobian", "sd_log"), 3, 0, accuracy=False),
    CPU,
    Figure("wall, s", lambda r: r.get("seconds"), 1, -1, accuracy=False),
    Figure("peak memory, GB", lambda r: r["peak_memory_mb"] / 1e3, 2, -1, accuracy=False),
)


def dice_of(target: str) -> Figure:
    """Return the Dice of a target, 0 to 1."""
    return Figure(f"Dice {target}", lambda record: _inner(record, "dice", target), 3, 1)


def _hausdorff95_of(target: str) -> Figure:
    return Figure(f"HD95 {target}, mm", lambda record: _inner(record, "hausdorff95_mm", target), 1, -1)


_BY_TARGET = {"dice": dice_of, "hausdorff95_mm": _hausdorff95_of}


def figures_of(records: Iterable[Record]) -> list[Figure]:
    """Return the figures that any of the records has, in the order of the tables."""
    done = [record for record in records if record["status"] == DONE]
    found = [make(target) for measure, make in _BY_TARGET.items() for target in _names(done, measure)]
    return [figure for figure in (*found, *_OTHERS) if figure.known(done)]


def _names(records: list[Record], measure: str) -> list[str]:
    return list(dict.fromkeys(name for record in records for name in record.get(measure, {})))


def _inner(record: Record, measure: str, name: str) -> float | None:
    return record.get(measure, {}).get(name)


def _size(value: float | None) -> float | None:
    return None if value is None else abs(value)
