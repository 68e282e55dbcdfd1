"""The synthetic breast pairs of the four tasks, as hard as patients, with their exact displacement."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
import SimpleITK as sitk

from FoundationRegistrationLib.evaluation.overlap import dice, mean_over_labels
from FoundationRegistrationLib.phantom import TASKS, make_phantom
from FoundationRegistrationLib.spatial.points import physical_points
from FoundationRegistrationLib.spatial.warping import warp_labels

from .case import Case, CaseSource

SEEDS = tuple(range(1, 11))  # seeds from 100 on are for development and tuning and never reported
SPACING_MM = 2.0
GROUP = "phantom, "
_BODY_POINTS = 6000
_STRUCTURES = ("breast", "fibroglandular", "organ", "lesion")
Difficulty = Literal["patient", "easy"]
_TASKS_WITH_LESION = ("lesion", "pet-ct-to-mri")


def phantom_sources(
    seeds: tuple[int, ...], spacing_mm: float, difficulty: Difficulty = "patient"
) -> list[CaseSource]:
    """Return the pairs of all tasks and seeds, drawn at a voxel size in mm."""
    hard = difficulty == "patient"
    return [
        CaseSource(
            f"{'hard' if hard else difficulty}-{task}-{seed}-{spacing_mm:g}mm",
            f"{'' if hard else difficulty + ' '}{GROUP}{task}",
            functools.partial(_phantom, task, seed, spacing_mm, difficulty),
            has_lesion=task in _TASKS_WITH_LESION,
            has_ceiling=hard,
        )
        for task in TASKS
        for seed in seeds
    ]


def _phantom(task: str, seed: int, spacing_mm: float, difficulty: Difficulty) -> Case:
    pair = make_phantom(task, seed, spacing_mm=spacing_mm, difficulty=difficulty)
    truth = sitk.DisplacementFieldTransform(sitk.Image(pair.displacement))
    seen = pair.fixed_labels["body"] * warp_labels(pair.moving_labels["body"], pair.fixed, truth)
    voxels = np.argwhere(sitk.GetArrayViewFromImage(seen) > 0)  # tissue that both volumes show
    voxels = voxels[np.random.default_rng(0).permutation(len(voxels))[:_BODY_POINTS]]
    points = physical_points(pair.fixed, voxels[:, ::-1])
    shared = [name for name in _STRUCTURES if name in pair.fixed_labels and name in pair.moving_labels]
    unmoved = warp_labels(pair.moving_labels["breast"], pair.fixed, sitk.Transform())
    return Case(
        fixed=pair.fixed,
        moving=pair.moving,
        body=pair.fixed_labels["body"],
        preset=task,
        spacing_mm=max(SPACING_MM, spacing_mm),
        fixed_labels={name: pair.fixed_labels[name] for name in shared},
        moving_labels={name: pair.moving_labels[name] for name in shared},
        fixed_points=points,
        moving_points=points + sitk.GetArrayViewFromImage(pair.displacement)[tuple(voxels.T)],
        moving_lesion=pair.moving_labels.get("lesion"),
        true_transform=truth,
        facts={
            "fixed sequence": pair.sequences[0],
            "moving sequence": pair.sequences[1],
            "density": pair.density,
            "raw breast Dice": mean_over_labels(dice(pair.fixed_labels["breast"], unmoved)),
        },
    )
