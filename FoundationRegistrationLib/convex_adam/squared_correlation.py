"""Squared local correlation of intensities, and its derivative.

Within a cube around each voxel, one volume is fitted to the other by a line; the squared correlation is the fraction
of the variance that the line explains. It is the same for bright on dark and dark on bright, so the sequences of MR
may differ. Source: Avants et al., Medical Image Analysis 2008 (doi:10.1016/j.media.2007.06.004).
"""

from __future__ import annotations

import torch

from ..spatial.windows import sum_around

# Standard deviation, in intensities of 0..1, below which a window counts as nearly flat.
_NOISE = 0.01


def squared_correlation(
    fixed: torch.Tensor, moving: torch.Tensor, weight: torch.Tensor, radius: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean over all windows, weighted by their structure, and the force that increases it.

    Windows count little where either volume is nearly flat. The force takes that for constant: it does not seek
    contrast, and is zero where a line explains one volume by the other.

    Args:
        fixed: (z, y, x) intensities in 0..1.
        moving: the same for the warped moving volume.
        weight: (z, y, x) in 0..1, weight of each voxel within the windows, and of the window around it.
        radius: half-width of the windows, voxels.

    Returns:
        The mean, a scalar in 0..1, and (z, y, x), its derivative by the moving intensities times the sum of weights.
    """
    least, rounding = torch.finfo(weight.dtype).tiny, torch.finfo(weight.dtype).eps
    total = sum_around(weight[None], radius).clamp_min_(least)
    moments = torch.stack([fixed, moving, fixed * fixed, moving * moving, fixed * moving]).mul_(weight)
    means = sum_around(moments, radius).div_(total)
    of_fixed, of_moving = means[0], means[1]
    variance = (means[2] - of_fixed.square()).clamp_min_(0.0)
    moving_variance = (means[3] - of_moving.square()).clamp_min_(rounding)  # else rounding errors would pull
    covariance = means[4] - of_fixed * of_moving
    slope = covariance / moving_variance  # of the line that gives fixed from moving intensities
    counted = weight / (variance + _NOISE**2) / (moving_variance + _NOISE**2)
    by_covariance = 2.0 * counted * covariance / total[0]
    explained = (counted * covariance.square()).sum() / (counted * variance * moving_variance).sum().clamp_min(least)
    by_variance = by_covariance * slope
    sums = sum_around(
        torch.stack([by_covariance, by_covariance * of_fixed, by_variance, by_variance * of_moving]), radius
    )
    return explained, (fixed * sums[0] - sums[1] - moving * sums[2] + sums[3]).mul_(weight)
