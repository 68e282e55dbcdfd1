"""The table of a cohort, `pairs.csv`, and the ratings beside it, as the page needs them."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path, PurePath

from ...errors import InputError
from ...files.bounded import read_bounded
from ..figures import COLUMNS, FIGURES
from ..names import RATINGS, TABLE

_FIGURES = (*FIGURES, "seconds")
_WORDS = tuple(name for name in COLUMNS if name not in _FIGURES)
CHOICES = ("accept", "redo")
_MOST_BYTES = 256_000_000


@dataclass(frozen=True)
class Table:
    """The pairs of a cohort, by column.

    Attributes:
        words: text of each of `COLUMNS` that is no figure; a folder that does not lie in that of the cohort is
            left empty.
        figures: each of `FIGURES` and the seconds, None where not known.
        further: name and text of each column that was copied from the reader's own table.
    """

    words: dict[str, list[str]]
    figures: dict[str, list[float | None]]
    further: list[tuple[str, list[str]]]


def read_pairs(folder: Path) -> Table:
    """Read the table of a cohort.

    Args:
        folder: results of the cohort.

    Raises:
        InputError: the table is missing or damaged.
    """
    header, lines = _read_table(folder / TABLE)
    absent = [name for name in ("name", "state", "folder") if name not in header]
    if absent:
        msg = f"'{folder / TABLE}' has no column {absent[0]}; give the results folder of a cohort."
        raise InputError(msg)
    places = {name: header.index(name) for name in (*_WORDS, *_FIGURES) if name in header}
    columns = {name: _column(lines, place) for name, place in places.items()}
    words = {name: columns.get(name, [""] * len(lines)) for name in _WORDS}
    words["folder"] = [_inner(text) for text in words["folder"]]
    return Table(
        words,
        {name: [_number(text) for text in columns.get(name, [""] * len(lines))] for name in _FIGURES},
        [(name, _column(lines, at)) for at, name in enumerate(header) if at not in places.values()],
    )


def known_ratings(folder: Path) -> list[tuple[str, str, str]]:
    """Return what an earlier reader's file in the folder of the cohort says, if there is one that can be read."""
    try:
        return read_ratings(folder / RATINGS)
    except InputError:
        return []


def read_ratings(path: Path) -> list[tuple[str, str, str]]:
    """Return name, rating and note of each pair from a file that the page has saved.

    Raises:
        InputError: it cannot be read, or has no names and ratings.
    """
    header, lines = _read_table(path)
    if not {"name", "rating"} <= set(header):
        msg = f"'{path}' has no columns name and rating; give the file that the page of the cohort saves."
        raise InputError(msg)
    names, ratings = (_column(lines, header.index(name)) for name in ("name", "rating"))
    notes = _column(lines, header.index("note")) if "note" in header else [""] * len(lines)
    known = [rating if rating in CHOICES else "" for rating in ratings]
    return list(zip(names, known, notes, strict=True))


def _read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the header and the lines of a CSV file."""
    try:
        text = read_bounded(path, _MOST_BYTES).decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        msg = f"'{path}' cannot be read ({error.strerror}); give what a cohort or its page has written."
        raise InputError(msg) from error
    try:
        header, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    except (csv.Error, ValueError) as error:
        msg = f"'{path}' is damaged ({error}); have it written anew."
        raise InputError(msg) from error
    return header, [line for line in lines if line]


def _column(lines: list[list[str]], place: int) -> list[str]:
    """Return a column; short lines end with empty cells."""
    return [line[place] if place < len(line) else "" for line in lines]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _inner(folder: str) -> str:
    """Return a folder below that of the cohort with forward slashes; nothing if it lies elsewhere."""
    path = PurePath(folder)
    inside = folder and not path.is_absolute() and not path.drive and ".." not in path.parts
    return path.as_posix() if inside else ""
