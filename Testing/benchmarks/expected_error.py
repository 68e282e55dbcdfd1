"""Fit the map of the expected error on phantoms, and measure how far it can be trusted on others.

    python Testing/benchmarks/expected_error.py fit       on the seeds for tuning; writes the model into the library
    python Testing/benchmarks/expected_error.py report    on other seeds; writes OUTPUT/expected_error.md and .png

The registrations of each phantom are kept in OUTPUT/expected_error and not made again; after a change of the
registration remove them, fit, then report.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from sklearn.linear_model import GammaRegressor

from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.convex_adam import fitted_error
from FoundationRegistrationLib.convex_adam.expected_error import MEASURES, expected_error
from FoundationRegistrationLib.files.outputs import complete_or_absent
from FoundationRegistrationLib.phantom import TASKS, make_phantom
from FoundationRegistrationLib.spatial.points import transform_points

SEEDS = {"fit": (10, 11), "report": (1, 2, 3, 4, 5)}
SPACINGS_MM = {"fit": (2.5, 4.0), "report": (2.5,)}  # two, as the model says that errors grow with the cells
# Each task with its preset, and one pair that this cannot align, so that the model has seen what failing looks like.
PAIRS: Mapping[str, tuple[str, Mapping[str, object]]] = {
    **{task: (task, {}) for task in TASKS},
    "pet-ct-to-mri, failing": ("pet-ct-to-mri", {"encoder": "mind", "detail_encoder": "", "search_range_mm": 0.0}),
}
BODY_POINTS = 8000
LEAST_ERROR_CELLS = 1e-3  # the regression takes logarithms
RANGE_PERCENTILES = (0.5, 99.5)
MODEL = Path(fitted_error.__file__)


@dataclass(frozen=True)
class Samples:
    """Points of the bodies of some phantoms: (N, 4) measures, (N,) true error in mm, (N,) edge of a cell in mm."""

    measures: np.ndarray
    error_mm: np.ndarray
    cell_mm: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[Samples]) -> Samples:
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in cls.__dataclass_fields__))

    @property
    def known(self) -> Samples:
        """Those where something was compared."""
        known = np.isfinite(self.measures).all(1)
        return Samples(self.measures[known], self.error_mm[known], self.cell_mm[known])

    @property
    def expected_mm(self) -> np.ndarray:
        return self.cell_mm * expected_error(torch.from_numpy(self.measures.T), 1.0).numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=tuple(SEEDS))
    parser.add_argument("--output", type=Path, default=Path("out"))
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of the documented ones")
    parser.add_argument(
        "--spacings-mm", type=float, nargs="+", help="of phantoms and working grids, instead of those"
    )
    arguments = parser.parse_args()
    seeds = arguments.seeds or SEEDS[arguments.action]
    spacings = arguments.spacings_mm or SPACINGS_MM[arguments.action]
    folder = arguments.output / "expected_error"
    folder.mkdir(parents=True, exist_ok=True)
    by_pair = {
        name: Samples.joined([kept_samples(folder, name, seed, mm) for mm in spacings for seed in seeds])
        for name in PAIRS
    }
    of = f"seeds {', '.join(map(str, seeds))}, at {' and '.join(map(str, spacings))} mm"
    what = f"phantoms of each task and of CT to MR with MIND alone, {of}"
    if arguments.action == "fit":
        with complete_or_absent(MODEL) as unfinished:
            unfinished.write_text(fitted_model(Samples.joined(list(by_pair.values())).known, what))
        return
    with complete_or_absent(arguments.output / "expected_error.md") as unfinished:
        unfinished.write_text(report(by_pair, what))
    with complete_or_absent(arguments.output / "expected_error.png") as unfinished:
        reliability_plot(by_pair).savefig(unfinished, format="png", dpi=130)


def kept_samples(folder: Path, name: str, seed: int, spacing_mm: float) -> Samples:
    """Samples of one phantom, registered if that was not done before."""
    path = folder / f"{name.replace(', ', '_')}_{seed}_{spacing_mm:g}.npz"
    if not path.exists():
        samples = registered_samples(name, seed, spacing_mm)
        with complete_or_absent(path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, measures=samples.measures, error_mm=samples.error_mm, cell_mm=samples.cell_mm)
        print(name, seed, f"{samples.error_mm.mean():.2f} mm", flush=True)  # noqa: T201 - the progress of a script
    with np.load(path) as kept:
        return Samples(**kept)


def registered_samples(name: str, seed: int, spacing_mm: float) -> Samples:
    """Register a phantom and look at points all over the body."""
    task, changes = PAIRS[name]
    case = make_phantom(task, seed, spacing_mm=spacing_mm, difficulty="easy")
    settings = Settings.from_preset(task, working_spacing_mm=spacing_mm, **changes)
    result = register(case.fixed, case.moving, settings)
    body = np.argwhere(sitk.GetArrayViewFromImage(case.fixed_labels["body"]) > 0)
    body = body[np.random.default_rng(0).permutation(len(body))[:BODY_POINTS]]
    points = np.array([case.fixed.TransformIndexToPhysicalPoint(index[::-1].tolist()) for index in body])
    truth = sitk.GetArrayViewFromImage(case.displacement)[tuple(body.T)]
    error = np.linalg.norm(transform_points(result.transform, points) - points - truth, axis=1)
    measures = result.error_predictors
    nearest = [measures.TransformPhysicalPointToIndex(point) for point in points.tolist()]
    found = np.array([measures[index] for index in nearest], dtype=np.float32)
    return Samples(found, error, np.full(len(error), measures.GetSpacing()[0]))


def fitted_model(samples: Samples, what: str) -> str:
    """Text of the library's file with the model: the mean error is exp(intercept + coefficients x measures)."""
    ranges = np.percentile(samples.measures, RANGE_PERCENTILES, axis=0)
    measures = samples.measures.clip(*ranges)
    cells = (samples.error_mm / samples.cell_mm).clip(LEAST_ERROR_CELLS)
    model = GammaRegressor(alpha=1e-4, max_iter=1000).fit(measures, cells)
    rows = "".join(
        f'    "{name}": ({coefficient:.4f}, {low:.4f}, {high:.4f}),\n'
        for name, coefficient, low, high in zip(MEASURES, model.coef_, *ranges, strict=True)
    )
    return (
        '"""The model of the expected error, as `Testing/benchmarks/expected_error.py fit` wrote it.\n\n'
        "A gamma regression, with a logarithmic link, of the displacement's error in cells on the logarithms of the\n"
        "measures of `expected_error.py`.\n\n"
        f"Fitted on {len(cells)} points of the bodies, about as many of each pair, of\n{what},\n"
        "registered with the presets of the tasks, or with MIND alone.\n"
        '"""\n\n'
        f"INTERCEPT = {model.intercept_:.4f}\n"
        "# Measure: its coefficient, and the range of the measure that the fit saw.\n"
        f"COEFFICIENTS = {{\n{rows}}}\n"
    )


