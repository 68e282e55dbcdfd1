"""The last step: removing folds from the field.

The optimisation penalises steep displacements but does not forbid folds. Where folds remain, the field is smoothed
locally until its Jacobian determinant is positive everywhere.
"""

from __future__ import annotations

import itertools

import torch

from ..spatial.windows import max_around, mean_around

# Smallest allowed Jacobian determinant at a corner of a cell.
LEAST_DETERMINANT = 0.05
# The smoothed region grows by a node after this many rounds without success.
_ROUNDS_PER_NODE = 20
# After this many rounds no nodes are kept.
_ROUNDS_THAT_KEEP = 200
# Smoothing changes one node beyond the smoothed region, reads one more, and the corners there one more.
_WINDOW_MARGIN = 4


def unfold(displacement: torch.Tensor, kept: torch.Tensor | None = None) -> tuple[torch.Tensor, float]:
    """Return a displacement whose linear interpolation does not fold, and the fraction of changed nodes.

    Tested are the Jacobian determinants at the corners of every cell, each from the three edges that meet there. The
    determinant by central differences at a node is the mean of the eight corners around it, so it is above the limit
    too.

    Args:
        displacement: (3, z, y, x) in cells, components (z, y, x).
        kept: (z, y, x) bool, nodes that stay unchanged if the folds can be smoothed away around them.

    Returns:
        The displacement, unchanged except near folds, and the fraction of changed nodes.
    """
    changed = torch.zeros_like(displacement[0], dtype=torch.bool)
    folded = folded_nodes(displacement)
    if folded.any():
        displacement = displacement.clone()
    rounds = 0
    while folded.any():
        reach = 1 + rounds // _ROUNDS_PER_NODE
        # Nothing changes further than this from the folds, so no new folds appear beyond.
        window = window_around(folded, reach + _WINDOW_MARGIN)
        inside = displacement[:, window[0], window[1], window[2]]
        near = mean_around(max_around(folded[window].to(displacement.dtype)[None], reach), 1)
        if kept is not None and rounds < _ROUNDS_THAT_KEEP:
            near = near.masked_fill(kept[window], 0.0)
        changed[window] |= near[0] > 0
        inside.copy_(torch.lerp(inside, mean_around(inside, 1), near))
        folded[window] = folded_nodes(inside)
        rounds += 1
    return displacement, float(changed.float().mean())


def window_around(nodes: torch.Tensor, margin: int) -> tuple[slice, ...]:
    """Return slices (z, y, x) around the chosen nodes, of which there is at least one."""
    index = nodes.nonzero()
    low, high = (index.amin(0) - margin).clamp_min(0), index.amax(0) + margin + 1
    return tuple(slice(*ends) for ends in zip(low.tolist(), high.tolist(), strict=True))


def folded_nodes(displacement: torch.Tensor) -> torch.Tensor:
    """Return (z, y, x) bool: the nodes of cells that have a corner below `LEAST_DETERMINANT`."""
    edges = [_edges(displacement, axis) for axis in range(3)]
    shape = displacement.shape[1:]
    folded = torch.zeros(shape, dtype=torch.bool, device=displacement.device)
    if min(shape) < 2:
        return folded
    cells = torch.zeros([size - 1 for size in shape], dtype=torch.bool, device=displacement.device)
    for corner in itertools.product((0, 1), repeat=3):
        columns = [_at_corner(edge, axis, corner) for axis, edge in enumerate(edges)]
        cells |= _determinant(*columns) < LEAST_DETERMINANT
    for corner in itertools.product((0, 1), repeat=3):
        z, y, x = (slice(at, at + size) for at, size in zip(corner, cells.shape, strict=True))
        folded[z, y, x] |= cells
    return folded


def _edges(displacement: torch.Tensor, axis: int) -> torch.Tensor:
    """Return the deformed edges of cells along an axis, (3, ...), one fewer along that axis."""
    edges = displacement.diff(dim=axis + 1)
    edges[axis] += 1.0
    return edges


def _at_corner(edge: torch.Tensor, axis: int, corner: tuple[int, ...]) -> torch.Tensor:
    """Return for each cell its edge along `axis` that ends at a corner, (3, cells)."""
    for other in range(3):
        if other != axis:
            edge = edge.narrow(other + 1, corner[other], edge.shape[other + 1] - 1)
    return edge


def _determinant(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """Return the determinant of the columns a, b, c, each (3, ...)."""
    return (
        a[0] * (b[1] * c[2] - b[2] * c[1]) - b[0] * (a[1] * c[2] - a[2] * c[1]) + c[0] * (a[1] * b[2] - a[2] * b[1])
    )
