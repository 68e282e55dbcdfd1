"""The grid of what a command warps; imports nothing heavy before it is needed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal

from ..errors import InputError


def add_grid_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options for the grid of a warped volume."""
    parser.add_argument(
        "--extent",
        choices=("fixed", "moving", "union"),
        help="whose field of view the warped volume covers: of what lies in fixed space, in moving space, or both",
    )
    parser.add_argument("--spacing", type=float, metavar="MM", help="isotropic voxel spacing of the warped volume")


def reference_of(arguments: argparse.Namespace, folder: Path, messages: list[str]) -> Any:
    """Return an image on the grid to resample to: the given one, or that of the volume that was registered.

    Args:
        arguments: of `apply`.
        folder: of the registration, or of the frame of a series.
        messages: warnings are appended.
    """
    from ..io.volumes import read_volume
    from ..pipeline.record import recorded_grids
    from ..spatial.checks import check_grid

    if arguments.reference is not None:
        reference = read_volume(arguments.reference, "reference", messages, arguments.reference_series)
        check_grid(reference, "reference", any_voxels=True)
        return reference
    grids = recorded_grids(folder / "report.json")
    if _side(arguments) not in grids:
        msg = (
            "Give --reference: the volume that defines the output grid (the fixed volume for the forward direction); "
            f"'{folder}' has no report that tells it."
        )
        raise InputError(msg)
    return grids[_side(arguments)]


def _side(arguments: argparse.Namespace) -> Literal["fixed", "moving"]:
    return "fixed" if arguments.direction == "forward" else "moving"


def grid_of(arguments: argparse.Namespace, reference: Any, image: Any, inverse: Any) -> Any:
    """Return an image on the grid of the result."""
    from ..pipeline.propagation.extent import covers, output_grid

    if arguments.extent is None and arguments.spacing is None:
        return reference
    return output_grid(reference, image, inverse, covers(arguments.extent, _side(arguments)), arguments.spacing)
