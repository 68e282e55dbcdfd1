"""How much do given structures and points lower the error on pairs that are as hard as patients?

    python Testing/benchmarks/structures.py --tasks pet-ct-to-mri --seeds 100 101 102 --working-spacing-mm 6

Each phantom of 4 mm is registered with its preset: alone, with the masks of breast, fibroglandular tissue and organs
as two annotators drew them, and with six of its landmarks, far apart and marked with an error of 1.5 mm. The error
is the mean over the tissue that both volumes show. Points are also checked alone: how often one that is 40 mm off is
named and left out of sets of ten landmarks, and how often a right one is left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from start import body_points

from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.phantom import TASKS, PhantomCase, make_phantom
from FoundationRegistrationLib.pipeline.driving.points import driving_points
from FoundationRegistrationLib.spatial.points import transform_points

_STRUCTURES = ("breast", "fibroglandular", "organ")
_POINTS, _MARKING_MM, _OFF_MM, _SETS = 6, 1.5, 40.0, 20


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["longitudinal", "pet-ct-to-mri"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102])
    parser.add_argument("--encoder", default="", help="instead of the one of the preset")
    parser.add_argument("--working-spacing-mm", type=float, default=4.0)
    parser.add_argument("--fluid-iterations", type=int, default=60)
    parser.add_argument("--points-only", action="store_true", help="only check points, without any registration")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    sys.stdout.write("| pair | given | start mm | body mm | breast mm | verdict |\n|---|---|---|---|---|---|\n")
    for task in arguments.tasks:
        values: dict[str, Any] = {
            "working_spacing_mm": arguments.working_spacing_mm,
            "fluid_iterations": arguments.fluid_iterations,
        }
        if arguments.encoder:
            values |= {"encoder": arguments.encoder, "detail_encoder": ""}
        settings = Settings.from_preset(task, device="cpu", **values)
        cases = [make_phantom(task, seed, spacing_mm=4.0) for seed in arguments.seeds]
        if not arguments.points_only:
            for case in cases:
                _print_registrations(case, settings)
        named, found, lost = np.mean([_checked(case) for case in cases], axis=0)
        said = f"{named:.0%} of wrong points named, {found:.0%} left out, a right one from {lost:.0%} of right sets"
        sys.stdout.write(f"{task}: {said}\n")


def _print_registrations(case: PhantomCase, settings: Settings) -> None:
    truth = body_points(case)
    given: Mapping[str, Mapping[str, Any]] = {
        "nothing": {},
        "structures": {
            f"{side}_structures": {name: labels[name] for name in _STRUCTURES}
            for side, labels in (("fixed", case.fixed_labels), ("moving", case.moving_labels))
        },
        "points": dict(zip(("fixed_points", "moving_points"), _far_apart(case, _POINTS), strict=True)),
    }
    for name, driving in given.items():
        result = register(case.fixed, case.moving, settings, **driving)
        errors = [
            float(np.linalg.norm(transform_points(transform, truth[of][0]) - truth[of][1], axis=1).mean())
            for transform, of in (
                (result.initial_transform, "body"),
                (result.transform, "body"),
                (result.transform, "breast"),
            )
        ]
        figures = " | ".join(f"{error:.1f}" for error in errors)
        sys.stdout.write(f"| {case.task} {case.seed} | {name} | {figures} | {result.verdict.level} |\n")
        sys.stdout.flush()


def _far_apart(case: PhantomCase, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return landmarks that lie far from each other, marked with an error in the moving volume."""
    points = case.fixed_landmarks
    chosen = [int(np.linalg.norm(points - points.mean(0), axis=1).argmin())]
    while len(chosen) < count:
        nearest = np.linalg.norm(points[:, None] - points[chosen], axis=2).min(1)
        chosen.append(int(nearest.argmax()))
    noise = np.random.default_rng(case.seed).normal(0.0, _MARKING_MM, (count, 3))
    return points[chosen], case.moving_landmarks[chosen] + noise


def _checked(case: PhantomCase) -> tuple[float, float, float]:
    """Return the shares of sets of ten landmarks whose wrong one is named or left out, and that lose a right one."""
    rng = np.random.default_rng(case.seed)
    named, found, lost = [], [], []
    for _ in range(_SETS):
        chosen = rng.choice(len(case.fixed_landmarks), 10, replace=False)
        fixed = case.fixed_landmarks[chosen]
        moving = case.moving_landmarks[chosen] + rng.normal(0.0, _MARKING_MM, (10, 3))
        lost.append(bool(_left_out(case, fixed, moving)[0]))
        towards_the_middle = moving.mean(0) - moving[0]  # so that it stays inside the volume
        moving[0] += _OFF_MM * towards_the_middle / np.linalg.norm(towards_the_middle)
        excluded, messages = _left_out(case, fixed, moving)
        found.append("1" in excluded)
        named.append(any("'1'" in message for message in messages))
    return float(np.mean(named)), float(np.mean(found)), float(np.mean(lost))


def _left_out(case: PhantomCase, fixed: np.ndarray, moving: np.ndarray) -> tuple[Mapping[str, float], list[str]]:
    messages: list[str] = []
    points = driving_points(fixed, moving, (case.fixed, case.moving), messages)
    return {} if points is None else points.excluded, messages


if __name__ == "__main__":
    main()
