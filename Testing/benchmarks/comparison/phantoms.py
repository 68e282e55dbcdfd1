"""The synthetic breast pairs of the four tasks, with their exact displacement."""

from __future__ import annotations

import functools

import numpy as np
import SimpleITK as sitk

from FoundationRegistrationLib.phantom import TASKS, make_phantom
from FoundationRegistrationLib.spatial.points import physical_points

from .case import Case, CaseSource

SEEDS = (1, 2, 3, 4, 5)  # seeds 0 and 10 to 19 are for tuning and never reported
SPACING_MM = 2.0
_BODY_POINTS = 6000
_STRUCTURES = ("breast", "fibroglandular", "organ", "lesion")
_TASKS_WITH_LESION = ("lesion", "pet-ct-to-mri")


def phantom_sources(seeds: tuple[int, ...], spacing_mm: float) -> list[CaseSource]:
    """Return the pairs of all tasks and seeds, drawn at a voxel size in mm; their names tell an unusual one."""
    unusual = "" if spacing_mm == SPACING_MM else f"-{spacing_mm:g}mm"
    return [
        CaseSource(
            f"phantom-{task}-{seed}{unusual}",
            f"phantom, {task}",
            functools.partial(_phantom, task, seed, spacing_mm),
            has_lesion=task in _TASKS_WITH_LESION,
        )
        for task in TASKS
        for seed in seeds
    ]


def _phantom(task: str, seed: int, spacing_mm: float) -> Case:
    pair = make_phantom(task, seed, spacing_mm=spacing_mm, difficulty="easy")
    body = np.argwhere(sitk.GetArrayViewFromImage(pair.fixed_labels["body"]) > 0)
    body = body[np.random.default_rng(0).permutation(len(body))[:_BODY_POINTS]]
    points = physical_points(pair.fixed, body[:, ::-1])
    shared = [name for name in _STRUCTURES if name in pair.fixed_labels and name in pair.moving_labels]
    return Case(
        fixed=pair.fixed,
        moving=pair.moving,
        body=pair.fixed_labels["body"],
        preset=task,
        spacing_mm=max(SPACING_MM, spacing_mm),
        fixed_labels={name: pair.fixed_labels[name] for name in shared},
        moving_labels={name: pair.moving_labels[name] for name in shared},
        fixed_points=points,
        moving_points=points + sitk.GetArrayViewFromImage(pair.displacement)[tuple(body.T)],
        moving_lesion=pair.moving_labels.get("lesion"),
        true_transform=sitk.DisplacementFieldTransform(sitk.Image(pair.displacement)),
    )
