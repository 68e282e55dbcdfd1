"""Measure accuracy on real pairs and phantoms and write the README's table.

    make benchmark            all cases
    python Testing/benchmarks/accuracy.py --only phantom --output out

Each case is kept in OUTPUT/accuracy.json as soon as it is done; cases found there are not run again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from convexAdam.convex_adam_MIND import convex_adam_pt

from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.alignment import initial_alignment
from FoundationRegistrationLib.convex_adam import convex_adam
from FoundationRegistrationLib.convex_adam.sampling import upsample
from FoundationRegistrationLib.encoders import build_encoder
from FoundationRegistrationLib.features import pool
from FoundationRegistrationLib.geometry import transform_points
from FoundationRegistrationLib.metrics import dice, mean_over_labels
from FoundationRegistrationLib.outputs import complete_or_absent, write_json
from FoundationRegistrationLib.phantom import TASKS, make_phantom
from FoundationRegistrationLib.preprocessing import prepare
from FoundationRegistrationLib.progress import Progress
from FoundationRegistrationLib.transforms import warp_labels

PHANTOM_SEEDS = (1, 2, 3)  # seeds 0, 10, 11 and 12 were used to choose the presets
BODY_POINTS = 6000
Case = dict[str, str]


def main() -> None:
    """Run the cases that are still missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, default=Path("out"))
    parser.add_argument("--only", default="", help="run only the cases whose name contains this")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    store = arguments.output / "accuracy.json"
    done: dict[str, Case] = json.loads(store.read_text()) if store.exists() else {}
    for name, run in _cases(arguments.data).items():
        if arguments.only in name and name not in done:
            done[name] = run()
            write_json(store, done)
            print(name, done[name], flush=True)  # noqa: T201 - the progress of a script
    with complete_or_absent(arguments.output / "accuracy.md") as unfinished:
        unfinished.write_text(_table(done))


def _cases(data: Path) -> dict[str, Callable[[], Case]]:
    cases: dict[str, Callable[[], Case]] = {}
    if data.is_dir():
        for encoder in ("mind", "litemedsam", "efficientnet-lite0"):
            cases[f"brain, {encoder}"] = lambda encoder=encoder: brain(data / "brain_intersubject", encoder)
        cases["brain, official convexAdam and ours"] = lambda: brain_agreement(data / "brain_intersubject")
        for sequence in ("FLAIR", "T1W"):
            cases[f"MS follow-up, FLAIR to {sequence}"] = lambda sequence=sequence: follow_up(
                data / "ms_longitudinal", sequence
            )
    for task in TASKS:
        for seed in PHANTOM_SEEDS:
            cases[f"phantom, {task}, seed {seed}"] = lambda task=task, seed=seed: phantom(task, seed)
    return cases


def brain(folder: Path, encoder: str) -> Case:
    """T1 of two subjects, affine start, 145 labels."""
    fixed, moving, fixed_labels, moving_labels = _brain_volumes(folder)
    result = register(fixed, moving, Settings.from_preset(encoder=encoder, working_spacing_mm=2.0))
    before = warp_labels(moving_labels, fixed_labels, result.initial_transform)
    after = warp_labels(moving_labels, fixed_labels, result.transform)
    return {
        "before": f"Dice {mean_over_labels(dice(fixed_labels, before)):.3f} (affine)",
        "after": f"Dice {mean_over_labels(dice(fixed_labels, after)):.3f}",
        "folded %": f"{result.metrics['jacobian']['folded_percent']:.3f}",
    }


def brain_agreement(folder: Path) -> Case:
    """The official package and ours on the same two arrays, the same features and the same settings."""
    fixed, moving, fixed_labels, moving_labels = _brain_volumes(folder)
    sides = (prepare(fixed, "mr", "fixed"), prepare(moving, "mr", "moving"))
    affine, _ = initial_alignment(*sides, "affine", Progress({"initial alignment": 1.0}))
    arrays = [
        torch.from_numpy(sitk.GetArrayFromImage(image))
        for image in (sides[0].image, sitk.Resample(sides[1].image, fixed, affine))
    ]
    size = [extent // 6 * 6 for extent in arrays[0].shape]
    arrays = [array[: size[0], : size[1], : size[2]].contiguous() for array in arrays]
    official = convex_adam_pt(*arrays, dtype=torch.float32, device=torch.device("cpu"))
    settings = Settings.from_preset("convexadam")
    encoder = build_encoder(settings, torch.device("cpu"))
    features = [pool(encoder.encode(array[None])[0], settings.adam_grid_spacing) for array in arrays]
    found = convex_adam(features[0], features[1], settings, voxel_mm=2.0)
    ours = upsample(found.displacement, settings.adam_grid_spacing, tuple(size)).permute(1, 2, 3, 0).numpy()
    scores = []
    for field in (official, ours):
        padded = np.zeros((*reversed(fixed.GetSize()), 3))
        padded[: size[0], : size[1], : size[2]] = field[..., ::-1] * np.array(fixed.GetSpacing())
        image = sitk.GetImageFromArray(padded, isVector=True)
        image.CopyInformation(fixed)
        transform = sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(image)])
        scores.append(mean_over_labels(dice(fixed_labels, warp_labels(moving_labels, fixed_labels, transform))))
    return {
        "before": f"official: Dice {scores[0]:.4f}",
        "after": f"ours: Dice {scores[1]:.4f}",
        "folded %": "",
    }


