"""Checks before a command runs: files it would overwrite, and unfinished commits in folders it reads."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError
from ..files.commit import check_name, settle
from ..files.results import RESULTS

# What `phantom` writes into its folder; the last one only with a PET.
PHANTOM = (
    "fixed.nii.gz",
    "moving.nii.gz",
    "fixed_labels.nii.gz",
    "moving_labels.nii.gz",
    "displacement.nii.gz",
    "fixed_landmarks.mrk.json",
    "moving_landmarks.mrk.json",
    "pet.nii.gz",
)
# Arguments that name what is written.
_WRITTEN = ("output", "dicom", "folder")
# Formats in two files, of which only one is named.
_HEADERS_AND_DATA = ((".hdr", ".img", ".img.gz"), (".mhd", ".raw", ".zraw"), (".nhdr", ".raw", ".raw.gz"))


def prepare_files(arguments: argparse.Namespace) -> None:
    """Refuse a command that would overwrite its inputs, and finish interrupted commits in the folders it reads.

    Args:
        arguments: of the command line; their paths other than ``output`` and ``dicom`` are read.

    Raises:
        InputError: an output would overwrite an input or a file that this program did not make.
        OutputError: an interrupted commit cannot be finished, or a name cannot be written.
    """
    inputs = {
        name: value for name, value in vars(arguments).items() if isinstance(value, Path) and name not in _WRITTEN
    }
    if getattr(arguments, "output", None) is not None:
        check_name(arguments.output)
        for name, path in inputs.items():
            _check_kept(arguments, name, path)
        if arguments.command == "phantom":
            _check_phantoms_folder(arguments.output)
    for name, path in inputs.items():
        settle(path if name == "registration" else path.parent)


def _check_phantoms_folder(folder: Path) -> None:
    """Allow only a phantom to be overwritten, recognised by having all of its files."""
    there = [name for name in PHANTOM if os.path.lexists(folder / name)]
    if there and not {*PHANTOM[:-1]} <= {*there}:
        msg = f"'{folder / there[0]}' is not from a phantom and would be overwritten; choose another --output."
        raise InputError(msg)


def _check_kept(arguments: argparse.Namespace, name: str, path: Path) -> None:
    output = arguments.output
    what = f"the {name}" if name in ("fixed", "moving", "registration") else f"the --{name.replace('_', '-')}"
    folder = output if arguments.command == "register" else output.parent
    if name != "registration" and os.path.isdir(path) and _same(folder, path):  # noqa: PTH112 - takes any name
        msg = f"'{folder}' holds {what}, which is an input; choose another folder for the --output."
        raise InputError(msg)
    read = [path / result for result in RESULTS] if name == "registration" else [*_with_data(path)]
    written = [output / result for result in RESULTS] if arguments.command == "register" else [*_with_data(output)]
    for file in written:
        if any(_same(file, other) for other in read):
            msg = f"'{file}' belongs to {what}, which is an input, and would be overwritten; choose another --output."
            raise InputError(msg)


def _with_data(path: Path) -> Iterator[Path]:
    yield path
    for endings in _HEADERS_AND_DATA:
        for ending in endings:
            if path.name.lower().endswith(ending):
                yield from (path.with_name(path.name[: -len(ending)] + other) for other in endings)


def _same(first: Path, second: Path) -> bool:
    """Whether two names are the same file, also through links or on a case-insensitive file system."""
    try:
        return first.samefile(second)
    except OSError:
        return False
