"""What the header of a NRRD or MetaImage file leaves in doubt about where the volume lies and how large it is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import InputError

UNKNOWN_ORIENTATION = (
    "does not say how the patient lies in it ({}): left and right or head and feet may be swapped and its place is "
    "not known; convert it from DICOM again."
)
_UNKNOWN_SPACING = "does not say how large its voxels are: 1 mm was taken; convert it from DICOM again."
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
    """Return what the user must know, each to follow the name of the volume.

    Args:
        fields: entries of the header, their names in small letters and without blanks.
    """
    space = fields.get("space", "").lower().removesuffix("-time")
    if space in _SPACES_OF_PATIENTS and {"spacedirections", "spaceorigin"} <= fields.keys():
        return []
    doubts = [UNKNOWN_ORIENTATION.format("NRRD without space, space directions and space origin of the patient")]
    return doubts if {"spacedirections", "spacings"} & fields.keys() else [*doubts, _UNKNOWN_SPACING]


def meta_doubts(fields: Mapping[str, str], name: str) -> list[str]:
    """Return what the user must know, each to follow the name of the volume.

    Args:
        fields: entries of the header.
        name: how the volume is called in errors.

    Raises:
        InputError: lengths or axes are not numbers, or voxels have no size.
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
