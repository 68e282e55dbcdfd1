"""`foundation-registration workflow`, and what `cohort` has for clusters."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..runtime.interruption import Interruption
from .cohort_needs import expected_needs
from .settings_options import given_settings
from .shown_progress import json_line
from .terminal import say

if TYPE_CHECKING:
    from ..cohort.plan import Plan
    from ..cohort.summary import Rows

_ALONE = ("no_resume", "redo", "evaluate_only", "summary_only")  # these do not go through a workflow
FAILED = 1  # exit code
_MOST_NAMED = 20
_GRACE_SECONDS = 30.0  # after a signal, since Snakemake cancels its jobs before it ends


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `cohort` for clusters."""
    parser.add_argument(
        "--summary-only", action="store_true", help="register nothing; write table, summary and page of what is there"
    )
    parser.add_argument(
        "--engine", choices=("own", "snakemake"), default="own", help="what shares the work out (default own)"
    )
    parser.add_argument(
        "--profile", default="local", help="for Snakemake: local (default), slurm, or a folder with a profile of it"
    )
    parser.add_argument(
        "--pairs-per-job", type=int, metavar="N", help="for Snakemake: pairs that one job registers (default 10)"
    )
    # For the workflow itself, so not told to people.
    parser.add_argument("--list-parts", type=int, metavar="N", help=argparse.SUPPRESS)
    parser.add_argument("--tidy-parts", action="store_true", help=argparse.SUPPRESS)


def workflow_command() -> None:
    """Print where the packaged workflow is."""
    from ..cohort.cluster.snakemake import SNAKEFILE

    sys.stdout.write(f"{SNAKEFILE}\n")


def list_parts(plan: Plan, output: Path, arguments: argparse.Namespace) -> int:
    """Print the markers of all parts as JSON; return 0."""
    from ..cohort.cluster.parts import part_markers, tidy_markers

    parts = part_markers(plan.pairs, at_least_one("--list-parts", arguments.list_parts))
    if arguments.tidy_parts:
        tidy_markers(output, parts, retry_failed=arguments.retry_failed)
    sys.stdout.write(json.dumps(list(parts)) + "\n")
    return 0


def write_summary(output: Path, rows: Rows, provenance: dict[str, Any], group: str, progress: str) -> int:
    """Write what describes the cohort as a whole, and name the pairs that are not done; return 1 if there are any."""
    from ..cohort.summary import write_summaries

    left = [row for row in write_summaries(output, rows, provenance, group) if row["state"] != "done"]
    if progress == "json":
        json_line({"event": "done", "output": str(output), "failed": len(left)})
    else:
        say(_told(left, output))
    return FAILED if left else 0


def _told(left: Sequence[dict[str, Any]], output: Path) -> Iterator[str]:
    for row in left[:_MOST_NAMED]:
        yield f"{row['name']}: {row['state']}{': ' + row['error'] if row.get('error') else ''}"
    if len(left) > _MOST_NAMED:
        yield f"and {len(left) - _MOST_NAMED} more"
    if not left:
        yield f"All pairs are done. See '{output / 'pairs.csv'}'."
    else:
        yield f"{len(left)} {'pair is' if len(left) == 1 else 'pairs are'} not done. See '{output / 'pairs.csv'}'."


def run_workflow(plan: Plan, output: Path, arguments: argparse.Namespace, interruption: Interruption) -> int:
    """Run the cohort with Snakemake; return 0, or 1 if a pair or a job failed."""
    from ..cohort.cluster.snakemake import prepare_workflow, run_snakemake

    others = [name for name in _ALONE if getattr(arguments, name)]
    if others or arguments.part != "1/1":
        option = "--" + (others or ["part"])[0].replace("_", "-")
        msg = f"{option} does not go with --engine snakemake; give it without --engine."
        raise InputError(msg)
    size = arguments.pairs_per_job
    words = prepare_workflow(
        _source(arguments),
        output,
        list(_options(arguments)),
        arguments.profile,
        arguments.jobs,
        None if size is None else at_least_one("--pairs-per-job", size),
        expected_needs(plan.pairs),
    )
    interruption.grace_seconds = _GRACE_SECONDS
    return FAILED if run_snakemake(words, interruption.requested) else 0


def _source(arguments: argparse.Namespace) -> list[str]:
    """Return the words that say which pairs there are."""
    if arguments.bids is None:
        return [str(arguments.table.absolute())]
    further = [f"--with={text}" for text in arguments.further]
    return [
        f"--bids={arguments.bids.absolute()}",
        f"--fixed={arguments.fixed}",
        f"--moving={arguments.moving}",
        *further,
    ]


def _options(arguments: argparse.Namespace) -> Iterator[str]:
    """Yield the options that each part gets."""
    if arguments.settings:
        yield f"--settings={arguments.settings.absolute()}"
    for name, value in given_settings(arguments).items():
        yield f"--{name.replace('_', '-')}={value}"
    if arguments.group:
        yield f"--group={arguments.group}"
    if arguments.retry_failed:
        yield "--retry-failed"


def at_least_one(option: str, value: int) -> int:
    """Return the value of an option that counts something.

    Raises:
        InputError: it is 0 or less.
    """
    if value < 1:
        msg = f"{option} is {value}; give at least 1."
        raise InputError(msg)
    return value
