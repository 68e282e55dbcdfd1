"""What spoils an MR image of the breast: shading of the coil, failing fat suppression, ghosts, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .acquisition import VoxelGrid, blur, with_rician_noise
from .implicit import Array, GridFunction, Points, noise_field


@dataclass(frozen=True)
class Artefacts:
    """How one MR volume is spoilt.

    Attributes:
        shading: gain at the front of the breasts over the gain at the chest wall.
        tilt: the same from right to left.
        slow: noise by which the gain of every coil varies besides.
        failures: centres (N, 3) in LPS mm of the volume's space where fat suppression fails.
        failure_mm: (N,) their radii; failure: (N,) 0 to 1, how much of the fat's signal comes back.
        ghost: signal of the heart's ghosts over that of the heart.
        ghost_mm: distance between ghosts.
        noise: SD of the noise in either channel.
        blur_voxels: SD of the blur.
    """

    shading: float
    tilt: float
    slow: GridFunction
    failures: Points
    failure_mm: NDArray[np.float64]
    failure: NDArray[np.float64]
    ghost: float
    ghost_mm: float
    noise: float
    blur_voxels: float

    def unsuppressed(self, points: Points) -> Array:
        """Share (N,) of the fat's signal that is not suppressed at points (N, 3) of the volume's space."""
        share = np.zeros(len(points), np.float32)
        for centre, radius, most in zip(self.failures, self.failure_mm, self.failure, strict=True):
            square = np.sum(((points - centre) / radius) ** 2, axis=1)
            share = np.maximum(share, (most * np.exp(-(square**2))).astype(np.float32))
        return share


def draw_artefacts(rng: np.random.Generator, breasts: Points, *, fat_suppressed: bool) -> Artefacts:
    """Draw how a volume is spoilt.

    Args:
        rng: source of all random choices.
        breasts: (2, 3), low and high corner of the box around the breasts in the volume's space, LPS mm.
        fat_suppressed: the sequence suppresses fat, which then fails in places.
    """
    count = int(rng.integers(1, 5)) if fat_suppressed else 0
    return Artefacts(
        shading=float(np.exp(rng.uniform(np.log(2.0), np.log(4.0)))),
        tilt=float(np.exp(rng.normal(0.0, 0.2))),
        slow=noise_field(rng, 90.0, 32),
        failures=rng.uniform(breasts[0], breasts[1], (count, 3)),
        failure_mm=rng.uniform(14.0, 38.0, count),
        failure=rng.uniform(0.4, 1.0, count),
        ghost=float(rng.uniform(0.05, 0.25)),
        ghost_mm=float(rng.uniform(45.0, 90.0)),
        noise=float(rng.uniform(10.0, 26.0)),
        blur_voxels=float(rng.uniform(0.40, 0.60)),
    )


def coil_gain(artefacts: Artefacts, breasts: Points, grid: VoxelGrid) -> Array:
    """Gain (K, J, I) of the coil: high near its elements at the front, low at the chest wall and beyond.

    Args:
        artefacts: gives the shading and the slow variation.
        breasts: (2, 3), low and high corner of the box around the breasts.
        grid: of the volume.
    """
    low, high = breasts
    planes = []
    for k in range(grid.size[2]):
        points = grid.points(k, k + 1)
        t = (points - low) / np.maximum(high - low, 1.0) - 0.5
        log = -np.log(artefacts.shading) * np.clip(t[:, 1], -0.6, 1.1)
        log += np.log(artefacts.tilt) * np.clip(t[:, 0], -0.7, 0.7)
        x, y, z = (points[:, i].astype(np.float32) for i in range(3))
        planes.append(log + 0.10 * artefacts.slow(x, y, z))
    gain = np.exp(np.stack(planes)).astype(np.float32)
    return gain.reshape(grid.size[::-1])


def add_ghosts(values: Array, heart: NDArray[np.bool_], artefacts: Artefacts, grid: VoxelGrid) -> Array:
    """Add the heart's ghosts (K, J, I): its signal again, right and left of it, along the phase-encoding axis.

    Phase is encoded from right to left, as is usual for the breast: so the ghosts cross the axillae and not the
    breasts.
    """
    index_axis = int(np.argmax(np.abs(grid.direction[0])))
    axis = 2 - index_axis
    step = max(round(artefacts.ghost_mm / grid.spacing[index_axis]), 1)
    source = np.where(heart, values, 0.0).astype(np.float32)
    result = values.copy()
    for order in (1, 2):
        for shift in (order * step, -order * step):
            if abs(shift) < values.shape[axis]:
                result += artefacts.ghost / order * np.roll(source, shift, axis)
    return result


def acquire_spoilt_mr(
    signal: Array,
    heart: NDArray[np.bool_],
    artefacts: Artefacts,
    breasts: Points,
    grid: VoxelGrid,
    rng: np.random.Generator,
) -> sitk.Image:
    """MR image (float32): ghosts, blur, the coil's shading, Rician noise.

    Args:
        signal: (N,) without noise.
        heart: (N,) mask of what beats.
        artefacts: how the volume is spoilt.
        breasts: (2, 3), low and high corner of the box around the breasts.
        grid: of the volume.
        rng: source of noise.
    """
    shape = grid.size[::-1]
    ghosted = add_ghosts(signal.reshape(shape), heart.reshape(shape), artefacts, grid)
    image = blur(grid.image(ghosted.ravel()), artefacts.blur_voxels * min(grid.spacing))
    values = np.maximum(sitk.GetArrayFromImage(image), 0.0) * coil_gain(artefacts, breasts, grid)
    return with_rician_noise(values, artefacts.noise, grid, rng)
