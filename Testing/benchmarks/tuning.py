"""Choose the settings of the presets on pairs that no table reports.

    python Testing/benchmarks/tuning.py                    all presets
    python Testing/benchmarks/tuning.py --presets lesion   one of them

The pairs are phantoms of the preset's task. For `longitudinal` and `lesion` the real breast patch is added, as
phantoms have little texture and would have the field too stiff. For `default` they are Colin27 with each of the two
brains, and phantoms of one breast at two dates, where a field too free for one person shows. From the values a preset
has, one setting after the other is moved to the next value up or down, and the best kept, until no move lowers the
mean loss over the pairs. Each run is kept in OUTPUT/tuning.json and not made again; OUTPUT/tuning.md lists all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from comparison import brains, breasts
from comparison.case import Case
from comparison.cases import COLIN
from comparison.measure import measure
from comparison.phantoms import phantom_sources
from comparison.start import starting_affine

from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.outputs import complete_or_absent, write_json
from FoundationRegistrationLib.phantom import TASKS

SPACING_MM = 2.0
_SEEDS = (10, 11)
_SUBJECTS = ("Subj5", "Subj8")
_PATCH = "patch 10"
PAIRS: Mapping[str, tuple[str, ...]] = {
    "default": (*_SUBJECTS, *(f"longitudinal {seed}" for seed in _SEEDS)),
    **{task: tuple(f"{task} {seed}" for seed in _SEEDS) for task in TASKS},
    "longitudinal": (*(f"longitudinal {seed}" for seed in _SEEDS), _PATCH),
    "lesion": (*(f"lesion {seed}" for seed in _SEEDS), _PATCH),
}
# What is varied, in this order; a value of a preset that is not listed counts as one of them.
CHOICES: Mapping[str, tuple[Any, ...]] = {
    "unmatched_stiffness": (0.0, 10.0, 30.0, 100.0),
    "regularization": (0.5, 1.0, 2.0, 4.0, 12.0, 36.0),
    "voxel_iterations": (0, 20, 40, 80),
    "correlation_regularization": (0.5, 1.0, 2.0, 4.0),
    "correlation_radius": (2, 3),
    "correlation_rounds": (1, 2, 3),
}
# A loss of 0.1 is a Dice lower by 0.1, a mean error of 1 mm, or a lesion of one side whose own volume changes by
# 10 % more than is allowed.
ERROR_OF_LOSS_ONE_MM = 10.0
LESION_CHANGE_ALLOWED_PERCENT = 10.0
# Less than this is no reason to move: two pairs do not tell it from chance.
LEAST_GAIN = 0.002

Values = dict[str, Any]


def main() -> None:
    """Tune the presets and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the real volumes")
    parser.add_argument("--output", type=Path, default=Path("out"))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    arguments = parser.parse_args()
    if "default" in arguments.presets and not COLIN.is_dir():
        parser.error(f"{COLIN} is absent; install Debian's package mricron-data, or name the other --presets")
    arguments.output.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(arguments.jobs, initializer=_use_one_thread) as pool:
        runs = Runs(arguments.output / "tuning.json", arguments.data, pool)
        best = {preset: tuned(preset, runs) for preset in arguments.presets}
    with complete_or_absent(arguments.output / "tuning.md") as unfinished:
        unfinished.write_text(_tables(runs.kept, best), encoding="utf-8")


@dataclass
class Runs:
    """Losses of settings on the pairs of a preset, made where they are not kept yet.

    Attributes:
        file: where they are kept.
        data: folder of the real volumes.
        pool: makes them.
    """

    file: Path
    data: Path
    pool: ProcessPoolExecutor

    def __post_init__(self) -> None:
        self.kept: dict[str, Values] = json.loads(self.file.read_text()) if self.file.exists() else {}

    def losses(self, preset: str, candidates: list[Values]) -> list[float]:
        """Return the mean loss over the pairs of each candidate."""
        wanted = [[_key(preset, values, pair) for pair in PAIRS[preset]] for values in candidates]
        missing = [key for keys in wanted for key in keys if key not in self.kept]
        for key, figures in [
            (key, self.pool.submit(figures_of, key, self.data, self.file.parent)) for key in missing
        ]:
            self.kept[key] = figures.result()
            write_json(self.file, self.kept)
        return [float(np.mean([self.kept[key]["loss"] for key in keys])) for keys in wanted]


