"""Intervals and paired tests, for few cases and figures of any distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import wilcoxon

_LEVEL = 0.95
_LEAST_PAIRS = 2
_DRAWS = 10_000
_AT_ONCE = 500  # few enough to be small in memory for thousands of cases


class Paired(NamedTuple):
    """A method against a reference on shared cases: their number, median difference, p-value (NaN for one case)."""

    pairs: int
    difference: float
    p: float


def interval(values: Sequence[float], statistic: Callable[..., Any] = np.median) -> tuple[float, float] | None:
    """Return the 95 % percentile bootstrap interval, the same at each call; None for a single value.

    Args:
        values: of the cases.
        statistic: whose interval it is, such as the median or the mean; takes an `axis`.
    """
    if len(values) < _LEAST_PAIRS:
        return None
    given, rng = np.asarray(values, dtype=float), np.random.default_rng(0)
    found: list[float] = []
    for _ in range(_DRAWS // _AT_ONCE):
        found.extend(statistic(given[rng.integers(0, len(given), (_AT_ONCE, len(given)))], axis=-1))
    low, high = np.percentile(found, (50.0 * (1.0 - _LEVEL), 50.0 * (1.0 + _LEVEL)))
    return float(low), float(high)


def paired(values: Sequence[float], reference: Sequence[float]) -> Paired:
    """Return how values differ from those of a reference on the same cases: two-sided Wilcoxon signed-rank test."""
    differences = np.subtract(values, reference)
    if len(differences) < _LEAST_PAIRS:
        p = np.nan
    elif not differences.any():
        p = 1.0
    else:
        p = float(wilcoxon(differences).pvalue)
    return Paired(len(differences), float(np.median(differences)), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down method; NaN is no test and stays NaN."""
    given = np.array(p_values, dtype=float)
    tests = np.flatnonzero(np.isfinite(given))
    order = tests[np.argsort(given[tests])]
    factors = len(order) - np.arange(len(order))
    given[order] = np.minimum(np.maximum.accumulate(factors * given[order]), 1.0)
    return [float(value) for value in given]
