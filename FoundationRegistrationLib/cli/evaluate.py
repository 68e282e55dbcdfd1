"""`foundation-registration evaluate`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..errors import InputError
from ..files.private_folders import CommitGuard
from .evaluation_table import evaluation_lines
from .inputs import read_evaluation_inputs
from .register_options import add_evaluation_files
from .terminal import say


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("registration", type=Path, help="folder that `register` wrote")
    add_evaluation_files(parser)
    parser.add_argument("--output", type=Path, help="JSON file to write as well")
    parser.add_argument("--json", action="store_true", help="for programs")


def evaluate_command(arguments: argparse.Namespace, interruption: CommitGuard) -> None:
    """Evaluate a finished registration with labels or landmarks."""
    from ..evaluation.accuracy import evaluate
    from ..files.outputs import staged_folder, write_json
    from ..io.transforms import read_transform
    from ..pipeline.record import recorded_driving, recorded_grids

    messages: list[str] = []
    report = arguments.registration / "report.json"
    grids = recorded_grids(report)
    inputs = read_evaluation_inputs(arguments, messages, grids)
    transform = read_transform(arguments.registration / "transform.h5")
    evaluation = evaluate(transform, inputs.labels, inputs.landmarks, recorded_driving(report))
    if not evaluation:
        msg = "Give --fixed-labels and --moving-labels, or --fixed-landmarks and --moving-landmarks."
        raise InputError(msg)
    if messages:
        evaluation["messages"] = messages
    if arguments.output:
        with staged_folder(arguments.output.parent, interruption) as staging:
            write_json(staging / arguments.output.name, evaluation)
    say(messages)
    text = json.dumps(evaluation, indent=2) if arguments.json else "\n".join(evaluation_lines(evaluation))
    print(text)  # noqa: T201 - the answer of a command
