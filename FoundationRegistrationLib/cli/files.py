"""Checks before a command runs: files it would overwrite, and unfinished commits in folders it reads."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from ..cohort.names import SUMMARY_FILES
from ..errors import InputError
from ..files.commit import check_name, settle
from ..files.digest import is_same_file, with_data
from ..files.results import RESULTS
from ..series.folders import SERIES_FOLDER, SUMMARY, frame_folders

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
# What `phantom dynamic` writes; the last ones only with more than six frames.
DYNAMIC_PHANTOM = (
    "series.nii.gz",
    "motion_free.nii.gz",
    "labels.nii.gz",
    "truth.json",
    *(f"displacement_{frame:02}.nii.gz" for frame in range(1, 30)),
)
_ALWAYS = ({*PHANTOM[:-1]}, {*DYNAMIC_PHANTOM[:9]})
# What `kinetics` writes, some of it only if there is a late frame or a mask. Maps are NRRD, since ITK and Slicer read
# NaN in NIfTI as 0.
KINETICS = (
    "subtraction.nrrd",
    "subtractions.seq.nrrd",
    "mip_axial.nrrd",
    "mip_coronal.nrrd",
    "mip_sagittal.nrrd",
    "wash_in.nrrd",
    "wash_out.nrrd",
    "ser.nrrd",
    "curves.csv",
    "kinetics.json",
)
_INTO_A_FOLDER = {
    "register": RESULTS,
    "series": (*SUMMARY, SERIES_FOLDER),
    "kinetics": KINETICS,
    "cohort": SUMMARY_FILES,
}
# Arguments that name what is written.
_WRITTEN = ("output", "dicom", "folder")


def prepare_files(arguments: argparse.Namespace) -> None:
    """Refuse a command that would overwrite its inputs, and finish interrupted commits in the folders it reads.

    Args:
        arguments: of the command line; their paths other than ``output`` and ``dicom`` are read.

    Raises:
        InputError: an output would overwrite an input or a file that this program did not make, or DICOM would be
            written among the files of an input.
        OutputError: an interrupted commit cannot be finished, or a name cannot be written.
    """
    inputs = {
        name: value for name, value in vars(arguments).items() if isinstance(value, Path) and name not in _WRITTEN
    }
    if getattr(arguments, "dicom", None) is not None:
        _check_dicom_apart(arguments.dicom, inputs)
    if getattr(arguments, "output", None) is not None:
        check_name(arguments.output)
        for name, path in inputs.items():
            _check_kept(arguments, name, path)
        if arguments.command == "phantom":
            _check_phantoms_folder(arguments.output)
    for name, path in inputs.items():
        settle(path if name == "registration" else path.parent)


def check_earlier_results(arguments: argparse.Namespace) -> None:
    """Refuse an output where results of an earlier run are, unless they are to be replaced.

    Cohorts and unfinished series go on from what is there.

    Raises:
        InputError: there are results.
    """
    output = getattr(arguments, "output", None)
    if output is None or getattr(arguments, "overwrite", True):
        return
    names = {**_INTO_A_FOLDER, "series": SUMMARY, "phantom": (*PHANTOM, *DYNAMIC_PHANTOM)}.get(arguments.command)
    there = [*with_data(output)] if names is None else [output / name for name in names]
    taken = next((path for path in there if os.path.lexists(path)), None)
    if taken is not None:
        where = f"'{taken}' exists" if names is None else f"'{output}' holds the results of another run"
        msg = f"{where}; choose another --output, or add --overwrite to replace what is there."
        raise InputError(msg)


def _check_phantoms_folder(folder: Path) -> None:
    """Allow only a phantom to be overwritten, recognised by having all of its files."""
    there = [name for name in (*PHANTOM, *DYNAMIC_PHANTOM) if os.path.lexists(folder / name)]
    if there and not any(files <= {*there} for files in _ALWAYS):
        msg = f"'{folder / there[0]}' is not from a phantom and would be overwritten; choose another --output."
        raise InputError(msg)


def _check_kept(arguments: argparse.Namespace, name: str, path: Path) -> None:
    output = arguments.output
    what = _called(name)
    results = _INTO_A_FOLDER.get(arguments.command)
    folder = output if results else output.parent
    if name != "registration" and os.path.isdir(path) and is_same_file(folder, path):  # noqa: PTH112 - takes any name
        msg = f"'{folder}' holds {what}, which is an input; choose another folder for the --output."
        raise InputError(msg)
    read = _results_in(path) if name == "registration" else [*with_data(path)]
    written = [output / result for result in results] if results else [*with_data(output)]
    for file in written:
        if any(is_same_file(file, other) for other in read):
            msg = f"'{file}' belongs to {what}, which is an input, and would be overwritten; choose another --output."
            raise InputError(msg)


def _check_dicom_apart(folder: Path, inputs: Mapping[str, Path]) -> None:
    """Refuse a folder for DICOM inside one that is read with its subfolders, which would then hold two series."""
    place = Path(os.path.realpath(folder))
    for name, path in inputs.items():
        if name != "registration" and any(is_same_file(parent, path) for parent in (place, *place.parents)):
            msg = f"'{folder}' lies in {_called(name)}, which is an input; choose a --dicom folder outside it."
            raise InputError(msg)


def _called(name: str) -> str:
    """Return how messages call an input, by the name of its argument."""
    is_option = name not in ("fixed", "moving", "registration", "series", "table")
    return f"the --{name.replace('_', '-')}" if is_option else f"the {name}"


def _results_in(folder: Path) -> list[Path]:
    """Return the files of a registration, or of all frames of a series, that may be there."""
    return [place / result for place in (folder, *frame_folders(folder).values()) for result in RESULTS]
