"""Landmark lists as files: CSV, Slicer .fcsv and Slicer .mrk.json. In memory they are always LPS, in mm.

Formats, as 3D Slicer reads and writes them:

- ``.csv``: columns ``x, y, z`` (LPS mm), optionally ``name`` and ``space`` (``LPS`` or ``RAS``); Slicer's own
  table export with ``l, p, s`` or ``r, a, s``; or three numeric columns without a header.
- ``.fcsv``: Slicer 4.x and 5.x. RAS unless ``# CoordinateSystem`` says otherwise, as in Slicer.
- ``.mrk.json``: markups schema 1.0.x, point lists. LPS unless ``coordinateSystem`` says otherwise.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files.outputs import complete_or_absent
from .landmark_rows import by_column, rows_of, too_many_cells
from .landmarks import Landmarks
from .paths import check_input_file

MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_FCSV_HEADER = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
_AFTER_FCSV = 2  # Slicer 5 writes a position status and one more number after the named columns
_SPACES = {"LPS": "LPS", "1": "LPS", "RAS": "RAS", "0": "RAS"}
_AXES_OF_TABLE = (("x", "y", "z"), ("l", "p", "s"), ("r", "a", "s"))
_TO_LPS = {"LPS": (1.0, 1.0, 1.0), "RAS": (-1.0, -1.0, 1.0)}
# Location in the file, name, coordinates as written; None for a point that was not placed.
_Points = list[tuple[str, str, "Sequence[Any] | None"]]
# Slicer markups that are not point lists.
_OTHER_MARKUPS = {
    "Line": "a line",
    "Angle": "an angle",
    "Curve": "a curve",
    "ClosedCurve": "a closed curve",
    "Plane": "a plane",
    "ROI": "a region of interest (ROI)",
}


def read_points(path: str | os.PathLike[str]) -> Landmarks:
    """Read a landmark list.

    Args:
        path: ``.csv``, ``.fcsv`` or ``.mrk.json`` file, see the module docstring.

    Returns:
        The points that have a position, in file order, converted to LPS mm.

    Raises:
        InputError: the file is missing, of unknown type or without points, a coordinate is not a number, or the
            coordinate system is unknown or contradictory.
    """
    path = Path(path)
    extension = _extension(path)
    check_input_file(path, "landmark file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"The landmark file {path} cannot be read as text ({error}); save it again as UTF-8."
        raise InputError(msg) from error
    parse, _ = _FORMATS[extension]
    space, points = parse(text, path)
    placed = [(f"{path} {place}", name, values) for place, name, values in points if values is not None]
    if not placed:
        msg = f"The landmark file {path} holds no point with a position; place the landmarks and save again."
        raise InputError(msg)
    coordinates = np.array([_coordinates(values, place) for place, _, values in placed])
    names = tuple(name for _, name, _ in placed)
    has_position = tuple(values is not None for _, _, values in points)
    return Landmarks(names, coordinates * _TO_LPS[space] + 0.0, has_position)  # + 0.0: no negative zero


def write_points(path: str | os.PathLike[str], landmarks: Landmarks) -> None:
    """Write a landmark list in LPS mm; the file states the coordinate system.

    The file gets its name only when it is complete.

    Args:
        path: ``.csv``, ``.fcsv`` or ``.mrk.json`` file; an existing file is replaced.
        landmarks: points in LPS mm.

    Raises:
        InputError: the extension is unknown or there is no point.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    extension = _extension(path)
    if len(landmarks) == 0:
        msg = f"There are no landmarks to write to {path}; give at least one point."
        raise InputError(msg)
    _, render = _FORMATS[extension]
    with complete_or_absent(path) as unfinished:
        text = render(landmarks, path.name[: -len(extension)])
        unfinished.write_text(text, encoding="utf-8", newline="\n")


def _extension(path: Path) -> str:
    for extension in _FORMATS:
        if path.name.lower().endswith(extension):
            return extension
    msg = f"{path.name} is not a supported landmark file; use {', '.join(_FORMATS)}."
    raise InputError(msg)


