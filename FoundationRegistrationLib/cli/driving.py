"""Structures and points that drive `register`: options and files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError

_SIDES = ("fixed", "moving")


def add_driving_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the files of structures and points that drive a registration."""
    for side in _SIDES:
        parser.add_argument(
            f"--{side}-structures",
            type=Path,
            help=f"structures of the {side} volume to match: segments or a label map, paired by name or label",
        )
        parser.add_argument(
            f"--{side}-points",
            type=Path,
            help=f"points of the {side} volume to match, paired by name (.mrk.json, .fcsv, .csv in LPS)",
        )


def read_driving(arguments: argparse.Namespace, volumes: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return the structures and points of both volumes, as arguments of the library's `register`.

    Args:
        arguments: of the command line.
        volumes: by side, the volume.
        notes: warnings about the files are appended.

    Raises:
        InputError: a file cannot be read, or only one side is given.
    """
    from ..io.landmark_files import read_points
    from ..io.paired_labels import paired_labels
    from ..io.segmentation_files import read_segmentation

    given: dict[str, Any] = {}
    for kind in ("structures", "points"):
        paths = {side: getattr(arguments, f"{side}_{kind}") for side in _SIDES}
        if (paths["fixed"] is None) != (paths["moving"] is None):
            msg = f"Give both --fixed-{kind} and --moving-{kind}, or neither."
            raise InputError(msg)
        if paths["fixed"] is None:
            continue
        if kind == "points":
            given |= {f"{side}_points": read_points(path) for side, path in paths.items()}
            continue
        sides = {}
        for side, path in paths.items():
            role = f"{side} structures"
            sides[side] = read_segmentation(path, role, notes).on_grid_of(volumes[side], role, notes)
        paired = paired_labels(sides["fixed"], sides["moving"], notes)
        given |= {
            f"{side}_structures": structures.masks() if paired.values else structures.label_map()
            for side, structures in (("fixed", paired.fixed), ("moving", paired.moving))
        }
    return given
