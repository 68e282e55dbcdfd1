"""The table of pairs to register, as written by spreadsheets, and the folder names of their results."""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import BridgeError

OPTIONAL = (
    "fixed_mask",
    "moving_mask",
    "fixed_lesion",
    "moving_lesion",
    "fixed_labels",
    "moving_labels",
    "fixed_landmarks",
    "moving_landmarks",
    "fixed_structures",
    "moving_structures",
    "fixed_points",
    "moving_points",
    "initial_transform",
)
COLUMNS = ("fixed", "moving", *OPTIONAL, "name")
_SEPARATORS = ",;\t"
_MOST_MISSING_NAMED = 20
_LONGEST_NAME_BYTES = 120
# Device names reserved by Windows, with any extension.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}


@dataclass(frozen=True)
class TableRow:
    """One pair.

    Attributes:
        line: its first line in the file, from 1.
        paths: of its files, by column.
        name: of the pair; empty if it has none.
    """

    line: int
    paths: Mapping[str, Path]
    name: str


def read_table(path: Path) -> list[TableRow]:
    """Return the pairs of a table in UTF-8 or UTF-16 with commas, semicolons or tabs.

    Empty rows are ignored, as are case and spaces in the first row. Paths are relative to the table.

    Raises:
        BridgeError: it cannot be read, lacks a column or has an unknown one, has no pair, or a row is incomplete; or
            files do not exist, which are all listed.
    """
    text = _text(path)
    rows = [(line, cells) for line, cells in _rows(text, path) if any(cells)]
    if not rows:
        msg = f"The table '{path}' is empty; give the column names in its first row: {', '.join(COLUMNS)}."
        raise BridgeError(msg)
    columns = _columns(rows[0][1], path)
    pairs = [_pair(line, cells, columns, path) for line, cells in rows[1:]]
    if not pairs:
        msg = f"The table '{path}' has no pair below its first row; add a row for each pair."
        raise BridgeError(msg)
    _check_files(pairs, path)
    return pairs


def folder_names(names: Sequence[str], reserved: str) -> list[str]:
    """Return unique names that are valid for folders on every system, also if case is ignored.

    Args:
        names: as given.
        reserved: a name that is already taken.
    """
    safe = [_safe(name) for name in names]
    taken = {_folded(reserved)}
    given = {_folded(name) for name in safe}
    unique = []
    for name in safe:
        copies = (f"{name}_{number}" for number in range(2, 2 * len(names) + 3))
        free = (copy for copy in copies if _folded(copy) not in taken | given)
        unique.append(name if _folded(name) not in taken else next(free))
        taken.add(_folded(unique[-1]))
    return unique


def _safe(name: str) -> str:
    safe = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", name)).strip("._")
    safe = safe.encode()[:_LONGEST_NAME_BYTES].decode(errors="ignore").rstrip("._") or "pair"
    return f"pair_{safe}" if safe.split(".")[0].casefold() in _DEVICES else safe


def _folded(name: str) -> str:
    """Return a name as seen by a file system that ignores case and Unicode composition."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        marked_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if marked_16 else "utf-8-sig")
    except OSError as error:
        msg = f"The table '{path}' cannot be read ({error.strerror}); give a CSV file."
        raise BridgeError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"The table '{path}' is not text in UTF-8 or UTF-16; save it as 'CSV UTF-8' and give that file."
        raise BridgeError(msg) from error
    if "\0" in text:
        msg = f"The table '{path}' cannot be read as text; save it as 'CSV UTF-8' and give that file."
        raise BridgeError(msg)
    return text


def _rows(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield each row with its first line number; cells may contain line breaks."""
    separator, skipped = _separator(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    begin = 1
    try:
        for cells in reader:
            if begin > skipped:
                yield begin, [cell.strip() for cell in cells]
            begin = reader.line_num + 1
    except csv.Error as error:
        msg = f"Line {begin} of '{path}' cannot be read ({error}); check its quotation marks."
        raise BridgeError(msg) from error


def _separator(text: str) -> tuple[str, int]:
    """Return the separator, and the number of lines before the rows: Excel's `sep=;`."""
    stated = re.match(r"sep=(.)[ ,;\t]*\r?\n", text, re.IGNORECASE)
    if stated:
        return stated[1], 1
    header = next((line for line in text.splitlines() if line.strip(" \t,;")), "")
    named = {mark: sum(_column(cell) in COLUMNS for cell in header.split(mark)) for mark in _SEPARATORS}
    return max(_SEPARATORS, key=lambda mark: (named[mark], header.count(mark))), 0


def _column(cell: str) -> str:
    """Return a title as a column name: ' Fixed Mask' is fixed_mask."""
    return re.sub(r"[\s_-]+", "_", cell.strip().strip('"').strip()).casefold()


def _columns(cells: list[str], path: Path) -> list[str]:
    """Return the column of each cell, empty for a missing title."""
    columns = [_column(cell) for cell in cells]
    known = f"its columns are {', '.join(COLUMNS)}, separated by commas, semicolons or tabs."
    for column, cell in zip(columns, cells, strict=True):
        if column and column not in COLUMNS:
            msg = f"The table '{path}' has an unknown column '{_one_line(cell)}'; {known}"
            raise BridgeError(msg)
        if column and columns.count(column) > 1:
            msg = f"The table '{path}' has the column '{column}' twice; {known}"
            raise BridgeError(msg)
    if not {"fixed", "moving"} <= set(columns):
        msg = f"The table '{path}' lacks the column fixed or moving; {known}"
        raise BridgeError(msg)
    return columns


def _pair(line: int, cells: list[str], columns: list[str], path: Path) -> TableRow:
    untitled = [cell for number, cell in enumerate(cells) if cell and not (number < len(columns) and columns[number])]
    if untitled:
        msg = (
            f"Line {line} of '{path}' has more cells than the table has columns ('{_one_line(untitled[0])}'); if a "
            "name has the separator in it, put it in quotation marks."
        )
        raise BridgeError(msg)
    found = {column: cell for column, cell in zip(columns, cells, strict=False) if column and cell}
    if not {"fixed", "moving"} <= set(found):
        msg = f"Line {line} of '{path}' has no fixed or no moving volume; fill it in or remove the line."
        raise BridgeError(msg)
    name = found.pop("name", "")
    return TableRow(line, {column: path.parent / _expanded(cell) for column, cell in found.items()}, name)


def _expanded(cell: str) -> Path:
    """Return a path with its `~` expanded, if there is a home folder."""
    try:
        return Path(cell).expanduser()
    except RuntimeError:
        return Path(cell)


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())


def _check_files(pairs: Sequence[TableRow], table: Path) -> None:
    """Check that all files exist, before the first run.

    Raises:
        BridgeError: some do not; they are listed with their lines.
    """
    missing = [
        _one_line(f"line {pair.line}, {column}: {path}")
        for pair in pairs
        for column, path in pair.paths.items()
        if not os.path.exists(path)  # noqa: PTH110 - unlike Path.exists, does not raise for a name that is too long
    ]
    if not missing:
        return
    named = "; ".join(missing[:_MOST_MISSING_NAMED])
    more = f"; and {len(missing) - _MOST_MISSING_NAMED} more" if len(missing) > _MOST_MISSING_NAMED else ""
    files = "a file that does not exist" if len(missing) == 1 else f"{len(missing)} files that do not exist"
    msg = f"The table '{table}' refers to {files} ({named}{more}); correct the paths. Nothing was registered."
    raise BridgeError(msg)
