"""`foundation-registration phantom`."""

from __future__ import annotations

import argparse

from ..files.outputs import staged_folder
from ..runtime.interruption import Interruption
from .files import PHANTOM


def phantom_command(arguments: argparse.Namespace, interruption: Interruption) -> None:
    """Write a synthetic breast pair with its ground truth into a folder."""
    from ..io.landmark_files import write_points
    from ..io.landmarks import Landmarks
    from ..io.volumes import write_volume_directly
    from ..phantom import make_phantom

    case = make_phantom(
        arguments.task, arguments.seed, spacing_mm=arguments.spacing_mm, difficulty=arguments.difficulty
    )
    with staged_folder(arguments.output, interruption, PHANTOM) as staging:
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
