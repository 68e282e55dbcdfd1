"""DICOM: one volume from the slices of a series or the frames of a file, refused if they form no regular grid.

ITK's series reader takes the first of several series and assumes that all slices follow from the first; here the
position of every slice is compared with its position in the resulting image.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk
from pydicom.dataset import FileDataset

from ...errors import InputError
from . import headers
from .series import series_below, series_of
from .stack import Stack, doubts, stacked
from .voxels import read_voxels

__all__ = ["DicomSeries", "is_dicom", "read_dicom", "read_series", "series_uids"]


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """The headers of a volume.

    Attributes:
        grid: an empty image on the grid of the volume.
        headers: all tags of each file except the pixels: one a slice in the order of the third axis, or one a volume.
        frames: number of each slice in its file, from 0.
    """

    grid: sitk.Image
    headers: tuple[FileDataset, ...]
    frames: tuple[int, ...]

    def text(self, keyword: str) -> str:
        """Return a tag of the first file as text, empty if it is absent."""
        return str(self.headers[0].get(keyword) or "")


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
    with _named(name):
        stack = _stack(path)
        image = _image(stack)
    said = doubts(stack)
    if not path.is_dir() and len({item.path for item in stack.slices}) > 1:
        said.append(f"is one file of a series: all {len(stack.slices)} slices of it in that folder were read.")
    messages.extend(f"{name} {text}" for text in said)
    return image


def read_series(path: Path, name: str) -> DicomSeries:
    """Read the headers of what `read_dicom` reads, without the voxels.

    Args:
        path: as in `read_dicom`.
        name: its name in messages.

    Raises:
        InputError: as `read_dicom`.
    """
    with _named(name):
        stack = _stack(path)
        size = (*stack.slices[0].size, len(stack.slices))
        grid = _placed(sitk.Image(size, sitk.sitkUInt8), stack)
        files = dict.fromkeys(item.path for item in stack.slices)
        read = tuple(headers.read_tags(file, None, stop_before_pixels=True) for file in files)
        return DicomSeries(grid, read, tuple(item.frame for item in stack.slices))


def series_uids(path: Path) -> dict[str, str]:
    """Return the UIDs of the series and of the frame of reference of a volume; none if it is not DICOM.

    Args:
        path: a volume that was read: any file, or a folder.
    """
    if not path.is_dir() and not is_dicom(path):
        return {}
    first = _stack(path).slices[0]
    keywords = {"series_instance_uid": "SeriesInstanceUID", "frame_of_reference_uid": "FrameOfReferenceUID"}
    return {name: first.text(keyword) for name, keyword in keywords.items()}


def _stack(path: Path) -> Stack:
    return stacked(series_below(path) if path.is_dir() else series_of(path))


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Put the name of the input before the text of an error."""
    try:
        yield
    except InputError as error:
        msg = f"{name} {error}"
        raise InputError(msg) from error


def _image(stack: Stack) -> sitk.Image:
    return _placed(sitk.GetImageFromArray(read_voxels(stack.slices)), stack)


def _placed(image: sitk.Image, stack: Stack) -> sitk.Image:
    image.SetOrigin(stack.origin.tolist())
    image.SetSpacing(stack.spacing.tolist())
    image.SetDirection(stack.direction.ravel().tolist())
    return image
