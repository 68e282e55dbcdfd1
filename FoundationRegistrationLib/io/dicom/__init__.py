"""DICOM: one volume from the slices of a series or the frames of a file, refused if they form no regular grid.

ITK's series reader takes the first of several series and assumes that all slices follow from the first; here the
position of every slice is compared with its position in the resulting image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import FileDataset

from ...errors import InputError
from ..units import set_units
from . import reading
from .frames import frames_of
from .headers import Slice
from .series import series_below, series_of
from .stack import Stack, check_complete, doubts, stacked
from .suv import pet_units
from .voxels import read_voxels

__all__ = [
    "DicomSeries",
    "headers_read_once",
    "is_dicom",
    "read_dicom",
    "read_dicom_frames",
    "read_frame_series",
    "read_series",
    "series_uids",
]

# The slices of series that were read; None where each reading begins anew.
_READ: ContextVar[dict[tuple[Path, str | None], tuple[Slice, ...]] | None] = ContextVar("slices", default=None)


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
        return reading.is_dicom(path)
    except InputError:
        return False


def read_dicom(path: Path, name: str, messages: list[str], series: str | None = None) -> sitk.Image:
    """Read the one volume of a folder, or the series that a file belongs to.

    Args:
        path: a folder that holds one series, also in subfolders; or one DICOM file, whose series is read from its
            folder.
        name: its name in messages.
        messages: warnings about the volume are appended, the most serious first.
        series: of a folder with several series, the number, UID (or its beginning) or description (or part of it) of
            the one to read.

    Returns:
        The volume, rescaled to the units of the files, a PET to SUV if its header allows (see `pet_units`). The third
        axis is the cross product of the row and column directions, whatever the order of the files. Each slice corner
        lies within 2 % of a voxel (or 0.02 mm if larger, but at most 10 %) of the position that its tags give.

    Raises:
        InputError: several series or none of that name, slices that form no regular grid, or a damaged file.
    """
    with _named(name):
        stack = stacked(_slices(path, series))
        values = read_voxels(stack.slices)
    [image] = _images([stack], values, path, name, messages)
    return image


def read_dicom_frames(
    path: Path, name: str, messages: list[str], series: str | None = None
) -> list[tuple[sitk.Image, float | None]]:
    """Read all volumes of one series that lie at the same place, such as the time points of a dynamic acquisition.

    Args:
        path: as for `read_dicom`.
        name: its name in messages.
        messages: warnings about the volumes are appended, the most serious first.
        series: as for `read_dicom`.

    Returns:
        The volumes in the order of their acquisition, all on the same grid and of the same pixel type, each with the
        time from the start of the first to its own start in s; None if the files do not tell the times, and then the
        order is that of the tag that distinguishes them (echo time, b-value, image type). One volume if no two slices
        share a place.

    Raises:
        InputError: as for `read_dicom`; no single tag separates the volumes; a volume lacks slices, which is named.
    """
    said: list[str] = []
    with _named(name):
        frames = frames_of(_slices(path, series), said)
        stacks = [frame.stack for frame in frames]
        values = read_voxels([item for stack in stacks for item in stack.slices])
    images = _images(stacks, values, path, name, messages)
    messages.extend(f"{name} {text}" for text in said)
    return [(image, frame.seconds) for image, frame in zip(images, frames, strict=True)]


def read_series(path: Path, name: str, series: str | None = None) -> DicomSeries:
    """Read the headers of what `read_dicom` reads, without the voxels.

    Args:
        path: as in `read_dicom`.
        name: its name in messages.
        series: as in `read_dicom`.

    Raises:
        InputError: as `read_dicom`.
    """
    with _named(name):
        return _headers(stacked(_slices(path, series)))


def read_frame_series(path: Path, name: str, series: str | None = None) -> list[DicomSeries]:
    """Read the headers of what `read_dicom_frames` reads, without the voxels: one for each volume, in its order.

    Args:
        path: as in `read_dicom`.
        name: its name in messages.
        series: as in `read_dicom`.

    Raises:
        InputError: as `read_dicom_frames`.
    """
    with _named(name):
        return [_headers(frame.stack) for frame in frames_of(_slices(path, series))]


def series_uids(path: Path, series: str | None = None) -> dict[str, str]:
    """Return the UIDs of the series and of the frame of reference of a volume; none if it is not DICOM.

    Args:
        path: a volume that was read: any file, or a folder.
        series: of the folder, as in `read_dicom`.
    """
    if not path.is_dir() and not is_dicom(path):
        return {}
    first = stacked(_slices(path, series)).slices[0]
    keywords = {"series_instance_uid": "SeriesInstanceUID", "frame_of_reference_uid": "FrameOfReferenceUID"}
    return {name: first.text(keyword) for name, keyword in keywords.items()}


def _headers(stack: Stack) -> DicomSeries:
    size = (*stack.slices[0].size, len(stack.slices))
    grid = _placed(sitk.Image(size, sitk.sitkUInt8), stack)
    files = dict.fromkeys(item.path for item in stack.slices)
    read = tuple(reading.read_tags(file, None, stop_before_pixels=True) for file in files)
    return DicomSeries(grid, read, tuple(item.frame for item in stack.slices))


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Begin the errors of other modules with the name of the input."""
    try:
        yield
    except InputError as error:
        msg = f"{name} {error}"
        raise InputError(msg) from error


@contextmanager
def headers_read_once() -> Iterator[None]:
    """Within the block, read the headers of a series once, however often it is asked for: its files do not change."""
    token = _READ.set({})
    try:
        yield
    finally:
        _READ.reset(token)


def _slices(path: Path, series: str | None) -> list[Slice]:
    """Return the slices of a series in any order."""
    read = _READ.get()
    if read is None:
        return _slices_in(path, series)
    key = path.absolute(), series
    if key not in read:
        read[key] = tuple(_slices_in(path, series))
    return [*read[key]]


def _slices_in(path: Path, series: str | None) -> list[Slice]:
    if path.is_dir():
        slices = series_below(path, series)
    elif series is None:
        slices = series_of(path)
    else:
        msg = f"is a file, in which no series '{series}' can be chosen; give its folder."
        raise InputError(msg)
    check_complete(slices)
    return slices


def _images(
    stacks: Sequence[Stack], values: np.ndarray, path: Path, name: str, messages: list[str]
) -> list[sitk.Image]:
    """Return the volumes of stacks at one place, in SUV if they can be, and say what is in doubt about them.

    Args:
        stacks: slices and their grids, of which the first is used for all.
        values: of all slices in the order of the stacks, (slices, y, x).
        path: of the file or folder.
        name: its name in messages.
        messages: warnings are appended.
    """
    slices = [item for stack in stacks for item in stack.slices]
    said = doubts(stacks)
    if not path.is_dir() and len({item.path for item in slices}) > 1:
        said.append(f"is one file of a series: all {len(slices)} slices of it in that folder were read.")
    pet = pet_units(slices)
    if pet is not None:
        said.append(pet.said)
        values = values if pet.factor == 1 else values * np.result_type(np.float32, values).type(pet.factor)
    messages.extend(f"{name} {text}" for text in said)
    images = []
    for part in np.split(values, len(stacks)):
        image = _placed(sitk.GetImageFromArray(part), stacks[0])
        set_units(image, pet.units if pet is not None else "")
        images.append(image)
    return images


def _placed(image: sitk.Image, stack: Stack) -> sitk.Image:
    image.SetOrigin(stack.origin.tolist())
    image.SetSpacing(stack.spacing.tolist())
    image.SetDirection(stack.direction.ravel().tolist())
    return image
