"""`foundation-registration export`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, OutputError
from ..runtime.interruption import Interruption
from ..series.folders import frame_folders
from .dicom_inputs import DIFFERENT_PATIENTS, check_frame, read_dicom_input
from .files import prepare_files
from .terminal import say

if TYPE_CHECKING:
    from ..exchange.formats import Format, Registration

_FORMATS = ("itk", "fsl", "niftyreg", "dicom")
_SIDES = ("fixed", "moving")


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("registration", type=Path, help="folder that `register` wrote")
    parser.add_argument("--format", choices=_FORMATS, required=True, help="ITK and ANTs, FSL, NiftyReg, or DICOM")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    parser.add_argument("--linear", action="store_true", help="only the linear transform before the deformation")
    parser.add_argument(
        "--direction",
        choices=("forward", "inverse"),
        default="forward",
        help="forward: what resamples the moving volume onto the fixed one (default); inverse: the reverse",
    )
    for side in _SIDES:
        parser.add_argument(
            f"--{side}",
            type=Path,
            help=f"{side} volume: the NIfTI file that FSL gets, or the DICOM series, if not the registered file",
        )
    parser.add_argument(DIFFERENT_PATIENTS, action="store_true", help="allow DICOM series with different patient IDs")


def export_command(arguments: argparse.Namespace, interruption: Interruption) -> None:
    """Write a finished registration in the format of another program."""
    from ..pipeline.record import read_recorded_run

    recorded = read_recorded_run(arguments.registration / "report.json")
    inputs = {} if recorded is None else recorded.inputs
    messages: list[str] = []
    transform = _transform(arguments)
    if arguments.format == "dicom":
        _export_dicom(arguments, transform, inputs, messages, interruption)
    else:
        _export_file(arguments, transform, inputs, messages, interruption)
    say(messages)


def _transform(arguments: argparse.Namespace) -> Any:
    """Return the transform to be written, in the direction that was asked for."""
    from ..io.transforms import read_transform

    folder, inverse = arguments.registration, arguments.direction == "inverse"
    if (frames := frame_folders(folder)) and not (folder / "transform.h5").exists():
        msg = f"'{folder}' holds the frames of a series; give one of them, such as '{frames[max(frames)]}'."
        raise InputError(msg)
    if not arguments.linear:
        return read_transform(folder / ("inverse.h5" if inverse else "transform.h5"))
    transform = read_transform(folder / "transform.h5")
    if not transform.IsLinear():
        transform = read_transform(folder / "initial_transform.h5")
    if not transform.IsLinear():
        msg = "The registration started from a transform that is not linear; export it without --linear."
        raise InputError(msg)
    return transform.GetInverse() if inverse else transform


def _export_file(
    arguments: argparse.Namespace,
    transform: Any,
    inputs: Mapping[str, Mapping[str, Any]],
    messages: list[str],
    interruption: Interruption,
) -> None:
    from ..exchange.formats import FORMATS
    from ..files.outputs import staged_folder

    form = FORMATS[arguments.format]
    form.check_name(arguments.output, transform)
    registration = _registration(arguments, form, transform, inputs, messages)
    with staged_folder(arguments.output.parent, interruption) as staging:
        form.write(registration, staging / arguments.output.name)


def _registration(
    arguments: argparse.Namespace,
    form: Format,
    transform: Any,
    inputs: Mapping[str, Mapping[str, Any]],
    messages: list[str],
) -> Registration:
    """Return a registration with the grids of both volumes, which change roles in the inverse direction."""
    from ..exchange.formats import Registration
    from ..io.nifti import has_niftis_name
    from ..io.volumes import read_volume
    from ..pipeline.record import recorded_grids

    grids = recorded_grids(arguments.registration / "report.json")
    for side in _SIDES:
        given = getattr(arguments, side)
        path = given or Path(inputs.get(side, {}).get("path", ""))
        if form.belongs_to_niftis and not has_niftis_name(path):
            msg = (
                f"{form.title} counts voxels of NIfTI files; give the NIfTI file of the {side} volume that it will "
                f"get with --{side}."
            )
            raise InputError(msg)
        if given is not None:
            grids[side] = read_volume(given, side, messages)
        elif side not in grids:
            msg = f"The registration does not record the grid of the {side} volume; give it with --{side}."
            raise InputError(msg)
    target, source = _roles(arguments)
    return Registration(transform, grids[target], grids[source])


def _export_dicom(
    arguments: argparse.Namespace,
    transform: Any,
    inputs: Mapping[str, Mapping[str, Any]],
    messages: list[str],
    interruption: Interruption,
) -> None:
    from ..exchange.dicom_objects import check_one_patient, write_object
    from ..exchange.registration_objects import registration_object
    from ..files.outputs import staged_folder

    if arguments.output.suffix.lower() != ".dcm":
        msg = f"'{arguments.output.name}' is not a name of a DICOM file; end it in .dcm."
        raise OutputError(msg)
    chosen: dict[str, str | None] = dict.fromkeys(_SIDES)
    for side in _SIDES:
        if getattr(arguments, side) is None:
            recorded = inputs.get(side, {})
            if recorded.get("path") is None:
                msg = f"The registration does not record its {side} file; give the DICOM series with --{side}."
                raise InputError(msg)
            setattr(arguments, side, Path(recorded["path"]))
            chosen[side] = recorded.get("series")  # of a study with several
    prepare_files(arguments)  # again, with the recorded files
    series = {side: read_dicom_input(getattr(arguments, side), side, f"--{side}", chosen[side]) for side in _SIDES}
    for side in _SIDES:
        check_frame(series[side], inputs.get(side, {}), side, side)
    if not arguments.allow_different_patients:
        check_one_patient(series["fixed"], series["moving"], f"check them, or add {DIFFERENT_PATIENTS}")
    target, source = _roles(arguments)
    content = registration_object(transform, series[target], series[source], messages)
    with staged_folder(arguments.output.parent, interruption) as staging:
        write_object(content, staging / arguments.output.name)


def _roles(arguments: argparse.Namespace) -> tuple[str, str]:
    """Return the sides that the transform maps from and to."""
    return _SIDES if arguments.direction == "forward" else ("moving", "fixed")
