"""Run the methods on the cases, which is a cohort with a row for each method and case, then write the tables.

    make benchmark
    PYTHONPATH=Testing/benchmarks python -m comparison --only hard-lesion --methods raw affine ants-syn --output out

OUTPUT/comparison is a folder as `foundation-registration cohort` writes it, with cohort.csv, the table of what was
run: its page shows and plots every run, `compare` takes it. What is done there is not done again, so the command goes
on where it was stopped, and --summary makes the tables, comparison.md, of what is there at any time. With --quick it
is OUTPUT/comparison-quick, for a first look at few coarse phantoms of the development seeds; what else is given on
the command line holds there too.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from FoundationRegistrationLib import __version__
from FoundationRegistrationLib.cli.cohort_progress import shown
from FoundationRegistrationLib.cohort.runner import Cohort
from FoundationRegistrationLib.cohort.summary import Rows, write_summaries
from FoundationRegistrationLib.cohort.workers import Worker
from FoundationRegistrationLib.runtime.interruption import Interruption
from FoundationRegistrationLib.runtime.versions import versions

from .case import CaseSource
from .cases import case_sources
from .methods import QUICK_METHODS, Method, chosen_methods
from .phantoms import SEEDS, SPACING_MM
from .records import NOT_AVAILABLE, Record, records_of
from .runner import Limits
from .summary import write_summary
from .table import prepare_case, read_trials, write_table
from .trial import COLUMNS, Trial
from .worker import benchmark_worker

_LOGGER = logging.getLogger("comparison")
_GROUP = "method"  # column of the table by which the summary groups
_QUICK = {
    "only": ["hard-"],
    "seeds": [(100, 101, 102)],
    "spacing_mm": 4.0,
    "methods": [method.name for method in QUICK_METHODS],
}


def main() -> int:
    """Read the command line and do as it says; return 0, or 1 if a run failed."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    methods = chosen_methods(arguments.methods)
    seeds = tuple(dict.fromkeys(seed for part in arguments.seeds for seed in part))
    listed = case_sources(arguments.data, arguments.peers, seeds, arguments.spacing_mm)
    sources = [source for source in listed if any(part in source.name for part in arguments.only)]
    if arguments.list:
        for source in sources:
            _LOGGER.info("%s%s", source.name, f" ({source.missing})" if source.missing else "")
        for method in methods:
            _LOGGER.info("%s", method.name)
        return 0
    folder = (arguments.output / ("comparison-quick" if arguments.quick else "comparison")).absolute()
    runnable, unavailable = _divided(sources, methods, arguments.peers)
    failed, trials = 0, []
    if runnable:
        if not arguments.summary:
            for source in dict.fromkeys(source for source, _ in runnable):
                prepare_case(folder, source, again=arguments.again)
        write_table(folder, runnable)
        trials, titles = read_trials(folder, arguments.peers, Limits(arguments.time_limit, arguments.threads))
        rows = Rows(folder, trials, titles)
        if arguments.summary:
            write_summaries(folder, rows, _provenance(), _GROUP)
        else:
            failed = _run(
                folder, trials, rows, benchmark_worker(arguments, seeds, folder / "starts"), arguments.again
            )
    write_summary(records_of(folder, trials, unavailable), folder)
    _LOGGER.info("%s", folder / "comparison.md")
    return 1 if failed else 0


def _divided(
    sources: Sequence[CaseSource], methods: Sequence[Method], peers: Path
) -> tuple[list[tuple[CaseSource, Method]], list[Record]]:
    """Return cases and methods that can be run here, and a record with the reason for each that cannot."""
    runnable, unavailable = [], []
    for source in sources:
        for method in methods:
            reason = source.missing or method.why_not_here(peers)
            if (method.needs_lesion and not source.has_lesion) or (method.is_truth and not source.has_ceiling):
                continue
            if reason:
                told = dict(zip(COLUMNS, (source.name, source.group, method.name, method.label), strict=True))
                unavailable.append({**told, "status": NOT_AVAILABLE, "reason": reason})
            else:
                runnable.append((source, method))
    return runnable, unavailable


def _run(folder: Path, trials: Sequence[Trial], rows: Rows, worker: Worker, again: bool) -> int:
    """Run what is not done, one after another, and return how many failed."""
    cohort = Cohort(folder, trials, rows, resume=not again)
    with Interruption() as interruption, shown("none", folder, len(trials)) as tell:
        cohort.run([worker], _provenance(), _GROUP, tell, interruption.requested)
    return cohort.counts["failed"] + cohort.counts["still failed"]


def _provenance() -> dict[str, Any]:
    return {"command": ["comparison", *sys.argv[1:]], "versions": versions(__version__)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="comparison", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the real volumes")
    parser.add_argument("--output", type=Path, default=Path("out"), help="results go to its folder comparison")
    parser.add_argument(
        "--peers", type=Path, default=Path(sys.prefix) / "peers", help="where other programs are installed"
    )
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="PART", help="only cases whose name contains one of these"
    )
    parser.add_argument("--methods", nargs="*", default=[], metavar="NAME", help="only these methods")
    parser.add_argument(
        "--seeds", nargs="+", type=_seeds, default=[SEEDS], metavar="N", help="of the phantoms, such as 100-102 105"
    )
    parser.add_argument("--spacing-mm", type=float, default=SPACING_MM, help="voxel size the phantoms are drawn at")
    parser.add_argument("--threads", type=int, default=2, help="threads of each run")
    parser.add_argument("--time-limit", type=float, default=900.0, help="seconds of each run")
    parser.add_argument("--again", action="store_true", help="run also what is done")
    parser.add_argument("--quick", action="store_true", help="three coarse phantoms a task, and the faster methods")
    parser.add_argument("--summary", action="store_true", help="run nothing; tables of what is there")
    parser.add_argument("--list", action="store_true", help="name cases and methods, and end")
    if parser.parse_args().quick:
        parser.set_defaults(**_QUICK)
    arguments = parser.parse_args()
    try:
        chosen_methods(arguments.methods)
    except ValueError as error:
        parser.error(str(error))
    return arguments


def _seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of "7" or "100-102"."""
    first, _, last = text.partition("-")
    return tuple(range(int(first), int(last or first) + 1))


if __name__ == "__main__":
    sys.exit(main())
