"""The commands with their options, what their help shows, and completion of what is typed."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection
from typing import Any

from .. import __version__
from .apply import add_apply_arguments
from .cohort import add_cohort_arguments
from .compare import add_compare_arguments
from .dicom import add_dicom_arguments
from .encoder_options import add_encoders_arguments
from .evaluate import add_evaluate_arguments
from .export import add_export_arguments
from .kinetics import add_kinetics_arguments
from .phantom import add_phantom_arguments
from .register_options import add_register_arguments
from .series import add_series_arguments
from .weights import add_weights_arguments

_COMMANDS = {
    "register": (add_register_arguments, "register a moving volume to a fixed one"),
    "series": (add_series_arguments, "register the frames of a dynamic series"),
    "cohort": (add_cohort_arguments, "register all pairs of a table"),
    "compare": (add_compare_arguments, "compare the figures of two cohorts"),
    "workflow": (None, "print where the Snakemake workflow of a cohort is"),
    "apply": (add_apply_arguments, "apply a registration to an image, labels or landmarks"),
    "export": (add_export_arguments, "write a registration for another program or as DICOM"),
    "evaluate": (add_evaluate_arguments, "measure a registration with labels or landmarks"),
    "encoders": (add_encoders_arguments, "list the encoders"),
    "weights": (add_weights_arguments, "list, download, check or remove weights of encoders"),
    "dicom": (add_dicom_arguments, "list the series in a DICOM folder"),
    "kinetics": (add_kinetics_arguments, "make kinetic maps of a dynamic series"),
    "phantom": (add_phantom_arguments, "write a synthetic breast pair or dynamic series with its ground truth"),
}
# Commands that compute and write: how much they say, with how many threads, and what they may replace.
_WORKING = ("register", "series", "apply", "export", "evaluate", "kinetics", "phantom")
# Options in the short help of commands with many.
_SHORT_HELP = {
    "register": ("output", "preset", "encoder", "overwrite", "dry_run", "verbose", "quiet"),
    "series": ("dicom_series", "output", "reference", "preset", "encoder", "overwrite", "verbose", "quiet"),
}


def command_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="foundation-registration",
        description="Register medical volumes with vision foundation encoders. For research, not a medical device.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (add_arguments, purpose) in _COMMANDS.items():
        command = subparsers.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        if add_arguments is not None:
            add_arguments(command)
        if name in _WORKING:
            _add_common(command)
        if name in _SHORT_HELP:
            _shorten_help(command, _SHORT_HELP[name])
    subparsers.add_parser("cohort-worker")  # without help: not for people
    return parser


def complete_typing(parser: argparse.ArgumentParser) -> None:
    """Answer the shell if it asks how a half-typed command goes on; needs the package argcomplete."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser, print_suppressed=True)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace the results of an earlier run")
    parser.add_argument("--threads", type=_threads, metavar="N", help="threads of the CPU to use; all if left out")
    loudness = parser.add_mutually_exclusive_group()
    loudness.add_argument("-v", "--verbose", action="store_true", help="also say when each step begins")
    loudness.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors and what was asked for")


def _threads(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        msg = f"'{text[:40]}' is not a number of threads; give 1 or more"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


class _WholeHelp(argparse.Action):
    """`--help-all`: the help with the options that `--help` leaves out.

    Args:
        hidden: those options with their help.
        **others: of every action.
    """

    def __init__(self, *, hidden: dict[argparse.Action, str | None], **others: Any) -> None:
        super().__init__(nargs=0, default=argparse.SUPPRESS, **others)
        self._hidden = hidden

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print the whole help, and end."""
        for action, text in self._hidden.items():
            action.help = text
        parser.print_help()
        parser.exit()


def _shorten_help(parser: argparse.ArgumentParser, shown: Collection[str]) -> None:
    """Leave all other options out of `--help`, and add `--help-all`."""
    kept = ("help", *shown)
    hidden = {action: action.help for action in parser._actions if action.option_strings and action.dest not in kept}
    for action in hidden:
        action.help = argparse.SUPPRESS
    parser.add_argument("--help-all", action=_WholeHelp, hidden=hidden, help="show all options and exit")
