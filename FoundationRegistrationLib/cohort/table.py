"""The table of pairs to register, as written by spreadsheets."""

from __future__ import annotations

import codecs
import csv
import dataclasses
import difflib
import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from ..files.home_folder import expanded
from ..settings import Settings


def _of_both(*kinds: str) -> tuple[str, ...]:
    return tuple(f"{side}_{kind}" for kind in kinds for side in ("fixed", "moving"))


# Files of a pair: options of `register` with underscores.
VOLUMES = ("fixed", "moving", *_of_both("mask", "lesion", "labels", "structures"), "region")
FILES = (*VOLUMES, *_of_both("landmarks", "points"), "initial_transform")
SERIES = ("fixed_series", "moving_series")  # which series of a DICOM folder
FOLLOW = ("follow_image", "follow_labels", "follow_points")
SETTINGS = tuple(field.name for field in dataclasses.fields(Settings))
COLUMNS = ("name", *FILES, *SERIES, *FOLLOW, *SETTINGS)
_SEPARATORS = ",;\t"
_SEVERAL = "|"
_ALIKE = 0.9  # from which a title is taken for a misspelt column
_CLINICAL = ("stage",)  # titles of clinical tables that only look like one of ours
_HINT = "its columns are separated by commas, semicolons or tabs, and two of them are fixed and moving."