def tuned(preset: str, runs: Runs) -> Values:
    """Return the best values found for a preset."""
    settings = Settings.from_preset(preset)
    best = {name: getattr(settings, name) for name in CHOICES}
    least = runs.losses(preset, [best])[0]
    changed = True
    while changed:
        changed = False
        for name, choices in CHOICES.items():
            candidates = [best | {name: choice} for choice in _next_to(best[name], choices)]
            losses = runs.losses(preset, candidates)
            found = int(np.argmin(losses))
            if losses[found] < least - LEAST_GAIN:
                best, least, changed = candidates[found], losses[found], True
    return best


def _next_to(value: Any, choices: tuple[Any, ...]) -> list[Any]:
    """Return the next choice below a value and the next above, as far as there are any."""
    return [
        *[choice for choice in choices if choice < value][-1:],
        *[choice for choice in choices if choice > value][:1],
    ]


def figures_of(key: str, data: Path, folder: Path) -> Values:
    """Register one pair and return the loss and what it is made of; starting affines are kept in the folder."""
    preset, values, pair = key.split(" | ")
    case = _case(pair, data)
    start = starting_affine(case, folder / "comparison" / "starts" / f"tuning-{pair.replace(' ', '-')}.tfm")
    settings = Settings.from_preset(preset, working_spacing_mm=case.spacing_mm, **json.loads(values))
    result = register(case.fixed, case.moving, settings, initial_transform=start)
    found = measure(case, start, result.transform)
    of_tissue = [value for name, value in found["dice"].items() if name != "lesion"]
    dice = float(np.mean(of_tissue)) if of_tissue else 1.0  # without tissues points alone tell
    figures = {
        "dice": dice,
        "tre_mm": found["tre_mm"]["mean"] if "tre_mm" in found else 0.0,
        "lesion_percent": found["lesion"]["change_percent"] if _lesion_is_alone(case) else 0.0,
        "folded_percent": found["jacobian"]["folded_percent"],
    }
    excess = max(0.0, abs(figures["lesion_percent"]) - LESION_CHANGE_ALLOWED_PERCENT) / 100.0
    return figures | {"loss": 1.0 - dice + figures["tre_mm"] / ERROR_OF_LOSS_ONE_MM + excess}


def _lesion_is_alone(case: Case) -> bool:
    return case.moving_lesion is not None and "lesion" not in case.fixed_labels


def _case(pair: str, data: Path) -> Case:
    if pair in _SUBJECTS:
        return brains.subject_and_colin(data / "brain_intersubject", COLIN, pair)
    task, seed = pair.split()
    if pair == _PATCH:
        return breasts.patch(data / "breast_mr_patch", int(seed))
    sources = phantom_sources((int(seed),), SPACING_MM)
    return next(source for source in sources if source.group == f"phantom, {task}").build()


def _use_one_thread() -> None:
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _key(preset: str, values: Values, pair: str) -> str:
    return f"{preset} | {json.dumps(values, sort_keys=True)} | {pair}"


def _tables(kept: Mapping[str, Values], best: Mapping[str, Values]) -> str:
    columns = ("dice", "tre_mm", "lesion_percent", "folded_percent", "loss")
    lines = ["Means over the pairs. The values chosen are in bold.", ""]
    for preset, chosen in best.items():
        lines += [
            f"### {preset}: {', '.join(PAIRS[preset])}",
            "",
            "| values | " + " | ".join(columns) + " |",
            "|---" * (len(columns) + 1) + "|",
        ]
        tried = {key.split(" | ")[1] for key in kept if key.startswith(f"{preset} | ")}
        rows = {}
        for values in tried:
            of_pairs = [kept.get(f"{preset} | {values} | {pair}") for pair in PAIRS[preset]]
            if all(of_pairs):
                rows[values] = [float(np.mean([figures[c] for figures in of_pairs])) for c in columns]
        for values, means in sorted(rows.items(), key=lambda row: row[1][-1]):
            words = ", ".join(f"{name} {value}" for name, value in json.loads(values).items())
            words = f"**{words}**" if json.loads(values) == chosen else words
            lines.append(f"| {words} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
