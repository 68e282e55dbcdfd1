"""Structures that are drawn in both volumes: pairing, maps to match, and how well they agree after a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from ...errors import InputError
from ...evaluation.overlap import dice
from ...io.arrays import VolumeLike, as_volume
from ...io.volumes import whole_numbers
from ...spatial.checks import check_same_grid
from ...spatial.warping import warp_labels

# A structure is felt up to this distance from its surface.
REACH_MM = 20.0
_MOST_STRUCTURES = 32
_ROLES = ("fixed", "moving")
_IDENTITY = sitk.TranslationTransform(3)

Structures = VolumeLike | Mapping[str, VolumeLike]


@dataclass(frozen=True, eq=False)
class StructurePair:
    """One structure in both volumes.

    Attributes:
        name: its name, or "label 3".
        fixed: uint8 mask in fixed space.
        moving: uint8 mask in moving space.
    """

    name: str
    fixed: sitk.Image
    moving: sitk.Image


@dataclass(frozen=True)
class StructureAgreement:
    """How a structure agrees after the registration, inside both fields of view.

    Attributes:
        name: its name.
        dice: overlap, 0 to 1.
        distance_mm: mean distance from the fixed surface to the warped one; None if the latter is not there.
    """

    name: str
    dice: float
    distance_mm: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return dataclasses.asdict(self)


def structure_pairs(
    fixed: Structures | None, moving: Structures | None, volumes: tuple[sitk.Image, sitk.Image], messages: list[str]
) -> list[StructurePair]:
    """Pair the structures of both volumes: by name, or by the value in two label maps.

    Args:
        fixed: label map on the grid of the fixed volume, or masks on it by name, which may overlap.
        moving: the same in the moving volume.
        volumes: fixed and moving volume.
        messages: warnings are appended.

    Raises:
        InputError: only one side is given, nothing is shared, or a mask is empty, full or on another grid.
    """
    if fixed is None and moving is None:
        return []
    if fixed is None or moving is None:
        msg = "Give both fixed and moving structures, or neither."
        raise InputError(msg)
    sides = [
        _masks(given, volume, role) for given, volume, role in zip((fixed, moving), volumes, _ROLES, strict=True)
    ]
    names = [name for name in sides[0] if name in sides[1]]
    if not names:
        said = "; ".join(f"{role}: {', '.join(masks)}" for role, masks in zip(_ROLES, sides, strict=True))
        msg = f"The structures share no name or label ({said}); give a structure the same one in both volumes."
        raise InputError(msg)
    if len(names) > _MOST_STRUCTURES:
        msg = f"{len(names)} structures are shared, at most {_MOST_STRUCTURES} can drive; give those that matter."
        raise InputError(msg)
    alone = sorted({*sides[0], *sides[1]} - {*names})
    if alone:
        messages.append(f"Structures in one volume only do not drive the registration: {', '.join(alone)}.")
    return [StructurePair(name, sides[0][name], sides[1][name]) for name in names]


def _masks(given: Structures, volume: sitk.Image, role: str) -> dict[str, sitk.Image]:
    """Return the masks of one side by name."""
    if not isinstance(given, Mapping):
        labels = whole_numbers(as_volume(given, f"{role} structures"), f"The label map of the {role} structures")
        check_same_grid(labels, volume, f"label map of the {role} structures", role)
        values = np.unique(sitk.GetArrayViewFromImage(labels)).tolist()
        found = {f"label {value}": labels == value for value in values if value != 0}
        if not found:
            msg = f"The label map of the {role} structures is empty; give one that marks a structure."
            raise InputError(msg)
    else:
        found = {str(name): as_volume(mask, f"{role} structure '{name}'") != 0 for name, mask in given.items()}
    for name, mask in found.items():
        check_same_grid(mask, volume, f"{role} structure '{name}'", role)
        share = float(sitk.GetArrayViewFromImage(mask).mean())
        if not 0.0 < share < 1.0:
            what = "is empty" if share == 0.0 else "covers the whole volume"
            msg = f"The {role} structure '{name}' {what}; draw it again, or leave it out."
            raise InputError(msg)
    return found


def occupancy(mask: sitk.Image, reach_mm: float = REACH_MM) -> sitk.Image:
    """Return a mask as a smooth map: 1/2 on its surface, 1 deeper inside than the reach, 0 farther outside."""
    distance = sitk.SignedMaurerDistanceMap(mask, insideIsPositive=True, squaredDistance=False, useImageSpacing=True)
    return sitk.Clamp(distance / (2.0 * reach_mm) + 0.5, sitk.sitkFloat32, 0.0, 1.0)


def measure_structures(
    pairs: Sequence[StructurePair], transform: sitk.Transform, moving_known: sitk.Image
) -> list[StructureAgreement]:
    """Compare each fixed structure with the warped moving one.

    Args:
        pairs: the structures.
        transform: maps fixed to moving points, LPS mm.
        moving_known: nonzero where the moving volume was measured.
    """
    found = []
    for pair in pairs:
        seen = sitk.Resample(moving_known, pair.fixed, transform, sitk.sitkNearestNeighbor, 0)
        fixed = pair.fixed * sitk.Cast(seen, pair.fixed.GetPixelID())
        warped = warp_labels(pair.moving, pair.fixed, transform)
        distance = None
        if sitk.GetArrayViewFromImage(warped).any():
            to_surface = sitk.SignedMaurerDistanceMap(warped, squaredDistance=False, useImageSpacing=True)
            surface = sitk.GetArrayFromImage(sitk.LabelContour(pair.fixed)) * sitk.GetArrayViewFromImage(seen) > 0
            if surface.any():
                distance = float(np.abs(sitk.GetArrayViewFromImage(to_surface)[surface]).mean())
        found.append(StructureAgreement(pair.name, dice(fixed, warped, [1])[1], distance))
    return found
