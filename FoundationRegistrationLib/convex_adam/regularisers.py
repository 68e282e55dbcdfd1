"""Smoothness of displacements: the regulariser, and the smoothing of Adam's steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

# A tensor stays on its device: reading it would synchronise the host with a GPU.
Cost = float | torch.Tensor


class Regulariser(Protocol):
    """The cost of a rough displacement."""

    def add_to(self, gradient: torch.Tensor, displacement: torch.Tensor) -> Cost:
        """Return the cost of a displacement, a number or a scalar; add its gradient in place.

        Args:
            gradient: (3, z, y, x), updated in place.
            displacement: (3, z, y, x) in cells.
        """
        ...


@dataclass(frozen=True)
class Diffusion:
    """Lambda times the mean squared forward difference, summed over the axes.

    Attributes:
        strength: lambda.
    """

    strength: float

    def add_to(self, gradient: torch.Tensor, displacement: torch.Tensor) -> Cost:
        """Return the cost; see `Regulariser`."""
        total: Cost = 0.0
        for axis in (1, 2, 3):
            size = displacement.shape[axis]
            if size < 2:
                continue
            step = displacement.narrow(axis, 1, size - 1) - displacement.narrow(axis, 0, size - 1)
            total += self.strength * in_full(step.square().mean())
            step *= 2.0 * self.strength / step.numel()
            gradient.narrow(axis, 1, size - 1).add_(step)
            gradient.narrow(axis, 0, size - 1).sub_(step)
        return total


def in_full(scalar: torch.Tensor) -> torch.Tensor:
    """Return a scalar in double precision if the device supports it."""
    return scalar if scalar.device.type == "mps" else scalar.double()


def smoothing_matrices(displacement: torch.Tensor, width: int, repeats: int) -> list[torch.Tensor]:
    """Return a repeated box filter as one matrix per axis.

    The filter averages over existing neighbours, so that a constant field stays constant. It is separable; the
    transposed matrices are its adjoint.
    """
    matrices = []
    for size in displacement.shape[1:]:
        index = torch.arange(size, device=displacement.device)
        box = ((index[:, None] - index).abs() <= width // 2).float()
        matrices.append(torch.linalg.matrix_power(box / box.sum(1, keepdim=True), repeats))
    return matrices


def gaussian_matrices(displacement: torch.Tensor, deviation: float) -> list[torch.Tensor]:
    """Return a Gaussian of a standard deviation in cells as one matrix per axis; see `smoothing_matrices`."""
    matrices = []
    for size in displacement.shape[1:]:
        index = torch.arange(size, device=displacement.device, dtype=displacement.dtype)
        distance = (index[:, None] - index) / max(deviation, torch.finfo(displacement.dtype).eps)
        bell = torch.exp(-0.5 * distance.square())
        matrices.append(bell / bell.sum(1, keepdim=True))
    return matrices


def filtered(field: torch.Tensor, matrices: list[torch.Tensor]) -> torch.Tensor:
    """Apply one matrix along each axis of (3, z, y, x)."""
    along_z, along_y, along_x = matrices
    field = torch.matmul(along_y, torch.matmul(field, along_x.T))
    return torch.matmul(along_z, field.flatten(2)).reshape(field.shape)
