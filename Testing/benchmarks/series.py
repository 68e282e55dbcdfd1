"""How much motion is left in a dynamic series after registration, and what it does to the curves of lesions?

    python Testing/benchmarks/series.py --seeds 100 --motions sudden none --spacing-mm 2

Each dynamic phantom (as hard as patients, six frames) is registered by

- ours: preset "dce";
- elastix with Par0032, each frame to the first;
- mdreg: elastix with its defaults, each frame to what two principal components of the corrected series say about it,
  five times.

Errors are means over the tissue of the first frame and over all later frames, in mm. That of the curves is the
largest difference of a lesion's mean signal from the one without motion, in per cent; through the true motion it
comes from noise and interpolation. That of the volumes is the largest difference of a lesion's volume in the early
subtraction from that through the true motion: voxels within 6 mm of the lesion that enhance half as much as it does.

    python Testing/benchmarks/series.py --cost 256 256 120

instead takes a series of that size and prints the CPU seconds of one pair and of the whole series, for ours.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from comparison.masks import fixed_mask
from comparison.methods import Task
from convex_adam import covering_grid

from FoundationRegistrationLib import Series, Settings, choose_phases, register, register_series
from FoundationRegistrationLib.phantom import DYNAMIC_LABELS, MOTIONS, DynamicPhantom, make_dynamic_phantom
from FoundationRegistrationLib.spatial.warping import displacement_on_grid_of, warp_image

_LESIONS = [label for name, label in DYNAMIC_LABELS.items() if name.endswith("lesion")]
_BREAST = [label for name, label in DYNAMIC_LABELS.items() if name != "organ"]
_AROUND_LESION_MM = 6.0
_DARKEST_TISSUE = 0.15  # of the brightest voxels


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100])
    parser.add_argument("--motions", nargs="+", choices=MOTIONS, default=list(MOTIONS))
    parser.add_argument("--spacing-mm", type=float, default=2.0)
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=["ours"], help="others need `make benchmark`"
    )
    parser.add_argument(
        "--interpolation",
        choices=("linear", "bspline"),
        default=Settings.from_preset("dce").interpolation,
        help="of the frames that curves and volumes are measured in",
    )
    parser.add_argument("--cost", type=int, nargs=3, metavar="VOXELS", help="what a series of this size costs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    if arguments.cost:
        _print_cost(arguments.seeds[0], arguments.spacing_mm, arguments.cost)
        return
    titles = (
        "phantom",
        "method",
        "body before",
        "body",
        "breast",
        "lesions",
        "curves, %",
        "curves by truth, %",
        "volume before, %",
        "volume, %",
        "CPU s",
    )
    sys.stdout.write(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}\n")
    for motion in arguments.motions:
        for seed in arguments.seeds:
            phantom = make_dynamic_phantom(seed, spacing_mm=arguments.spacing_mm, motion=motion)
            for name in arguments.methods:
                row = _row(phantom, METHODS[name], arguments.interpolation)
                sys.stdout.write(f"| {seed} {motion} | {name} | {' | '.join(row)} |\n")
                sys.stdout.flush()


def _print_cost(seed: int, spacing_mm: float, size: Sequence[int]) -> None:
    """Print the CPU seconds of a pair and of the six frames it is from, interpolated to so many voxels."""
    phantom = make_dynamic_phantom(seed, spacing_mm=spacing_mm)
    first = phantom.frames[0]
    extent = zip(first.GetSize(), first.GetSpacing(), size, strict=True)
    grid = covering_grid(first, list(size), [count * edge / wanted for count, edge, wanted in extent])
    frames = [sitk.Resample(frame, grid, sitk.Transform(), sitk.sitkLinear) for frame in phantom.frames]
    settings = Settings.from_preset("dce", device="cpu")
    before = time.process_time()
    register(frames[0], frames[1], settings)
    pair = time.process_time()
    register_series(Series(tuple(frames), tuple(phantom.times_s.tolist())), settings)
    series = time.process_time()
    edges = " x ".join(f"{edge:.2f}" for edge in grid.GetSpacing())
    sys.stdout.write(
        f"{' x '.join(map(str, size))} voxels of {edges} mm, {len(frames)} frames: a pair {pair - before:.0f} CPU s,"
        f" the series {series - pair:.0f}, {(series - pair) / (pair - before):.2f} times as much\n"
    )


def ours(phantom: DynamicPhantom) -> list[sitk.Transform]:
    """Register all frames with the preset for them."""
    series = Series(phantom.frames, tuple(phantom.times_s.tolist()))
    result = register_series(series, Settings.from_preset("dce", device="cpu"))
    return [frame.transform for frame in result.frames]


def elastix(phantom: DynamicPhantom) -> list[sitk.Transform]:
    """Register each frame to the first with Par0032."""
    from comparison.elastix import par0032

    first = phantom.frames[0]
    found = [sitk.TranslationTransform(3)]
    for frame in phantom.frames[1:]:
        with tempfile.TemporaryDirectory() as folder:
            task = Task(
                fixed=first,
                moving=frame,
                start=sitk.AffineTransform(3),
                preset="dce",
                spacing_mm=first.GetSpacing()[0],
                lesion=None,
                folder=Path(folder),
                peers=Path(),
                threads=1,
                fixed_mask=fixed_mask(first),
            )
            found.append(par0032(task).transform)
    return found


def mdreg(phantom: DynamicPhantom) -> list[sitk.Transform]:
    """Register all frames to their model; the frames' common space is then taken to that of the first."""
    import mdreg

    first = phantom.frames[0]
    moving = np.stack([sitk.GetArrayFromImage(frame).astype(np.float32) for frame in phantom.frames], axis=-1)
    voxel = first.GetSpacing()[0]  # of cubes
    *_, fields = mdreg.fit(
        moving,
        fit_image={"func": mdreg.fit_pca, "n_components": 2},
        fit_coreg={"package": "elastix", "spacing": voxel, "return_deformation": True, "parallel": False},
    )
    turn = np.reshape(first.GetDirection(), (3, 3))
    from_model = []
    for frame in range(len(phantom.frames)):
        field = sitk.GetImageFromArray((voxel * fields[..., frame, ::-1].astype(float)) @ turn.T, isVector=True)
        field.CopyInformation(first)
        from_model.append(field)
    to_model = sitk.DisplacementFieldTransform(sitk.InverseDisplacementField(from_model[0]))
    return [
        sitk.CompositeTransform([sitk.DisplacementFieldTransform(field), to_model])  # the last one acts first
        for field in from_model
    ]


