"""Discrete stage, step 3: a forward and a backward field are made each other's inverse."""

from __future__ import annotations

import torch

from ..spatial.sampling import warp


def make_inverse_consistent(
    forward: torch.Tensor, backward: torch.Tensor, iterations: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Average each field with the inverse that the other one implies, a number of times.

    Args:
        forward: (3, z, y, x) displacement in cells, from fixed to moving.
        backward: (3, z, y, x) displacement in cells, from moving to fixed.
        iterations: how often; 15 in ConvexAdam.

    Returns:
        The two fields, closer to being inverse to each other.
    """
    for _ in range(iterations):
        forward, backward = (
            0.5 * (forward - warp(backward, forward)),
            0.5 * (backward - warp(forward, backward)),
        )
    return forward, backward
