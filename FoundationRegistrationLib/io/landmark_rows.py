"""Rows of the tables that landmark lists are: cells, and cells by column."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import zip_longest

from ..errors import InputError


def rows_of(text: str) -> list[tuple[str, list[str]]]:
    """Return line number and stripped cells of each line that is neither blank nor a comment."""
    lines = [(f"line {n}", line) for n, line in enumerate(text.splitlines(), start=1)]
    lines = [(place, line) for place, line in lines if line.strip() and not line.lstrip().startswith("#")]
    separator = next((mark for mark in ";\t" if lines and mark in lines[0][1]), ",")
    return [(place, _cells(line, separator)) for place, line in lines]


def _cells(line: str, separator: str) -> list[str]:
    try:
        row = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
    except csv.Error as error:
        msg = f"A line of the landmark file cannot be read ({error}); save the landmarks again."
        raise InputError(msg) from error
    return [cell.strip() for cell in row]


def by_column(columns: Sequence[str], row: Sequence[str], place: str) -> dict[str, str]:
    """Return the cells of a row by column, empty where it is short.

    Args:
        columns: names of the columns.
        row: the cells.
        place: of the row, for the message.

    Raises:
        InputError: there are more cells.
    """
    if any(row[len(columns) :]):
        raise too_many_cells(row, place)
    return dict(zip_longest(columns, row[: len(columns)], fillvalue=""))


def too_many_cells(row: Sequence[str], place: str) -> InputError:
    """Return the error about a row with more cells than columns, as decimal commas make them."""
    msg = (
        f"{place} has more cells than there are columns ({', '.join(row)}); write numbers with a decimal point, and "
        "a name with a comma in quotation marks."
    )
    return InputError(msg)
