"""Choose the settings of the presets, and what all presets share, on pairs that no table reports.

    python Testing/benchmarks/tuning.py                                     everything
    python Testing/benchmarks/tuning.py --presets lesion --settings encoder one setting of one preset

The pairs are phantoms of the preset's task. For `longitudinal` and `lesion` the real breast patch is added, as
phantoms have little texture and would have the field too stiff. For `default` they are Colin27 with each of the two
brains, and phantoms of one breast at two dates, where a field too free for one person shows, one of them once more
with a moving volume as a coil shades it. What no preset sets, and the constants of the method, count as a preset of
the name `shared`: its pairs are those of all tasks, each registered with its own preset. `lead` is when the second
of two encoders leads, on PET-CT phantoms with a first one that fails on some. From the values there are, one
setting after the other is moved to the next value up or down (an encoder to any other), and the best kept, until no
move lowers the mean loss over the pairs. Each run is kept in OUTPUT/tuning.json and not made again; OUTPUT/tuning.md
lists all.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import SimpleITK as sitk
import torch
from comparison import brains, breasts
from comparison.case import Case
from comparison.cases import COLIN
from comparison.measure import measure
from comparison.phantoms import phantom_sources
from comparison.start import starting_affine

from FoundationRegistrationLib import PRESETS, Settings, convex_adam, register
from FoundationRegistrationLib.errors import SettingsError
from FoundationRegistrationLib.files.outputs import complete_or_absent, write_json
from FoundationRegistrationLib.phantom import TASKS

Values = dict[str, Any]

SPACING_MM = 2.0
_SEEDS = (100, 101)
_SUBJECTS = ("Subj5", "Subj8")
_PATCH, _SHADED = "patch 100", "shaded 100"
SHARED, LEAD = "shared", "lead"
PAIRS: Mapping[str, tuple[str, ...]] = {
    "default": (*_SUBJECTS, *(f"longitudinal {seed}" for seed in _SEEDS), _SHADED),
    **{task: tuple(f"{task} {seed}" for seed in _SEEDS) for task in TASKS},
    "longitudinal": (*(f"longitudinal {seed}" for seed in _SEEDS), _PATCH),
    "lesion": (*(f"lesion {seed}" for seed in _SEEDS), _PATCH),
    "between-patients": _SUBJECTS,
    SHARED: tuple(f"{task} {seed}" for task in TASKS for seed in _SEEDS),
    LEAD: tuple(f"pet-ct-to-mri {seed}" for seed in range(102, 110)),
}
# What is not moved, but unlike the preset.
_FIXED: Mapping[str, Values] = {LEAD: {"encoder": "litemedsam+mind"}}
_OF_STAGES: Mapping[str, tuple[Any, ...]] = {
    "regularization": (0.5, 1.0, 2.0, 4.0, 12.0, 36.0),
    "fluid_iterations": (0, 30, 60, 120),
    "fluid_smoothing": (1.0, 1.5, 3.0, 4.0),
    "field_smoothing": (0.75, 1.0, 1.25),
    "compressibility": (0.0, 0.1, 0.3, 1.0),
    "search_range_mm": (0.0, 24.0, 48.0, 96.0),
}
# Those whose weights a package ships.
_ENCODER = {"encoder": ("mind", "efficientnet-lite0", "efficientnet-lite0+mind", "litemedsam", "litemedsam+mind")}
# What is varied, in this order; a value that is not listed counts as one of them. The encoder of `default` is the
# user's choice. A name with a dot is a constant of a module of `convex_adam`.
CHOICES: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "default": _OF_STAGES,
    "longitudinal": _OF_STAGES | _ENCODER,
    "cross-sequence": _OF_STAGES | _ENCODER,
    "lesion": _OF_STAGES | _ENCODER,
    "between-patients": _OF_STAGES | _ENCODER,
    "pet-ct-to-mri": _OF_STAGES | _ENCODER | {"slice_gap": (1, 2, 4, 6), "components": (12, 24, 48)},
    SHARED: {
        "grid_spacing": (4, 6, 8),
        "displacement_half_width": (3, 4, 5),
        "adam_grid_spacing": (2, 3),
        "adam_levels": (2, 3, 4),
        "iterations": (40, 80, 160),
        "learning_rate": (0.5, 1.0, 2.0),
        "smoothing_repeats": (1, 2, 3, 4),
        "mind_dilation": (1, 2, 3),
        "method._VOLUME_STRENGTH": (0.0, 2.0, 4.0, 8.0),
        "fluid_refinement._MISLED": (1.0, 1.15, 1.3),
        "two_encoders._POWER_OF_LEAD": (1, 2, 4),
        "reliability._REACH": (1, 2, 4),
    },
    LEAD: {"two_encoders._LEAST_GAIN_OF_DETAILS": (0.0, 0.06, 0.125, 0.25, 0.5)},
}
# Constants of these modules have a say in these tasks alone.
_TASK_OF_MODULE = {"two_encoders": "pet-ct-to-mri"}
# A loss of 0.1 is a Dice lower by 0.1, a mean error of 1 mm, or a lesion of one side whose own volume changes by
# 10 % more than is allowed.
ERROR_OF_LOSS_ONE_MM = 10.0
LESION_CHANGE_ALLOWED_PERCENT = 10.0
# Less than this is no reason to move: two pairs do not tell it from chance.
LEAST_GAIN = 0.002


def main() -> None:
    """Tune the presets and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=PAIRS, default=list(PAIRS))
    names = sorted({name for choices in CHOICES.values() for name in choices})
    parser.add_argument("--settings", nargs="+", choices=names, metavar="NAME", help="move these only")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the real volumes")
    parser.add_argument("--output", type=Path, default=Path("out"))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each")
    arguments = parser.parse_args()
    if "default" in arguments.presets and not COLIN.is_dir():
        parser.error(f"{COLIN} is absent; install Debian's package mricron-data, or name the other --presets")
    arguments.output.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(arguments.jobs, initializer=_use_one_thread) as pool:
        runs = Runs(arguments.output / "tuning.json", arguments.data, pool)
        best = {preset: tuned(preset, runs, arguments.settings) for preset in arguments.presets}
    with complete_or_absent(arguments.output / "tuning.md") as unfinished:
        unfinished.write_text(_tables(runs.tried, best), encoding="utf-8")


