"""Warnings about the position and size of a volume in the header of a NRRD or MetaImage file."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import InputError

UNKNOWN_ORIENTATION = (
    "does not give the patient orientation ({}): left and right or head and feet may be swapped and its position is "
    "unknown; convert it from DICOM again."
)
_UNKNOWN_SPACING = "does not give its voxel spacing: 1 mm was assumed; convert it from DICOM again."
_SPACES_OF_PATIENTS = {
    "ras",
    "las",
    "lps",
    "right-anterior-superior",
    "left-anterior-superior",
    "left-posterior-superior",
}
_META_SPACING = ("ElementSpacing", "ElementSize")
_META_PLACE = ("Offset", "Position", "Origin")
_META_AXES = ("TransformMatrix", "Orientation", "Rotation")


def nrrd_doubts(fields: Mapping[str, str]) -> list[str]:
    """Return warnings, each to follow the name of the volume.

    Args:
        fields: header entries, with names in lower case and without spaces.
    """
    space = fields.get("space", "").lower().removesuffix("-time")
    if space in _SPACES_OF_PATIENTS and {"spacedirections", "spaceorigin"} <= fields.keys():
        return []
    doubts = [UNKNOWN_ORIENTATION.format("NRRD without space, space directions and space origin of the patient")]
    return doubts if {"spacedirections", "spacings"} & fields.keys() else [*doubts, _UNKNOWN_SPACING]


def meta_doubts(fields: Mapping[str, str], name: str) -> list[str]:
    """Return warnings, each to follow the name of the volume.

    Args:
        fields: header entries.
        name: name of the volume in errors.

    Raises:
        InputError: spacing or axes are not numbers, or the spacing is zero.
    """
    dimensions = int(fields["NDims"])
    doubts = []
    counts = {_META_AXES: dimensions**2, _META_PLACE: dimensions, _META_SPACING: dimensions}
    for keys, count in counts.items():
        key = next((key for key in keys if key in fields), None)
        if key is None:
            missing = UNKNOWN_ORIENTATION.format(f"MetaImage without {keys[0]}")
            doubts.append(_UNKNOWN_SPACING if keys == _META_SPACING else missing)
            continue
        values = _numbers(fields[key])
        is_sound = len(values) == count and np.isfinite(values).all()
        if not is_sound or (keys == _META_SPACING and min(values) <= 0.0):
            msg = f"{name} cannot be read: its {key} is '{fields[key][:60]}'; convert it from DICOM again."
            raise InputError(msg)
    return doubts


def _numbers(text: str) -> list[float]:
    try:
        return [float(value) for value in text.split()]
    except ValueError:
        return []
