"""DICOM: one volume from the slices of a series or the frames of a file, refused if they form no regular grid.

ITK's series reader takes the first of several series and assumes that all slices follow from the first; here the
position of every slice is compared with its position in the resulting image.
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
    """Whether the content of a file is DICOM; false if it cannot be opened."""
    try:
        return headers.is_dicom(path)
    except InputError:
        return False


def read_dicom(path: Path, name: str, messages: list[str]) -> sitk.Image:
    """Read the one volume of a folder, or the series that a file belongs to.

    Args:
        path: a folder that holds one series, also in subfolders; or one DICOM file, whose series is read from its
            folder.
        name: its name in messages.
        messages: warnings about the volume are appended, the most serious first.

    Returns:
        The volume, rescaled to the units of the files. The third axis is the cross product of the row and column
        directions, whatever the order of the files. Each slice corner lies within 2 % of a voxel (or 0.02 mm if
        larger, but at most 10 %) of the position that its tags give.

    Raises:
        InputError: several series, slices that form no regular grid, or a damaged file.
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