@dataclass
class Runs:
    """Losses of settings on the pairs of a preset, made where they are not kept yet.

    Attributes:
        file: where they are kept.
        data: folder of the real volumes.
        pool: makes them.
        kept: figures by preset, values and pair.
        tried: figures of the pairs by preset and values, in the order they were asked for.
    """

    file: Path
    data: Path
    pool: ProcessPoolExecutor

    def __post_init__(self) -> None:
        self.kept: dict[str, Values] = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.tried: dict[str, dict[str, list[Values]]] = {}

    def losses(self, preset: str, candidates: list[Values]) -> list[float]:
        """Return the mean loss over the pairs of each candidate."""
        wanted = [[_key(preset, values, pair) for pair in PAIRS[preset]] for values in candidates]
        missing = dict.fromkeys(key for keys in wanted for key in keys if key not in self.kept)
        for key, run in [(key, self.pool.submit(figures_of, key, self.data, self.file.parent)) for key in missing]:
            self.kept[key] = run.result()
            write_json(self.file, self.kept)
        figures = [[self.kept[key] for key in keys] for keys in wanted]
        self.tried.setdefault(preset, {}).update(zip(map(json.dumps, candidates), figures, strict=True))
        return [float(np.mean([of_pair["loss"] for of_pair in of_pairs])) for of_pairs in figures]


def tuned(preset: str, runs: Runs, names: list[str] | None = None) -> Values:
    """Return the best values found for a preset, of all that may be moved or of those named."""
    moved = {name: choices for name, choices in CHOICES[preset].items() if names is None or name in names}
    best = _FIXED.get(preset, {}) | {name: _value(preset, name) for name in moved}
    least = runs.losses(preset, [best])[0]
    changed = True
    while changed:
        changed = False
        for name, choices in moved.items():
            candidates = [best | {name: choice} for choice in _next_to(best[name], choices)]
            candidates = [values for values in candidates if _is_allowed(preset, values)]
            losses = runs.losses(preset, candidates)
            both = zip(losses, candidates, strict=True)
            loss, values = min(both, key=lambda pair: pair[0], default=(least, best))
            if loss < least - LEAST_GAIN:
                best, least, changed = values, loss, True
    return best


def _value(preset: str, name: str) -> Any:
    """Return what a preset has for a setting, or what a constant is."""
    if "." in name:
        module, constant = name.split(".")
        return getattr(importlib.import_module(f"{convex_adam.__name__}.{module}"), constant)
    settings = _settings(preset, {})
    return "+".join(settings.encoders) if name == "encoder" else getattr(settings, name)


def _is_allowed(preset: str, values: Values) -> bool:
    try:
        _settings(preset, values)
    except SettingsError:
        return False
    return True


def _settings(preset: str, values: Values, **overrides: Any) -> Settings:
    if "encoder" in values:
        overrides["detail_encoder"] = ""
    of_settings = {name: value for name, value in values.items() if "." not in name}
    return Settings.from_preset(preset if preset in PRESETS else "default", **of_settings, **overrides)


