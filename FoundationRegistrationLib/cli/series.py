"""`foundation-registration series`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, RegistrationCancelledError
from ..runtime.interruption import Interruption, OneOfMany
from ..runtime.progress import ProgressCallback
from .dicom import add_dicom_series_option
from .dicom_inputs import check_new_folder
from .settings_options import add_settings
from .terminal import say

if TYPE_CHECKING:
    import SimpleITK as sitk

    from ..exchange.derived_series import WarpedVolume
    from ..io.dicom import DicomSeries
    from ..series.frames import Series
    from ..series.result import SeriesResult

_PRESET = "dce"
_COLUMNS = (5, 9, 9, 12, 12)


def add_series_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument(
        "series",
        type=Path,
        help="4D NIfTI or NRRD, volume sequence of Slicer, folder of volumes, or DICOM series over time",
    )
    add_dicom_series_option(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--reference",
        default="0",
        metavar="N",
        help="frame that the others are registered to, from 0 (default 0), or mean: the mean of all frames",
    )
    parser.add_argument("--mask", type=Path, help="region of the reference to register (mask)")
    parser.add_argument(
        "--dicom", type=Path, metavar="FOLDER", help="also write the corrected series as DICOM, into a new folder"
    )
    add_settings(parser, with_landmarks=False)


def series_command(arguments: argparse.Namespace, report: ProgressCallback, interruption: Interruption) -> None:
    """Register the frames of a series and write the results, each frame as soon as it is done."""
    from ..runtime.memory import check_limits, check_loading
    from .register import settings_from

    settings = settings_from(arguments, _PRESET)
    reference = _reference(arguments.reference)
    check_limits()
    check_loading()
    from ..files.outputs import check_writable
    from ..pipeline.record import described_file
    from ..series.reading import read_series
    from ..series.registration import register_series
    from ..series.saving import FolderStore, save_series

    messages: list[str] = []
    sources = _sources(arguments) if arguments.dicom else None
    series = read_series(arguments.series, messages, arguments.dicom_series)
    mask = _mask(arguments, series, reference, messages)
    for folder in (arguments.output, arguments.dicom):
        if folder is not None:
            check_writable(folder, OneOfMany(interruption))
    store = FolderStore(arguments.output, len(series.frames), OneOfMany(interruption))
    try:
        result = register_series(
            series,
            settings,
            reference=reference,
            mask=mask,
            store=store,
            progress=report,
            cancelled=interruption.requested,
        )
        result = dataclasses.replace(result, messages=(*messages, *result.messages))
        with contextlib.ExitStack() as stack:
            if sources is not None:
                from ..exchange.derived_series import write_derived_series
                from ..files.outputs import staged_folder

                staging = stack.enter_context(staged_folder(arguments.dicom, interruption))
                write_derived_series(*_derived(result, sources), staging, series.times_s)
            described: dict[str, object] = {**described_file(arguments.series)}
            if arguments.mask is not None:
                described["mask"] = described_file(arguments.mask)
            save_series(result, arguments.output, store.kept, interruption, described)
    except RegistrationCancelledError as error:
        if not store.kept:
            raise
        msg = (
            f"The run was stopped. Of {len(series.frames)} frames {len(store.kept)} are done and kept; give the same "
            "command again to go on."
        )
        raise RegistrationCancelledError(msg) from error
    say((*result.messages, *table(result)))
    if arguments.progress != "json":
        say([f"Look at {arguments.output / 'overview.png'}"])


def _mask(
    arguments: argparse.Namespace, series: Series, reference: int | str, messages: list[str]
) -> sitk.Image | None:
    """Return the region of the reference to register, on its grid; None if none was given."""
    from ..io.segmentation_files import read_segmentation
    from ..series.registration import reference_of

    if arguments.mask is None:
        return None
    target, role = reference_of(series, reference)[0], "reference mask"
    return read_segmentation(arguments.mask, role, messages).on_grid_of(target, role, messages).label_map()


def _sources(arguments: argparse.Namespace) -> list[DicomSeries]:
    """Return the DICOM headers of each frame, after the checks of a derived series."""
    from ..exchange.derived_series import check_can_derive
    from ..io.dicom import is_dicom, read_frame_series
    from ..io.paths import called, check_input

    check_new_folder(arguments.dicom)
    check_input(arguments.series, "series")
    if not arguments.series.is_dir() and not is_dicom(arguments.series):
        msg = f"'{arguments.series}' is not DICOM, which --dicom needs; leave it out, or give the DICOM series."
        raise InputError(msg)
    sources = read_frame_series(arguments.series, called("series", arguments.series), arguments.dicom_series)
    for source in sources:
        check_can_derive(source, sources[0])
    return sources


def _derived(result: SeriesResult, sources: list[DicomSeries]) -> tuple[list[WarpedVolume], DicomSeries]:
    """Return the frames of the corrected series for DICOM, and the frame that gives the frame of reference."""
    from ..exchange.derived_series import WarpedVolume

    volumes = [
        WarpedVolume(image, frame.transform, source, frame.state == "registered")
        for image, frame, source in zip(result.corrected.frames, result.frames, sources, strict=True)
    ]
    return volumes, sources[result.reference_frame or 0]


def table(result: SeriesResult) -> Iterator[str]:
    """Yield the frames with time, verdict and motion, and how much changes over time outside enhancing tissue."""
    yield _row("frame", "time, s", "verdict", "mean, mm", "largest, mm")
    times = result.series.times_s
    for index, frame in enumerate(result.frames):
        word = "reference" if frame.state == "reference" else (frame.verdict or "failed")
        moved = frame.state == "registered"
        motion = (f"{value:.1f}" if moved else "-" for value in frame.motion_mm)
        yield _row(str(index), "-" if times is None else f"{times[index]:.1f}", word, *motion)
    deviation = result.metrics["temporal_deviation_percent"]
    yield (
        f"standard deviation over time outside enhancing tissue: {deviation['before']:.1f} % of the signal before, "
        f"{deviation['after']:.1f} % after"
    )


def _row(*cells: str) -> str:
    return " ".join(cell.rjust(width) for cell, width in zip(cells, _COLUMNS, strict=True))


def _reference(text: str) -> int | str:
    with contextlib.suppress(ValueError):
        return int(text)
    if text == "mean":
        return text
    msg = f"--reference is '{text[:40]}'; give the number of a frame, from 0, or mean."
    raise InputError(msg)
