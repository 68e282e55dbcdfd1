"""Building blocks of implicit anatomy: smooth set operations, signed distances, smooth noise.

Signed distances are in millimetres, negative inside. All functions take and give float32 arrays of one
shape, so a point cloud of any layout can be evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Points = NDArray[np.float64]
"""(N, 3) points, LPS mm."""


def smooth_min(a: Array, b: Array, radius: float) -> Array:
    """Union of two signed distances whose edge is rounded over about `radius` mm."""
    overlap = np.maximum(radius - np.abs(a - b), 0.0)
    return np.minimum(a, b) - overlap * overlap * np.float32(0.25 / radius)


def smooth_max(a: Array, b: Array, radius: float) -> Array:
    """Intersection of two signed distances whose edge is rounded over about `radius` mm."""
    return -smooth_min(-a, -b, radius)


def ramp(value: Array, low: float, high: float) -> Array:
    """Smooth step from 0 at `low` to 1 at `high`."""
    t = np.clip((value - np.float32(low)) * np.float32(1.0 / (high - low)), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def coverage(distance: Array, width: float) -> Array:
    """Fraction of a voxel `width` mm wide that lies inside the surface: partial volume."""
    return 1.0 - ramp(distance, -0.5 * width, 0.5 * width)


def superellipse(x: Array, y: Array, a: Array | float, b: Array | float, power: float) -> Array:
    """Signed distance (to first order) to |x/a|^power + |y/b|^power = 1."""
    u, v = np.abs(x) / a, np.abs(y) / b
    up, vp = u ** np.float32(power - 1.0), v ** np.float32(power - 1.0)
    rho = np.maximum(u * up + v * vp, np.float32(1e-6)) ** np.float32(1.0 / power)
    gradient = rho ** np.float32(1.0 - power) * np.sqrt((up / a) ** 2 + (vp / b) ** 2)
    return (rho - 1.0) / np.maximum(gradient, np.float32(1e-4))


def ellipsoid(
    x: Array,
    y: Array,
    z: Array,
    centre: tuple[float, float, float],
    radii: tuple[float, float, float],
    axes: NDArray[np.float64] | None = None,
) -> Array:
    """Signed distance (to first order) to an ellipsoid; the rows of `axes` (3, 3) are its own axes."""
    local = [x - np.float32(centre[0]), y - np.float32(centre[1]), z - np.float32(centre[2])]
    if axes is not None:
        rows = axes.astype(np.float32)
        local = [r[0] * local[0] + r[1] * local[1] + r[2] * local[2] for r in rows]
    scaled = [c / np.float32(r) for c, r in zip(local, radii, strict=True)]
    q = np.sqrt(scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2) + np.float32(1e-6)
    slope = np.sqrt(sum((c / np.float32(r)) ** 2 for c, r in zip(scaled, radii, strict=True)))
    return (q - 1.0) * q / np.maximum(slope, np.float32(1e-4))


def _trilinear(values: Array, i: NDArray[np.intp], f: Array, step: tuple[NDArray[np.intp], ...]) -> Array:
    """Trilinear interpolation on a flattened grid from base index and per-axis neighbour offsets."""
    flat = values.reshape(-1)
    result = np.zeros(i.shape, np.float32)
    for corner in range(8):
        weight: Array | np.float32 = np.float32(1.0)
        index = i
        for axis in range(3):
            upper = corner >> axis & 1
            weight = weight * (f[axis] if upper else 1.0 - f[axis])
            if upper:
                index = index + step[axis]
        result += weight * flat[index]
    return result


@dataclass(frozen=True)
class GridFunction:
    """A function given on a regular grid and continued by trilinear interpolation.

    Attributes:
        values: (I, J, K) float32, axes x, y, z.
        origin: LPS mm of values[0, 0, 0]; a point beyond the grid takes the value of its border.
        step: grid step in mm.
        periodic: the grid repeats in all directions.
    """

    values: Array
    origin: tuple[float, float, float]
    step: float
    periodic: bool = False

    def __call__(self, x: Array, y: Array, z: Array) -> Array:
        """Value at the points."""
        shape = self.values.shape
        strides = (shape[1] * shape[2], shape[2], 1)
        base = np.zeros(x.shape, np.intp)
        fraction, offsets = [], []
        for axis, coordinate in enumerate((x, y, z)):
            t = (coordinate - np.float32(self.origin[axis])) * np.float32(1.0 / self.step)
            if not self.periodic:
                t = np.clip(t, 0.0, shape[axis] - 1.001)
            floor = np.floor(t)
            index = floor.astype(np.intp)
            fraction.append((t - floor).astype(np.float32))
            if self.periodic:
                index %= shape[axis]
                up = np.where(index == shape[axis] - 1, 1 - shape[axis], 1) * strides[axis]
            else:
                up = np.full(1, strides[axis], np.intp)
            base += index * strides[axis]
            offsets.append(up)
        return _trilinear(self.values, base, np.stack(fraction), tuple(offsets))


def noise_field(rng: np.random.Generator, scale_mm: float, side: int = 64) -> GridFunction:
    """Smooth isotropic noise of zero mean and unit variance, periodic, with features of `scale_mm`.

    White noise is low-passed by a Gaussian in Fourier space, so the field shows no grid direction.
    """
    step = scale_mm / 4.0
    white = rng.standard_normal((side, side, side))
    k = 2.0 * np.pi * np.fft.fftfreq(side, d=step)
    k_last = 2.0 * np.pi * np.fft.rfftfreq(side, d=step)
    k2 = k[:, None, None] ** 2 + k[None, :, None] ** 2 + k_last[None, None, :] ** 2
    sigma = scale_mm / 2.0
    smooth = np.fft.irfftn(np.fft.rfftn(white) * np.exp(-0.5 * sigma**2 * k2), s=white.shape, axes=(0, 1, 2))
    smooth = (smooth - smooth.mean()) / smooth.std()
    return GridFunction(smooth.astype(np.float32), (0.0, 0.0, 0.0), step, periodic=True)
