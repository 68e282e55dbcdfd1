"""`foundation-registration weights`: list, download, check, delete and find the weights of the encoders."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import WeightsError
from ..runtime.interruption import Interruption
from ..runtime.progress import ProgressCallback
from ..weights import (
    WeightsEntry,
    accept_license,
    catalogue,
    download,
    download_folder,
    license_accepted,
    locate,
    remove,
    verify,
    weights_entry,
)
from ..weights.store import missing_message

_HOW = {"open": "download", "browser": "by browser", "login": "on request"}


def add_weights_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions of the command and their options."""
    actions = parser.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("list", help="list all weights, and which of them are on this machine")
    listing.add_argument("--json", action="store_true", help="for programs")
    fetching = actions.add_parser("download", help="fetch weights, going on with an unfinished download")
    fetching.add_argument("name", help="as listed")
    fetching.add_argument("--accept-license", action="store_true", help="accept a licence that restricts use")
    fetching.add_argument("--folder", type=Path, help="where to, for instance to carry the file to another machine")
    fetching.add_argument("--progress", choices=("bar", "json", "none"), default="bar")
    checking = actions.add_parser("verify", help="check weights: whole, as published, readable as tensors")
    checking.add_argument("name", nargs="?", help="as listed; all that are on this machine if left out")
    checking.add_argument("--json", action="store_true", help="for programs")
    deleting = actions.add_parser("remove", help="delete downloaded weights")
    deleting.add_argument("name", help="as listed")
    finding = actions.add_parser("path", help="tell where weights are, or where downloads are kept")
    finding.add_argument("name", nargs="?", help="as listed")


def weights_command(
    arguments: argparse.Namespace,
    report: ProgressCallback,
    interruption: Interruption,
    entries: Mapping[str, WeightsEntry] | None = None,
) -> dict[str, Any] | None:
    """Run one action; return the result of a download, for programs.

    Args:
        arguments: of the command line, see `add_weights_arguments`.
        report: shows the progress of a download.
        interruption: checked for cancellation.
        entries: the known weights by name; the catalogue if None.

    Raises:
        WeightsError: unknown name, missing or damaged weights, or a failed download.
    """
    entries = catalogue() if entries is None else entries
    if arguments.action == "download":
        return _download(arguments, weights_entry(arguments.name, entries), report, interruption)
    actions: dict[str, Callable[[argparse.Namespace, Mapping[str, WeightsEntry]], None]] = {
        "list": _list,
        "verify": _verify,
        "remove": _remove,
        "path": _path,
    }
    actions[arguments.action](arguments, entries)
    return None


def _say(text: str) -> None:
    print(text)  # noqa: T201 - the answer of a command


def _download(
    arguments: argparse.Namespace, entry: WeightsEntry, report: ProgressCallback, interruption: Interruption
) -> dict[str, Any]:
    if arguments.accept_license:
        accept_license(entry)
    path = download(entry, arguments.folder, report, interruption.requested)
    if arguments.progress != "json":
        _say(str(path))
    return {"event": "done", "output": str(path)}


def _list(arguments: argparse.Namespace, entries: Mapping[str, WeightsEntry]) -> None:
    places = {name: locate(entry) for name, entry in entries.items()}
    if arguments.json:
        rows = [
            {
                **dataclasses.asdict(entry),
                "path": None if places[name] is None else str(places[name]),
                "license_accepted": license_accepted(entry),
            }
            for name, entry in entries.items()
        ]
        _say(json.dumps(rows, indent=2))
        return
    for name, entry in entries.items():
        size = f"{entry.size_bytes / 1e6:.0f} MB" if entry.size_bytes else "size unknown"
        state = "present" if places[name] else _HOW[entry.access]
        consent = ""
        if entry.needs_consent:
            consent = ", accepted" if license_accepted(entry) else ", to be accepted (--accept-license)"
        _say(
            f"{name:20s} {size:>12s}  {state:10s}  {entry.license}{consent}\n{'':20s} {entry.title}; {entry.citation}"
        )
        if entry.note:
            _say(f"{'':20s} note: {entry.note}")


def _verify(arguments: argparse.Namespace, entries: Mapping[str, WeightsEntry]) -> None:
    if arguments.name:
        chosen = [weights_entry(arguments.name, entries)]
    else:
        chosen = [entry for entry in entries.values() if locate(entry) is not None]
    found, wrong = [], []
    for entry in chosen:
        try:
            found.append(verify(entry))
        except WeightsError as error:
            wrong.append(str(error))
    if arguments.json:
        _say(json.dumps(found, indent=2))
    for facts in [] if arguments.json else found:
        published = (
            f"agrees with the published {facts['agrees_with']}" if facts["agrees_with"] else "no checksum published"
        )
        _say(f"{facts['name']}: {facts['path']}, {facts['network']}, {published}, sha256 {facts['sha256']}")
    if wrong:
        raise WeightsError(" ".join(wrong))
    if not chosen:
        _say("No weights are on this machine; see: foundation-registration weights list")


def _remove(arguments: argparse.Namespace, entries: Mapping[str, WeightsEntry]) -> None:
    entry = weights_entry(arguments.name, entries)
    removed = remove(entry)
    for path in removed:
        _say(f"deleted {path}")
    if not removed:
        _say(f"nothing of '{entry.name}' is in {download_folder()}")


def _path(arguments: argparse.Namespace, entries: Mapping[str, WeightsEntry]) -> None:
    if not arguments.name:
        _say(str(download_folder()))
        return
    entry = weights_entry(arguments.name, entries)
    path = locate(entry)
    if path is None:
        raise WeightsError(missing_message(entry))
    _say(str(path))
