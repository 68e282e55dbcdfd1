"""The options of `register`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .dicom import add_series_options
from .driving import add_driving_arguments
from .settings_options import add_settings
from .warped_grid import add_grid_arguments


def add_register_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("fixed", type=Path, help="fixed volume: the result lies in its space")
    parser.add_argument("moving", type=Path, help="moving volume: it is warped to the fixed one")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check the inputs, say which settings, how much time and memory the run would take, and write nothing",
    )
    add_series_options(parser, "fixed", "moving")
    parser.add_argument("--initial-transform", type=Path, help="file that maps fixed to moving points")
    parser.add_argument("--fixed-mask", type=Path, help="region of the fixed volume to register (mask)")
    parser.add_argument("--moving-mask", type=Path, help="region of the moving volume to register (mask)")
    parser.add_argument("--fixed-lesion", type=Path, help="lesions of the fixed volume, which keep their volume")
    parser.add_argument("--moving-lesion", type=Path, help="lesions of the moving volume, which keep their volume")
    parser.add_argument(
        "--region",
        type=Path,
        help="box (ROI of Slicer, .mrk.json) or mask in fixed space: only there tissue is deformed",
    )
    add_driving_arguments(parser)
    add_grid_arguments(parser)
    add_evaluation_files(parser)
    parser.add_argument(
        "--maps",
        action="store_true",
        help="also write the Jacobian determinant and the expected error (mm, NaN where not known) as volumes",
    )
    parser.add_argument(
        "--feature-preview",
        action="store_true",
        help="also write the first three components of the features as colours",
    )
    add_settings(parser, with_landmarks=True)


def add_evaluation_files(parser: argparse.ArgumentParser) -> None:
    """Declare the labels and landmarks of both volumes that a registration is measured with."""
    for side in ("fixed", "moving"):
        parser.add_argument(f"--{side}-labels", type=Path, help=f"label map of the {side} volume, to measure Dice")
        parser.add_argument(
            f"--{side}-landmarks",
            type=Path,
            help=f"points of the {side} volume (.mrk.json, .fcsv, .csv in LPS)",
        )
