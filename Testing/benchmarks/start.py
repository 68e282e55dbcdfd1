"""How far does the initial affine alignment bring hard phantoms, and does it depend on where they lie?

    python Testing/benchmarks/start.py --seeds 100 101 --spacing-mm 4

Each pair is aligned as given, and with the moving volume moved by 80 mm or turned by 30 degrees about its centre, in
a direction drawn from the seed. The best affine is that of least squares to the truth at points of the body.

Errors in mm: of the mean position of the breast and of the chest wall (body within 30 mm behind the breast), and the
mean over the body. An end is the same if the body lies within 5 mm of it on average.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import SimpleITK as sitk
import torch

from FoundationRegistrationLib.evaluation.overlap import dice, mean_over_labels
from FoundationRegistrationLib.phantom import TASKS, PhantomCase, make_phantom
from FoundationRegistrationLib.pipeline.initial_alignment.search import initial_alignment
from FoundationRegistrationLib.pipeline.preprocessing.prepared_volume import prepare
from FoundationRegistrationLib.runtime.progress import Progress
from FoundationRegistrationLib.spatial.grids import field_of_view
from FoundationRegistrationLib.spatial.points import physical_points, transform_points
from FoundationRegistrationLib.spatial.warping import warp_labels

_NEAR_MM, _SAME_MM, _BEHIND_MM, _POINTS = 15.0, 5.0, 30.0, 4000
_FIGURES = ("breast mm", "chest wall mm", "body mm", "breast Dice %", "CPU s")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[*range(100, 115)])
    parser.add_argument("--spacing-mm", type=float, default=4.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    write = sys.stdout.write
    titles = "task", "transform", f"within {_NEAR_MM:g} mm", *_FIGURES, "same end after 80 mm", "after 30 degrees"
    write(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}\n")
    for task in TASKS:
        pairs = [_measured(make_phantom(task, seed, spacing_mm=arguments.spacing_mm)) for seed in arguments.seeds]
        same = [f"{sum(pair[at] for _, pair in pairs)}/{len(pairs)}" for at in range(2)]
        for name in ("as given", "start", "best affine"):
            rows = np.array([figures[name] for figures, _ in pairs])
            near = f"{int((rows[:, :2] < _NEAR_MM).all(1).sum())}/{len(rows)}"
            spread = [f"{np.median(each):.1f} ({np.percentile(each, 90):.1f})" for each in rows.T]
            write(f"| {' | '.join([task, name, near, *spread, *(same if name == 'start' else ('', ''))])} |\n")
            sys.stdout.flush()


def _measured(case: PhantomCase) -> tuple[dict[str, list[float]], list[bool]]:
    """Return the figures of each transform, and whether the end is the same after each displacement."""
    points = body_points(case)
    start, seconds = _aligned(case.fixed, case.moving)
    found = {
        "as given": _figures(case, sitk.AffineTransform(3), points, 0.0),
        "start": _figures(case, start, points, seconds),
        "best affine": _figures(case, _least_squares(*points["body"]), points, 0.0),
    }
    body = points["body"][0][::10]
    same = []
    for move in _moves(case):
        moved = sitk.TransformGeometry(case.moving, move)
        end = transform_points(move, transform_points(_aligned(case.fixed, moved)[0], body))
        same.append(bool(np.linalg.norm(end - transform_points(start, body), axis=1).mean() < _SAME_MM))
    return found, same


def _aligned(fixed: sitk.Image, moving: sitk.Image) -> tuple[sitk.Transform, float]:
    """Return the initial alignment, and the CPU seconds it took."""
    sides = prepare(fixed, "auto", "fixed"), prepare(moving, "auto", "moving")
    before = time.process_time()
    found, _ = initial_alignment(*sides, "affine", torch.device("cpu"), Progress({}))
    return found, time.process_time() - before


def _moves(case: PhantomCase) -> list[sitk.Transform]:
    """Return maps from points of the moved volume to points of the moving volume."""
    directions = np.random.default_rng(case.seed).normal(size=(2, 3))
    shift, axis = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).tolist()
    turn = sitk.VersorRigid3DTransform(axis, np.deg2rad(30.0))
    turn.SetCenter(field_of_view(case.moving).mean(0).tolist())
    return [sitk.TranslationTransform(3, (80.0 * np.array(shift)).tolist()), turn]


def body_points(case: PhantomCase) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return fixed points and their true places, by region; of the body what both volumes show."""
    breast, body = case.fixed_labels["breast"], case.fixed_labels["body"]
    truth = sitk.DisplacementFieldTransform(sitk.Image(case.displacement))
    behind = breast * 0
    for depth in np.arange(4.0, _BEHIND_MM, 4.0):
        moved = sitk.TranslationTransform(3, (0.0, -depth, 0.0))
        behind |= sitk.Resample(breast, breast, moved, sitk.sitkNearestNeighbor)
    seen = body * warp_labels(case.moving_labels["body"], body, truth)
    found = {}
    for name, mask in (("breast", breast), ("wall", behind * body * (1 - breast)), ("body", seen)):
        voxels = np.argwhere(sitk.GetArrayViewFromImage(mask))
        voxels = voxels[np.random.default_rng(0).permutation(len(voxels))[:_POINTS]]
        points = physical_points(mask, voxels[:, ::-1])
        found[name] = points, points + sitk.GetArrayViewFromImage(case.displacement)[tuple(voxels.T)]
    return found


def _figures(case: PhantomCase, transform: sitk.Transform, points: dict, seconds: float) -> list[float]:
    errors = {name: transform_points(transform, fixed) - true for name, (fixed, true) in points.items()}
    overlap = dice(case.fixed_labels["breast"], warp_labels(case.moving_labels["breast"], case.fixed, transform))
    means = [float(np.linalg.norm(errors[name].mean(0))) for name in ("breast", "wall")]
    return [*means, float(np.linalg.norm(errors["body"], axis=1).mean()), 100.0 * mean_over_labels(overlap), seconds]


def _least_squares(fixed: np.ndarray, moving: np.ndarray) -> sitk.AffineTransform:
    solved = np.linalg.lstsq(np.column_stack([fixed, np.ones(len(fixed))]), moving, rcond=None)[0]
    return sitk.AffineTransform(solved[:3].T.ravel().tolist(), solved[3].tolist())


if __name__ == "__main__":
    main()
