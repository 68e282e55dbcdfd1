"""Adam's steps, and the course of the energy under them, without making the host wait for a GPU."""

from __future__ import annotations

import math

import torch

from .regularisers import Cost, in_full

_CONVERGENCE_WINDOW = 10
_ITERATIONS_BETWEEN_LOOKS = 10  # at energies on a GPU, which the host waits for


class Adam:
    """Adam (Kingma and Ba, ICLR 2015) on one tensor, which it changes in place."""

    _DECAY_MEAN, _DECAY_SQUARE, _EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, parameter: torch.Tensor) -> None:
        self._parameter = parameter
        self._mean = torch.zeros_like(parameter)
        self._square = torch.zeros_like(parameter)
        self._steps = 0

    def step(self, gradient: torch.Tensor, learning_rate: float) -> None:
        """Change the parameter by one step; the gradient is used up."""
        self._steps += 1
        self._mean.lerp_(gradient, 1.0 - self._DECAY_MEAN)
        self._square.mul_(self._DECAY_SQUARE).addcmul_(gradient, gradient, value=1.0 - self._DECAY_SQUARE)
        unbiased = math.sqrt(1.0 - self._DECAY_SQUARE**self._steps)
        torch.sqrt(self._square, out=gradient).div_(unbiased).add_(self._EPSILON)
        length = learning_rate / (1.0 - self._DECAY_MEAN**self._steps)
        self._parameter.addcdiv_(self._mean, gradient, value=-length)


class Course:
    """The energies of a descent and whether it has converged, kept on the device.

    The host looks seldom where that makes it wait. What comes after the convergence until it looks does not count, so
    that a descent ends with the same field wherever it runs.

    Args:
        steps: how many there are at most.
        displacement: tells the device.
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

    def add(self, energy: Cost, comparable: bool) -> torch.Tensor:
        """Take note of the energy of one more iteration; return whether its field is to be kept, a scalar."""
        self._energies[self._made] = energy
        new = self._energies[self._made]
        least = new < self._least
        kept = self._runs & least if comparable else self._runs.clone()
        self._least = torch.where(least, new, self._least)
        self._made += 1
        self._counted += self._runs
        if self._tolerance > 0.0 and self._made >= 2 * _CONVERGENCE_WINDOW:
            # Means are compared, not minima: Adam overshoots from a good start, which stays the minimum.
            recent = self._energies[self._made - _CONVERGENCE_WINDOW : self._made].sum()
            before = self._energies[self._made - 2 * _CONVERGENCE_WINDOW : self._made - _CONVERGENCE_WINDOW].sum()
            self._runs &= ~(before - recent <= self._tolerance * before)
        return kept

    def is_over(self) -> bool:
        """Look whether it has converged, if it is time to look."""
        return self._made % self._between_looks == 0 and not bool(self._runs)

    def energies(self) -> tuple[float, ...]:
        """Return the energies until it converged."""
        return tuple(self._energies[: int(self._counted)].tolist())
