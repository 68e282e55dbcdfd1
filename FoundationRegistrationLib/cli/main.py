"""The command line: `foundation-registration COMMAND`. For research, not a medical device."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import NoReturn

from ..errors import FoundationRegistrationError, OutputError, RegistrationCancelledError
from ..runtime.ending import leave
from ..runtime.interruption import Interruption, OneOfMany
from ..runtime.progress import ProgressCallback
from ..runtime.threads import limit_threads
from ..settings import Settings
from .apply import apply_command
from .cohort import cohort_command
from .cohort_cluster import workflow_command
from .cohort_worker import worker_command
from .compare import compare_command
from .dicom import dicom_command
from .export import export_command
from .files import check_earlier_results, prepare_files
from .kinetics import kinetics_command
from .parser import command_parser, complete_typing
from .phantom import phantom_command
from .series import series_command
from .shown_progress import json_line, shown_progress
from .terminal import lenient_streams, silenced
from .weights import weights_command

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
        parser = command_parser()
        complete_typing(parser)
        arguments = parser.parse_args(given, argparse.Namespace(given=given))
        with silenced() if getattr(arguments, "quiet", False) else nullcontext():
            code = _exit_code(arguments, interruption)
        problem = lost()
        if code == 0 and problem is not None and arguments.command not in ("register", "series"):
            msg = f"Standard output cannot be written ({problem.strerror}); free some space, or write elsewhere."
            _say_error(arguments, OutputError(msg))
            return _BAD_INPUT
        return code


def run() -> NoReturn:
    """Run the command of this process and end it."""
    leave(main())


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
        worker_command(command_parser(), _run_job, interruption)
        return 0
    if arguments.command == "workflow":
        workflow_command()
        return 0
    prepare_files(arguments)
    check_earlier_results(arguments)
    if getattr(arguments, "threads", None) is not None:
        limit_threads(arguments.threads)
    if arguments.command == "cohort":
        return cohort_command(arguments, interruption)
    if arguments.command == "compare":
        compare_command(arguments)
        return 0
    if arguments.command == "encoders":
        from .encoders import encoders_command

        encoders_command(arguments)
        return 0
    from ..io.dicom import headers_read_once
    from ..io.quiet import itk_silent

    with itk_silent(), headers_read_once():
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
    with shown_progress(progress) as report:
        done = weights_command(arguments, report, interruption)
    if progress == "json" and done is not None:
        json_line(done)


def _run_on_volumes(arguments: argparse.Namespace, interruption: Interruption) -> None:
    if arguments.command in ("register", "series"):
        from .register import register_command

        command = series_command if arguments.command == "series" else register_command
        kind = "none" if arguments.quiet and arguments.progress == "bar" else arguments.progress
        with shown_progress(kind, verbose=arguments.verbose) as report:
            command(arguments, report, interruption)
        if kind == "json" and not getattr(arguments, "dry_run", False):
            json_line({"event": "done", "output": str(arguments.output)})
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
        json_line({"event": "error", "kind": type(error).__name__, "message": message})
    sys.stderr.write(f"foundation-registration: {message}\n")
