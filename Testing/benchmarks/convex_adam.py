"""Measure speed, memory and accuracy against the official ConvexAdam package, side by side.

    make speed
    python Testing/benchmarks/convex_adam.py --data ../shared/data --repeats 3 --threads 2

The pair is T1 of two subjects (NiChart, 2 mm), resampled linearly to 1 mm after an affine; MIND-SSC, float32, on the
CPU. All sides go from two volumes in memory to a displacement field:

- official: `convex_adam_pt` with its defaults.
- ours, its features and settings: our ConvexAdam doing step by step what the package does, as a check of both.
- ours, fast: the preset "fast", on a grid of 2 mm. It finds the patient, crops to it, and leaves no fold.
- ours, between patients: the preset of that name, on a grid of 1 mm.

Every run is a process of its own, in turns. The memory is the peak of that process until the field is there; PyTorch
and the two volumes are part of it for all. On a machine that does other things at the same time, trust the processor
seconds of all threads.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk
import torch

if TYPE_CHECKING:
    from FoundationRegistrationLib.runtime.progress import ProgressEvent

NAMES = ("Subj8_T1", "Subj5_T1", "Subj8_T1_DLMUSE", "Subj5_T1_DLMUSE")
SPACING_MM = 1.0


def main() -> None:
    """Run all sides in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--spacing-mm", type=float, default=SPACING_MM)
    parser.add_argument(
        "--only", nargs="*", choices=SIDES, default=list(SIDES), help="sides besides the official one"
    )
    parser.add_argument("--run", nargs=2, metavar=("SIDE", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run_one(arguments.run[0], Path(arguments.run[1]), arguments.threads)
        return
    pair = arguments.data / "brain_intersubject"
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES if side in ("official", *arguments.only)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare_pair(pair, folder, arguments.spacing_mm)
        for _ in range(arguments.repeats):
            for side in runs:
                runs[side].append({**in_a_process(side, folder, arguments.threads), **accuracy(pair, folder)})
    print(table(runs, arguments))  # noqa: T201 - the result of a script


def prepare_pair(pair: Path, folder: Path, spacing_mm: float) -> None:
    """Write what both sides get: the two volumes in a grid of the given spacing, intensities in 0..1."""
    from FoundationRegistrationLib.pipeline.initial_alignment.search import initial_alignment
    from FoundationRegistrationLib.pipeline.preprocessing.prepared_volume import prepare
    from FoundationRegistrationLib.runtime.progress import Progress

    fixed, moving = (sitk.ReadImage(str(pair / f"{name}.nii.gz")) for name in NAMES[:2])
    sides = (prepare(fixed, "mr", "fixed"), prepare(moving, "mr", "moving"))
    affine, _ = initial_alignment(*sides, "affine", torch.device("cpu"), Progress({"initial alignment": 1.0}))
    sitk.WriteTransform(affine, str(folder / "affine.tfm"))
    size = [
        round(extent * step / spacing_mm) for extent, step in zip(fixed.GetSize(), fixed.GetSpacing(), strict=True)
    ]
    grid = covering_grid(fixed, size, [spacing_mm] * 3)
    # The official code cuts its grids to whole cells; whole cells are what both get.
    grid = grid[tuple(slice(0, extent // 6 * 6) for extent in size)]
    for name, side, transform in (("fixed", sides[0], sitk.Transform()), ("moving", sides[1], affine)):
        sitk.WriteImage(sitk.Resample(side.image, grid, transform), str(folder / f"{name}.nrrd"))


def covering_grid(fixed: sitk.Image, size: list[int], spacing: list[float]) -> sitk.Image:
    """Return a grid of other voxels whose first corner and directions are those of a volume."""
    grid = sitk.Image(size, sitk.sitkFloat32)
    grid.SetSpacing(spacing)
    grid.SetDirection(fixed.GetDirection())
    corner = [0.5 * fine / step - 0.5 for fine, step in zip(spacing, fixed.GetSpacing(), strict=True)]
    grid.SetOrigin(fixed.TransformContinuousIndexToPhysicalPoint(corner))
    return grid


def in_a_process(side: str, folder: Path, threads: int) -> dict[str, float]:
    """Run one side in a process of its own; return its seconds and its peak memory in GB."""
    command = [sys.executable, __file__, "--threads", str(threads), "--run", side, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(result.stdout)


def run_one(side: str, folder: Path, threads: int) -> None:
    """Register, write the displacement (mm, LPS) to `field.nrrd`, and print seconds and memory."""
    import torch

    torch.set_num_threads(threads)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    fixed, moving = (sitk.ReadImage(str(folder / f"{name}.nrrd")) for name in ("fixed", "moving"))
    found = SIDES[side](fixed, moving)
    sitk.WriteImage(found.field, str(folder / "field.nrrd"))
    figures = {name: getattr(found, name) for name in ("seconds", "processor", "memory", "whole")}
    sys.stdout.write(json.dumps(figures))


@dataclass(frozen=True)
class Found:
    """A field, what it took until it was there, and the seconds until all else was done too.

    Attributes:
        field: mm, LPS, on a grid of its own.
        seconds: by the clock.
        processor: seconds of all threads.
        memory: peak of the process, GB.
        whole: seconds by the clock, with the inverse and the warped volume.
    """

    field: sitk.Image
    seconds: float
    processor: float
    memory: float
    whole: float


class Watch:
    """What was spent since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float, float]:
        """Return seconds by the clock and of the processor, and the peak memory of the process in GB."""
        import torch

        from FoundationRegistrationLib.runtime.device import peak_memory_bytes

        peak = peak_memory_bytes(torch.device("cpu"))["host"] / 1e9
        return time.perf_counter() - self._began[0], time.process_time() - self._began[1], peak


def official(fixed: sitk.Image, moving: sitk.Image) -> Found:
    """Run the official package."""
    import torch
    from convexAdam.convex_adam_MIND import convex_adam_pt

    watch = Watch()
    field = convex_adam_pt(fixed, moving, dtype=torch.float32, device=torch.device("cpu"))
    spent = watch.read()
    return Found(in_millimetres(field, fixed), *spent, spent[0])


def ours(fixed: sitk.Image, moving: sitk.Image, preset: str) -> Found:
    """Run the library; of its steps, those after the field count only for the whole."""
    from FoundationRegistrationLib import Settings, register

    settings = Settings.from_preset(preset, feature_cache_gb=0.0)
    watch = Watch()
    until_field: list[tuple[float, float, float]] = []

    def note(event: ProgressEvent) -> None:
        if event.step == "inverse and warp" and not until_field:
            until_field.append(watch.read())

    result = register(fixed, moving, settings, initial_transform=sitk.TranslationTransform(3), progress=note)
    return Found(result.displacement, *until_field[0], watch.read()[0])


def faithful(fixed: sitk.Image, moving: sitk.Image) -> Found:
    """Run our ConvexAdam on the same arrays, not cropped, with the settings of the package."""
    import torch
    from as_the_package import as_the_package

    watch = Watch()
    arrays = (torch.from_numpy(sitk.GetArrayFromImage(side)) for side in (fixed, moving))
    field = as_the_package(*arrays, fixed.GetSpacing()[0])
    spent = watch.read()
    return Found(in_millimetres(field.numpy(), fixed), *spent, spent[0])


SIDES = {
    "official": official,
    "ours, its features and settings": faithful,
    "ours, fast": partial(ours, preset="fast"),
    "ours, between patients": partial(ours, preset="between-patients"),
}


def in_millimetres(field: np.ndarray, grid: sitk.Image) -> sitk.Image:
    """Return a field (z, y, x, component) in voxels, components (z, y, x), as an image in mm on its grid."""
    array = np.ascontiguousarray(field[..., ::-1] * grid.GetSpacing(), dtype=np.float64)
    image = sitk.GetImageFromArray(array, isVector=True)
    image.CopyInformation(grid)
    return image


def accuracy(pair: Path, folder: Path) -> dict[str, float]:
    """Return the mean Dice over the labels, on their own grid, and the share of folded voxels in percent."""
    from FoundationRegistrationLib.evaluation.jacobian import jacobian_determinant
    from FoundationRegistrationLib.evaluation.overlap import dice, mean_over_labels
    from FoundationRegistrationLib.spatial.warping import warp_labels

    fixed_labels, moving_labels = (sitk.ReadImage(str(pair / f"{name}.nii.gz")) for name in NAMES[2:])
    field = sitk.ReadImage(str(folder / "field.nrrd"), sitk.sitkVectorFloat64)
    folded = sitk.GetArrayFromImage(jacobian_determinant(field)) <= 0
    steps = [sitk.ReadTransform(str(folder / "affine.tfm")), sitk.DisplacementFieldTransform(field)]
    warped = warp_labels(moving_labels, fixed_labels, sitk.CompositeTransform(steps))
    return {"dice": mean_over_labels(dice(fixed_labels, warped)), "folded": 100.0 * float(np.mean(folded))}


def table(runs: dict[str, list[dict[str, float]]], arguments: argparse.Namespace) -> str:
    """Return the medians of all runs as Markdown."""
    medians = {
        side: {name: statistics.median(run[name] for run in done) for name in done[0]} for side, done in runs.items()
    }
    reference = medians["official"]
    lines = [
        f"T1 of two subjects at {arguments.spacing_mm:g} mm, {arguments.threads} threads, float32, medians of "
        f"{arguments.repeats} runs in turns; ratios to the official package",
        "",
        "| side | seconds | ratio | processor seconds | ratio | with inverse and warped volume | peak memory, GB "
        "| ratio | Dice | folded % |",
        "|---" * 10 + "|",
    ]
    for side, found in medians.items():
        lines.append(
            f"| {side} | {found['seconds']:.1f} | {reference['seconds'] / found['seconds']:.1f} | "
            f"{found['processor']:.1f} | {reference['processor'] / found['processor']:.1f} | {found['whole']:.1f} | "
            f"{found['memory']:.2f} | {found['memory'] / reference['memory']:.2f} | {found['dice']:.4f} | "
            f"{found['folded']:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
