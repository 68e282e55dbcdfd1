"""The command line: `foundation-registration COMMAND`. For research, not a medical device."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import FoundationRegistrationError, OutputError, RegistrationCancelledError
from ..runtime.interruption import Interruption, OneOfMany
from ..runtime.progress import ProgressCallback, ProgressEvent
from ..settings import Settings
from .apply import add_apply_arguments, apply_command
from .cohort import add_cohort_arguments, cohort_command
from .cohort_cluster import workflow_command
from .cohort_worker import worker_command
from .compare import add_compare_arguments, compare_command
from .dicom import add_dicom_arguments, add_series_options, dicom_command
from .driving import add_driving_arguments
from .export import add_export_arguments, export_command
from .files import prepare_files
from .kinetics import add_kinetics_arguments, kinetics_command
from .phantom import add_phantom_arguments, phantom_command
from .series import add_series_arguments, series_command
from .settings_options import add_settings
from .terminal import lenient_streams
from .warped_grid import add_grid_arguments
from .weights import add_weights_arguments, weights_command

_BAD_INPUT = 2
_INTERRUPTED = 130
_SPACING = "working_spacing_mm"
_MEMORY_HINT = (
    "Not enough memory; close other programs, crop the volumes to the region of interest, or use a larger "
    "--working-spacing-mm."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.

    It is 0 if all is done, 1 if a pair of a cohort failed, 2 for bad input, 128 + signal number when interrupted.

    Args:
        argv: its arguments; if None, those of the process, which then does nothing else afterwards.
    """
    with lenient_streams() as lost, Interruption(to_the_end=argv is None) as interruption:
        given = sys.argv[1:] if argv is None else list(argv)
        arguments = _parser().parse_args(given, argparse.Namespace(given=given))
        code = _exit_code(arguments, interruption)
        problem = lost()
        if code == 0 and problem is not None and arguments.command not in ("register", "series"):
            msg = f"Standard output cannot be written ({problem.strerror}); free some space, or write elsewhere."
            _say_error(arguments, OutputError(msg))
            return _BAD_INPUT
        return code


def _exit_code(arguments: argparse.Namespace, interruption: Interruption) -> int:
    try:
        return _run(arguments, interruption)
    except RegistrationCancelledError as error:
        _say_error(arguments, error)
        return 128 + interruption.signal_number if interruption.signal_number else _INTERRUPTED
    except FoundationRegistrationError as error:
        _say_error(arguments, error)
        return _BAD_INPUT
    except (ImportError, MemoryError, OSError, RuntimeError) as error:  # libraries may fail to load
        from ..runtime.memory import speaks_of_memory

        if not speaks_of_memory(error):
            raise
        _say_error(arguments, FoundationRegistrationError(_memory_hint(arguments)))
        return _BAD_INPUT


def _run(arguments: argparse.Namespace, interruption: Interruption) -> int:
    """Run the command; libraries are imported here, after signal handling is set up, since that takes a while."""
    if arguments.command == "weights":
        _run_weights(arguments, interruption)
        return 0
    if arguments.command == "cohort-worker":
        worker_command(_parser(), _run_job, interruption)
        return 0
    if arguments.command == "workflow":
        workflow_command()
        return 0
    prepare_files(arguments)
    if arguments.command == "cohort":
        return cohort_command(arguments, interruption)
    if arguments.command == "compare":
        compare_command(arguments)
        return 0
    if arguments.command == "encoders":
        from .encoders import encoders_command

        encoders_command(arguments)
        return 0
    from ..io.quiet import itk_silent

    with itk_silent():
        _run_on_volumes(arguments, interruption)
    return 0


def _run_job(arguments: argparse.Namespace, report: ProgressCallback, guard: OneOfMany) -> None:
    """Run a command of a cohort: `register`, `apply` or `evaluate`."""
    from ..runtime.memory import check_limits, check_loading

    prepare_files(arguments)
    check_limits()
    check_loading()
    from ..features.source import keep_encoders
    from ..io.quiet import itk_silent
    from .register import register_command

    keep_encoders()
    with itk_silent():
        if arguments.command == "register":
            register_command(arguments, report, guard)
        elif arguments.command == "evaluate":
            from .evaluate import evaluate_command

            evaluate_command(arguments, guard)
        else:
            apply_command(arguments, guard)


def _run_weights(arguments: argparse.Namespace, interruption: Interruption) -> None:
    progress = getattr(arguments, "progress", "none")
    with _progress(progress) as report:
        done = weights_command(arguments, report, interruption)
    if progress == "json" and done is not None:
        _json_line(done)


