"""`foundation-registration cohort`."""

from __future__ import annotations

import argparse
import os
import platform
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import InputError
from ..runtime.interruption import Interruption
from .cohort_cluster import FAILED, add_cluster_arguments, at_least_one, list_parts, run_workflow, write_summary
from .cohort_progress import shown
from .settings_options import add_settings, given_settings
from .shown_progress import json_line
from .terminal import say

if TYPE_CHECKING:
    from ..cohort.bids.dataset import BidsDataset
    from ..cohort.plan import Pair, Plan


def add_cohort_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "table", type=Path, nargs="?", help="CSV or TSV with a row for each pair: fixed, moving and more"
    )
    parser.add_argument("--bids", type=Path, metavar="ROOT", help="a BIDS dataset instead of a table")
    for side in ("fixed", "moving"):
        parser.add_argument(f"--{side}", metavar="NAME", help=f"its {side} files: ses-01_T1w, or other entities")
    parser.add_argument(
        "--with",
        dest="further",
        action="append",
        default=[],
        metavar="COLUMN=NAME",
        help="other files of the dataset or its derivatives, by column of a table: fixed_labels=ses-01_dseg",
    )
    parser.add_argument("--output", type=Path, help="folder for the results, a folder in it for each pair")
    parser.add_argument("--validate", action="store_true", help="only check the table, and say what was found")
    parser.add_argument("--jobs", type=int, metavar="N", help="pairs at the same time (default 1)")
    parser.add_argument("--part", default="1/1", metavar="I/N", help="only every N-th pair, from the I-th")
    parser.add_argument("--no-resume", action="store_true", help="register again what is done already")
    parser.add_argument(
        "--redo", type=Path, metavar="FILE", help="only the pairs rated `redo` in this file, which the page has saved"
    )
    parser.add_argument("--retry-failed", action="store_true", help="also try again what failed in an earlier run")
    parser.add_argument(
        "--evaluate-only", action="store_true", help="register nothing; measure again with the labels and landmarks"
    )
    parser.add_argument("--group", default="", metavar="COLUMN", help="column to group the figures of the summary by")
    add_cluster_arguments(parser)
    add_settings(parser, with_landmarks=True)


def cohort_command(arguments: argparse.Namespace, interruption: Interruption) -> int:
    """Register the pairs of a table; return 0, or 1 if any failed."""
    from ..cohort.bids.derivative import check_output
    from ..cohort.figures import COLUMNS
    from ..cohort.plan import plan_cohort, share
    from ..cohort.runner import Cohort, prepare_folder
    from ..cohort.summary import Rows
    from ..cohort.table import read_table
    from ..cohort.workers import COMMAND, Worker, environments
    from ..settings import read_settings_file

    number, count = _part(arguments.part)
    jobs = 1 if arguments.jobs is None else at_least_one("--jobs", arguments.jobs)
    from_file = read_settings_file(arguments.settings) if arguments.settings else {}
    dataset = _dataset(arguments)
    table = read_table(arguments.table, COLUMNS) if dataset is None else dataset.table(COLUMNS)
    plan = plan_cohort(table, given_settings(arguments), from_file)
    group = _group(arguments.group, plan)
    if arguments.validate:
        say(_found(plan))
        return 0
    if arguments.output is None:
        msg = "Give --output: the folder for the results; or --validate to check the table only."
        raise InputError(msg)
    output = arguments.output.absolute()
    if dataset is not None:
        check_output(dataset, output)
    prepare_folder(output, plan.pairs)
    if arguments.list_parts is not None:
        return list_parts(plan, output, arguments)
    if arguments.engine == "snakemake":
        return run_workflow(plan, output, arguments, interruption)
    pairs = share(plan.pairs if arguments.redo is None else _rated_redo(arguments.redo, plan), number, count)
    rows = Rows(output, plan.pairs, plan.table.copied, dataset)
    if plan.table.left_out and arguments.progress != "json":
        say(_left_out(plan))
    if arguments.summary_only:
        return write_summary(output, rows, _provenance(plan, arguments.given), group, arguments.progress)
    cohort = Cohort(
        output,
        pairs,
        rows,
        resume=not arguments.no_resume and arguments.redo is None,
        retry_failed=arguments.retry_failed,
        evaluate_only=arguments.evaluate_only,
    )
    jobs = max(1, min(jobs, len(pairs)))
    with_gpus = all(pair.settings["device"] in ("auto", "cuda") for pair in pairs)
    workers = [Worker(COMMAND, environment) for environment in environments(jobs, with_gpus)]
    with shown(arguments.progress, output, len(pairs)) as tell:
        cohort.run(workers, _provenance(plan, arguments.given), group, tell, interruption.requested)
    counts = cohort.counts
    failed = counts["failed"] + counts["still failed"]
    if arguments.progress == "json":
        json_line({"event": "done", "output": str(output), "failed": failed, "counts": dict(counts)})
    else:
        say(_conclusion(counts, failed, output, arguments.evaluate_only))
    return FAILED if failed else 0


