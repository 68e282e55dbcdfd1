"""`foundation-registration phantom`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import SettingsError
from ..runtime.interruption import Interruption
from .files import DYNAMIC_PHANTOM, PHANTOM

_DYNAMIC = "dynamic"


def add_phantom_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "task", help="longitudinal, cross-sequence, lesion or pet-ct-to-mri; or dynamic, for a series"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder for the volumes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spacing-mm", type=float, default=1.5, help="voxel size, about (default 1.5)")
    parser.add_argument("--difficulty", default="patient", help="patient (default): as hard as patients are; or easy")
    parser.add_argument("--frames", type=int, help="of a dynamic series (default 6)")
    parser.add_argument("--motion", help="of a dynamic series: sudden (default), drift or none")


def phantom_command(arguments: argparse.Namespace, interruption: Interruption) -> None:
    """Write a synthetic breast pair or dynamic series with its ground truth into a folder."""
    from ..phantom import TASKS
    from ..phantom.checks import check_choice

    check_choice("phantom task", arguments.task, (*TASKS, _DYNAMIC))
    if arguments.task == _DYNAMIC:
        _write_dynamic(arguments, interruption)
        return
    if arguments.frames is not None or arguments.motion is not None:
        msg = f"--frames and --motion belong to the task '{_DYNAMIC}'; leave them out for a pair."
        raise SettingsError(msg)
    _write_pair(arguments, interruption)


def _write_pair(arguments: argparse.Namespace, interruption: Interruption) -> None:
    from ..files.outputs import staged_folder
    from ..io.landmark_files import write_points
    from ..io.landmarks import Landmarks
    from ..io.volumes import write_volume_directly
    from ..phantom import make_phantom

    case = make_phantom(
        arguments.task, arguments.seed, spacing_mm=arguments.spacing_mm, difficulty=arguments.difficulty
    )
    with staged_folder(arguments.output, interruption, (*PHANTOM, *DYNAMIC_PHANTOM)) as staging:
        volumes = {
            "fixed": case.fixed,
            "moving": case.moving,
            "fixed_labels": case.labelmap("fixed"),
            "moving_labels": case.labelmap("moving"),
            "displacement": case.displacement,
        }
        if case.pet is not None:
            volumes["pet"] = case.pet
        for name, image in volumes.items():
            write_volume_directly(image, staging / f"{name}.nii.gz")
        names = tuple(f"L{index + 1}" for index in range(len(case.fixed_landmarks)))
        write_points(staging / "fixed_landmarks.mrk.json", Landmarks(names, case.fixed_landmarks))
        write_points(staging / "moving_landmarks.mrk.json", Landmarks(names, case.moving_landmarks))


def _write_dynamic(arguments: argparse.Namespace, interruption: Interruption) -> None:
    from ..files.outputs import staged_folder, write_json
    from ..io.volumes import write_volume_directly
    from ..phantom import DYNAMIC_LABELS, make_dynamic_phantom
    from ..series.writing import write_nifti_directly

    phantom = make_dynamic_phantom(
        arguments.seed,
        spacing_mm=arguments.spacing_mm,
        frames=6 if arguments.frames is None else arguments.frames,
        motion="sudden" if arguments.motion is None else arguments.motion,
        difficulty=arguments.difficulty,
    )
    with staged_folder(arguments.output, interruption, (*PHANTOM, *DYNAMIC_PHANTOM)) as staging:
        times = phantom.times_s.tolist()
        write_nifti_directly(phantom.frames, times, staging / "series.nii.gz")
        write_nifti_directly(phantom.motion_free, times, staging / "motion_free.nii.gz")
        write_nifti_directly(phantom.labels, times, staging / "labels.nii.gz")
        for frame in range(1, len(phantom.frames)):
            write_volume_directly(phantom.displacement(frame), staging / f"displacement_{frame:02}.nii.gz")
        truth = {
            "seed": phantom.seed,
            "motion": phantom.motion,
            "difficulty": phantom.difficulty,
            "times_s": phantom.times_s,
            "labels": DYNAMIC_LABELS,
            "enhancement": phantom.enhancement,
        }
        write_json(staging / "truth.json", truth)
