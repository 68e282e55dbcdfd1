"""How much motion is left in a dynamic series after registration, and what it does to the curves of lesions?

    python Testing/benchmarks/series.py --seeds 100 --motions sudden none --spacing-mm 3

Each dynamic phantom (as hard as patients, six frames) is registered with the preset "dce". Errors are means over the
tissue of the first frame and over all later frames, in mm. That of the curves is the largest difference of a lesion's
mean signal from the one without motion, in per cent; through the true motion it comes from noise and interpolation.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
import torch

from FoundationRegistrationLib import Series, Settings, register_series
from FoundationRegistrationLib.phantom import DYNAMIC_LABELS, MOTIONS, DynamicPhantom, make_dynamic_phantom
from FoundationRegistrationLib.spatial.warping import displacement_on_grid_of, warp_image

_LESIONS = [label for name, label in DYNAMIC_LABELS.items() if name.endswith("lesion")]
_BREAST = [label for name, label in DYNAMIC_LABELS.items() if name != "organ"]
_DARKEST_TISSUE = 0.15  # of the brightest voxels


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[100])
    parser.add_argument("--motions", nargs="+", choices=MOTIONS, default=list(MOTIONS))
    parser.add_argument("--spacing-mm", type=float, default=3.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    titles = "phantom", "body before", "body", "breast", "lesions", "curves, %", "curves by truth, %", "CPU s"
    sys.stdout.write(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}\n")
    for motion in arguments.motions:
        for seed in arguments.seeds:
            phantom = make_dynamic_phantom(seed, spacing_mm=arguments.spacing_mm, motion=motion)
            sys.stdout.write(f"| {seed} {motion} | {' | '.join(_row(phantom))} |\n")
            sys.stdout.flush()


def _row(phantom: DynamicPhantom) -> list[str]:
    truth = [phantom.displacement(frame) for frame in range(len(phantom.frames))]
    series = Series(phantom.frames, tuple(phantom.times_s.tolist()))
    before = time.process_time()
    result = register_series(series, Settings.from_preset("dce", device="cpu"))
    seconds = time.process_time() - before
    found = [frame.transform for frame in result.frames]
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
    curves = [_curve_error(phantom, transforms) for transforms in (found, true)]
    return [*(f"{mm:.2f}" for mm in (raw, *errors)), *(f"{percent:.1f}" for percent in curves), f"{seconds:.0f}"]


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


def _curve_error(phantom: DynamicPhantom, transforms: Sequence[sitk.Transform]) -> float:
    """Return the largest difference of a lesion's mean signal from that without motion, %."""
    labels = sitk.GetArrayViewFromImage(phantom.labels[0])
    largest = 0.0
    for frame, still, transform in zip(phantom.frames[1:], phantom.motion_free[1:], transforms[1:], strict=True):
        warped = sitk.GetArrayFromImage(warp_image(frame, phantom.frames[0], transform, "bspline"))
        wanted = sitk.GetArrayViewFromImage(still)
        for lesion in _LESIONS:
            inside = labels == lesion
            largest = max(largest, abs(warped[inside].mean() / wanted[inside].mean() - 1.0))
    return 100.0 * largest


if __name__ == "__main__":
    main()
