"""`foundation-registration apply`."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import InputError, OutputError
from ..files.private_folders import CommitGuard
from .dicom import add_series_options, check_series_options
from .dicom_inputs import DIFFERENT_PATIENTS, check_new_folder, reference_series, series_to_derive
from .terminal import say
from .warped_grid import add_grid_arguments, grid_of, reference_of


def add_apply_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("registration", type=Path, help="folder that `register` or `series` wrote")
    parser.add_argument("--frame", type=int, metavar="N", help="frame of a series that the data belong to")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--image", type=Path, help="volume to resample")
    kind.add_argument("--labels", type=Path, help="label map or segmentation to resample")
    kind.add_argument("--points", type=Path, help="landmarks to map")
    parser.add_argument(
        "--reference", type=Path, help="volume that gives the output grid; the registered one if left out"
    )
    add_series_options(parser, "image", "reference")
    add_grid_arguments(parser)
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


def apply_command(arguments: argparse.Namespace, interruption: CommitGuard) -> None:
    """Apply a finished registration to an image, a label map or points."""
    from ..io.transforms import read_transform

    check_series_options(arguments, "image", "reference")
    forward = arguments.direction == "forward"
    # Resampling maps target voxels to the source; points map from the source to the target.
    resampling, of_points = ("transform.h5", "inverse.h5") if forward else ("inverse.h5", "transform.h5")
    messages: list[str] = []
    _check_outputs(arguments)
    folder = _frame_folder(arguments)
    if arguments.points:
        transform = read_transform(folder / of_points)
        _apply_to_points(arguments, transform, messages, interruption)
    else:
        reference = reference_of(arguments, folder, messages)
        transform, inverse = (read_transform(folder / name) for name in (resampling, of_points))
        carry = _apply_to_image if arguments.image else _apply_to_labels
        carry(arguments, reference, transform, inverse, messages, interruption)
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
    if arguments.output:
        check_volume_name(arguments.output)
    if arguments.dicom is None:
        return
    if arguments.reference is None or arguments.extent is not None or arguments.spacing is not None:
        msg = (
            "DICOM is written on the slices of a DICOM series: give it with --reference, and leave out --extent and "
            "--spacing."
        )
        raise InputError(msg)
    check_new_folder(arguments.dicom)


def _frame_folder(arguments: argparse.Namespace) -> Path:
    """Return the folder with the transforms: that of the registration, or of a frame of a series."""
    from ..series.folders import frame_folders

    frames, folder = frame_folders(arguments.registration), arguments.registration
    if arguments.frame is None:
        if frames and not (folder / "transform.h5").exists():
            msg = f"'{folder}' holds the frames of a series; say with --frame which one the data belong to."
            raise InputError(msg)
        return folder
    if arguments.frame not in frames:
        there = f"its frames are {min(frames)} to {max(frames)}" if frames else "it holds no series"
        msg = f"'{folder}' has no frame {arguments.frame}: {there}."
        raise InputError(msg)
    return frames[arguments.frame]


def _apply_to_points(
    arguments: argparse.Namespace, transform: Any, messages: list[str], interruption: CommitGuard
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
    arguments: argparse.Namespace,
    reference: Any,
    transform: Any,
    inverse: Any,
    messages: list[str],
    interruption: CommitGuard,
) -> None:
    from ..io.volumes import read_volume, write_volume_directly
    from ..pipeline.propagation.images import propagate_image
    from ..pipeline.propagation.outside import say_what_is_outside
    from ..spatial.checks import check_grid

    series = series_to_derive(arguments) if arguments.dicom else None
    image = read_volume(arguments.image, "given", messages, arguments.image_series)
    is_complex = "complex" in image.GetPixelIDTypeAsString()
    if arguments.output and is_complex and arguments.output.suffix.lower() in (".mha", ".mhd"):
        msg = f"'{arguments.output.name}' cannot keep complex numbers; use .nii.gz or .nrrd."
        raise OutputError(msg)
    check_grid(image, "given", any_voxels=True)
    grid = grid_of(arguments, reference, image, inverse)
    result = propagate_image(image, grid, transform, arguments.interpolation, messages)
    say_what_is_outside(image, grid, inverse, messages)

    def write_dicom(folder: Path) -> None:
        from ..exchange.derived_series import WarpedVolume, write_derived_series

        if series is not None:
            moving, of_reference = series
            write_derived_series([WarpedVolume(result, transform, moving)], of_reference, folder)

    _write(arguments, interruption, lambda path: write_volume_directly(result, path), write_dicom)


def _apply_to_labels(
    arguments: argparse.Namespace,
    reference: Any,
    transform: Any,
    inverse: Any,
    messages: list[str],
    interruption: CommitGuard,
) -> None:
    from ..io.segmentation_files import (
        SEGMENTATION_ENDING,
        check_can_hold,
        read_segmentation,
        write_segmentation_directly,
    )
    from ..pipeline.propagation.segmentations import propagate_segmentation

    series = reference_series(arguments) if arguments.dicom else None
    if series is not None:
        from ..exchange.segmentation_objects import check_can_write_segmentations

        check_can_write_segmentations(series)
    labels = read_segmentation(arguments.labels, "given label map", messages)
    if arguments.output:
        check_can_hold(arguments.output, labels, messages)
    grid = grid_of(arguments, reference, labels.layers[0], inverse)
    # A label map and DICOM must fit the voxels of the volume that was asked for; a segmentation has its own.
    own = arguments.spacing is None and arguments.dicom is None
    if own and arguments.reference is not None:
        own = bool(labels.segments) and arguments.output.name.lower().endswith(SEGMENTATION_ENDING)
    carried = propagate_segmentation(labels, grid, transform, inverse, messages, own_lattice=own)

    def write_dicom(folder: Path) -> None:
        from ..exchange.dicom_objects import write_object
        from ..exchange.segmentation_objects import segmentation_object

        if series is not None:
            write_object(segmentation_object(carried, series), folder / "segmentation.dcm")

    _write(arguments, interruption, lambda path: write_segmentation_directly(carried, path), write_dicom)


def _write(
    arguments: argparse.Namespace,
    interruption: CommitGuard,
    write_file: Callable[[Path], None],
    write_dicom: Callable[[Path], None],
) -> None:
    """Write the result to the file and the DICOM folder that were asked for; neither if one cannot be made."""
    from ..files.outputs import staged_folder

    with contextlib.ExitStack() as stack:
        if arguments.output:
            staging = stack.enter_context(staged_folder(arguments.output.parent, interruption))
            write_file(staging / arguments.output.name)
        if arguments.dicom:
            write_dicom(stack.enter_context(staged_folder(arguments.dicom, interruption)))
