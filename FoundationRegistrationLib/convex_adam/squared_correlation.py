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
    moments = weight.new_empty(5, *weight.shape)
    torch.mul(fixed, weight, out=moments[0])
    torch.mul(moving, weight, out=moments[1])
    torch.mul(moments[0], fixed, out=moments[2])
    torch.mul(moments[1], moving, out=moments[3])
    torch.mul(moments[0], moving, out=moments[4])
    means = sum_around(moments, radius).div_(total)
    of_fixed, of_moving = means[0], means[1]
    variance = (means[2] - of_fixed.square()).clamp_min_(0.0)
    moving_variance = (means[3] - of_moving.square()).clamp_min_(rounding)  # else rounding errors would pull
    covariance = means[4] - of_fixed * of_moving
    slope = covariance / moving_variance  # of the line that gives fixed from moving intensities
    counted = weight / (variance + _NOISE**2) / (moving_variance + _NOISE**2)
    explained = (counted * covariance.square()).sum() / (counted * variance * moving_variance).sum().clamp_min(least)
    pulls = torch.empty_like(moments[:4])
    torch.mul(counted.mul_(2.0), covariance, out=pulls[0]).div_(total[0])  # by the covariance
    torch.mul(pulls[0], of_fixed, out=pulls[1])
    torch.mul(pulls[0], slope, out=pulls[2])  # by the variance of the moving intensities
    torch.mul(pulls[2], of_moving, out=pulls[3])
    sums = sum_around(pulls, radius)
    return explained, (fixed * sums[0] - sums[1] - moving * sums[2] + sums[3]).mul_(weight)
