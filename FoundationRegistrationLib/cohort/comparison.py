"""How the figures of two cohorts differ, pair by pair."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..evaluation.statistics import holm, interval, paired
from .figures import FIGURES
from .names import TABLE


@dataclass(frozen=True)
class Difference:
    """A figure in two cohorts, over the pairs that have it in both.

    Attributes:
        figure: its column.
        pairs: their number.
        first: mean of the first cohort.
        second: mean of the second cohort.
        difference: mean of second minus first.
        low: lower end of the 95 % bootstrap interval of that; NaN for a single pair.
        high: upper end.
        p: of the paired Wilcoxon signed-rank test; NaN for a single pair.
        p_holm: corrected for the number of figures.
    """

    figure: str
    pairs: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


def compare(first: Path, second: Path, figures: Sequence[str] = ()) -> list[Difference]:
    """Return how the figures of two cohorts differ, over the pairs of the same name.

    Args:
        first: folder of a cohort.
        second: folder of another one.
        figures: columns of their tables; those that both have if empty.

    Raises:
        InputError: a folder holds no cohort, or they share no pair with such a figure.
    """
    tables = [_read(folder) for folder in (first, second)]
    names = [name for name in tables[0] if name in tables[1]]
    found = []
    for figure in figures or FIGURES:
        both = [tuple(_number(table[name].get(figure)) for table in tables) for name in names]
        values = [pair for pair in both if not any(map(math.isnan, pair))]
        if values:
            before, after = zip(*values, strict=True)
            found.append((figure, before, after))
        elif figures:
            msg = (
                f"No pair of the same name has the figure '{figure}' in both cohorts; figures: {', '.join(FIGURES)}."
            )
            raise InputError(msg)
    if not found:
        msg = f"'{first}' and '{second}' share no finished pair of the same name; give cohorts of the same pairs."
        raise InputError(msg)
    return list(_differences(found))


def _differences(
    found: Sequence[tuple[str, tuple[float, ...], tuple[float, ...]]],
) -> Iterable[Difference]:
    tests = [paired(after, before).p for _, before, after in found]
    for (figure, before, after), p, corrected in zip(found, tests, holm(tests), strict=True):
        differences = [b - a for a, b in zip(before, after, strict=True)]
        low, high = interval(differences, np.mean) or (math.nan, math.nan)
        first, second, difference = (statistics.fmean(values) for values in (before, after, differences))
        yield Difference(figure, len(differences), first, second, difference, low, high, p, corrected)


def _read(folder: Path) -> dict[str, dict[str, str]]:
    try:
        with (folder / TABLE).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return {row["name"]: row for row in rows if row["state"] == "done"}
    except (OSError, KeyError, ValueError, csv.Error) as error:
        msg = f"'{folder}' has no '{TABLE}' of a cohort that can be read; give the --output of `cohort`."
        raise InputError(msg) from error


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
