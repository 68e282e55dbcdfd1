"""Smooth, nearly incompressible velocities from forces.

Tissue hardly changes its volume when it is pressed or hangs otherwise. A force is therefore not only smoothed by a
Gaussian, as in fluid registration, but its part that swells or shrinks tissue (the gradient part of its Helmholtz
decomposition) is scaled down. Both are products in the Fourier domain. Source of incompressible registration: Mansi
et al., iLogDemons, IJCV 2011 (doi:10.1007/s11263-010-0405-z).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

_MARGIN = 4.0  # of zeros around the volume, in standard deviations of the Gaussian; the transform is periodic


class VelocityKernel:
    """The smoothing of forces on one grid.

    Args:
        shape: of the grid.
        smoothing: standard deviation of the Gaussian, cells.
        compressibility: factor of the part with divergence: 1 is a plain Gaussian, 0 keeps all volumes.
        device: where the forces live.
    """

    def __init__(
        self, shape: tuple[int, int, int], smoothing: float, compressibility: float, device: torch.device
    ) -> None:
        self._shape = shape
        self._padded = [_quick_size(size + math.ceil(_MARGIN * smoothing)) for size in shape]
        last = len(shape) - 1
        frequencies = [
            (torch.fft.rfftfreq if axis == last else torch.fft.fftfreq)(size, device=device)
            for axis, size in enumerate(self._padded)
        ]
        wave = torch.stack(torch.meshgrid(*frequencies, indexing="ij"))
        squared = wave.square().sum(0)
        self._gain = torch.exp(-2.0 * (math.pi * smoothing) ** 2 * squared)
        self._damped = 1.0 - compressibility
        self._direction = wave / squared.sqrt().clamp_min_(torch.finfo(squared.dtype).tiny)

    def __call__(self, force: torch.Tensor) -> torch.Tensor:
        """Return the velocity (3, z, y, x) of a force (3, z, y, x), both with components (z, y, x)."""
        after = [
            part
            for size, padded in zip(self._shape[::-1], self._padded[::-1], strict=True)
            for part in (0, padded - size)
        ]
        waves = torch.fft.rfftn(F.pad(force, after), dim=(1, 2, 3))
        if self._damped:
            swelling = (waves * self._direction).sum(0)
            waves -= self._damped * swelling * self._direction
        velocity = torch.fft.irfftn(waves.mul_(self._gain), s=self._padded, dim=(1, 2, 3))
        depth, height, width = self._shape
        return velocity[:, :depth, :height, :width]


def _quick_size(least: int) -> int:
    """Return the next size whose only prime factors are 2, 3 and 5, for which the transform is fast."""
    size = least
    while True:
        rest = size
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return size
        size += 1