def _run_on_volumes(arguments: argparse.Namespace, interruption: Interruption) -> None:
    if arguments.command in ("register", "series"):
        from .register import register_command

        command = series_command if arguments.command == "series" else register_command
        with _progress(arguments.progress) as report:
            command(arguments, report, interruption)
        if arguments.progress == "json":
            _json_line({"event": "done", "output": str(arguments.output)})
    elif arguments.command == "apply":
        apply_command(arguments, interruption)
    elif arguments.command == "dicom":
        dicom_command(arguments)
    elif arguments.command == "export":
        export_command(arguments, interruption)
    elif arguments.command == "evaluate":
        from .evaluate import evaluate_command

        evaluate_command(arguments, interruption)
    elif arguments.command == "kinetics":
        kinetics_command(arguments, interruption)
    else:
        phantom_command(arguments, interruption)


def _memory_hint(arguments: argparse.Namespace) -> str:
    """Return the advice for too little memory, without measures already taken."""
    largest = next(field.metadata["maximum"] for field in dataclasses.fields(Settings) if field.name == _SPACING)
    if (getattr(arguments, _SPACING, None) or 0.0) < largest:
        return _MEMORY_HINT
    return (
        "Not enough memory, even for the coarsest working grid; crop the volumes to the region of interest or "
        "resample them to larger voxels first, and check that their voxel spacing is in millimetres."
    )


def _say_error(arguments: argparse.Namespace, error: Exception) -> None:
    message = " ".join(str(error).split())
    if getattr(arguments, "progress", "") == "json":
        _json_line({"event": "error", "kind": type(error).__name__, "message": message})
    sys.stderr.write(f"foundation-registration: {message}\n")


def _json_line(content: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


@contextmanager
def _progress(kind: str) -> Iterator[ProgressCallback]:
    """Yield a function that shows progress as a bar, as JSON lines, or not at all."""
    if kind == "json":
        yield lambda event: _json_line({"event": "progress", **dataclasses.asdict(event)})
    elif kind == "bar":
        from tqdm import tqdm

        with tqdm(total=100, bar_format="{l_bar}{bar}| {elapsed}<{remaining}", leave=False) as bar:

            def show(event: ProgressEvent) -> None:
                bar.set_description_str(event.step, refresh=False)
                bar.update(round(100 * event.fraction) - bar.n)

            yield show
    else:
        yield lambda event: None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="foundation-registration",
        description="Register medical volumes with vision foundation encoders. For research, not a medical device.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_register(subparsers.add_parser("register", help="register a moving volume to a fixed one"))
    add_series_arguments(subparsers.add_parser("series", help="register the frames of a dynamic series"))
    add_cohort_arguments(subparsers.add_parser("cohort", help="register all pairs of a table"))
    add_compare_arguments(subparsers.add_parser("compare", help="compare the figures of two cohorts"))
    subparsers.add_parser("workflow", help="print where the Snakemake workflow of a cohort is")
    subparsers.add_parser("cohort-worker")  # without help: not for people
    add_apply_arguments(subparsers.add_parser("apply", help="apply a registration to an image, labels or landmarks"))
    add_export_arguments(subparsers.add_parser("export", help="write a registration for another program or as DICOM"))
    _add_evaluate(subparsers.add_parser("evaluate", help="measure a registration with labels or landmarks"))
    listing = subparsers.add_parser("encoders", help="list the encoders")
    form = listing.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs")
    form.add_argument("--markdown", action="store_true", help="as a table for a document")
    listing.add_argument(
        "--measure", nargs="*", metavar="NAME", help="measure these encoders on this machine, or all of them"
    )
    listing.add_argument("--device", default="auto", help="where to measure: auto, cpu, cuda, cuda:1, mps")
    add_weights_arguments(
        subparsers.add_parser("weights", help="list, download, check or remove weights of encoders")
    )
    add_dicom_arguments(subparsers.add_parser("dicom", help="list the series in a DICOM folder"))
    add_kinetics_arguments(subparsers.add_parser("kinetics", help="make kinetic maps of a dynamic series"))
    add_phantom_arguments(
        subparsers.add_parser("phantom", help="write a synthetic breast pair or dynamic series with its ground truth")
    )
    return parser


def _add_register(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("fixed", type=Path, help="fixed volume: the result lies in its space")
    parser.add_argument("moving", type=Path, help="moving volume: it is warped to the fixed one")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
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
    _add_evaluation_files(parser)
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


def _add_evaluation_files(parser: argparse.ArgumentParser) -> None:
    for side in ("fixed", "moving"):
        parser.add_argument(f"--{side}-labels", type=Path, help=f"label map of the {side} volume, to measure Dice")
        parser.add_argument(
            f"--{side}-landmarks",
            type=Path,
            help=f"points of the {side} volume (.mrk.json, .fcsv, .csv in LPS)",
        )


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("registration", type=Path, help="folder that `register` wrote")
    _add_evaluation_files(parser)
    parser.add_argument("--output", type=Path, help="JSON file to write as well")


if __name__ == "__main__":
    sys.exit(main())
