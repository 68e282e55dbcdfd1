"""Mutual information of two volumes under an affine map, and its gradient.

The estimate is that of Mattes et al. 2003 (doi:10.1109/TMI.2003.809072): a joint histogram of samples, with a cubic
B-spline as the Parzen window of the moving intensities. The histogram is a product of matrices, so that it is the
same each time on a GPU too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from ...spatial.points import physical_points
from ...spatial.sampling import sample, sample_gradient

_BINS = 28  # of the intensities; the window reaches two more on both sides of the moving ones
_ALL_BINS = _BINS + 4
_SEED = 20251
_LEAST_SAMPLES = 5_000
_MOST_SAMPLES = 100_000
# With a smaller share of the samples inside the moving volume nothing is estimated.
_LEAST_INSIDE = 1 / 16


@dataclass(frozen=True)
class Estimate:
    """Mutual information of the samples inside the moving volume.

    Attributes:
        value: nats.
        by_matrix: (3, 3) its gradient by the matrix of the map.
        by_translation: (3,) its gradient by the translation of the map, per mm.
        inside: share of the samples that lie in the moving volume, 0..1.
        given: part of the value that does not depend on that share.
    """

    value: float
    by_matrix: NDArray[np.float64]
    by_translation: NDArray[np.float64]
    inside: float
    given: float = 0.0

    def __add__(self, other: Estimate) -> Estimate:
        """Return the sum with a term that counts all samples; the share of samples inside is that of this one."""
        return Estimate(
            self.value + other.value,
            self.by_matrix + other.by_matrix,
            self.by_translation + other.by_translation,
            self.inside,
            self.given + other.given + other.value,
        )

    @property
    def of_all(self) -> float:
        """The information of all samples: a small overlap that agrees by chance tells little."""
        return (self.value - self.given) * self.inside + self.given


class MutualInformation:
    """Mutual information between the samples of a fixed volume and a moving volume.

    Maps take a fixed point x to matrix (x - centre) + centre + translation, LPS mm.

    Attributes:
        centre: (3,) LPS mm.
        radius: root mean square distance of the samples from the centre, mm.
    """

    def __init__(
        self,
        fixed: sitk.Image,
        mask: sitk.Image,
        moving: sitk.Image,
        centre: NDArray[np.float64],
        share: float,
        device: torch.device,
    ) -> None:
        """Draw the samples.

        Args:
            fixed: fixed volume, float32.
            mask: not zero where samples are drawn, on the grid of the fixed volume.
            moving: moving volume, float32.
            centre: of rotations, LPS mm.
            share: of the voxels of the mask, 0..1; between 5,000 and 100,000 samples are drawn, if there are so many.
            device: where tensors live.
        """
        self.centre = centre
        indices = _drawn(mask, share)
        points = physical_points(fixed, indices) - centre
        self.radius = float(np.sqrt(np.square(points).sum(1).mean()))
        self._points = torch.from_numpy(points.astype(np.float32)).to(device)
        values = sample(_voxels(fixed, device)[None], torch.from_numpy(indices.T[::-1].astype(np.float32)).to(device))
        self._bins = _scaled(values[0]).long().clamp(max=_BINS - 1)
        self._in_bins = (torch.arange(_BINS, device=device)[:, None] == self._bins).float()
        self._moving = _scaled(_voxels(moving, device)[None])
        direction = np.array(moving.GetDirection()).reshape(3, 3)
        self._to_index = (direction / np.asarray(moving.GetSpacing())).T[::-1]  # (z, y, x) from mm
        self._origin = np.asarray(moving.GetOrigin())

    def value(self, matrix: NDArray[np.float64], translation: NDArray[np.float64]) -> float:
        """Return the mutual information at a map; 0 where too few samples lie in the moving volume."""
        return self(matrix, translation).value

    def __call__(self, matrix: NDArray[np.float64], translation: NDArray[np.float64]) -> Estimate:
        """Return the mutual information at a map and its gradient; all 0 where too few samples lie inside."""
        device = self._points.device
        linear = torch.from_numpy((self._to_index @ matrix).astype(np.float32)).to(device)
        offset = self._to_index @ (self.centre + translation - self._origin)
        positions = linear @ self._points.T + torch.from_numpy(offset.astype(np.float32)).to(device)[:, None]
        inside = torch.ones_like(self._bins, dtype=torch.bool)
        for along, size in zip(positions, self._moving.shape[1:], strict=True):
            inside &= (along > -0.5) & (along < size - 0.5)
        weight = inside / inside.sum().clamp(min=1)

        intensities = sample(self._moving, positions)[0]
        below = intensities.floor().clamp(0, _BINS - 1)
        shares, slopes = _window(intensities - below)
        bins = (below.long() + 1)[:, None] + torch.arange(4, device=device)
        windows = torch.zeros(len(bins), _ALL_BINS, device=device).scatter_(1, bins, shares * weight[:, None])
        joint = self._in_bins @ windows
        of_fixed, of_moving = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)
        filled = joint > 0
        value = (joint * torch.where(filled, joint / (of_fixed * of_moving), 1.0).log()).sum()

        by_share = torch.where(filled, joint / of_moving, 1.0).log()
        pull = (by_share[self._bins].gather(1, bins) * slopes).sum(1) * weight
        by_position = sample_gradient(self._moving, positions, pull[None])
        numbers = torch.cat(
            [value[None], inside.float().mean()[None], by_position.sum(1), (by_position @ self._points).flatten()]
        )
        found = numbers.cpu().numpy().astype(np.float64)  # the only wait for a GPU
        if found[1] < _LEAST_INSIDE:
            return Estimate(0.0, np.zeros((3, 3)), np.zeros(3), float(found[1]))
        back = self._to_index.T
        return Estimate(float(found[0]), back @ found[5:].reshape(3, 3), back @ found[2:5], float(found[1]))


def _drawn(mask: sitk.Image, share: float) -> NDArray[np.float64]:
    """Return random positions in voxels of the mask, (N, 3) continuous indices in x, y, z order."""
    inside = sitk.GetArrayViewFromImage(mask)
    voxels = np.flatnonzero(inside)
    count = min(len(voxels), int(np.clip(share * len(voxels), _LEAST_SAMPLES, _MOST_SAMPLES)))
    generator = np.random.default_rng(_SEED)
    chosen = np.sort(generator.choice(voxels, count, replace=False))
    indices = np.stack(np.unravel_index(chosen, inside.shape)[::-1], axis=1)
    return indices + generator.uniform(-0.5, 0.5, indices.shape)


def _voxels(image: sitk.Image, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(sitk.GetArrayFromImage(image)).to(device)


def _scaled(values: torch.Tensor) -> torch.Tensor:
    """Return the values in bins, from 0 on."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp(min=1e-12) * _BINS


def _window(above: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cubic B-spline at the four bins around a value, and its slope there, both (N, 4).

    Args:
        above: (N,) how far the value lies above the second of the four, 0..1.
    """
    below = 1.0 - above
    shares = [
        below**3 / 6,
        (3 * above**3 - 6 * above**2 + 4) / 6,
        (3 * below**3 - 6 * below**2 + 4) / 6,
        above**3 / 6,
    ]
    slopes = [-(below**2) / 2, (3 * above**2 - 4 * above) / 2, -(3 * below**2 - 4 * below) / 2, above**2 / 2]
    return torch.stack(shares, dim=1), torch.stack(slopes, dim=1)