def report(by_pair: Mapping[str, Samples], what: str) -> str:
    """Markdown: rank correlation and calibration by pair and pooled, and by tenths of the expected error."""
    pooled = Samples.joined(list(by_pair.values()))
    columns = (
        "points",
        "not known %",
        "mean error, mm",
        "mean expected, mm",
        "Spearman",
        *(f"{name} alone" for name in MEASURES),
        "error below expected %",
        "below twice that %",
    )
    lines = [f"Measured on {what}.\n", _row(("", *columns)), _row(["---"] * (len(columns) + 1))]
    lines += [_row((name, *_figures(samples))) for name, samples in {**by_pair, "pooled": pooled}.items()]
    lines += ["", _row(("tenth of the points", "expected, mm", "true mean, mm", "true median, mm", "true 90th, mm"))]
    lines += [_row(["---"] * 5)]
    lines += [_row((str(number + 1), *(f"{v:.2f}" for v in tenth))) for number, tenth in enumerate(_tenths(pooled))]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _figures(samples: Samples) -> list[str]:
    known = samples.known
    error, expected = known.error_mm, known.expected_mm
    alone = [spearmanr(measure, error)[0] for measure in known.measures.T]
    return [
        str(len(samples.error_mm)),
        f"{100 - 100 * len(error) / len(samples.error_mm):.1f}",
        f"{error.mean():.2f}",
        f"{expected.mean():.2f}",
        f"{spearmanr(expected, error)[0]:.2f}",
        *(f"{value:.2f}" for value in alone),
        f"{100 * np.mean(error < expected):.0f}",
        f"{100 * np.mean(error < 2 * expected):.0f}",
    ]


def _tenths(samples: Samples) -> list[tuple[float, float, float, float]]:
    """Mean expected, mean, median and 90th percentile of the true error, in tenths by the expected error."""
    known = samples.known
    error, expected = known.error_mm, known.expected_mm
    return [
        (expected[part].mean(), error[part].mean(), np.median(error[part]), np.percentile(error[part], 90))
        for part in np.array_split(np.argsort(expected), 10)
    ]


def reliability_plot(by_pair: Mapping[str, Samples]) -> Figure:
    """Expected against true error by tenths of the points; a map that tells the truth lies on the diagonal."""
    figure = Figure(figsize=(6.4, 6.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, samples in {**by_pair, "all": Samples.joined(list(by_pair.values()))}.items():
        expected, mean, _, high = np.array(_tenths(samples)).T
        style = {"color": "black", "linewidth": 2.5} if name == "all" else {"linewidth": 1.2}
        line = axes.plot(expected, mean, marker="o", label=name, **style)[0]
        axes.plot(expected, high, linestyle=":", linewidth=1.2, color=line.get_color())
    axes.plot([], [], color="grey", marker="o", label="mean of a tenth of the points")
    axes.plot([], [], color="grey", linestyle=":", label="90 % of them are below")
    ends = (0.25, 16.0)
    axes.plot(ends, ends, color="grey", linewidth=1, linestyle="--", label="as expected")
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    axes.set(xlabel="expected error, mm", ylabel="true error, mm")
    ticks = (0.5, 1, 2, 5, 10)
    axes.set_xticks(ticks, labels=map(str, ticks))
    axes.set_yticks(ticks, labels=map(str, ticks))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return figure


if __name__ == "__main__":
    main()
