"""4D files of dynamic series, as the command line reads and writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import SimpleITK as sitk

from ..errors import InputError
from ..io.volumes import header_fields, read_image
from ..io.written import check_volume, incomplete

_SECONDS = {8: 1.0, 16: 1e-3, 24: 1e-6}
"""Units of time by their code in a NIfTI header."""


def read_frames(path: Path, messages: list[str]) -> tuple[list[sitk.Image], list[float] | None]:
    """Read the frames of a 4D file and their times, s, from 0; None if the file does not say.

    Raises:
        InputError: it cannot be read, or is not 4D.
    """
    image = read_image(path, "series", messages)
    if image.GetDimension() != 4:
        msg = f"The series '{path}' is {image.GetDimension()}D; give a 4D volume, whose last axis is time."
        raise InputError(msg)
    frames = [image[:, :, :, number] for number in range(image.GetSize()[3])]
    interval = _interval_s(path)
    return frames, None if interval is None else [number * interval for number in range(len(frames))]


def write_frames(frames: Sequence[sitk.Image], interval_s: float, path: Path, start_s: float = 0.0) -> None:
    """Write volumes as one 4D file with the time between them and that of the first, and read it back.

    Raises:
        OutputError: it cannot be written completely.
    """
    series = sitk.JoinSeries(frames, start_s, interval_s)
    try:
        sitk.WriteImage(series, str(path), useCompression=True)
        found = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise incomplete(path) from error
    check_volume(path, found, series)


def _interval_s(path: Path) -> float | None:
    fields = header_fields(path)
    unit = _SECONDS.get(int(float(fields.get("xyzt_units", 0))) & 0x38)
    step = float(fields.get("pixdim[4]", 0.0))
    return unit * step if unit is not None and step > 0.0 else None