def _dataset(arguments: argparse.Namespace) -> BidsDataset | None:
    """Return the BIDS dataset that was given; None if it is a table.

    Raises:
        InputError: neither or both were given, or not all options of a dataset.
    """
    from ..cohort.bids.dataset import BidsDataset

    of_dataset = (arguments.bids, arguments.fixed, arguments.moving)
    if arguments.table is not None and all(given is None for given in of_dataset) and not arguments.further:
        return None
    if arguments.table is not None or any(given is None for given in of_dataset):
        msg = "Give either a table, or --bids, --fixed and --moving: a BIDS dataset and which files to register."
        raise InputError(msg)
    return BidsDataset.given(*of_dataset, arguments.further)


def _left_out(plan: Plan) -> Iterator[str]:
    yield from (f"left out: {reason}" for reason in plan.table.left_out)


def _part(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    number, count = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= count:
        msg = f"--part is '{text[:40]}'; give the number of a part and of all parts, such as 1/3."
        raise InputError(msg)
    return number, count


def _rated_redo(path: Path, plan: Plan) -> list[Pair]:
    """Return the pairs that a reader wants to be registered again."""
    from ..cohort.page import read_ratings

    wanted = {name for name, rating, _ in read_ratings(path) if rating == "redo"}
    if not wanted:
        msg = f"'{path}' rates no pair `redo`; rate pairs on the page of the cohort, and save its ratings."
        raise InputError(msg)
    unknown = sorted(wanted - {pair.name for pair in plan.pairs})
    if unknown:
        msg = f"'{path}' rates '{unknown[0][:40]}', which is not in the table; give the table of that cohort."
        raise InputError(msg)
    return [pair for pair in plan.pairs if pair.name in wanted]


def _group(title: str, plan: Plan) -> str:
    """Return the title of a copied column as the table spells it; empty for none."""
    from ..cohort.table import column_of

    found = next((copied for copied in plan.table.copied if column_of(copied) == column_of(title)), "")
    if title and not found:
        others = ", ".join(plan.table.copied) or "none"
        msg = f"--group is '{title[:40]}', which is no further column of the table; its further columns: {others}."
        raise InputError(msg)
    return found


def _found(plan: Plan) -> Iterator[str]:
    """Yield what the table says, for a person to check."""
    from ..cohort.plan import columns_used

    yield f"{len(plan.pairs)} pairs, and all their files are there."
    for column, count in columns_used(plan).items():
        yield f"{column}: {count} of {len(plan.pairs)}"
    yield from _left_out(plan)
    yield f"copied to the summary only: {', '.join(plan.table.copied) or 'nothing'}"
    yield f"preset: {plan.settings.preset}, encoder: {'+'.join(plan.settings.encoders) or 'none'}"


def _provenance(plan: Plan, command: Sequence[str]) -> dict[str, Any]:
    """Return where the results come from, as plain values, without the names of machine and user."""
    from ..runtime.memory import total_memory_bytes
    from ..runtime.versions import versions

    return {
        "command": ["foundation-registration", *command],
        "table": {
            "path": str(plan.table.path),
            "sha256": plan.table.sha256,
            "pairs": len(plan.pairs),
            "left_out": list(plan.table.left_out),
        },
        "settings": plan.settings.to_dict(),
        "versions": versions(__version__),
        "machine": {
            "system": platform.system(),
            "release": platform.release(),
            "processor": platform.machine(),
            "processors": os.cpu_count(),
            "memory_bytes": total_memory_bytes(),
        },
    }


def _conclusion(counts: dict[str, int], failed: int, output: Path, evaluated: bool) -> Iterator[str]:
    words = {
        "done": "evaluated now" if evaluated else "registered now",
        "kept": "done before and kept",
        "failed": "failed now",
        "still failed": "failed before with the same inputs, and are tried again only with --retry-failed",
        "not registered": "not registered with these inputs and settings, so left out",
        "held": "left to another run, which works on them",
    }
    told = [f"{counts[kind]} {word}" for kind, word in words.items() if counts[kind]]
    yield f"{'; '.join(told) or 'No pair is in this part'}. See '{output / 'pairs.csv'}'."
    if failed:
        yield f"{failed} {'pair' if failed == 1 else 'pairs'} failed; each reason is in that table, and in log.txt."
