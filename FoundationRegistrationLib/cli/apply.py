"""`foundation-registration apply`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import InputError, OutputError
from ..files.outputs import staged_folder
from ..runtime.interruption import Interruption
from .dicom import check_series_options
from .terminal import say
from .warped_grid import grid_of, reference_of


def apply_command(arguments: argparse.Namespace, interruption: Interruption) -> None:
    """Apply a finished registration to an image, a label map or points."""
    from ..io.transforms import read_transform

    check_series_options(arguments, "image", "reference")
    forward = arguments.direction == "forward"
    # Resampling maps target voxels to the source; points map from the source to the target.
    resampling, of_points = ("transform.h5", "inverse.h5") if forward else ("inverse.h5", "transform.h5")
    messages: list[str] = []
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
    arguments: argparse.Namespace, transform: Any, messages: list[str], interruption: Interruption
) -> None:
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
    interruption: Interruption,
) -> None:
    from ..io.volumes import read_volume, write_volume_directly
    from ..pipeline.propagation import propagate_image, say_what_is_outside
    from ..spatial.checks import check_grid

    image = read_volume(arguments.image, "given", messages, arguments.image_series)
    if "complex" in image.GetPixelIDTypeAsString() and arguments.output.suffix.lower() in (".mha", ".mhd"):
        msg = f"'{arguments.output.name}' cannot keep complex numbers; use .nii.gz or .nrrd."
        raise OutputError(msg)
    check_grid(image, "given", any_voxels=True)
    grid = grid_of(arguments, reference, image, inverse)
    result = propagate_image(image, grid, transform, arguments.interpolation, messages)
    say_what_is_outside(image, grid, inverse, messages)
    with staged_folder(arguments.output.parent, interruption) as staging:
        write_volume_directly(result, staging / arguments.output.name)


def _apply_to_labels(
    arguments: argparse.Namespace,
    reference: Any,
    transform: Any,
    inverse: Any,
    messages: list[str],
    interruption: Interruption,
) -> None:
    from ..io.segmentation_files import (
        SEGMENTATION_ENDING,
        check_can_hold,
        read_segmentation,
        write_segmentation_directly,
    )
    from ..pipeline.propagation import propagate_segmentation

    labels = read_segmentation(arguments.labels, "given label map", messages)
    check_can_hold(arguments.output, labels, messages)
    grid = grid_of(arguments, reference, labels.layers[0], inverse)
    # A label map must fit the voxels of the volume that was asked for; a segmentation has its own.
    is_segmentation = labels.segments and arguments.output.name.lower().endswith(SEGMENTATION_ENDING)
    own = arguments.spacing is None and bool(arguments.reference is None or is_segmentation)
    carried = propagate_segmentation(labels, grid, transform, inverse, messages, own_lattice=own)
    with staged_folder(arguments.output.parent, interruption) as staging:
        write_segmentation_directly(carried, staging / arguments.output.name)
