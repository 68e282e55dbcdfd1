"""The model of the expected error: its fit, and how far it can be trusted on pairs and anatomies it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from comparison.phantoms import GROUP
from comparison.tables import markdown_table
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from sklearn.linear_model import GammaRegressor

from FoundationRegistrationLib.pipeline.assessment import fitted_error
from FoundationRegistrationLib.pipeline.assessment.expected_error import LARGEST_MM, PREDICTORS

from .runs import Run

MODEL_FILE = Path(fitted_error.__file__)
_POINTS_OF_A_RUN = 2000
_LEAST_ERROR_CELLS = 1e-3  # the regression takes logarithms
_RANGE_PERCENTILES = (0.5, 99.5)
_SPREAD_PERCENTILE = 90.0


@dataclass(frozen=True)
class Points:
    """Points of some runs: (N, 3) predictors, (N,) true error in mm, (N,) edge of a cell in mm, (N,) weight."""

    predictors: np.ndarray
    error_mm: np.ndarray
    cell_mm: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, run: Run) -> Points:
        """The points of a run where anything was compared; each run weighs the same."""
        known = np.flatnonzero(np.isfinite(run.predictors).all(1))
        known = np.random.default_rng(0).permutation(known)[:_POINTS_OF_A_RUN]
        count = len(known)
        return cls(
            run.predictors[known], run.error_mm[known], np.full(count, run.cell_mm), np.full(count, 1 / max(count, 1))
        )

    @classmethod
    def joined(cls, parts: Sequence[Points]) -> Points:
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in cls.__dataclass_fields__))


@dataclass(frozen=True)
class Model:
    """The error in cells is exp(intercept + coefficients x predictors), these clamped to their ranges."""

    intercept: float
    coefficients: np.ndarray
    ranges: np.ndarray
    spread: float = 1.0

    @classmethod
    def of_the_library(cls) -> Model:
        rows = np.array([fitted_error.COEFFICIENTS[name] for name in PREDICTORS])
        return cls(fitted_error.INTERCEPT, rows[:, 0], rows[:, 1:].T, fitted_error.SPREAD)

    @classmethod
    def fitted(cls, points: Points) -> Model:
        """Fit a gamma regression with a logarithmic link."""
        ranges = np.percentile(points.predictors, _RANGE_PERCENTILES, axis=0)
        cells = (points.error_mm / points.cell_mm).clip(_LEAST_ERROR_CELLS)
        found = GammaRegressor(alpha=1e-4, max_iter=1000).fit(
            points.predictors.clip(*ranges), cells, sample_weight=points.weight
        )
        model = cls(float(found.intercept_), found.coef_, ranges)
        ratio = points.error_mm / model.expected_mm(points)
        order = np.argsort(ratio)
        below = np.cumsum(points.weight[order]) / points.weight.sum()
        spread = float(ratio[order][np.searchsorted(below, _SPREAD_PERCENTILE / 100)])
        return cls(model.intercept, model.coefficients, ranges, spread)

    def expected_mm(self, points: Points) -> np.ndarray:
        """Return the expected error at points."""
        exponent = self.intercept + points.predictors.clip(*self.ranges) @ self.coefficients
        return np.minimum(points.cell_mm * np.exp(exponent), LARGEST_MM)

    def text(self, what: str, count: int) -> str:
        """Return the library's file with this model."""
        rows = "".join(
            f'    "{name}": ({coefficient:.4f}, {low:.4f}, {high:.4f}),\n'
            for name, coefficient, low, high in zip(PREDICTORS, self.coefficients, *self.ranges, strict=True)
        )
        return (
            '"""The model of the expected error, as `python -m trust fit` in `Testing/benchmarks` wrote it.\n\n'
            "A gamma regression, with a logarithmic link, of the displacement's error in cells on the predictors of\n"
            f"`expected_error.py`. Fitted on {count} runs of equal weight:\n\n{what}\n"
            '"""\n\n'
            f"INTERCEPT = {self.intercept:.4f}\n"
            "# Predictor: its coefficient, and the range that the fit saw.\n"
            f"COEFFICIENTS = {{\n{rows}}}\n"
            f"# {_SPREAD_PERCENTILE:g} % of the true errors are below this multiple of the expected one.\n"
            f"SPREAD = {self.spread:.2f}\n"
        )


