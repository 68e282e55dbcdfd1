"""Adam's steps and their energies, without synchronising the host with a GPU."""

from __future__ import annotations

import math

import torch

from .regularisers import Cost, in_full

_CONVERGENCE_WINDOW = 10
_ITERATIONS_BETWEEN_LOOKS = 10  # between synchronisations with a GPU


class Adam:
    """Adam (Kingma and Ba, ICLR 2015) on one tensor, updated in place."""

    _DECAY_MEAN, _DECAY_SQUARE, _EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, parameter: torch.Tensor) -> None:
        self._parameter = parameter
        self._mean = torch.zeros_like(parameter)
        self._square = torch.zeros_like(parameter)
        self._steps = 0

    def step(self, gradient: torch.Tensor, learning_rate: float) -> None:
        """Update the parameter by one step; overwrites the gradient."""
        self._steps += 1
        self._mean.lerp_(gradient, 1.0 - self._DECAY_MEAN)
        self._square.mul_(self._DECAY_SQUARE).addcmul_(gradient, gradient, value=1.0 - self._DECAY_SQUARE)
        unbiased = math.sqrt(1.0 - self._DECAY_SQUARE**self._steps)
        torch.sqrt(self._square, out=gradient).div_(unbiased).add_(self._EPSILON)
        length = learning_rate / (1.0 - self._DECAY_MEAN**self._steps)
        self._parameter.addcdiv_(self._mean, gradient, value=-length)


class Course:
    """The energies and convergence of a descent, kept on the device.

    The host checks rarely where that synchronises devices. Iterations between convergence and the check do not count,
    so that the result is the same on every device.

    Args:
        steps: maximum number of iterations.
        displacement: gives the device.
        tolerance: see `Descent.convergence_tolerance`.
    """

    def __init__(self, steps: int, displacement: torch.Tensor, tolerance: float) -> None:
        self._energies = in_full(displacement.new_zeros(())).new_zeros(steps)
        self._least = self._energies.new_full((), math.inf)
        self._runs = torch.ones((), dtype=torch.bool, device=displacement.device)
        self._counted = torch.zeros((), dtype=torch.int32, device=displacement.device)
        self._tolerance = tolerance
        self._made = 0
        self._between_looks = 1 if displacement.device.type == "cpu" else _ITERATIONS_BETWEEN_LOOKS

    def add(self, energy: Cost) -> torch.Tensor:
        """Record the energy of an iteration; return whether to keep its field, a scalar."""
        self._energies[self._made] = energy
        new = self._energies[self._made]
        least = new < self._least
        kept = self._runs & least
        self._least = torch.where(least, new, self._least)
        self._made += 1
        self._counted += self._runs
        if self._tolerance > 0.0 and self._made >= 2 * _CONVERGENCE_WINDOW:
            # Means are compared, not minima: from a good start Adam overshoots, and the start remains the minimum.
            recent = self._energies[self._made - _CONVERGENCE_WINDOW : self._made].sum()
            before = self._energies[self._made - 2 * _CONVERGENCE_WINDOW : self._made - _CONVERGENCE_WINDOW].sum()
            self._runs &= ~(before - recent <= self._tolerance * before)
        return kept

    def is_over(self) -> bool:
        """Check for convergence, if a check is due."""
        return self._made % self._between_looks == 0 and not bool(self._runs)

    def energies(self) -> tuple[float, ...]:
        """Return the energies up to convergence."""
        return tuple(self._energies[: int(self._counted)].tolist())
