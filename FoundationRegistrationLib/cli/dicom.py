"""DICOM series of a command: found where the record of the registration says, and checked against it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..io.dicom import DicomSeries

DIFFERENT_PATIENTS = "--allow-different-patients"


def read_dicom_input(path: Path, role: str, option: str) -> DicomSeries:
    """Return the headers of a DICOM series.

    Args:
        path: its folder, or one of its files.
        role: its name in messages, such as "fixed".
        option: of the command line, by which it is given.

    Raises:
        InputError: it is not DICOM, or cannot be read.
    """
    from ..io.dicom import is_dicom, read_series
    from ..io.paths import called, check_input

    check_input(path, f"{role} volume")
    if not path.is_dir() and not is_dicom(path):
        msg = f"'{path}' is not DICOM, which this needs; give the DICOM series of the {role} volume with {option}."
        raise InputError(msg)
    return read_series(path, called(f"{role} volume", path))


def check_frame(series: DicomSeries, recorded: Mapping[str, Any], role: str, side: str) -> None:
    """Check that a series lies in the frame of reference of a volume of the registration, if that is recorded.

    Args:
        series: the series.
        recorded: what the report says of the input of that side.
        role: name of the series in messages, such as "reference".
        side: "fixed" or "moving".

    Raises:
        InputError: it lies in another one.
    """
    frame = recorded.get("frame_of_reference_uid")
    if frame and frame != series.text("FrameOfReferenceUID"):
        msg = (
            f"The {role} DICOM series lies in another frame of reference than the {side} volume of the registration; "
            f"give the {side} series, or another one of its session."
        )
        raise InputError(msg)


def check_new_folder(folder: Path) -> None:
    """Check that a folder for DICOM files is new or empty, so that it holds one series only.

    Raises:
        InputError: it is not.
    """
    try:
        taken = folder.exists() and (not folder.is_dir() or any(not f.name.startswith(".") for f in folder.iterdir()))
    except OSError as error:
        msg = f"The folder '{folder}' cannot be opened ({error.strerror}); choose another --dicom folder."
        raise InputError(msg) from error
    if taken:
        msg = f"'{folder}' exists and is not empty; choose a new --dicom folder, so that no series are mixed."
        raise InputError(msg)