@dataclass(frozen=True)
class TableRow:
    """One pair.

    Attributes:
        line: its first line in the file, from 1; 0 for a subject of a BIDS dataset.
        paths: of its files, by column.
        name: of the pair; empty if it has none.
        followed: files of the moving side to carry along, by column.
        texts: settings and DICOM series as written, by column; empty cells are left out.
        copied: the cells of all other columns, by title.
    """

    line: int
    paths: Mapping[str, Path]
    name: str = ""
    followed: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    copied: Mapping[str, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """Where a person finds it: its line, or the subject."""
        return f"line {self.line}" if self.line else self.name


@dataclass(frozen=True)
class Table:
    """The pairs of a table, or of a BIDS dataset.

    Attributes:
        path: the file or the dataset.
        sha256: of its content.
        rows: the pairs in order.
        copied: titles of the columns that are only copied to the summary.
        problems: what is wrong with rows, each with its line or subject.
        left_out: subjects of a dataset that have no pair, with the reason.
        folder: of the folders of the pairs, relative to the output; empty for the output itself.
    """

    path: Path
    sha256: str
    rows: tuple[TableRow, ...]
    copied: tuple[str, ...]
    problems: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    folder: str = ""


def read_table(path: Path, taken: tuple[str, ...] = ()) -> Table:
    """Return the pairs of a table in UTF-8 or UTF-16 with commas, semicolons or tabs.

    Empty rows are ignored, as are case and spaces in the first row. Paths are relative to the table.

    Args:
        path: the file.
        taken: titles that no column to be copied may have.

    Raises:
        InputError: it cannot be read, lacks a column, has one twice or misspelt, or has no row.
    """
    path = path.absolute()
    content, rows = read_cells(path)
    if not rows:
        msg = f"The table '{path}' is empty; give the column names in its first row, fixed and moving among them."
        raise InputError(msg)
    titles = _titles(rows[0][1], path, taken)
    if len(rows) == 1:
        msg = f"The table '{path}' has no pair below its first row; add a row for each pair."
        raise InputError(msg)
    found = [_row(line, cells, titles, path.parent) for line, cells in rows[1:]]
    return Table(
        path,
        hashlib.sha256(content).hexdigest(),
        tuple(row for row in found if isinstance(row, TableRow)),
        tuple(title for title in titles if title and title not in COLUMNS),
        tuple(row for row in found if isinstance(row, str)),
    )


def read_cells(path: Path) -> tuple[bytes, list[tuple[int, list[str]]]]:
    """Return the content of a table, and its rows that are not empty: first line and cells.

    Raises:
        InputError: it cannot be read.
    """
    content = _content(path)
    return content, [(line, cells) for line, cells in _rows(_text(content, path), path) if any(cells)]


def column_of(title: str) -> str:
    """Return a title as a column name: ' Fixed Mask' is fixed_mask."""
    return re.sub(r"[\s_-]+", "_", title.strip().strip('"').strip()).casefold()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"The table '{path}' cannot be read ({error.strerror}); give a CSV file."
        raise InputError(msg) from error


def _text(content: bytes, path: Path) -> str:
    marked_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if marked_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        msg = f"The table '{path}' is not text in UTF-8 or UTF-16; save it as 'CSV UTF-8' and give that file."
        raise InputError(msg) from error
    if "\0" in text:
        msg = f"The table '{path}' cannot be read as text; save it as 'CSV UTF-8' and give that file."
        raise InputError(msg)
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
        raise InputError(msg) from error


def _separator(text: str) -> tuple[str, int]:
    """Return the separator, and the number of lines before the rows: Excel's `sep=;`."""
    stated = re.match(r"sep=(.)[ ,;\t]*\r?\n", text, re.IGNORECASE)
    if stated:
        return stated[1], 1
    header = next((line for line in text.splitlines() if line.strip(" \t,;")), "")
    named = {mark: sum(column_of(cell) in COLUMNS for cell in header.split(mark)) for mark in _SEPARATORS}
    return max(_SEPARATORS, key=lambda mark: (named[mark], header.count(mark))), 0


def _titles(cells: list[str], path: Path, taken: tuple[str, ...]) -> list[str]:
    """Return the column name of each cell or, if it is only copied, its title; empty for a missing one."""
    titles, columns = [], [column_of(cell) for cell in cells]
    for column, cell in zip(columns, cells, strict=True):
        if column and columns.count(column) > 1:
            msg = f"The table '{path}' has the column '{column}' twice; {_HINT}"
            raise InputError(msg)
        if column not in COLUMNS and column in taken:
            msg = f"The table '{path}' has a column '{one_line(cell)}', as the summary has; give it another title."
            raise InputError(msg)
        if column not in (*COLUMNS, *_CLINICAL) and (meant := difflib.get_close_matches(column, COLUMNS, 1, _ALIKE)):
            msg = (
                f"The table '{path}' has a column '{one_line(cell)}', which would not be used; call it {meant[0]} if "
                "that is meant, or give it a title that differs more."
            )
            raise InputError(msg)
        titles.append(column if column in COLUMNS else one_line(cell))
    if not {"fixed", "moving"} <= set(columns):
        msg = f"The table '{path}' lacks the column fixed or moving; {_HINT}"
        raise InputError(msg)
    return titles


def _row(line: int, cells: list[str], titles: list[str], folder: Path) -> TableRow | str:
    """Return a pair, or what is wrong with its row."""
    untitled = [cell for number, cell in enumerate(cells) if cell and not (number < len(titles) and titles[number])]
    if untitled:
        return (
            f"line {line}: more cells than the table has columns ('{one_line(untitled[0])}'); put a name that has "
            "the separator in it in quotation marks"
        )
    found = {title: cell for title, cell in zip(titles, cells, strict=False) if title and cell}
    if not {"fixed", "moving"} <= set(found):
        return f"line {line}: no fixed or no moving volume"
    return TableRow(
        line,
        {column: _path(found[column], folder) for column in FILES if column in found},
        found.get("name", ""),
        {column: _paths(found[column], folder) for column in FOLLOW if column in found},
        {column: found[column] for column in (*SETTINGS, *SERIES) if column in found},
        {title: found.get(title, "") for title in titles if title and title not in COLUMNS},
    )


def _paths(cell: str, folder: Path) -> tuple[Path, ...]:
    return tuple(_path(part.strip(), folder) for part in cell.split(_SEVERAL) if part.strip())


def _path(cell: str, folder: Path) -> Path:
    return folder / (expanded(cell) or cell)


def one_line(text: str) -> str:
    """Return a text without line breaks."""
    return " ".join(text.splitlines())
