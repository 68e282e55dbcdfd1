"""`foundation-registration dicom`, and the options that choose a DICOM series."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .terminal import say

if TYPE_CHECKING:
    from ..io.dicom.listing import SeriesFacts


def add_dicom_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions of the command and their options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="list the image series in a folder, and whether each can be read")
    listing.add_argument("folder", type=Path, help="folder of a study, with subfolders")
    listing.add_argument("--json", action="store_true", help="for programs")


def add_series_options(parser: argparse.ArgumentParser, *volumes: str) -> None:
    """Declare, for each of these arguments, the option that chooses a series if it is a DICOM folder."""
    for volume in volumes:
        parser.add_argument(
            f"--{volume}-series",
            metavar="SERIES",
            help=f"series of the {volume} DICOM folder: number, UID (or the beginning) or description (or a part)",
        )


def add_dicom_series_option(parser: argparse.ArgumentParser) -> None:
    """Declare the option that chooses a dynamic series in a DICOM folder."""
    parser.add_argument(
        "--dicom-series",
        metavar="SERIES",
        help="of a DICOM folder: number, UID (or the beginning) or description (or a part) of the series",
    )


def check_series_options(arguments: argparse.Namespace, *volumes: str) -> None:
    """Refuse a series that is chosen of a volume that is not given.

    Raises:
        InputError: there is one.
    """
    for volume in volumes:
        if getattr(arguments, f"{volume}_series") is not None and getattr(arguments, volume) is None:
            msg = f"--{volume}-series chooses a series of --{volume}, which is not given; give both, or neither."
            raise InputError(msg)


def dicom_command(arguments: argparse.Namespace) -> None:
    """List the series in a folder."""
    from ..io.dicom.listing import list_series
    from ..io.paths import called, check_input

    name = called("folder", arguments.folder)
    check_input(arguments.folder, "folder")
    if not arguments.folder.is_dir():
        msg = f"{name} is a file; give the folder it is in."
        raise InputError(msg)
    messages: list[str] = []
    try:
        series = list_series(arguments.folder, messages)
    except InputError as error:
        msg = f"{name} {error}"
        raise InputError(msg) from error
    say(f"{name} {message}" for message in messages)
    if arguments.json:
        print(json.dumps([dataclasses.asdict(facts) for facts in series], indent=2))  # noqa: T201 - the answer
        return
    if not series:
        msg = f"{name} holds no DICOM images."
        raise InputError(msg)
    for facts in series:
        print(_line(facts))  # noqa: T201 - the answer of a command


def _line(facts: SeriesFacts) -> str:
    size = " x ".join(map(str, facts.size))
    spacing = " x ".join(f"{mm:.4g}" for mm in facts.spacing_mm)
    volumes = f"{facts.volumes} volumes by {facts.differ_in}" if facts.volumes > 1 else "1 volume"
    what = f"{spacing} mm, {volumes}" if facts.volumes else "no volume"
    name = f"{facts.number or '-':>4s}  {facts.modality:4s} {size:>16s}  {what}  '{facts.description}'"
    problem = f"\n{'':6s}not readable: it {facts.problem}" if facts.problem else ""
    return f"{name}  UID {facts.uid_beginning}{problem}"
