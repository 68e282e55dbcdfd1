"""Writing a series in the form it came in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from ..errors import InputError, OutputError
from ..io.arrays import array_from_volume
from ..io.volumes import read_image, write_volume_directly
from ..io.written import check_volume, incomplete
from .folders import SERIES_FILES, SERIES_FOLDER
from .frames import Series
from .nrrd import write_frames

_DETACHED = {".hdr": ".nii", ".nhdr": ".nrrd", ".mhd": ".mha"}
_EVEN = 1e-3  # of the time between frames


def write_series_directly(series: Series, folder: Path) -> str:
    """Write a series whose frames are on one grid into a folder, and read it back; for staging folders.

    Times that are not evenly spaced cannot be stored in a NIfTI, and none in a MetaImage: such series become a volume
    sequence of Slicer.

    Returns:
        The name of the file, or of the folder with one file a frame.

    Raises:
        OutputError: it cannot be written completely.
    """
    if series.form == "folder":
        place = folder / SERIES_FOLDER
        place.mkdir()
        for frame, name in zip(series.frames, series.names, strict=True):
            stem, dot, ending = name.rpartition(".")
            write_volume_directly(frame, place / f"{stem}{_DETACHED.get((dot + ending).lower(), dot + ending)}")
        return SERIES_FOLDER
    if series.form == "nifti" and _is_even(series.times_s):
        write_nifti_directly(series.frames, series.times_s, folder / SERIES_FILES[0])
        return SERIES_FILES[0]
    if series.form == "meta" and series.times_s is None:
        write_volume_directly(sitk.JoinSeries(list(series.frames)), folder / SERIES_FILES[2])
        return SERIES_FILES[2]
    write_frames(_of_one_type(series.frames), series.times_s, folder / SERIES_FILES[1])
    return SERIES_FILES[1]


def _of_one_type(frames: Sequence[sitk.Image]) -> Sequence[sitk.Image]:
    """Return frames of different pixel types in one that holds all their values."""
    if len({frame.GetPixelID() for frame in frames}) == 1:
        return frames
    common = np.result_type(*(sitk.GetArrayViewFromImage(frame).dtype for frame in frames))
    pixel_id = sitk.GetImageFromArray(np.zeros((1, 1, 1), common)).GetPixelID()
    return [sitk.Cast(frame, pixel_id) for frame in frames]


def _is_even(times: tuple[float, ...] | None) -> bool:
    if times is None:
        return True
    steps = np.diff(times)
    return bool(np.ptp(steps) <= _EVEN * steps.mean())


def write_nifti_directly(frames: Sequence[sitk.Image], times_s: Sequence[float] | None, path: Path) -> None:
    """Write frames on one grid as a 4D NIfTI, and read it back; for staging folders.

    ITK would give a series without times one second between frames.

    Args:
        frames: 3D scalar volumes on one grid, of one pixel type.
        times_s: time of each, s, evenly spaced; None if they are not known.
        path: the file, .nii.gz.

    Raises:
        OutputError: it cannot be written completely, or has a pixel type that NIfTI does not know.
    """
    _, affine = array_from_volume(frames[0])
    array = np.stack([array_from_volume(frame)[0] for frame in frames], axis=-1)
    try:
        image = nibabel.Nifti1Image(array, affine, dtype=array.dtype)
    except (ValueError, nibabel.spatialimages.HeaderDataError) as error:
        msg = f"NIfTI cannot store a series of {frames[0].GetPixelIDTypeAsString()}; give it as .seq.nrrd."
        raise OutputError(msg) from error
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm", "unknown" if times_s is None else "sec")
    first, step = (0.0, 1.0) if times_s is None else (times_s[0], _step(times_s))
    image.header["pixdim"][4], image.header["toffset"] = step, first
    try:
        nibabel.save(image, path)
        found = read_image(path, "written series", [])
    except (OSError, InputError) as error:
        raise incomplete(path) from error
    check_volume(path, found, sitk.JoinSeries(list(frames)))


def _step(times: Sequence[float]) -> float:
    step = (times[-1] - times[0]) / (len(times) - 1)
    return float(f"{step:.6g}") if math.isfinite(step) else 1.0
