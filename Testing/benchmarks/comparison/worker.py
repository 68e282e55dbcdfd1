"""The worker of the benchmark's cohort: runs one method on one case after another, as it is told."""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from pathlib import Path
from typing import Any

from FoundationRegistrationLib.cli.cohort_worker import worker_command
from FoundationRegistrationLib.cohort.workers import Worker, environments
from FoundationRegistrationLib.runtime.interruption import Interruption, OneOfMany

from .case import Case
from .cases import case_sources
from .methods import chosen_methods
from .runner import Limits
from .trial import run_trial


def benchmark_worker(arguments: argparse.Namespace, seeds: tuple[int, ...], starts: Path) -> Worker:
    """Return a worker for the cases and limits of a command line.

    Args:
        arguments: of the benchmark.
        seeds: of the phantoms.
        starts: folder of the starting affines.
    """
    told = {
        "data": str(arguments.data.absolute()),
        "peers": str(arguments.peers.absolute()),
        "seeds": seeds,
        "spacing_mm": arguments.spacing_mm,
        "starts": str(starts),
        "seconds": arguments.time_limit,
        "threads": arguments.threads,
    }
    here = Path(__file__).parent
    environment = environments(1, with_gpus=False)[0]
    environment["PYTHONPATH"] = os.pathsep.join([str(here.parent), environment["PYTHONPATH"]])
    return Worker([sys.executable, "-m", f"{here.name}.worker", json.dumps(told)], environment)


def main(told: dict[str, Any]) -> None:
    """Run what is sent on the standard input, until that ends."""
    peers = Path(told["peers"])
    listed = case_sources(Path(told["data"]), peers, tuple(told["seeds"]), told["spacing_mm"])
    sources = {source.name: source for source in listed}

    @functools.lru_cache(maxsize=1)
    def built(name: str) -> Case:
        return sources[name].build()

    def run(arguments: argparse.Namespace, _report: object, guard: OneOfMany) -> None:
        start = Path(told["starts"]) / f"{arguments.case}.tfm"
        method = chosen_methods([arguments.method])[0]
        limits = Limits(told["seconds"], told["threads"])
        run_trial(built(arguments.case), start, method, arguments.output, peers, limits, guard.requested)

    parser = argparse.ArgumentParser()
    for name in ("case", "method"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--output", type=Path, required=True)
    with Interruption(to_the_end=True) as interruption:
        worker_command(parser, run, interruption)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
