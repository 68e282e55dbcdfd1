"""Landmarks: named points in LPS mm, and the pairing of two lists."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ..runtime.progress import tell

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Named points in patient space.

    Attributes:
        names: one per point; empty for a point without a name.
        points: (N, 3) float64, LPS, mm.
        placed: for each entry of the original list, whether it has a position and is one of the points.
    """

    names: tuple[str, ...]
    points: NDArray[np.float64]
    placed: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        """Check the shape.

        Raises:
            InputError: the points are not (N, 3) finite numbers, or the names or the entries placed are not N.
        """
        points = np.asarray(self.points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            msg = f"Landmarks must be (N, 3) finite numbers in mm, not {points.shape}; check the coordinates."
            raise InputError(msg)
        if len(self.names) != len(points):
            msg = f"There are {len(self.names)} names for {len(points)} landmarks; give one name per point."
            raise InputError(msg)
        placed = self.placed or (True,) * len(points)
        if sum(placed) != len(points):
            msg = (
                f"{sum(placed)} entries are placed, but there are {len(points)} landmarks; give one point per placed "
                "entry."
            )
            raise InputError(msg)
        object.__setattr__(self, "placed", placed)
        object.__setattr__(self, "names", tuple(str(name) for name in self.names))
        object.__setattr__(self, "points", points)

    def __len__(self) -> int:
        """Number of points."""
        return len(self.names)


def as_landmarks(given: Landmarks | ArrayLike) -> Landmarks:
    """Return points (N, 3) in LPS mm as landmarks without names; landmarks are passed through.

    Raises:
        InputError: they are not (N, 3) finite numbers.
    """
    if isinstance(given, Landmarks):
        return given
    points = np.asarray(given, dtype=np.float64)
    return Landmarks(("",) * len(points), points)


def paired(fixed: Landmarks, moving: Landmarks, messages: list[str] | None = None) -> tuple[Landmarks, Landmarks]:
    """Pair the landmarks of two lists.

    By name if all points of each list have unique names and the lists share names: the shared ones are kept, in the
    order of the fixed list, and the others are omitted, which is said. Otherwise (missing or repeated names, or no
    shared names, such as "F-1" and "M-1") by order if the counts agree and no name contradicts it: an entry that was
    not placed counts, and its partner is omitted, which is said.

    Args:
        fixed: landmarks in the fixed image.
        moving: landmarks in the moving image.
        messages: what is omitted is appended; logged if None.

    Returns:
        Fixed and moving landmarks of equal length; entry i of one corresponds to entry i of the other.

    Raises:
        InputError: the lists cannot be paired in either way.
    """
    shared = []
    if _named_apart(fixed) and _named_apart(moving):
        shared = [name for name in fixed.names if name in set(moving.names)]
    if shared:
        left_out = sorted({*fixed.names, *moving.names} - set(shared))
        if left_out:
            tell([f"Landmarks in one list only are omitted: {', '.join(left_out)}."], messages, logger)
        return _take(fixed, shared), _take(moving, shared)
    both = np.zeros(0, dtype=bool)
    if len(fixed.placed) == len(moving.placed):
        both = np.array(fixed.placed, dtype=bool) & np.array(moving.placed, dtype=bool)
    if not both.any():
        counts = f"{len(fixed.placed)} fixed and {len(moving.placed)} moving"
        msg = (
            f"{counts} landmarks share no names and cannot be paired by "
            "order; give both lists the same unique names or the same number of points."
        )
        raise InputError(msg)
    if not both.all():
        tell([f"Landmarks not placed in both lists are omitted: {np.count_nonzero(~both)}."], messages, logger)
    _check_order(fixed, moving)
    return _kept(fixed, both), _kept(moving, both)


def _check_order(fixed: Landmarks, moving: Landmarks) -> None:
    """Check that a name which is unique in both lists has the same place in both.

    Raises:
        InputError: it has not.
    """
    ours, theirs = (
        dict(zip(each.names, np.flatnonzero(each.placed).tolist(), strict=True)) for each in (fixed, moving)
    )
    for name, place in ours.items():
        is_unique = name and fixed.names.count(name) == moving.names.count(name) == 1
        if is_unique and theirs[name] != place:
            msg = (
                "Some landmarks have no name or one that is repeated, so they would be paired by order, but "
                f"'{name}' is number {place + 1} of the fixed and number {theirs[name] + 1} of the moving ones; give "
                "every landmark a unique name, or both lists the same order."
            )
            raise InputError(msg)


def _named_apart(landmarks: Landmarks) -> bool:
    return all(landmarks.names) and len(set(landmarks.names)) == len(landmarks)


def _take(landmarks: Landmarks, names: Sequence[str]) -> Landmarks:
    place = {name: index for index, name in enumerate(landmarks.names)}
    return Landmarks(tuple(names), landmarks.points[[place[name] for name in names]])


def _kept(landmarks: Landmarks, entries: NDArray[np.bool_]) -> Landmarks:
    """Return the points of some of the entries of their list."""
    rows = np.flatnonzero(entries[np.array(landmarks.placed)])
    return Landmarks(tuple(landmarks.names[row] for row in rows), landmarks.points[rows])
