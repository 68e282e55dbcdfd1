"""What a scanner makes of the anatomy: voxel grids, tissue contrast, bias field, noise, the PET image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .anatomy import Tissues
from .contrasts import FATTY, PET, Contrast
from .implicit import Array, Points, coverage, ramp

_STRANDS = {"fat": ("skin", 0.45), "lung": ("blood", 0.4)}
"""Tissues crossed by strands, what the strands look like, and how much of it shows."""
_PET_FWHM_MM = 6.0


@dataclass(frozen=True)
class VoxelGrid:
    """A voxel grid in LPS mm.

    Attributes:
        size: voxels along the index axes i, j, k.
        spacing: mm along them.
        origin: centre of voxel (0, 0, 0).
        direction: (3, 3), column n is the direction of index axis n.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: NDArray[np.float64]

    @classmethod
    def covering(
        cls, low: Points, high: Points, spacing: tuple[float, float, float], direction: NDArray[np.float64]
    ) -> VoxelGrid:
        """A grid over the box from `low` to `high`, laid along the patient axes nearest to `direction`."""
        extent = np.abs(np.round(direction.T)) @ (high - low)
        size = np.maximum(np.ceil(extent / spacing), 2).astype(int)
        half = direction @ (0.5 * (size - 1) * spacing)
        origin = 0.5 * (low + high) - half
        i, j, k = (int(n) for n in size)
        x, y, z = (float(v) for v in origin)
        return cls((i, j, k), spacing, (x, y, z), direction)

    def points(self, first: int, last: int) -> Points:
        """Centres of the voxels with k in first..last-1 as (N, 3), in the order of the sitk buffer."""
        k, j, i = np.meshgrid(np.arange(first, last), np.arange(self.size[1]), np.arange(self.size[0]), indexing="ij")
        index = np.stack([i, j, k], axis=-1).reshape(-1, 3) * np.array(self.spacing)
        return index @ self.direction.T + np.array(self.origin)

    def image(self, values: NDArray[np.generic]) -> sitk.Image:
        """A SimpleITK image of `values`, flat or with a last axis of components, on this grid."""
        vector = values.ndim == 2
        shape = (*self.size[::-1], values.shape[1]) if vector else self.size[::-1]
        image = sitk.GetImageFromArray(values.reshape(shape), isVector=vector)
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction.ravel().tolist())
        return image

    def contains(self, points: Points, margin: float) -> NDArray[np.bool_]:
        """Which of `points` (N, 3) lie in the volume, at least `margin` mm from its faces."""
        index = (points - np.array(self.origin)) @ self.direction
        extent = (np.array(self.size) - 1) * np.array(self.spacing)
        return np.all((index >= margin) & (index <= extent - margin), axis=1)


def paint(
    tissues: Tissues,
    contrast: Contrast,
    background: float,
    voxel_mm: float,
    failure: tuple[Array, Contrast] | None = None,
) -> Array:
    """Noise-free signal (N,): each tissue over the former ones, with partial volume at its edge.

    Args:
        tissues: what is there.
        contrast: what it looks like.
        background: signal of air.
        voxel_mm: width over which tissues mix at their edges.
        failure: where fat suppression fails: its share (N,), and what fat looks like without suppression.
    """
    signal = np.full(tissues.coarse.shape, np.float32(background))
    for name, distance in tissues.distance.items():
        if name not in contrast:
            continue
        hit = np.flatnonzero(distance < 0.5 * voxel_mm)
        mean, coarse, fine = contrast[name]
        value = np.full(hit.shape, np.float32(mean))
        if coarse or fine:
            value = value + coarse * tissues.coarse[hit] + fine * tissues.fine[hit]
        if name in _STRANDS:
            other, weight = _STRANDS[name]
            value = value + np.float32(weight * (contrast[other][0] - mean)) * tissues.strands[hit]
        if failure is not None and name in FATTY:
            value = value + failure[0][hit] * np.float32(failure[1][name][0] - mean)
        share = coverage(distance[hit], voxel_mm)
        signal[hit] = (1.0 - share) * signal[hit] + share * value
    return signal


