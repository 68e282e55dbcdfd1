"""Intervals and paired tests, for few cases and figures of any distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import bootstrap, wilcoxon

_LEVEL = 0.95
_LEAST_PAIRS = 2


class Paired(NamedTuple):
    """A method against a reference on shared cases: their number, median difference, p-value (NaN for one case)."""

    pairs: int
    difference: float
    p: float


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % percentile bootstrap interval of a median, the same at each call; None for a single value."""
    if len(values) < _LEAST_PAIRS:
        return None
    rng = np.random.default_rng(0)
    found = bootstrap((values,), np.median, confidence_level=_LEVEL, method="percentile", rng=rng)
    return tuple(map(float, found.confidence_interval))


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
    return given.tolist()
