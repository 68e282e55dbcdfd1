"""The packages that do the same on the same card, beside ours: blocks of `gpu.py`."""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import SimpleITK as sitk
import torch
from as_the_package import as_the_package
from convex_adam import covering_grid
from convexAdam.convex_adam_MIND import convex_adam_pt
from encoders import in_precision, in_turns, sam, slice_through
from gpu_case import CPU, PRECISIONS, Case, Row, Verdict
from supervised import reason_of

from FoundationRegistrationLib.pipeline.preprocessing.prepared_volume import prepare

MOST_FEATURES_APART = 1e-3
LEAST_SPEED_UP = 3.0
_AIR = 0.1  # intensities of air are below it, of 0..1
_LEAST_VOXELS = 36  # along each axis, of what ConvexAdam can search


def segment_anything(case: Case) -> Iterator[Row | Verdict]:
    """Evaluate SAM ViT-B beside its own package, in turns, with the same weights on the same slices."""
    image = slice_through(case.volumes[0])
    plain = sam(image.to(case.device).expand(case.sizes.slices, -1, -1), case.device, case.sizes.sam_pixels)
    with torch.inference_mode():
        for precision in PRECISIONS:
            sides = plain
            if precision != "float32":
                sides = tuple(in_precision(side, getattr(torch, precision), case.device) for side in plain)
            turns = in_turns(*sides, case.sizes.repeats, case.wait)
            for name, side, seconds in zip(("ours", "segment-anything"), sides, turns.seconds, strict=True):
                case.forget_peak()
                side()
                remark = f"{case.sizes.slices} slices at once; the features differ by {turns.difference:.1e}"
                a_slice = seconds / case.sizes.slices
                yield Row(f"SAM ViT-B, {precision}, {name}, a slice", a_slice, "", case.peak_gb(), remark)
            if precision == "float32":
                yield alike("segment-anything", turns.difference)
        expected = sam(image, CPU, case.sizes.sam_pixels)[0]()
        yield alike("the CPU", float((plain[0]()[:1].cpu() - expected).norm() / expected.norm()))


def alike(other: str, difference: float) -> Verdict:
    """Return whether features in float32 are those of something else, up to rounding."""
    return Verdict(
        f"features of SAM in float32 agree with {other} to {MOST_FEATURES_APART:g} of their size",
        f"{difference:.1e}",
        difference <= MOST_FEATURES_APART,
        is_check=True,
    )


def official_same_size(case: Case) -> Iterator[Row | Verdict]:
    """Run ConvexAdam with MIND beside the official package, on the fixed volume's field of view."""
    fixed = case.volumes[0]
    extent = [size * step for size, step in zip(fixed.GetSize(), fixed.GetSpacing(), strict=True)]
    # The official code cuts its grids to whole cells; whole cells of 6 voxels are what both get.
    size = [max(_LEAST_VOXELS, int(length / case.sizes.working_mm) // 6 * 6) for length in extent]
    yield from beside_official(case, size, case.sizes.repeats)


def official_cube(case: Case) -> Iterator[Row | Verdict]:
    """Run ConvexAdam with MIND, 12 channels, beside the official package on large volumes."""
    yield from beside_official(case, [case.sizes.cube] * 3, 1)


def beside_official(case: Case, size: list[int], repeats: int) -> Iterator[Row | Verdict]:
    """Run both from two volumes on the host to the field of all voxels on the host.

    The package has float16 as its default on a GPU, ours computes in float32; both precisions of it are measured.
    """
    volumes = on_common_grid(case, size)
    title = f"ConvexAdam, {' x '.join(map(str, size))}, 12 channels"

    def ours(fixed: torch.Tensor, moving: torch.Tensor) -> np.ndarray:
        return as_the_package(fixed.to(case.device), moving.to(case.device), case.sizes.working_mm).cpu().numpy()

    field, row = timed(case, f"{title}, ours, float32", ours, volumes, repeats)
    yield row
    theirs: list[float] = []
    for dtype in (torch.float32, torch.float16) if case.device.type == "cuda" else (torch.float32,):
        what = f"{title}, official, {str(dtype).removeprefix('torch.')}"
        try:
            run = functools.partial(convex_adam_pt, dtype=dtype, device=case.device)
            other, found = timed(case, what, run, volumes, repeats)
        except (RuntimeError, MemoryError) as error:  # the package may need more memory than there is
            yield Row(what, remark=f"not measured: {reason_of(error)}")
            continue
        theirs.append(found.seconds)
        apart = np.linalg.norm(other - field, axis=-1)[volumes[0].numpy() > _AIR].mean()
        yield dataclasses.replace(
            found, remark=f"{found.remark} {apart:.2f} voxel from ours on average, air left out".strip()
        )
    ratio = min(theirs) / row.seconds if theirs else 0.0
    yield Verdict(
        f"{title}: at least {LEAST_SPEED_UP:g} times as fast as the official package",
        f"{ratio:.1f} times its faster run" if theirs else "the official package did not run",
        ratio >= LEAST_SPEED_UP,
    )


def on_common_grid(case: Case, size: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both volumes, as prepared for a registration, on one grid of a size (x, y, z)."""
    fixed, moving = case.volumes
    extent = [count * step for count, step in zip(fixed.GetSize(), fixed.GetSpacing(), strict=True)]
    grid = covering_grid(fixed, size, [length / count for length, count in zip(extent, size, strict=True)])
    prepared = (prepare(fixed, "mr", "fixed").image, prepare(moving, "mr", "moving").image)
    images = (
        sitk.Resample(image, grid, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkFloat32) for image in prepared
    )
    one, other = (torch.from_numpy(sitk.GetArrayFromImage(image)) for image in images)
    return one, other


def timed(
    case: Case,
    what: str,
    compute: Callable[[torch.Tensor, torch.Tensor], np.ndarray],
    volumes: tuple[torch.Tensor, torch.Tensor],
    repeats: int,
) -> tuple[np.ndarray, Row]:
    """Return what was computed and the median time, after a warm-up on a part of the volumes."""
    compute(*(volume[:_LEAST_VOXELS, :_LEAST_VOXELS, :_LEAST_VOXELS].contiguous() for volume in volumes))
    seconds = []
    case.forget_peak()
    for _ in range(repeats):
        case.wait()
        began = time.perf_counter()
        result = compute(*volumes)
        case.wait()
        seconds.append(time.perf_counter() - began)
    remark = f"median of {repeats} runs;" if repeats > 1 else ""
    return result, Row(what, statistics.median(seconds), "", case.peak_gb(), remark)
