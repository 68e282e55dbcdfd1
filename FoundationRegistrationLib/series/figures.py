"""Figures of a registered series: how far frames moved, and how much still changes over time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..spatial.checks import on_same_grid
from ..spatial.warping import displacement_on_grid_of, finite_float, is_measured, warp_image

# Tissue is enhancing where its signal changes over the series by more than this fraction of the median signal.
_ENHANCING = 0.1
_SMOOTHING_VOXELS = 1.0


@dataclass(frozen=True, eq=False)
class Temporal:
    """A series over time, at each voxel of the reference; arrays are (z, y, x).

    Attributes:
        first: the first frame.
        mean: over all frames.
        deviation: standard deviation over all frames.
    """

    first: NDArray[np.float64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def of(cls, frames: Iterable[sitk.Image], grid: sitk.Image) -> Temporal:
        """Return it for frames, resampled onto a grid if they lie on others."""
        first, total, squares, count = None, np.zeros(()), np.zeros(()), 0
        for frame in frames:
            values = sitk.GetArrayFromImage(finite_float(on_grid_of(grid, frame))).astype(np.float64)
            first = values if first is None else first
            # About the first frame, so that no digits are lost in the difference of large squares.
            total, squares, count = total + (values - first), squares + (values - first) ** 2, count + 1
        assert first is not None
        mean = total / count
        return cls(first, first + mean, np.sqrt(np.maximum(squares / count - mean**2, 0.0)))

    def enhancing(self, foreground: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the mask of tissue whose signal differs between the first frame and the mean, as contrast does."""
        from scipy.ndimage import gaussian_filter

        sigma = [_SMOOTHING_VOXELS if size > 1 else 0.0 for size in self.mean.shape]
        change = gaussian_filter(np.abs(gaussian_filter(self.mean - self.first, sigma)), sigma)
        return foreground & (change > _ENHANCING * np.median(self.first[foreground]))


def shows_anything(frame: sitk.Image) -> bool:
    """Whether a frame has measured values that are not all the same."""
    values = sitk.GetArrayViewFromImage(frame)
    known = values[is_measured(values)]
    return bool(known.size and known.min() != known.max())


def on_grid_of(
    grid: sitk.Image, frame: sitk.Image, transform: sitk.Transform | None = None, interpolation: str = "linear"
) -> sitk.Image:
    """Return a frame on a grid, through a transform if there is one; unchanged if it lies on that grid."""
    if transform is None and on_same_grid(grid, frame):
        return frame
    return warp_image(frame, grid, transform or sitk.TranslationTransform(3), interpolation)


def temporal_figures(before: Temporal, after: Temporal, foreground: NDArray[np.bool_]) -> dict[str, Any]:
    """Return how much changes over time outside enhancing tissue, before and after, as plain numbers.

    What enhances is found in the registered series, and left out of both.
    """
    enhancing = after.enhancing(foreground)
    quiet = foreground & ~enhancing
    if not quiet.any():
        quiet = foreground
    signal = max(float(np.median(before.first[foreground])), 1e-12)

    def root_mean_square(temporal: Temporal) -> float:
        return 100.0 * float(np.sqrt(np.mean(temporal.deviation[quiet] ** 2))) / signal

    return {
        "temporal_deviation_percent": {"before": root_mean_square(before), "after": root_mean_square(after)},
        "enhancing_percent": 100.0 * float(np.count_nonzero(enhancing) / np.count_nonzero(foreground)),
    }


def motion_mm(transform: sitk.Transform, foreground: sitk.Image) -> tuple[float, float]:
    """Return the mean and the largest displacement of a foreground, mm."""
    field = sitk.GetArrayFromImage(displacement_on_grid_of(foreground, transform))
    lengths = np.linalg.norm(field[sitk.GetArrayViewFromImage(foreground) != 0], axis=-1)
    return float(lengths.mean()), float(lengths.max())
