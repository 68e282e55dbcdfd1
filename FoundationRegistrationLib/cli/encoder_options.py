"""The options of `encoders`."""

from __future__ import annotations

import argparse


def add_encoders_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the command."""
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="describe these encoders; a table of all if left out"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs")
    form.add_argument("--markdown", action="store_true", help="as a table for a document")
    parser.add_argument(
        "--measure", nargs="*", metavar="NAME", help="measure these encoders on this machine, or all of them"
    )
    parser.add_argument("--device", default="auto", help="where to measure: auto, cpu, cuda, cuda:1, mps")
