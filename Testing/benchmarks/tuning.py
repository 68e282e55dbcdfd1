"""Choose the settings of the presets on phantoms that no table reports.

    python Testing/benchmarks/tuning.py                    all presets
    python Testing/benchmarks/tuning.py --presets lesion   one of them

From the values a preset has, one setting after the other is varied and the best value kept, until no change lowers
the mean loss over the seeds. Each run is kept in OUTPUT/tuning.json and not made again; OUTPUT/tuning.md lists all.
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
from comparison.measure import measure
from comparison.phantoms import phantom_sources
from comparison.start import starting_affine

from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.outputs import complete_or_absent, write_json

SEEDS = (10, 11)
SPACING_MM = 2.0
PRESETS = ("longitudinal", "cross-sequence", "lesion", "pet-ct-to-mri")
# What is varied, in this order.
CHOICES: Mapping[str, tuple[Any, ...]] = {
    "regularization": (0.5, 1.0, 2.0, 4.0, 12.0, 36.0),
    "correlation_regularization": (0.5, 1.0, 2.0, 4.0),
    "correlation_radius": (2, 3),
    "correlation_rounds": (1, 2, 3),
}
# A loss of 0.1 is a Dice lower by 0.1, a mean error of 1 mm, or a lesion whose volume is off by 10 % more than is
# allowed, against what the true motion makes of it.
ERROR_OF_LOSS_ONE_MM = 10.0
LESION_CHANGE_ALLOWED_PERCENT = 10.0
# A value further from where the search began must be better by this much.
LEAST_GAIN = 0.0005

Values = dict[str, Any]


def main() -> None:
    """Tune the presets and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=PRESETS)
    parser.add_argument("--output", type=Path, default=Path("out"))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(arguments.jobs, initializer=_use_one_thread) as pool:
        runs = Runs(arguments.output / "tuning.json", pool)
        best = {preset: tuned(preset, runs) for preset in arguments.presets}
    with complete_or_absent(arguments.output / "tuning.md") as unfinished:
        unfinished.write_text(_tables(runs.kept, best), encoding="utf-8")


@dataclass
class Runs:
    """Losses of settings on the phantoms of a preset's task, made where they are not kept yet.

    Attributes:
        file: where they are kept.
        pool: makes them.
    """

    file: Path
    pool: ProcessPoolExecutor

    def __post_init__(self) -> None:
        self.kept: dict[str, Values] = json.loads(self.file.read_text()) if self.file.exists() else {}

    def losses(self, preset: str, candidates: list[Values]) -> list[float]:
        """Return the mean loss over the seeds of each candidate."""
        wanted = [[_key(preset, values, seed) for seed in SEEDS] for values in candidates]
        missing = [key for keys in wanted for key in keys if key not in self.kept]
        for key, figures in [(key, self.pool.submit(figures_of, key, self.file.parent)) for key in missing]:
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
            candidates = [best | {name: choice} for choice in choices if choice != best[name]]
            losses = runs.losses(preset, candidates)
            found = int(np.argmin(losses))
            if losses[found] < least - LEAST_GAIN:
                best, least, changed = candidates[found], losses[found], True
    return best


def figures_of(key: str, folder: Path) -> Values:
    """Register one phantom and return the loss and what it is made of; starting affines are kept in the folder."""
    preset, values, seed = key.split(" | ")
    source = next(s for s in phantom_sources((int(seed),), SPACING_MM) if s.group == f"phantom, {preset}")
    case = source.build()
    start = starting_affine(case, folder / "comparison" / "starts" / f"{source.name}.tfm")
    settings = Settings.from_preset(preset, working_spacing_mm=SPACING_MM, **json.loads(values))
    result = register(case.fixed, case.moving, settings, initial_transform=start)
    found = measure(case, start, result.transform)
    dice = float(np.mean([found["dice"][name] for name in ("breast", "fibroglandular", "organ")]))
    figures = {
        "dice": dice,
        "fibroglandular": found["dice"]["fibroglandular"],
        "tre_mm": found["tre_mm"]["mean"],
        "lesion_percent": found["lesion"]["against_truth_percent"] if preset == "lesion" else 0.0,
        "folded_percent": found["jacobian"]["folded_percent"],
    }
    excess = max(0.0, abs(figures["lesion_percent"]) - LESION_CHANGE_ALLOWED_PERCENT) / 100.0
    return figures | {"loss": 1.0 - dice + figures["tre_mm"] / ERROR_OF_LOSS_ONE_MM + excess}


def _use_one_thread() -> None:
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _key(preset: str, values: Values, seed: int) -> str:
    return f"{preset} | {json.dumps(values, sort_keys=True)} | {seed}"


def _tables(kept: Mapping[str, Values], best: Mapping[str, Values]) -> str:
    columns = ("dice", "fibroglandular", "tre_mm", "lesion_percent", "folded_percent", "loss")
    lines = [f"Means over seeds {', '.join(map(str, SEEDS))}. The values chosen are in bold.", ""]
    for preset, chosen in best.items():
        lines += [f"### {preset}", "", "| values | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        tried = {key.split(" | ")[1] for key in kept if key.startswith(f"{preset} | ")}
        rows = {}
        for values in tried:
            of_seeds = [kept.get(f"{preset} | {values} | {seed}") for seed in SEEDS]
            if all(of_seeds):
                rows[values] = [float(np.mean([figures[c] for figures in of_seeds])) for c in columns]
        for values, means in sorted(rows.items(), key=lambda row: row[1][-1]):
            words = ", ".join(f"{name} {value}" for name, value in json.loads(values).items())
            words = f"**{words}**" if json.loads(values) == chosen else words
            lines.append(f"| {words} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
