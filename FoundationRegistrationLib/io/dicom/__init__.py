"""DICOM: one volume from the slices of a series or the frames of a file, each where it says it is, or a refusal.

ITK's own series reader takes the first of several series and the place of the first slice for all; here the place of
each slice is compared with its place in the image that results.
"""

from __future__ import annotations

from pathlib import Path

import SimpleITK as sitk

from ...errors import InputError
from . import headers
from .series import series_below, series_of
from .stack import Stack, doubts, stacked
from .voxels import read_voxels

__all__ = ["is_dicom", "read_dicom"]


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its content, whatever its name; not where it cannot be opened."""
    try:
        return headers.is_dicom(path)
    except InputError:
        return False


def read_dicom(path: Path, name: str, messages: list[str]) -> sitk.Image:
    """Read the one volume of a folder, or the series that a file belongs to.

    Args:
        path: a folder in which, or in whose subfolders, lies one series; or one DICOM file, for the series of which
            the other files are looked for in its folder.
        name: how it is called in messages.
        messages: what the user must know about the volume is added here, the most alarming first.

    Returns:
        The volume: values after rescaling, in the units of the files; the third axis is the cross product of
        rows and columns, so that the order of files does not matter. Each corner of each slice lies within 2 % of a
        voxel (or 0.02 mm where that is more, but never more than 10 %) of where its own tags put it.

    Raises:
        InputError: several series, or slices that make no regular grid, or a file that is damaged.
    """
    try:
        stack = stacked(series_below(path) if path.is_dir() else series_of(path))
        image = _image(stack)
    except InputError as error:
        msg = f"{name} {error}"
        raise InputError(msg) from error
    said = doubts(stack)
    if not path.is_dir() and len({item.path for item in stack.slices}) > 1:
        said.append(f"is one file of a series: all {len(stack.slices)} slices of it in that folder were read.")
    messages.extend(f"{name} {text}" for text in said)
    return image


def _image(stack: Stack) -> sitk.Image:
    image = sitk.GetImageFromArray(read_voxels(stack.slices))
    image.SetOrigin(stack.origin.tolist())
    image.SetSpacing(stack.spacing.tolist())
    image.SetDirection(stack.direction.ravel().tolist())
    return image
