"""Prescribing the displacement at some nodes, with a smooth transition without folds.

Of all fields with the prescribed displacements, the one closest to the given field is chosen: the correction c
minimises the integral of its squared gradient plus |c|^2 / reach^2. That is the diffusion regulariser of the
optimisation, with a correction that decays over about `reach` cells.
"""

from __future__ import annotations

import torch

from .unfolding import folded_nodes, unfold, window_around

# Decay lengths of the correction, cells; the next one is tried if the field folds.
_REACHES = (2, 4, 8, 16)
# The correction is truncated at this many reaches, where it is below 2 %.
_CUT_OFF = 4
_MOST_STEPS = 500
_TOLERANCE = 1e-3


def prescribe(displacement: torch.Tensor, given: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return a displacement with prescribed values at given nodes, unchanged far from them.

    Args:
        displacement: (3, z, y, x) in cells, free of folds.
        given: (z, y, x) bool, the prescribed nodes; at least one.
        wanted: (3, z, y, x) in cells; used at the given nodes only.

    Returns:
        (3, z, y, x). If even the longest reach leaves a fold, the field is smoothed; given nodes change only if
        unavoidable, as where they would swap positions.
    """
    correction = torch.where(given, wanted - displacement, 0.0)
    for reach in _REACHES:
        window = window_around(given, _CUT_OFF * reach)
        inside = (slice(None), *window)
        result = displacement.clone()
        around = _spread(correction[inside].float(), given[window], reach).to(correction.dtype)
        result[inside] += torch.where(given[window], correction[inside], around)
        if not folded_nodes(result[inside]).any():
            return result
    return unfold(result, given)[0]


def _spread(correction: torch.Tensor, given: torch.Tensor, reach: float) -> torch.Tensor:
    """Return the correction around given nodes, zero beyond the window, by conjugate gradients.

    Args:
        correction: (3, z, y, x), zero except at given nodes.
        given: (z, y, x) bool.
        reach: decay length, cells.
    """

    def gradient_at_free_nodes(field: torch.Tensor) -> torch.Tensor:
        gradient = (6.0 + 1.0 / reach**2) * field
        for axis in (1, 2, 3):
            rest = field.shape[axis] - 1
            gradient.narrow(axis, 1, rest).sub_(field.narrow(axis, 0, rest))
            gradient.narrow(axis, 0, rest).sub_(field.narrow(axis, 1, rest))
        return gradient.masked_fill_(given, 0.0)

    spread = correction.clone()
    residual = -gradient_at_free_nodes(spread)
    direction = residual.clone()
    left = residual.square().sum()
    enough = _TOLERANCE**2 * left
    for _ in range(_MOST_STEPS):
        if left <= enough:
            break
        image = gradient_at_free_nodes(direction)
        step = left / (direction * image).sum()
        spread += step * direction
        residual -= step * image
        before, left = left, residual.square().sum()
        direction = residual + (left / before) * direction
    return spread
