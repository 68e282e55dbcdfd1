"""Names of what a cohort's folder holds: its files, those of a pair, and folders that are valid on every system."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

TABLE, SUMMARY, PROVENANCE, INDEX = "pairs.csv", "summary.md", "provenance.json", "index.html"
FILES_FOLDER = "index_files"  # of the page
PAIRS_FOLDER = "pairs"  # of the pairs of a BIDS dataset, whose own names are taken
PARTS_FOLDER = ".parts"  # of a workflow
RATINGS = "ratings.csv"  # that the page saves
RECORD, REPORT, LOG = "pair.json", "report.json", "log.txt"  # of a pair
SUMMARY_FILES = (TABLE, SUMMARY, PROVENANCE, INDEX)
_LONGEST_BYTES = 120
# Device names reserved by Windows, with any extension.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}


def folder_names(names: Sequence[str], reserved: Iterable[str] = ()) -> list[str]:
    """Return unique names that are valid for folders on every system, also if case is ignored.

    Args:
        names: as given.
        reserved: names that are already taken.
    """
    safe = [_safe(name) for name in names]
    taken = {folded(name) for name in reserved}
    given = {folded(name) for name in safe}
    copies: dict[str, int] = {}
    unique = []
    for name in safe:
        chosen, number = name, copies.get(name, 1)
        while folded(chosen) in taken or (number > 1 and folded(chosen) in given):
            number += 1
            chosen = f"{name}_{number}"
        copies[name] = number
        unique.append(chosen)
        taken.add(folded(chosen))
    return unique


def folded(name: str) -> str:
    """Return a name as seen by a file system that ignores case and Unicode composition."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _safe(name: str) -> str:
    safe = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", name)).strip("._")
    safe = safe.encode()[:_LONGEST_BYTES].decode(errors="ignore").rstrip("._") or "pair"
    return f"pair_{safe}" if safe.split(".")[0].casefold() in _DEVICES else safe
