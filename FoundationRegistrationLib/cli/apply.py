"""`foundation-registration apply`."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, OutputError
from ..runtime.interruption import Interruption
from .dicom import DIFFERENT_PATIENTS, check_frame, check_new_folder, read_dicom_input
from .terminal import say

if TYPE_CHECKING:
    from ..io.dicom import DicomSeries


def add_apply_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("registration", type=Path, help="folder that `register` wrote")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--image", type=Path, help="volume to resample")
    kind.add_argument("--labels", type=Path, help="label map or segmentation to resample")
    kind.add_argument("--points", type=Path, help="landmarks to map")
    parser.add_argument("--reference", type=Path, help="volume that gives the output grid")
    parser.add_argument("--output", type=Path, help="file to write")
    parser.add_argument(
        "--dicom",
        type=Path,
        metavar="FOLDER",
        help="also, or only, write DICOM into a new folder, in the patient and study of the reference: a derived "
        "series, or a segmentation",
    )
    parser.add_argument(DIFFERENT_PATIENTS, action="store_true", help="allow DICOM series with different patient IDs")
    parser.add_argument(
        "--direction",
        choices=("forward", "inverse"),
        default="forward",
        help="forward: moving space to fixed space (default); inverse: fixed space to moving space",
    )
    parser.add_argument("--interpolation", choices=("linear", "bspline"), default="linear")


def apply_command(arguments: argparse.Namespace, interruption: Interruption) -> None:
    """Apply a finished registration to an image, a label map or points."""
    from ..io.transforms import read_transform

    forward = arguments.direction == "forward"
    # Resampling maps target voxels to the source; points map from the source to the target.
    resampling, of_points = ("transform.h5", "inverse.h5") if forward else ("inverse.h5", "transform.h5")
    messages: list[str] = []
    _check_outputs(arguments)
    if arguments.points:
        transform = read_transform(arguments.registration / of_points)
        _apply_to_points(arguments, transform, messages, interruption)
    else:
        transform = read_transform(arguments.registration / resampling)
        if arguments.image:
            _apply_to_image(arguments, transform, messages, interruption)
        else:
            inverse = read_transform(arguments.registration / of_points)
            _apply_to_labels(arguments, transform, inverse, messages, interruption)
    say(messages)


def _check_outputs(arguments: argparse.Namespace) -> None:
    from ..io.volumes import check_volume_name

    if arguments.output is None and (arguments.points or not arguments.dicom):
        msg = "Give --output: the file to write."
        raise InputError(msg)
    if arguments.points:
        if arguments.dicom:
            msg = "Points cannot be written as DICOM; give --output alone."
            raise InputError(msg)
        return
    if arguments.reference is None:
        msg = (
            "Give --reference: the volume that defines the output grid (the fixed volume for the forward direction)."
        )
        raise InputError(msg)
    if arguments.output:
        check_volume_name(arguments.output)
    if arguments.dicom:
        check_new_folder(arguments.dicom)


def _apply_to_points(
    arguments: argparse.Namespace, transform: Any, messages: list[str], interruption: Interruption
) -> None:
    from ..files.outputs import staged_folder
    from ..io.landmark_files import read_points, write_points
    from ..io.landmarks import Landmarks
    from ..spatial.points import transform_points

    landmarks = read_points(arguments.points)
    left_out = landmarks.placed.count(False)
    if left_out:
        messages.append(f"Entries without a position are omitted: {left_out}.")
    mapped = Landmarks(landmarks.names, transform_points(transform, landmarks.points))
    with staged_folder(arguments.output.parent, interruption) as staging:
        write_points(staging / arguments.output.name, mapped)


def _apply_to_image(
    arguments: argparse.Namespace, transform: Any, messages: list[str], interruption: Interruption
) -> None:
    from ..files.outputs import staged_folder
    from ..io.volumes import read_volume, write_volume_directly
    from ..pipeline.propagation import propagate_image

    series = _series_to_derive(arguments) if arguments.dicom else None
    reference = read_volume(arguments.reference, "reference", messages)
    image = read_volume(arguments.image, "given", messages)
    if (
        arguments.output
        and "complex" in image.GetPixelIDTypeAsString()
        and arguments.output.suffix.lower() in (".mha", ".mhd")
    ):
        msg = f"'{arguments.output.name}' cannot keep complex numbers; use .nii.gz or .nrrd."
        raise OutputError(msg)
    result = propagate_image(image, reference, transform, arguments.interpolation, messages)
    with contextlib.ExitStack() as stack:
        if arguments.output:
            staging = stack.enter_context(staged_folder(arguments.output.parent, interruption))
            write_volume_directly(result, staging / arguments.output.name)
        if series is not None:
            from ..exchange.derived_series import write_derived_series

            staging = stack.enter_context(staged_folder(arguments.dicom, interruption))
            write_derived_series(result, transform, *series, staging)


def _apply_to_labels(
    arguments: argparse.Namespace, transform: Any, inverse: Any, messages: list[str], interruption: Interruption
) -> None:
    from ..files.outputs import staged_folder
    from ..io.segmentation_files import check_can_hold, read_segmentation, write_segmentation_directly
    from ..io.volumes import read_volume
    from ..pipeline.propagation import propagate_segmentation

    series = _reference_series(arguments) if arguments.dicom else None
    if series is not None:
        from ..exchange.segmentation_objects import check_can_write_segmentations

        check_can_write_segmentations(series)
    reference = read_volume(arguments.reference, "reference", messages)
    labels = read_segmentation(arguments.labels, "given label map", messages)
    if arguments.output:
        check_can_hold(arguments.output, labels, messages)
    carried = propagate_segmentation(labels, reference, transform, inverse, messages)
    with contextlib.ExitStack() as stack:
        if arguments.output:
            staging = stack.enter_context(staged_folder(arguments.output.parent, interruption))
            write_segmentation_directly(carried, staging / arguments.output.name)
        if series is not None:
            from ..exchange.dicom_objects import write_object
            from ..exchange.segmentation_objects import segmentation_object

            staging = stack.enter_context(staged_folder(arguments.dicom, interruption))
            write_object(segmentation_object(carried, series), staging / "segmentation.dcm")


def _series_to_derive(arguments: argparse.Namespace) -> tuple[DicomSeries, DicomSeries]:
    """Return the series of the image and of the reference, after the checks of a derived series."""
    from ..exchange.derived_series import check_can_derive
    from ..exchange.dicom_objects import check_one_patient

    reference = _reference_series(arguments)
    moving = read_dicom_input(arguments.image, "given", "--image")
    check_can_derive(moving, reference)
    if not arguments.allow_different_patients:
        check_one_patient(reference, moving, f"check them, or add {DIFFERENT_PATIENTS}")
    return moving, reference


def _reference_series(arguments: argparse.Namespace) -> DicomSeries:
    """Return the series of the reference; it must lie in the space that the registration leads to."""
    from ..pipeline.record import read_recorded_run

    series = read_dicom_input(arguments.reference, "reference", "--reference")
    side = "fixed" if arguments.direction == "forward" else "moving"
    recorded = read_recorded_run(arguments.registration / "report.json")
    check_frame(series, {} if recorded is None else recorded.inputs.get(side, {}), "reference", side)
    return series