def anatomy(run: Run) -> str:
    """Return what is left out of a fit together with a run."""
    if GROUP in run.group:
        return "synthetic breasts"
    return "brains" if run.group.startswith("brain") else "VICTRE and breast patch"


def with_truth(runs: Sequence[Run]) -> list[Run]:
    """Return the runs with a known error somewhere."""
    return [run for run in runs if run.mean_error_mm is not None and np.isfinite(run.predictors).all(1).any()]


def expected_error_table(fitted_on: Sequence[Run], runs: Sequence[Run]) -> str:
    """Return the calibration by group, of the library's model and of models that did not see the anatomy."""
    columns = [
        "group",
        "runs",
        "true mean, mm",
        "expected, mm",
        "rank correlation",
        f"below the {_SPREAD_PERCENTILE:g} % bound, %",
        "expected without this anatomy, mm",
        "below the bound, %",
    ]
    rows = []
    known, library = with_truth(runs), Model.of_the_library()
    for group in dict.fromkeys(run.group for run in known):
        members = [run for run in known if run.group == group]
        points = Points.joined([Points.of(run) for run in members])
        seen = [Points.of(run) for run in with_truth(fitted_on) if anatomy(run) != anatomy(members[0])]
        models = [library, *([Model.fitted(Points.joined(seen))] if seen else [])]
        cells = [group, str(len(members)), f"{_mean(points.error_mm, points):.1f}"]
        for number, model in enumerate(models):
            expected = model.expected_mm(points)
            below = _mean((points.error_mm < model.spread * expected).astype(float), points)
            rank = [f"{spearmanr(expected, points.error_mm)[0]:.2f}"] if number == 0 else []
            cells += [f"{_mean(expected, points):.1f}", *rank, f"{100 * below:.0f}"]
        rows.append(cells)
    return markdown_table(columns, rows) + "\n"


def _mean(values: np.ndarray, points: Points) -> float:
    return float(np.average(values, weights=points.weight))


def _tenths(points: Points) -> list[tuple[float, float, float]]:
    """Mean expected, mean and 90th percentile of the true error, in tenths by the expected error."""
    expected = Model.of_the_library().expected_mm(points)
    return [
        (expected[part].mean(), points.error_mm[part].mean(), np.percentile(points.error_mm[part], 90))
        for part in np.array_split(np.argsort(expected), 10)
    ]


def reliability_plot(by_group: Mapping[str, Points]) -> Figure:
    """Expected against true error by tenths of the points; a map that tells the truth lies on the diagonal."""
    figure = Figure(figsize=(6.4, 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_prop_cycle(color=colormaps["tab20"].colors)
    for name, points in {**by_group, "all": Points.joined(list(by_group.values()))}.items():
        expected, mean, high = np.array(_tenths(points)).T
        style = {"color": "black", "linewidth": 2.5} if name == "all" else {"linewidth": 1.2}
        line = axes.plot(expected, mean, marker="o", label=name, **style)[0]
        axes.plot(expected, high, linestyle=":", linewidth=1.2, color=line.get_color())
    axes.plot([], [], color="grey", marker="o", label="mean of a tenth of the points")
    axes.plot([], [], color="grey", linestyle=":", label="90 % of them are below")
    ends = (0.2, 60.0)
    axes.plot(ends, ends, color="grey", linewidth=1, linestyle="--", label="as expected")
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    axes.set(xlabel="expected error, mm", ylabel="true error, mm")
    ticks = (0.5, 1, 2, 5, 10, 20, 50)
    axes.set_xticks(ticks, labels=map(str, ticks))
    axes.set_yticks(ticks, labels=map(str, ticks))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure
