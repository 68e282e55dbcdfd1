"""Continuous stage: Adam refines the field for this one pair (paper equation 3).

The energy is the feature difference plus lambda times the squared gradient of the displacement. The field that
is optimised is smoothed by repeated box filters at each step. Only the look-up of moving features goes
through automatic differentiation, slab by slab; the rest of the gradient is written out, so that memory beyond
the features is a few displacement fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..progress import Progress
from ..settings import Settings
from .sampling import identity_positions, sample

# ConvexAdam takes the mean over channels times 12, the sum over the channels of MIND-SSC. Summing over the
# channels is the same for MIND and, with features of unit total variance, right for any number of channels.
_VALUES_PER_SLAB = 24_000_000
_CONVERGENCE_WINDOW = 10


@dataclass(frozen=True)
class Term:
    """Features that a displacement shall bring to agree.

    Attributes:
        fixed: (C, z, y, x) features.
        moving: (C, z, y, x) features.
        weight: (z, y, x), how much the difference at each fixed cell counts; None counts all fully.
    """

    fixed: torch.Tensor
    moving: torch.Tensor
    weight: torch.Tensor | None


@dataclass(frozen=True)
class Optimised:
    """The refined displacement (3, z, y, x) in cells, and the energy at each iteration that was run."""

    displacement: torch.Tensor
    energies: tuple[float, ...]


def optimise_instance(
    terms: Sequence[Term],
    displacement: torch.Tensor,
    settings: Settings,
    progress: Progress,
) -> Optimised:
    """Refine a displacement by gradient descent on the energy of this pair.

    Args:
        terms: the features to bring to agree, all on one grid; their differences are added.
        displacement: (3, z, y, x) start, in cells, components (z, y, x), from fixed to moving.
        settings: lambda, learning rate, iterations, smoothing, convergence tolerance.
        progress: told of each iteration.
    """
    parameter = displacement.clone()
    optimiser = torch.optim.Adam([parameter], lr=settings.learning_rate)
    matrices = _smoothing_matrices(displacement, settings)
    adjoint = [matrix.T for matrix in matrices]
    energies: list[float] = []
    smooth = displacement
    for iteration in range(settings.iterations):
        progress.advance(iteration / settings.iterations)
        smooth = _filtered(parameter, matrices)
        gradient = torch.zeros_like(smooth)
        energy = sum(_add_difference(term, smooth, gradient) for term in terms)
        energy += _add_diffusion(smooth, settings.regularization, gradient)
        energies.append(energy)
        parameter.grad = _filtered(gradient, adjoint)
        optimiser.step()
        if _has_converged(energies, settings.convergence_tolerance):
            break
    return Optimised(smooth, tuple(energies))


def _add_difference(term: Term, displacement: torch.Tensor, gradient: torch.Tensor) -> float:
    """Return the mean over cells of the squared feature difference; add its gradient in place."""
    channels, depth, height, breadth = term.fixed.shape
    cells = depth * height * breadth
    total = 0.0
    per_slab = max(1, _VALUES_PER_SLAB // (channels * height * breadth))
    for start in range(0, depth, per_slab):
        slab = slice(start, min(start + per_slab, depth))
        here = displacement[:, slab].detach().requires_grad_(True)
        positions = identity_positions((slab.stop - slab.start, height, breadth), here.device)
        positions[0] += start
        squared = (sample(term.moving, positions + here) - term.fixed[:, slab]).square().sum(0)
        if term.weight is not None:
            squared = squared * term.weight[slab]
        energy = squared.sum() / cells
        gradient[:, slab] += torch.autograd.grad(energy, here)[0]
        total += float(energy.detach())
    return total


def _add_diffusion(displacement: torch.Tensor, strength: float, gradient: torch.Tensor) -> float:
    """Return lambda times the mean squared forward difference, summed over the axes; add its gradient in place."""
    total = 0.0
    for axis in (1, 2, 3):
        size = displacement.shape[axis]
        if size < 2:
            continue
        step = displacement.narrow(axis, 1, size - 1) - displacement.narrow(axis, 0, size - 1)
        total += strength * float(step.square().mean())
        step *= 2.0 * strength / step.numel()
        gradient.narrow(axis, 1, size - 1).add_(step)
        gradient.narrow(axis, 0, size - 1).sub_(step)
    return total


def _smoothing_matrices(displacement: torch.Tensor, settings: Settings) -> list[torch.Tensor]:
    """Return the repeated box filter as one matrix per axis.

    The filter averages over the neighbours that exist, so that a constant field stays constant. It is separable;
    applying the matrices transposed is its adjoint.
    """
    matrices = []
    for size in displacement.shape[1:]:
        index = torch.arange(size, device=displacement.device)
        box = ((index[:, None] - index).abs() <= settings.smoothing_kernel // 2).float()
        matrices.append(torch.linalg.matrix_power(box / box.sum(1, keepdim=True), settings.smoothing_repeats))
    return matrices


def _filtered(field: torch.Tensor, matrices: list[torch.Tensor]) -> torch.Tensor:
    """Apply one matrix along each axis of (3, z, y, x)."""
    along_z, along_y, along_x = matrices
    field = torch.matmul(along_y, torch.matmul(field, along_x.T))
    return torch.matmul(along_z, field.flatten(2)).reshape(field.shape)


def _has_converged(energies: list[float], tolerance: float) -> bool:
    """Tell whether the last iterations lowered the energy by less than the tolerated fraction.

    Means are compared, not minima: from a good start Adam first overshoots, and the start stays the minimum.
    """
    if tolerance == 0.0 or len(energies) < 2 * _CONVERGENCE_WINDOW:
        return False
    recent = sum(energies[-_CONVERGENCE_WINDOW:])
    before = sum(energies[-2 * _CONVERGENCE_WINDOW : -_CONVERGENCE_WINDOW])
    return before - recent <= tolerance * before