def _bias_field(rng: np.random.Generator, grid: VoxelGrid) -> Array:
    """Smooth gain (K, J, I) of about 0.75 to 1.3: the breast coil's and a slow random one."""
    coarse = rng.normal(0.0, 0.055, (5, 5, 5))
    small = sitk.GetImageFromArray(coarse)
    size, spacing = np.array(grid.size), np.array(grid.spacing)
    step = size * spacing / 3.0
    small.SetDirection(grid.direction.ravel().tolist())
    small.SetSpacing(step.tolist())
    small.SetOrigin((np.array(grid.origin) - grid.direction @ (step * 0.5)).tolist())
    reference = sitk.Image(list(grid.size), sitk.sitkFloat32)
    reference.SetDirection(grid.direction.ravel().tolist())
    reference.SetSpacing(grid.spacing)
    reference.SetOrigin(grid.origin)
    smooth = sitk.Resample(small, reference, sitk.Transform(), sitk.sitkBSpline, 0.0, sitk.sitkFloat32)
    gain = sitk.GetArrayFromImage(smooth)
    columns = []
    for k in range(grid.size[2]):
        y = grid.points(k, k + 1)[:, 1].astype(np.float32)
        columns.append(0.16 * ramp(-y, -110.0, 60.0))
    gain += np.concatenate(columns).reshape(gain.shape)
    return np.exp(gain - np.float32(0.06)).astype(np.float32)


def blur(image: sitk.Image, sigma_mm: float) -> sitk.Image:
    """The image smoothed by a Gaussian of SD `sigma_mm`."""
    return sitk.SmoothingRecursiveGaussian(image, [sigma_mm] * 3)


def acquire_mr(signal: Array, grid: VoxelGrid, rng: np.random.Generator) -> sitk.Image:
    """MR image (float32): slight blur, bias field, Rician noise."""
    sharp = grid.image(signal)
    image = blur(sharp, 0.42 * min(grid.spacing))
    values = np.maximum(sitk.GetArrayFromImage(image), 0.0) * _bias_field(rng, grid)
    return with_rician_noise(values, float(rng.uniform(9.0, 13.0)), grid, rng)


def with_rician_noise(values: Array, sigma: float, grid: VoxelGrid, rng: np.random.Generator) -> sitk.Image:
    """Magnitude image (float32) of a signal (K, J, I) with noise of SD `sigma` in both channels."""
    real = values + sigma * rng.standard_normal(values.shape, dtype=np.float32)
    imaginary = sigma * rng.standard_normal(values.shape, dtype=np.float32)
    return grid.image(np.hypot(real, imaginary).astype(np.float32).ravel())


def acquire_ct(signal: Array, grid: VoxelGrid, back_y: float, rng: np.random.Generator) -> sitk.Image:
    """CT image (int16, HU): table, slight blur, Gaussian noise.

    Args:
        signal: (N,) HU without noise.
        grid: the CT's grid.
        back_y: LPS mm, the most posterior point of the patient; the table lies under it.
        rng: source of noise.
    """
    values = signal.reshape(grid.size[::-1]).copy()
    radius, shell = 420.0, 4.0
    for k in range(grid.size[2]):
        p = grid.points(k, k + 1)
        # An arc, concave towards the patient; it is narrower than the field of view.
        d = np.hypot(p[:, 0], p[:, 1] - (back_y + 3.0 - radius)) - radius
        table = (d > 0.0) & (np.abs(p[:, 0]) < 185.0) & (p[:, 1] > 0.0)
        skin = table & ((d < shell) | ((d > 24.0 - shell) & (d < 24.0)))
        core = table & (d >= shell) & (d <= 24.0 - shell)
        plane = values[k].reshape(-1)
        air = plane < -700.0
        plane[skin & air] = -40.0
        plane[core & air] = -880.0
    image = blur(grid.image(values.ravel()), 0.45 * min(grid.spacing))
    noise = rng.normal(0.0, 11.0, values.shape)
    hu = np.clip(np.round(sitk.GetArrayFromImage(image) + noise), -1024, 3071)
    return grid.image(hu.astype(np.int16).ravel())


def acquire_pet(tissues: Tissues, grid: VoxelGrid, rng: np.random.Generator) -> sitk.Image:
    """PET image (float32, SUV): uptake blurred to about 6 mm FWHM, with smooth noise.

    The lesion's uptake is chosen so that its blurred maximum is an SUV of about 6.5 to 9.5.
    """
    sigma = _PET_FWHM_MM / 2.355
    uptake = paint(tissues, PET, 0.0, grid.spacing[0])
    uptake *= 1.0 + 0.12 * rng.standard_normal(uptake.shape, dtype=np.float32)
    normal = sitk.GetArrayFromImage(blur(grid.image(uptake), sigma))
    share = coverage(tissues.distance["lesion"], grid.spacing[0])
    hot = sitk.GetArrayFromImage(blur(grid.image(share), sigma))
    peak = float(rng.uniform(6.5, 9.5)) - 1.0
    suv = np.maximum(normal + hot * np.float32(peak / max(float(hot.max()), 1e-6)), 0.0)
    return grid.image(suv.astype(np.float32).ravel())
