"""What of a volume lies outside the grid that it is propagated to."""

from __future__ import annotations

import SimpleITK as sitk

from ...errors import InputError
from ...runtime.progress import Note
from ...spatial.warping import finite_float
from ..preprocessing.foreground import find_foreground
from ..preprocessing.modality import guess_modality
from .extent import outside_percent

MORE_THAN_A_LITTLE = 1.0  # percent


def say_what_is_outside(image: sitk.Image, grid: sitk.Image, inverse: sitk.Transform, messages: list[str]) -> None:
    """Append how much of the patient in a volume lies outside a grid, if it is more than a little.

    Args:
        image: 3D volume; nothing is said of colours, vectors and complex numbers.
        grid: an image on the grid it was warped to.
        inverse: maps a point of the volume to a point of the grid, LPS mm.
        messages: the sentence is appended.
    """
    if image.GetNumberOfComponentsPerPixel() > 1 or "complex" in image.GetPixelIDTypeAsString():
        return
    finite = finite_float(image)
    percent = outside_percent(find_foreground(finite, guess_modality(finite)), grid, inverse)
    if percent > MORE_THAN_A_LITTLE:
        messages.append(Note(outside_message(percent, "given", "reference")))


def outside_message(percent: float, role: str, where: str) -> str:
    """Return the sentence on how much of the patient in a volume lies outside a grid."""
    return (
        f"{percent:.0f} % of the patient in the {role} volume lies outside the {where}; --extent union keeps it in "
        "the warped volume."
    )


def refuse_apart(what: str) -> None:
    """Say that a volume or label map does not overlap with the reference.

    Args:
        what: was given, in a sentence.

    Raises:
        InputError: always.
    """
    msg = (
        f"The given {what} does not overlap with the reference after warping, so the result would be empty; check "
        "--direction, --reference and the files."
    )
    raise InputError(msg)
