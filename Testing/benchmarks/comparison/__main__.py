"""Run the methods on the cases that are still missing, then write tables and plots.

    make benchmark
    PYTHONPATH=Testing/benchmarks python -m comparison --only hard-lesion --methods raw affine ants-syn --output out

Each record appears in OUTPUT/comparison/records as soon as its run has ended; runs found there are not made again, so
the command goes on where it was stopped, and --summary makes tables and plots of what is there at any time. With
--quick it is OUTPUT/comparison-quick, for a first look at few coarse phantoms of the development seeds; what else is
given on the command line holds there too.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import SimpleITK as sitk

from FoundationRegistrationLib.errors import FoundationRegistrationError

from .case import Case, CaseSource
from .cases import case_sources
from .measure import measure
from .methods import QUICK_METHODS, Method, chosen_methods
from .phantoms import SEEDS, SPACING_MM
from .records import DONE, FAILED, NOT_AVAILABLE, is_there, read_records, record_path, write_record
from .runner import Limits, run_method
from .start import starting_affine
from .summary import write_summary

_LOGGER = logging.getLogger("comparison")
_QUICK = {
    "only": ["hard-"],
    "seeds": [(100, 101, 102)],
    "spacing_mm": 4.0,
    "methods": [method.name for method in QUICK_METHODS],
}


def main() -> None:
    """Read the command line and do as it says."""
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
        return
    folder = arguments.output / ("comparison-quick" if arguments.quick else "comparison")
    limits = Limits(arguments.time_limit, arguments.threads)
    for source in () if arguments.summary else sources:
        run_case(source, methods, folder, arguments.peers, limits, again=arguments.again)
    order = {source.name: place for place, source in enumerate(listed)}  # other seeds do not enter the tables
    records = [record for record in read_records(folder / "records") if record["case"] in order]
    write_summary(sorted(records, key=lambda record: order[record["case"]]), folder)
    _LOGGER.info("%s", folder / "comparison.md")


def run_case(
    source: CaseSource, methods: list[Method], folder: Path, peers: Path, limits: Limits, *, again: bool = False
) -> None:
    """Run the methods whose record of a case is missing, and write a record for each, whatever happens."""
    case: Case | None = None
    for method in methods:
        path = record_path(folder / "records", source.name, method.name)
        if (is_there(path) and not again) or (method.needs_lesion and not source.has_lesion):
            continue
        why_not = source.missing or method.why_not_here(peers)
        if why_not:
            write_record(path, source, method, peers, NOT_AVAILABLE, reason=why_not)
            _LOGGER.info("%s, %s: not available: %s", source.name, method.name, why_not)
            continue
        if case is None:
            case = source.build()
            start = starting_affine(case, folder / "starts" / f"{source.name}.tfm")
        _run_and_record(source, case, start, method, path, peers, limits)


def _run_and_record(
    source: CaseSource,
    case: Case,
    start: sitk.AffineTransform,
    method: Method,
    path: Path,
    peers: Path,
    limits: Limits,
) -> None:
    outcome = run_method(method, case, start, peers, limits)
    measured, reason = {}, outcome.reason
    if outcome.transform is not None:
        try:
            measured = measure(case, start, outcome.transform)
        except (FoundationRegistrationError, RuntimeError) as error:
            reason = f"its transform cannot be measured: {error}"
    status = FAILED if reason else DONE
    write_record(
        path,
        source,
        method,
        peers,
        status,
        reason=reason,
        seconds=outcome.seconds,
        cpu_seconds=outcome.cpu_seconds,
        peak_memory_mb=outcome.peak_memory_bytes / 1e6,
        threads=limits.threads,
        facts=case.facts,
        **measured,
        messages=outcome.messages,
        figures=outcome.figures,
    )
    _LOGGER.info("%s, %s: %s in %.0f s %s", source.name, method.name, status, outcome.seconds, reason)


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
    parser.add_argument("--again", action="store_true", help="run also what has a record")
    parser.add_argument("--quick", action="store_true", help="three coarse phantoms a task, and the faster methods")
    parser.add_argument("--summary", action="store_true", help="run nothing; tables and plots of what is there")
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
    main()