def _next_to(value: Any, choices: tuple[Any, ...]) -> list[Any]:
    """Return the next choice below a value and the next above, as far as there are any; of words all others."""
    if isinstance(value, str):
        return [choice for choice in choices if choice != value]
    return [
        *[choice for choice in choices if choice < value][-1:],
        *[choice for choice in choices if choice > value][:1],
    ]


def figures_of(key: str, data: Path, folder: Path) -> Values:
    """Register one pair and return the loss and what it is made of; starting affines are kept in the folder."""
    preset, written, pair = key.split(" | ")
    values = json.loads(written)
    if preset not in PRESETS:
        preset = pair.split()[0]
    case = _case(pair, data)
    start = starting_affine(case, folder / "comparison" / "starts" / f"tuning-{pair.replace(' ', '-')}.tfm")
    settings = _settings(preset, values, working_spacing_mm=case.spacing_mm)
    with contextlib.ExitStack() as constants:
        for name, value in values.items():
            if "." in name:
                constants.enter_context(mock.patch(f"{convex_adam.__name__}.{name}", value))
        result = register(case.fixed, case.moving, settings, initial_transform=start)
    found = measure(case, start, result.transform)
    of_tissue = [value for name, value in found["dice"].items() if name != "lesion"]
    dice = float(np.mean(of_tissue)) if of_tissue else 1.0  # without tissues points alone tell
    figures = {
        "dice": dice,
        "tre_mm": found["tre_mm"]["mean"] if "tre_mm" in found else 0.0,
        "lesion_percent": found["lesion"]["change_percent"] if _lesion_is_alone(case) else 0.0,
        "folded_percent": found["jacobian"]["folded_percent"],
        "gain_of_details": result.metrics["gain_of_details"],
    }
    excess = max(0.0, abs(figures["lesion_percent"]) - LESION_CHANGE_ALLOWED_PERCENT) / 100.0
    return figures | {"loss": 1.0 - dice + figures["tre_mm"] / ERROR_OF_LOSS_ONE_MM + excess}


def _lesion_is_alone(case: Case) -> bool:
    return case.moving_lesion is not None and "lesion" not in case.fixed_labels


@functools.lru_cache(maxsize=8)  # the pairs of one preset
def _case(pair: str, data: Path) -> Case:
    if pair in _SUBJECTS:
        return brains.subject_and_colin(data / "brain_intersubject", COLIN, pair)
    task, seed = pair.split()
    task = "longitudinal" if pair == _SHADED else task
    if pair == _PATCH:
        return breasts.patch(data / "breast_mr_patch", int(seed))
    sources = phantom_sources((int(seed),), SPACING_MM)
    case = next(source for source in sources if source.group == f"phantom, {task}").build()
    return replace(case, moving=_shaded(case.moving)) if pair == _SHADED else case


def _shaded(volume: sitk.Image) -> sitk.Image:
    """Return a volume that is 40 % darker at one side and 40 % brighter at the other."""
    shading = np.linspace(0.6, 1.4, volume.GetSize()[0], dtype=np.float32)
    found = sitk.GetImageFromArray(sitk.GetArrayFromImage(volume).astype(np.float32) * shading)
    found.CopyInformation(volume)
    return found


def _use_one_thread() -> None:
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def _key(preset: str, values: Values, pair: str) -> str:
    """Return what a run is kept under: the preset, what has a say in it, and the pair."""
    task = pair.split()[0]
    effective = {
        name: value for name, value in values.items() if _TASK_OF_MODULE.get(name.split(".")[0], task) == task
    }
    return f"{preset} | {json.dumps(effective, sort_keys=True)} | {pair}"


def _tables(tried: Mapping[str, Mapping[str, list[Values]]], best: Mapping[str, Values]) -> str:
    """Return a table for each preset of the values tried, beginning with those it had, and their figures."""
    columns = ("dice", "tre_mm", "lesion_percent", "folded_percent", "loss")
    lines = [
        "Means over the pairs; each row tells what differs from the first one. The values chosen are in bold.",
        "",
    ]
    for preset, rows in tried.items():
        lines += [
            f"### {preset}: {', '.join(PAIRS[preset])}",
            "",
            "| values | " + " | ".join(columns) + " |",
            "|---" + "|---:" * len(columns) + "|",
        ]
        start: Values = {}
        for written, of_pairs in rows.items():
            values = json.loads(written)
            differing = values.items() - start.items()
            start = start or values
            words = ", ".join(f"{name} {value}" for name, value in sorted(differing))
            means = [float(np.mean([figures[column] for figures in of_pairs])) for column in columns]
            words = f"**{words}**" if values == best[preset] else words
            lines.append(f"| {words} | " + " | ".join(f"{mean:.4f}" for mean in means) + " |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
