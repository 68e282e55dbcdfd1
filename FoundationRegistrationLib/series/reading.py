"""Reading a dynamic series in any of its forms."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import SimpleITK as sitk

from ..errors import InputError
from ..io.dicom import is_dicom, read_dicom_frames
from ..io.nifti import first_bytes, frame_times, is_nifti
from ..io.paths import called, check_input
from ..io.volumes import read_image, read_volume
from ..runtime.progress import Note, tell
from . import nrrd
from .frames import Form, Series, are_times

_LOGGER = logging.getLogger(__name__)
_ENDINGS = (".nii", ".nii.gz", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd")
_NO_TIMES = "does not give the times of its frames in seconds; they are numbered from 0."


def read_series(
    path: str | os.PathLike[str], messages: list[str] | None = None, dicom_series: str | None = None
) -> Series:
    """Read a dynamic series, only if it is complete.

    Args:
        path: a 4D NIfTI, NRRD or MetaImage file, a volume sequence of Slicer (.seq.nrrd), a folder of volumes (one
            frame each, in the order of the numbers in their names), or a DICOM series with several time points.
        messages: warnings about the files are appended, the most serious first; if None, they are logged.
        dicom_series: of a DICOM folder with several series, the one to read, as in `read_volume`.

    Returns:
        The frames with their times, in LPS, with rescaled intensities.

    Raises:
        InputError: it is missing, incomplete, or holds a single frame.
    """
    path = Path(path)
    check_input(path, "series")
    found: list[str] = []
    name = called("series", path)
    if dicom_series is not None:
        series = _from_dicom(path, name, found, dicom_series)
    else:
        series = (_from_folder if path.is_dir() else _from_file)(path, name, found)
    tell(found, messages, _LOGGER)
    return series


def _from_file(path: Path, name: str, messages: list[str]) -> Series:
    with path.open("rb") as stream:
        is_nrrd = stream.read(4) == b"NRRD"
    if is_nrrd:
        image = nrrd.read_nrrd(path, name, messages)
        is_4d = image.GetDimension() == 4
        if not is_4d and image.GetNumberOfComponentsPerPixel() == 1:
            raise _single(name)
        frames = _along_time(image) if is_4d else nrrd.frames_of(image, name)
        return _series(frames, None if is_4d else nrrd.stored_times(image), "sequence", name, messages)
    nifti = is_nifti(path, first_bytes(path, name))
    if not nifti and is_dicom(path):
        return _from_dicom(path, name, messages)
    image = read_image(path, "series", messages)
    if image.GetDimension() != 4:
        raise _single(name) if image.GetDimension() == 3 else _of_dimension(name, image.GetDimension())
    frames = _along_time(image)
    between = frame_times(path, name) if nifti else None
    times = None if between is None else tuple(between[0] + index * between[1] for index in range(len(frames)))
    return _series(frames, times, "nifti" if nifti else "meta", name, messages)


def _from_folder(path: Path, name: str, messages: list[str]) -> Series:
    # A link to nothing is a frame that is missing, so reading it must fail.
    files = [file for file in path.iterdir() if not (file.is_dir() or file.name.startswith("."))]
    volumes = sorted((file for file in files if file.name.lower().endswith(_ENDINGS)), key=_by_number)
    if not volumes:
        return _from_dicom(path, name, messages)
    if any(is_dicom(file) for file in files if file not in volumes):
        msg = f"{name} holds DICOM files and other volumes; give a folder with one of them."
        raise InputError(msg)
    if len(volumes) < 2:
        raise _single(name)
    _check_order(volumes, name)
    frames = [read_volume(file, f"frame {index}", messages) for index, file in enumerate(volumes)]
    names = tuple(file.name for file in volumes)
    ends = f"from '{names[0]}' to '{names[-1]}'"
    messages.append(Note(f"{name} holds {len(names)} frames, in the order of the numbers in their names: {ends}."))
    return _series(frames, None, "folder", name, messages, names)


def _from_dicom(path: Path, name: str, messages: list[str], dicom_series: str | None = None) -> Series:
    found = read_dicom_frames(path, name, messages, dicom_series)
    if len(found) < 2:
        raise _single(name)
    times = tuple(seconds for _, seconds in found if seconds is not None)
    frames = [frame for frame, _ in found]
    return _series(frames, times if len(times) == len(found) else None, "sequence", name, messages)


def _series(
    frames: Sequence[sitk.Image],
    times: tuple[float, ...] | None,
    form: Form,
    name: str,
    messages: list[str],
    names: tuple[str, ...] = (),
) -> Series:
    if times is not None and not are_times(times, len(frames)):
        messages.append(f"{name} does not give one increasing time for each of its frames; its times were not used.")
        times = None
    elif times is None:
        messages.append(Note(f"{name} {_NO_TIMES}"))
    return Series(tuple(frames), times, form, names)


def _along_time(image: sitk.Image) -> list[sitk.Image]:
    """Return the volumes along the fourth axis; its spacing and origin are dropped."""
    *size, count = image.GetSize()
    return [sitk.Extract(image, [*size, 0], [0, 0, 0, index]) for index in range(count)]


def _by_number(path: Path) -> list[tuple[int, int | str]]:
    """Return a key that sorts names by the numbers in them: frame2 before frame10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def _check_order(volumes: Sequence[Path], name: str) -> None:
    """Check that numbers, not other parts of the names, give the order of the frames."""
    for one, other in pairwise(volumes):
        parts = zip(_by_number(one), _by_number(other), strict=False)
        (kind, _), (other_kind, _) = next((pair for pair in parts if pair[0] != pair[1]), ((1, ""), (1, "")))
        if kind or other_kind:
            msg = (
                f"{name} holds '{one.name}' and '{other.name}', and no number in their names says which is earlier; "
                "number the frames in the order of time, such as 1_pre and 2_post, and move other files away."
            )
            raise InputError(msg)


def _single(name: str) -> InputError:
    return InputError(f"{name} holds a single volume; give a series of two frames or more, or use `register`.")


def _of_dimension(name: str, dimension: int) -> InputError:
    return InputError(f"{name} is {dimension}D; give a 4D series of volumes over time.")