def _space(value: object, path: Path) -> str:
    """LPS or RAS, from the names and numbers that Slicer writes."""
    text = str(value).strip().upper()
    if text not in _SPACES:
        msg = f"{path} is in the coordinate system {value!r}, which is not supported; save it in LPS or RAS."
        raise InputError(msg)
    return _SPACES[text]


def _one_space(spaces: set[str], default: str, path: Path) -> str:
    if len(spaces) > 1:
        msg = f"{path} mixes points in LPS and in RAS; save it again in one coordinate system."
        raise InputError(msg)
    return spaces.pop() if spaces else default


def _coordinates(values: Sequence[Any], place: str) -> list[float]:
    """The three coordinates of a point, from numbers or text; ``place`` is for the message."""
    try:
        coordinates = [float(value) for value in values]
    except (TypeError, ValueError):
        coordinates = []
    if len(coordinates) != 3 or not np.isfinite(coordinates).all():
        shown = ", ".join(str(value) for value in values)
        msg = f"{place} has coordinates that are not three numbers ({shown}); correct them (decimal point, mm)."
        raise InputError(msg)
    return coordinates


def _stated_spaces(text: str, path: Path) -> set[str]:
    """Return the coordinate systems that comments state, as Slicer writes them into .fcsv files."""
    stated = re.findall(r"^#[# ]*coordinate ?system *[=:,](.+)", text, re.MULTILINE | re.IGNORECASE)
    return {_space(value.strip().rstrip(",;"), path) for value in stated}


def _parse_csv(text: str, path: Path) -> tuple[str, _Points]:
    rows = rows_of(text)
    header = [cell.lower() for cell in rows[0][1]] if rows else []
    axes = next((axes for axes in _AXES_OF_TABLE if set(axes) <= set(header)), None)
    if axes is None:
        if rows and not any(re.match(r"[-+]?\.?\d", cell) for cell in header[:3]):
            msg = f"{path} has no columns x, y, z; name them in the first line or give three numeric columns."
            raise InputError(msg)
        return _one_space(_stated_spaces(text, path), "LPS", path), [(place, "", row) for place, row in rows]
    twice = next((axis for axis in axes if header.count(axis) > 1), "")
    if twice:
        msg = f"{path} has the column {twice} twice; give each coordinate once."
        raise InputError(msg)
    records = [(place, by_column(header, row, f"{path} {place}")) for place, row in rows[1:]]
    named = [column for column in header if re.sub(r"[ _]", "", column) in ("space", "coordinatesystem")]
    spaces = {_space(record[column], path) for _, record in records for column in named}
    spaces |= _stated_spaces(text, path)
    space = _one_space(spaces, "RAS" if axes[0] == "r" else "LPS", path)
    return space, [
        # Slicer also exports points not placed yet
        (
            place,
            record.get("name", record.get("label", "")),
            None if record.get("defined", "").lower() in ("0", "false") else [record[axis] for axis in axes],
        )
        for place, record in records
    ]


def _parse_fcsv(text: str, path: Path) -> tuple[str, _Points]:
    columns = _FCSV_HEADER.split(",")
    spaces = _stated_spaces(text, path)
    for value in re.findall(r"^#[# ]*columns *=(.+)", text, re.MULTILINE):
        named = [name.strip() for name in value.split(",")]
        if {"x", "y", "z"} <= set(named):
            columns = named
    points: _Points = []
    for place, row in rows_of(text):
        # 0 and 1 are points not placed yet
        placed = row[len(columns) : len(columns) + 1] not in (["0"], ["1"])
        if len(row) > len(columns) + _AFTER_FCSV:
            raise too_many_cells(row, f"{path} {place}")
        record = by_column(columns, row[: len(columns)], place)
        points.append((place, record.get("label", ""), [record[axis] for axis in "xyz"] if placed else None))
    return _one_space(spaces, "RAS", path), points


