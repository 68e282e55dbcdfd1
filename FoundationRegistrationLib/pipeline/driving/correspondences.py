"""All that drives a registration besides the volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ...errors import InputError
from ...settings import STRUCTURES_ONLY
from ...spatial.grids import content_sha256
from ...spatial.points import physical_points
from .point_model import rigid_fit
from .points import DrivingPoints, driving_points
from .structures import StructurePair, Structures, structure_pairs


@dataclass(frozen=True, eq=False)
class Driving:
    """Structures and points that correspond.

    Attributes:
        structures: each in both volumes.
        points: None without.
    """

    structures: Sequence[StructurePair] = ()
    points: DrivingPoints | None = None

    @classmethod
    def of(
        cls,
        structures: tuple[Structures | None, Structures | None],
        points: tuple[Any, Any],
        volumes: tuple[sitk.Image, sitk.Image],
        messages: list[str],
        *,
        alone: bool = False,
    ) -> Driving:
        """Pair what is given for the fixed and the moving volume; see `structure_pairs` and `driving_points`.

        Args:
            structures: of the fixed and the moving volume.
            points: the same.
            volumes: the same.
            messages: warnings are appended.
            alone: whether nothing else drives, so that some must be given.

        Raises:
            InputError: it cannot be paired, does not belong to the volumes, or is missing.
        """
        driving = cls(structure_pairs(*structures, volumes, messages), driving_points(*points, volumes, messages))
        if alone and not driving:
            msg = f"The encoder '{STRUCTURES_ONLY}' compares structures and points only; give some for both volumes."
            raise InputError(msg)
        return driving

    def __bool__(self) -> bool:
        """Whether anything is given."""
        return bool(self.structures) or self.points is not None

    def rigid_start(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the rotation (3, 3) and translation (3,) of the points or, without, the centres of structures."""
        if self.points is not None:
            return rigid_fit(self.points.fixed.points, self.points.moving.points)
        pairs = [(_centre(pair.fixed), _centre(pair.moving)) for pair in self.structures]
        return rigid_fit(np.array([fixed for fixed, _ in pairs]), np.array([moving for _, moving in pairs]))

    def to_dict(self, transform: sitk.Transform) -> dict[str, Any]:
        """Return what drove the registration, for its record."""
        points = None if self.points is None else self.points.to_dict(transform)
        structures = [
            {
                "name": pair.name,
                "fixed_sha256": content_sha256(pair.fixed),
                "moving_sha256": content_sha256(pair.moving),
            }
            for pair in self.structures
        ]
        return {"structures": structures, "points": points}

    def points_left_mm(self, transform: sitk.Transform) -> dict[str, float]:
        """Return by name how far each point is off after a transform."""
        return {} if self.points is None else self.points.left_mm(transform)


def _centre(mask: sitk.Image) -> NDArray[np.float64]:
    return physical_points(mask, np.argwhere(sitk.GetArrayViewFromImage(mask))[:, ::-1].mean(0)[None])[0]
