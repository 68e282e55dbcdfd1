"""The displacement field that moves lesions rigidly and is unchanged far from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage

from ...convex_adam.prescribed import prescribe
from ...spatial.rigid_motion import RigidMotion
from .point_map import PointMap
from .regions import CORNERS, Lesion, carried_corners


@dataclass(frozen=True, eq=False)
class _Group:
    """Lesions that move together.

    Attributes:
        lesions: of both sides, each with its corners mapped by the given transform.
        motion: the rigid motion closest to that transform on all of them.
        nodes: (z, y, x) bool, the nodes of the cells that contain parts of them after this motion.
    """

    lesions: tuple[tuple[Lesion, np.ndarray], ...]
    motion: RigidMotion
    nodes: np.ndarray

    @classmethod
    def of(cls, lesions: Sequence[tuple[Lesion, np.ndarray]], mapping: PointMap) -> _Group:
        """Move lesions together."""
        fixed_to_moving = [
            (lesion.corners, carried) if lesion.side == "fixed" else (carried, lesion.corners)
            for lesion, carried in lesions
        ]
        motion = RigidMotion.between(*(np.concatenate(points) for points in zip(*fixed_to_moving, strict=True)))
        occupied = [
            lesion.corners if lesion.side == "fixed" else motion.backward(lesion.corners) for lesion, _ in lesions
        ]
        return cls(tuple(lesions), motion, _nodes_around(np.concatenate(occupied), mapping))


def keep_lesions(field: sitk.Image, initial: sitk.Transform, lesions: Sequence[Lesion]) -> sitk.Image:
    """Return the displacement field with which the transform moves each lesion rigidly, in millimetres.

    The whole transform is rigid there, including the initial one. In all cells that contain part of a lesion the
    field is the rigid motion closest to the given transform; around them it changes smoothly (`prescribe`). Lesions
    within about two cells of each other, such as one marked on both sides, move together.

    Args:
        field: u, a vector image in LPS mm on an axis-aligned isotropic grid, free of folds and zero at its border.
        initial: with u, the transform x -> initial(x + u(x)) from fixed to moving points.
        lesions: of both sides; at least one.
    """
    mapping = PointMap(field, initial)
    carried = zip(lesions, carried_corners(mapping, lesions), strict=True)
    groups = [_Group.of([lesion], mapping) for lesion in carried]
    while len(together := _close_together(groups)) < len(groups):
        groups = [_joined(close, mapping) for close in together]
    given = torch.zeros(mapping.displacement.shape[1:], dtype=torch.bool)
    wanted = torch.zeros_like(mapping.displacement)
    for group in groups:
        nodes = torch.from_numpy(group.nodes)
        cells = nodes.nonzero().T.double()
        if cells.numel():
            moved = mapping.before_initial(group.motion.forward(mapping.from_cells(cells)))
            wanted[:, nodes] = mapping.to_cells(moved) - cells
            given |= nodes
    return mapping.image(prescribe(mapping.displacement, given, wanted)) if given.any() else field


def _joined(groups: Sequence[_Group], mapping: PointMap) -> _Group:
    if len(groups) == 1:
        return groups[0]
    return _Group.of([lesion for group in groups for lesion in group.lesions], mapping)


def _nodes_around(points: np.ndarray, mapping: PointMap) -> np.ndarray:
    """Return (z, y, x) bool: the nodes of the cells that contain a point; none at the border of the field."""
    shape = np.array(mapping.displacement.shape[1:])
    first = np.floor(mapping.to_cells(points).T.numpy()).astype(int)
    nodes = np.zeros(shape, dtype=bool)
    for step in CORNERS:
        index = first + step
        index = index[((index > 0) & (index < shape - 1)).all(axis=1)]
        nodes[tuple(index.T)] = True
    return nodes


def _close_together(groups: Sequence[_Group]) -> list[list[_Group]]:
    """Return the groups in sets whose nodes have fewer than two others between them."""
    widened = ndimage.binary_dilation(np.any([group.nodes for group in groups], axis=0), np.ones((2, 2, 2)))
    regions, _ = ndimage.label(widened, np.ones((3, 3, 3)))
    together: dict[int, list[_Group]] = {}
    for number, group in enumerate(groups, start=1):
        found = regions[group.nodes]
        together.setdefault(int(found[0]) if found.size else -number, []).append(group)
    return list(together.values())
