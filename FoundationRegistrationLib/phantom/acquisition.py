"""What a scanner makes of the anatomy: voxel grids, tissue contrast, bias field, noise, the PET image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .anatomy import Tissues
from .implicit import Array, Points, coverage, ramp

Contrast = dict[str, tuple[float, float, float]]
"""Tissue name to (mean, amplitude of coarse texture, amplitude of fine texture)."""

_T1: Contrast = {
    "skin": (330, 15, 15),
    "fat": (820, 34, 22),
    "gland": (350, 34, 30),
    "cyst": (190, 0, 5),
    "muscle": (255, 10, 16),
    "fascia": (480, 30, 20),
    "cartilage": (300, 10, 10),
    "cortex": (110, 5, 5),
    "marrow": (520, 30, 30),
    "lung": (40, 8, 12),
    "mediastinum": (640, 40, 30),
    "abdomen": (690, 40, 30),
    "stomach": (230, 50, 30),
    "spleen": (250, 8, 8),
    "liver": (370, 12, 12),
    "oesophagus": (260, 10, 10),
    "heart": (280, 12, 12),
    "blood": (190, 18, 14),
    "lesion": (280, 10, 20),
}
_T1_FAT_SUPPRESSED_ENHANCED: Contrast = _T1 | {
    "skin": (400, 20, 15),
    "fat": (150, 14, 9),
    "gland": (390, 32, 36),
    "cyst": (170, 0, 5),
    "muscle": (300, 10, 16),
    "fascia": (200, 15, 15),
    "cartilage": (240, 10, 10),
    "marrow": (210, 15, 15),
    "mediastinum": (190, 20, 15),
    "abdomen": (180, 20, 15),
    "spleen": (580, 15, 12),
    "liver": (500, 12, 12),
    "oesophagus": (320, 10, 10),
    "heart": (520, 14, 12),
    "blood": (800, 22, 16),
    "lesion": (880, 50, 70),
}
_T2_FAT_SUPPRESSED: Contrast = _T1 | {
    "skin": (300, 15, 15),
    "fat": (120, 14, 9),
    "gland": (440, 60, 55),
    "cyst": (1050, 0, 10),
    "muscle": (170, 8, 10),
    "fascia": (150, 10, 10),
    "cartilage": (260, 10, 10),
    "cortex": (60, 5, 5),
    "marrow": (180, 15, 12),
    "lung": (35, 8, 10),
    "mediastinum": (160, 15, 15),
    "abdomen": (160, 15, 15),
    "stomach": (620, 120, 30),
    "spleen": (480, 10, 10),
    "liver": (250, 12, 12),
    "oesophagus": (280, 10, 10),
    "heart": (260, 12, 12),
    "blood": (130, 45, 18),
    "lesion": (600, 40, 60),
}
_CT: Contrast = {
    "skin": (20, 3, 3),
    "fat": (-102, 6, 5),
    "gland": (38, 6, 6),
    "cyst": (8, 0, 2),
    "muscle": (55, 3, 5),
    "fascia": (-40, 10, 10),
    "cartilage": (110, 8, 10),
    "cortex": (640, 60, 60),
    "marrow": (230, 30, 35),
    "lung": (-830, 18, 24),
    "mediastinum": (-85, 8, 6),
    "abdomen": (-100, 6, 6),
    "stomach": (20, 10, 6),
    "spleen": (48, 2, 2),
    "liver": (56, 2, 2),
    "oesophagus": (35, 4, 4),
    "heart": (48, 2, 2),
    "blood": (42, 2, 2),
    "lesion": (52, 4, 6),
}
_PET: Contrast = {
    "skin": (0.5, 0, 0),
    "fat": (0.4, 0.05, 0),
    "gland": (1.0, 0.12, 0),
    "muscle": (0.75, 0.05, 0),
    "cortex": (0.9, 0, 0),
    "marrow": (1.4, 0.1, 0),
    "lung": (0.5, 0.04, 0),
    "mediastinum": (0.8, 0.05, 0),
    "abdomen": (0.7, 0.05, 0),
    "stomach": (1.5, 0.15, 0),
    "spleen": (1.9, 0.1, 0),
    "liver": (2.4, 0.15, 0),
    "heart": (2.7, 0.15, 0),
    "blood": (1.7, 0.08, 0),
}
CONTRASTS = {"t1": _T1, "t1-fs": _T1_FAT_SUPPRESSED_ENHANCED, "t2-fs": _T2_FAT_SUPPRESSED, "ct": _CT}
_STRANDS = {"fat": ("skin", 0.45), "lung": ("blood", 0.4)}
"""Tissues crossed by strands, what the strands look like, and how much of it shows."""
AIR_HU = -1000.0
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


def paint(tissues: Tissues, contrast: Contrast, background: float, voxel_mm: float) -> Array:
    """Noise-free signal (N,): each tissue over the former ones, with partial volume at its edge."""
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


def _blur(image: sitk.Image, sigma_mm: float) -> sitk.Image:
    return sitk.SmoothingRecursiveGaussian(image, [sigma_mm] * 3)


def acquire_mr(signal: Array, grid: VoxelGrid, rng: np.random.Generator) -> sitk.Image:
    """MR image (float32): slight blur, bias field, Rician noise."""
    sharp = grid.image(signal)
    image = _blur(sharp, 0.42 * min(grid.spacing))
    values = np.maximum(sitk.GetArrayFromImage(image), 0.0) * _bias_field(rng, grid)
    sigma = float(rng.uniform(9.0, 13.0))
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
    image = _blur(grid.image(values.ravel()), 0.45 * min(grid.spacing))
    noise = rng.normal(0.0, 11.0, values.shape)
    hu = np.clip(np.round(sitk.GetArrayFromImage(image) + noise), -1024, 3071)
    return grid.image(hu.astype(np.int16).ravel())


def acquire_pet(tissues: Tissues, grid: VoxelGrid, rng: np.random.Generator) -> sitk.Image:
    """PET image (float32, SUV): uptake blurred to about 6 mm FWHM, with smooth noise.

    The lesion's uptake is chosen so that its blurred maximum is an SUV of about 6.5 to 9.5.
    """
    sigma = _PET_FWHM_MM / 2.355
    uptake = paint(tissues, _PET, 0.0, grid.spacing[0])
    uptake *= 1.0 + 0.12 * rng.standard_normal(uptake.shape, dtype=np.float32)
    normal = sitk.GetArrayFromImage(_blur(grid.image(uptake), sigma))
    share = coverage(tissues.distance["lesion"], grid.spacing[0])
    hot = sitk.GetArrayFromImage(_blur(grid.image(share), sigma))
    peak = float(rng.uniform(6.5, 9.5)) - 1.0
    suv = np.maximum(normal + hot * np.float32(peak / max(float(hot.max()), 1e-6)), 0.0)
    return grid.image(suv.astype(np.float32).ravel())
