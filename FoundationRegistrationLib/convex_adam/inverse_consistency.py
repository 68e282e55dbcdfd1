"""Discrete stage, step 3: forward and backward field are made inverse consistent."""

from __future__ import annotations

import torch

from ..spatial.sampling import warp


def make_inverse_consistent(
    forward: torch.Tensor, backward: torch.Tensor, iterations: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Repeatedly average each field with the inverse implied by the other.

    Args:
        forward: (3, z, y, x) displacement in cells, from fixed to moving.
        backward: (3, z, y, x) displacement in cells, from moving to fixed.
        iterations: 15 in ConvexAdam.

    Returns:
        The two fields, closer to inverse consistency.
    """
    for _ in range(iterations):
        forward, backward = (
            0.5 * (forward - warp(backward, forward)),
            0.5 * (backward - warp(forward, backward)),
        )
    return forward, backward
