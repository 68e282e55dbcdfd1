"""DICOM series of a command: found where the record of the registration says, and checked against it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from ..io.dicom import DicomSeries

DIFFERENT_PATIENTS = "--allow-different-patients"


def read_dicom_input(path: Path, role: str, option: str, chosen: str | None = None) -> DicomSeries:
    """Return the headers of a DICOM series.

    Args:
        path: its folder, or one of its files.
        role: its name in messages, such as "fixed".
        option: of the command line, by which it is given.
        chosen: of a folder with several series, the one to read.

    Raises:
        InputError: it is not DICOM, or cannot be read.
    """
    from ..io.dicom import is_dicom, read_series
    from ..io.paths import called, check_input

    check_input(path, f"{role} volume")
    if not path.is_dir() and not is_dicom(path):
        msg = f"'{path}' is not DICOM, which this needs; give the DICOM series of the {role} volume with {option}."
        raise InputError(msg)
    return read_series(path, called(f"{role} volume", path), chosen)


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


def series_to_derive(arguments: argparse.Namespace) -> tuple[DicomSeries, DicomSeries]:
    """Return the series of the image and of the reference, after the checks of a derived series."""
    from ..exchange.derived_series import check_can_derive
    from ..exchange.dicom_objects import check_one_patient

    reference = reference_series(arguments)
    moving = read_dicom_input(arguments.image, "given", "--image", arguments.image_series)
    check_can_derive(moving, reference)
    if not arguments.allow_different_patients:
        check_one_patient(reference, moving, f"check them, or add {DIFFERENT_PATIENTS}")
    return moving, reference


def reference_series(arguments: argparse.Namespace) -> DicomSeries:
    """Return the series of the reference; it must lie in the space that the registration leads to."""
    from ..pipeline.record import read_recorded_run

    series = read_dicom_input(arguments.reference, "reference", "--reference", arguments.reference_series)
    side = "fixed" if arguments.direction == "forward" else "moving"
    recorded = read_recorded_run(arguments.registration / "report.json")
    check_frame(series, {} if recorded is None else recorded.inputs.get(side, {}), "reference", side)
    return series
