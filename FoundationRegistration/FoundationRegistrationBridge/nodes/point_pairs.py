"""Corresponding control points of two point lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

from ..errors import BridgeError
from ..library import add_library_to_path
from .grids import map_points
from .structures import loose


def placed_pairs(fixed: Any, moving: Any) -> tuple[list[tuple[int, int]], list[str]]:
    """Return the indices of corresponding placed control points, and descriptions of omitted ones.

    Points not placed yet have a name and an index, so they count for pairing, but their position is meaningless.

    Raises:
        BridgeError: the lists cannot be paired, or no pair is placed on both sides.
    """
    add_library_to_path()
    from FoundationRegistrationLib.errors import FoundationRegistrationError
    from FoundationRegistrationLib.io.landmarks import paired

    try:
        found = paired(*_numbered(fixed, moving))
    except FoundationRegistrationError as error:
        raise BridgeError(str(error)) from error
    pairs = [tuple(int(side.points[place, 0]) for side in found) for place in range(len(found[0]))]
    placed = [(first, second) for first, second in pairs if _is_placed(fixed, first) and _is_placed(moving, second)]
    if not placed:
        msg = (
            f"'{fixed.GetName()}' and '{moving.GetName()}' have no landmark that is placed in both; place "
            "one of the same name in each."
        )
        raise BridgeError(msg)
    left_out = [
        f"{markups.GetNthControlPointLabel(number) or f'point {number + 1}'} of '{markups.GetName()}' ({why})"
        for side, markups in enumerate((fixed, moving))
        for number in range(markups.GetNumberOfControlPoints())
        if number not in {pair[side] for pair in placed}
        for why in ("no placed counterpart" if _is_placed(markups, number) else "not placed",)
    ]
    return placed, left_out


def _numbered(*sides: Any) -> list[Any]:
    """Return the names of each side's control points, with their indices in place of positions.

    Case and spaces are ignored, unless names of one side differ only in these.
    """
    from FoundationRegistrationLib.io.landmarks import Landmarks

    names = [[side.GetNthControlPointLabel(n) for n in range(side.GetNumberOfControlPoints())] for side in sides]
    loosely = [[loose(name) for name in side] for side in names]
    if all(len(set(before)) == len(set(after)) for before, after in zip(names, loosely, strict=True)):
        names = loosely
    return [
        Landmarks(tuple(side), np.array([[number, 0, 0] for number in range(len(side))], float).reshape(-1, 3))
        for side in names
    ]


def _is_placed(markups: Any, number: int) -> bool:
    return markups.GetNthControlPointPositionStatus(number) == slicer.vtkMRMLMarkupsNode.PositionDefined


def positions(markups: Any, numbers: list[int], transform: vtk.vtkAbstractTransform) -> np.ndarray:
    """Return (N, 3) RAS positions of control points, mapped by a transform."""
    return map_points(transform, np.array([markups.GetNthControlPointPosition(number) for number in numbers]))