def _brain_volumes(folder: Path) -> list[sitk.Image]:
    names = ("Subj8_T1", "Subj5_T1", "Subj8_T1_DLMUSE", "Subj5_T1_DLMUSE")
    return [sitk.ReadImage(str(folder / f"{name}.nii.gz")) for name in names]


def follow_up(folder: Path, sequence: str) -> Case:
    """FLAIR of one study and a volume of a later one on their native grids, against the reference affines."""

    def image(name: str) -> sitk.Image:
        return sitk.ReadImage(str(folder / f"{name}.nii.gz"))

    fixed, moving = image("raw_study1_FLAIR"), image(f"raw_study2_{sequence}")
    mask = image("coregistered_brainmask")
    to_fixed = sitk.ReadTransform(str(folder / "study1_FLAIR_to_common_space.txt"))
    to_flair = sitk.ReadTransform(str(folder / "study2_FLAIR_to_common_space.txt"))
    indices = np.argwhere(sitk.GetArrayViewFromImage(mask)[::4, ::16, ::16] > 0) * (4, 16, 16)
    common = np.array([mask.TransformIndexToPhysicalPoint(index[::-1].tolist()) for index in indices])
    truth = transform_points(to_flair, common)
    if sequence == "T1W":
        truth = transform_points(sitk.ReadTransform(str(folder / "study2_T1W_intrastudy_to_FLAIR.txt")), truth)
    fixed_points = transform_points(to_fixed, common)
    result = register(fixed, moving, Settings.from_preset("longitudinal"))
    error = np.linalg.norm(transform_points(result.transform, fixed_points) - truth, axis=1)
    before = np.linalg.norm(fixed_points - truth, axis=1)
    row = {
        "before": f"TRE {before.mean():.2f} mm",
        "after": f"TRE {error.mean():.2f} mm",
        "folded %": f"{result.metrics['jacobian']['folded_percent']:.3f}",
    }
    if sequence == "FLAIR":
        inside = sitk.GetArrayViewFromImage(mask) > 0
        reference = sitk.GetArrayFromImage(sitk.Resample(fixed, mask, to_fixed))[inside]
        for stage, volume in (("before", sitk.Resample(moving, fixed)), ("after", result.warped)):
            values = sitk.GetArrayFromImage(sitk.Resample(volume, mask, to_fixed))[inside]
            row[stage] += f", correlation {np.corrcoef(reference, values)[0, 1]:.3f}"
    return row


def phantom(task: str, seed: int) -> Case:
    """Error of the displacement inside the body against the exact one."""
    case = make_phantom(task, seed)
    result = register(case.fixed, case.moving, Settings.from_preset(task, working_spacing_mm=2.0))
    body = np.argwhere(sitk.GetArrayViewFromImage(case.fixed_labels["body"]) > 0)
    body = body[np.random.default_rng(0).permutation(len(body))[:BODY_POINTS]]
    points = np.array([case.fixed.TransformIndexToPhysicalPoint(index[::-1].tolist()) for index in body])
    truth = sitk.GetArrayViewFromImage(case.displacement)[tuple(body.T)]
    before = np.linalg.norm(truth, axis=1).mean()
    after = np.linalg.norm(transform_points(result.transform, points) - points - truth, axis=1).mean()
    stages = (sitk.TranslationTransform(3), result.transform)
    scores = {
        name: [dice(fixed, warp_labels(case.moving_labels[name], case.fixed, stage))[1] for stage in stages]
        for name, fixed in case.fixed_labels.items()
        if name in ("breast", "fibroglandular", "organ")
    }
    names = {"breast": "breast", "fibroglandular": "FGT", "organ": "organ"}
    return {
        "before": f"TRE {before:.1f} mm; Dice " + ", ".join(f"{names[k]} {v[0]:.2f}" for k, v in scores.items()),
        "after": f"TRE {after:.2f} mm (-{100 * (1 - after / before):.0f} %); Dice "
        + ", ".join(f"{names[k]} {v[1]:.2f}" for k, v in scores.items()),
        "folded %": f"{result.metrics['jacobian']['folded_percent']:.3f}",
    }


def _table(done: dict[str, Case]) -> str:
    columns = ("before", "after", "folded %")
    lines = ["| case | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(row.get(c, "") for c in columns) + " |" for name, row in done.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