def _parse_markups(text: str, path: Path) -> tuple[str, _Points]:
    try:
        markups = json.loads(text)["markups"]
        lists = [markup for markup in markups if markup["type"] == "Fiducial"]
        others = [_OTHER_MARKUPS.get(str(markup["type"]), str(markup["type"])) for markup in markups]
        spaces = {_space(markup.get("coordinateSystem", "LPS"), path) for markup in lists}
        units = [markup.get("coordinateUnits", "mm") for markup in lists]
        points = [point for markup in lists for point in markup.get("controlPoints", [])]
        named = [(_text(point.get("label", "")), _position(point)) for point in points]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        msg = f"{path} is not a Slicer markups file; save the point list from Slicer again."
        raise InputError(msg) from error
    if others and not lists:
        msg = f"{path} holds {' and '.join(dict.fromkeys(others))}, not points; save a point list from Slicer."
        raise InputError(msg)
    if any((unit[0] if isinstance(unit, list) and unit else unit) != "mm" for unit in units):
        msg = f"{path} is not in mm; save the point list in mm."
        raise InputError(msg)
    return _one_space(spaces, "LPS", path), [
        (f"point {n}", name, position) for n, (name, position) in enumerate(named, start=1)
    ]


def _text(value: object) -> str:
    """Return a value as text that can be written, without half characters that JSON allows."""
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _position(point: Mapping[str, Any]) -> list[Any] | None:
    """Return the position entry of a control point, None if it was not placed."""
    if point.get("positionStatus", "defined") != "defined":
        return None
    position = point["position"]
    return position if isinstance(position, list) else [position]


def _csv_text(landmarks: Landmarks, _title: str) -> str:
    rows = [[*point, name, "LPS"] for point, name in _items(landmarks)]
    return _lines([["x", "y", "z", "name", "space"], *rows])


def _fcsv_text(landmarks: Landmarks, _title: str) -> str:
    # orientation 0,0,0,1: no rotation; visible, selected, not locked
    rows = [
        [number, *point, 0, 0, 0, 1, 1, 1, 0, name, "", ""]
        for number, (point, name) in enumerate(_items(landmarks), start=1)
    ]
    head = "# Markups fiducial file version = 5.6\n# CoordinateSystem = LPS\n"
    return f"{head}# columns = {_FCSV_HEADER}\n{_lines(rows)}"


def _markups_text(landmarks: Landmarks, title: str) -> str:
    control_points = [
        {
            "id": str(number),
            "label": name,
            "description": "",
            "associatedNodeID": "",
            "position": point,
            # the default orientation of a point, as Slicer writes it in LPS
            "orientation": [-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0],
            "selected": True,
            "locked": False,
            "visibility": True,
            "positionStatus": "defined",
        }
        for number, (point, name) in enumerate(_items(landmarks), start=1)
    ]
    markup = {
        "type": "Fiducial",
        "name": title,
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": False,
        "fixedNumberOfControlPoints": False,
        "labelFormat": "%N-%d",
        "lastUsedControlPointNumber": len(control_points),
        "controlPoints": control_points,
    }
    content = {"@schema": MARKUPS_SCHEMA, "markups": [markup]}
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _items(landmarks: Landmarks) -> Iterable[tuple[list[float], str]]:
    """Coordinates and name of each point; floats as the shortest text that reads back the same."""
    return zip(landmarks.points.tolist(), landmarks.names, strict=True)


def _lines(rows: Iterable[Sequence[Any]]) -> str:
    """Comma-separated lines. They are read line by line, so names must not contain line breaks."""
    file = io.StringIO()
    clean = ([" ".join(str(cell).splitlines()) for cell in row] for row in rows)
    csv.writer(file, lineterminator="\n").writerows(clean)
    return file.getvalue()


_FORMATS = {
    ".csv": (_parse_csv, _csv_text),
    ".fcsv": (_parse_fcsv, _fcsv_text),
    ".mrk.json": (_parse_markups, _markups_text),
}
