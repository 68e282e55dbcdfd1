"""`foundation-registration compare`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..cohort.comparison import Difference


def add_compare_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument("first", type=Path, help="folder that `cohort` wrote")
    parser.add_argument("second", type=Path, help="another one, with pairs of the same names")
    parser.add_argument(
        "--figure", nargs="+", default=(), metavar="COLUMN", help="columns of pairs.csv (default all)"
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def compare_command(arguments: argparse.Namespace) -> None:
    """Print how the figures of two cohorts differ: second minus first."""
    from ..cohort.comparison import compare

    found = compare(arguments.first, arguments.second, arguments.figure)
    if arguments.json:
        rows = [
            {name: None if value != value else value for name, value in dataclasses.asdict(each).items()}
            for each in found
        ]
        print(json.dumps(rows, indent=2))  # noqa: T201 - the answer
        return
    print("| figure | pairs | first | second | difference (95 % interval) | p | p, Holm |")  # noqa: T201
    print("|---|---:|---:|---:|---:|---:|---:|")  # noqa: T201
    for each in found:
        print(_line(each))  # noqa: T201


def _line(found: Difference) -> str:
    interval = "" if math.isnan(found.low) else f" ({found.low:+.4g} to {found.high:+.4g})"
    p = ("-" if math.isnan(value) else f"{value:.2g}" for value in (found.p, found.p_holm))
    means = f"{found.first:.4g} | {found.second:.4g} | {found.difference:+.4g}{interval}"
    return f"| {found.figure} | {found.pairs} | {means} | {' | '.join(p)} |"