METHODS: dict[str, Callable[[DynamicPhantom], list[sitk.Transform]]] = {
    "ours": ours,
    "elastix": elastix,
    "mdreg": mdreg,
}


def _row(
    phantom: DynamicPhantom, method: Callable[[DynamicPhantom], list[sitk.Transform]], interpolation: str
) -> list[str]:
    truth = [phantom.displacement(frame) for frame in range(len(phantom.frames))]
    before = time.process_time()
    found = method(phantom)
    seconds = time.process_time() - before
    labels = sitk.GetArrayViewFromImage(phantom.labels[0])
    still = sitk.GetArrayViewFromImage(phantom.motion_free[0])
    regions = (
        still > _DARKEST_TISSUE * np.percentile(still, 99.0),
        np.isin(labels, _BREAST),
        np.isin(labels, _LESIONS),
    )
    identity = [sitk.TranslationTransform(3)] * len(found)
    raw, *errors = (
        _error(truth, transforms, region)
        for transforms, region in ((identity, regions[0]), *((found, region) for region in regions))
    )
    true = [sitk.DisplacementFieldTransform(sitk.Image(field)) for field in truth]
    percents = [_curve_error(phantom, transforms, interpolation) for transforms in (found, true)]
    percents += [_volume_error(phantom, transforms, interpolation) for transforms in (identity, found)]
    return [*(f"{mm:.2f}" for mm in (raw, *errors)), *(f"{percent:.1f}" for percent in percents), f"{seconds:.0f}"]


def _error(truth: Sequence[sitk.Image], transforms: Sequence[sitk.Transform], region: np.ndarray) -> float:
    """Return the mean distance from the true displacement over a region and all frames but the first, mm."""
    return float(
        np.mean(
            [
                np.linalg.norm(_field(displacement_on_grid_of(field, transform)) - _field(field), axis=-1)[
                    region
                ].mean()
                for field, transform in list(zip(truth, transforms, strict=True))[1:]
            ]
        )
    )


def _field(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def _curve_error(phantom: DynamicPhantom, transforms: Sequence[sitk.Transform], interpolation: str) -> float:
    """Return the largest difference of a lesion's mean signal from that without motion, %."""
    labels = sitk.GetArrayViewFromImage(phantom.labels[0])
    largest = 0.0
    for frame, still, transform in zip(phantom.frames[1:], phantom.motion_free[1:], transforms[1:], strict=True):
        warped = sitk.GetArrayFromImage(warp_image(frame, phantom.frames[0], transform, interpolation))
        wanted = sitk.GetArrayViewFromImage(still)
        for lesion in _LESIONS:
            inside = labels == lesion
            largest = max(largest, abs(warped[inside].mean() / wanted[inside].mean() - 1.0))
    return 100.0 * largest


def _volume_error(phantom: DynamicPhantom, transforms: Sequence[sitk.Transform], interpolation: str) -> float:
    """Return the largest difference of a lesion's volume in the early subtraction from that by the true motion, %."""
    early = choose_phases(len(phantom.frames), tuple(phantom.times_s.tolist())).early
    first = _field(sitk.Cast(phantom.frames[0], sitk.sitkFloat32))
    true = sitk.DisplacementFieldTransform(phantom.displacement(early))
    found, wanted = (
        _field(warp_image(phantom.frames[early], phantom.frames[0], transform, interpolation)) - first
        for transform in (transforms[early], true)
    )
    largest = 0.0
    for lesion in _LESIONS:
        mask = phantom.labels[0] == lesion
        distance = sitk.SignedMaurerDistanceMap(mask, squaredDistance=False, useImageSpacing=True)
        near = _field(distance) <= _AROUND_LESION_MM
        half = 0.5 * wanted[_field(mask) != 0].mean()
        largest = max(largest, abs((found > half)[near].sum() / (wanted > half)[near].sum() - 1.0))
    return 100.0 * largest


if __name__ == "__main__":
    main()
