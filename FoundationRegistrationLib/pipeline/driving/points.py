"""Points that are marked in both volumes: pairing, those that contradict the others, and a start through the rest.

A point whose omission makes the others far more probable is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from ...convex_adam.point_pairs import PointPairs
from ...convex_adam.unfolding import unfold
from ...errors import InputError
from ...io.landmarks import Landmarks, as_landmarks, paired
from ...spatial.displacement import displacement_image
from ...spatial.grids import WorkingGrid, field_of_view
from ...spatial.points import preimages, transform_points
from .point_model import PointModel, aligned, rigid_fit

_MOST_POINTS = 200
_OUTSIDE_MM = 5.0
# A point is doubtful or wrong if the others are more probable without it by this factor, as a natural logarithm. On
# hard tuning pairs, 1 in 7 sets of 6 to 10 right points had a doubtful one, and 1 in 30 lost one.
_DOUBTFUL, _WRONG = 20.0, 25.0
_FEWEST_TO_CHECK = 5
_LATTICE_MM = 8.0


@dataclass(frozen=True, eq=False)
class DrivingPoints:
    """Points that drive a registration.

    Attributes:
        fixed: in fixed space.
        moving: in moving space; point i corresponds to fixed point i.
        excluded: names of the points that contradict the others, with the distance in mm from where those put them.
    """

    fixed: Landmarks
    moving: Landmarks
    excluded: dict[str, float]

    def start_through(self, initial: sitk.Transform, volume: sitk.Image) -> sitk.Transform:
        """Return a start that follows the points: the initial transform after a smooth displacement without folds.

        Args:
            initial: maps fixed to moving points, LPS mm.
            volume: the fixed volume, in whose field of view it is defined.
        """
        points = self.fixed.points
        model = PointModel.of(points, preimages(initial, self.moving.points, points) - points)
        corners = field_of_view(volume)
        low = corners.min(0)
        width, height, depth = (int(np.ceil(length / _LATTICE_MM)) + 1 for length in np.ptp(corners, axis=0))
        x, y, z = (float(value) for value in low)
        grid = WorkingGrid((x, y, z), _LATTICE_MM, (depth, height, width))
        nodes = low + np.indices(grid.shape).reshape(3, -1).T[:, ::-1] * _LATTICE_MM
        linear, offset = model.affine()
        smooth = model.smooth(nodes) @ np.linalg.inv(linear).T / _LATTICE_MM
        field = torch.from_numpy(smooth[:, ::-1].T.reshape(3, *grid.shape).astype(np.float32))
        affine = sitk.AffineTransform(linear.ravel().tolist(), offset.tolist())
        found = sitk.CompositeTransform(
            [initial, affine, sitk.DisplacementFieldTransform(displacement_image(unfold(field)[0], grid))]
        )
        found.FlattenTransform()
        return found

    def on_cells(self, cells: WorkingGrid, start: sitk.Transform, weight: float, device: torch.device) -> PointPairs:
        """Return the points on a grid in fixed space, the moving ones as they lie after the start."""
        there = preimages(start, self.moving.points, self.fixed.points)
        indices = [(points - cells.origin) / cells.spacing for points in (self.fixed.points, there)]
        fixed, moving = (torch.from_numpy(index[:, ::-1].T.astype(np.float32).copy()).to(device) for index in indices)
        return PointPairs(fixed, moving, weight)

    def to_dict(self, transform: sitk.Transform) -> dict[str, Any]:
        """Return which points drove the registration, and how far they are off after it, for the record."""
        sides = self.fixed.points.tolist(), self.moving.points.tolist()
        drove = [
            {"name": name, "fixed": point, "moving": other, "left_mm": left}
            for (name, left), point, other in zip(self.left_mm(transform).items(), *sides, strict=True)
        ]
        return {"drove": drove, "excluded_mm": self.excluded}

    def left_mm(self, transform: sitk.Transform) -> dict[str, float]:
        """Return by name how far each point is off after a transform; no measure of accuracy, since they drove it."""
        off = np.linalg.norm(transform_points(transform, self.fixed.points) - self.moving.points, axis=1)
        names = [name or str(number) for number, name in enumerate(self.fixed.names, start=1)]
        return dict(zip(names, off.tolist(), strict=True))


def driving_points(
    fixed: Any, moving: Any, volumes: tuple[sitk.Image, sitk.Image], messages: list[str]
) -> DrivingPoints | None:
    """Pair the points of both volumes, and leave out those that contradict the others.

    Args:
        fixed: `Landmarks`, or an array (N, 3) in LPS mm; None without.
        moving: the corresponding points: those of the same name, or in the same order.
        volumes: fixed and moving volume.
        messages: the points left out are named.

    Raises:
        InputError: only one side is given, they cannot be paired, are too many, or lie outside their volume.
    """
    if fixed is None and moving is None:
        return None
    if fixed is None or moving is None:
        msg = "Give both fixed and moving points, or neither."
        raise InputError(msg)
    pair = paired(as_landmarks(fixed), as_landmarks(moving), messages)
    if not 1 <= len(pair[0]) <= _MOST_POINTS:
        msg = f"{len(pair[0])} pairs of points were given; 1 to {_MOST_POINTS} can drive a registration."
        raise InputError(msg)
    for role, points, volume in zip(("fixed", "moving"), pair, volumes, strict=True):
        _check_inside(points, volume, role)
    return _without_wrong(*pair, messages)


def _check_inside(landmarks: Landmarks, volume: sitk.Image, role: str) -> None:
    """Check that points lie in the field of view of their volume."""
    spacing = np.array(volume.GetSpacing())
    index = np.array([volume.TransformPhysicalPointToContinuousIndex(point) for point in landmarks.points.tolist()])
    beyond = np.maximum(np.maximum(-0.5 - index, index - (np.array(volume.GetSize()) - 0.5)), 0.0) * spacing
    worst = int(np.linalg.norm(beyond, axis=1).argmax())
    distance = float(np.linalg.norm(beyond[worst]))
    if distance > _OUTSIDE_MM:
        msg = (
            f"The {role} point '{landmarks.names[worst] or worst + 1}' lies {distance:.0f} mm outside the {role} "
            "volume; check that the points belong to it and are in LPS or in a file that says RAS."
        )
        raise InputError(msg)


def _without_wrong(fixed: Landmarks, moving: Landmarks, messages: list[str]) -> DrivingPoints:
    """Leave out one point after the other, as long as the others are far more probable without it."""
    kept, excluded, doubtful = list(range(len(fixed))), {}, ""
    while len(kept) >= _FEWEST_TO_CHECK:
        f, m = fixed.points[kept], moving.points[kept]
        together = PointModel.of(*aligned(f, m)).evidence
        others = [
            PointModel.of(*aligned(np.delete(f, at, 0), np.delete(m, at, 0))).evidence for at in range(len(kept))
        ]
        worst = int(np.argmax(others))
        gain = others[worst] - together
        if gain < _WRONG:
            doubtful = (fixed.names[kept[worst]] or str(kept[worst] + 1)) if gain > _DOUBTFUL else ""
            break
        number = kept.pop(worst)
        excluded[fixed.names[number] or str(number + 1)] = _distance_from_others(fixed, moving, kept, number)
    if excluded:
        said = ", ".join(f"'{name}' ({distance:.0f} mm)" for name, distance in excluded.items())
        messages.append(
            f"Points that contradict the others were left out: {said} from where the others put them. Check that "
            "they mark the same place in both volumes."
        )
    if doubtful:
        messages.append(f"The point '{doubtful}' moves unlike the others; check that it is the same place in both.")
    if len(fixed) < _FEWEST_TO_CHECK:
        messages.append(
            f"{len(fixed)} pairs of points are too few to find one that is wrong; check them, or give "
            f"{_FEWEST_TO_CHECK} or more."
        )
    rows = np.array(kept)
    one, other = (Landmarks(tuple(each.names[row] for row in rows), each.points[rows]) for each in (fixed, moving))
    return DrivingPoints(one, other, excluded)


def _distance_from_others(fixed: Landmarks, moving: Landmarks, kept: list[int], number: int) -> float:
    """Return how far a moving point lies from where the kept ones put it, mm."""
    f, m = fixed.points[kept], moving.points[kept]
    rotation, shift = rigid_fit(f, m)
    model = PointModel.of(*aligned(f, m))
    point = fixed.points[number][None]
    expected = (point + model.at(point)) @ rotation.T + shift
    return float(np.linalg.norm(expected - moving.points[number]))
