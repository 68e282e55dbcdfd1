"""The quality of a registration as a table node, renewed with each measurement, and what becomes of it elsewhere."""

from __future__ import annotations

import csv
import io
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import slicer
import vtk

from ..errors import BridgeError
from ..scene.changes import all_or_nothing
from ..scene.marks import is_registration
from ..scene.result_folder import put_into_folder
from .measures import QualityRow, quality_rows

_COLUMNS = ("Measure", "Structure", "Before", "After", "Unit")
_ROLE = "FoundationRegistration.Quality"
_SERIES = ("Before", "After")
_SERIES_COLOURS = ((0.60, 0.60, 0.62), (0.12, 0.48, 0.26))


def quality_table(
    fixed_labels: Any, moving_labels: Any, fixed_points: Any, moving_points: Any, transform_node: Any
) -> Any:
    """Return the table node of a registration with all available measures: a new one, or the one it has.

    Args:
        fixed_labels: segmentation or label map of the fixed volume, or None.
        moving_labels: of the moving volume; segments of the same name, or equal labels, correspond. Several with the
            same name count as one structure.
        fixed_points: markups with landmarks of the fixed volume, or None.
        moving_points: of the moving volume; paired by name, or by order if the names do not match. Points that are
            not placed are ignored.
        transform_node: the registration.

    Raises:
        BridgeError: nothing can be measured, or one side is missing.
    """
    rows = quality_rows(fixed_labels, moving_labels, fixed_points, moving_points, transform_node)
    content = _content(rows)
    node = transform_node.GetNodeReference(_ROLE)
    if node is None:
        with all_or_nothing(transform_node.GetScene()) as changes:
            node = changes.add(slicer.vtkMRMLTableNode(), f"Quality of {transform_node.GetName()}")
            node.SetUseColumnTitleAsColumnHeader(True)
            node.SetLocked(True)
        transform_node.SetNodeReferenceID(_ROLE, node.GetID())
        if is_registration(transform_node):
            put_into_folder(transform_node, [node])
    node.SetAndObserveTable(content)
    return node


def _content(rows: list[QualityRow]) -> vtk.vtkTable:
    table = vtk.vtkTable()
    for number, title in enumerate(_COLUMNS):
        column = vtk.vtkStringArray()
        column.SetName(title)
        for row in rows:
            value = (row.measure, row.structure, row.before, row.after, row.unit)[number]
            column.InsertNextValue(value if isinstance(value, str) else _written(value))
        table.AddColumn(column)
    return table


def _written(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.3f}"


def as_text(table_node: Any, delimiter: str = "\t") -> str:
    """Return a table with its header, one line a row, as spreadsheets take it."""
    table, text = table_node.GetTable(), io.StringIO()
    columns = range(table.GetNumberOfColumns())
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow([table.GetColumnName(column) for column in columns])
    for row in range(table.GetNumberOfRows()):
        writer.writerow([table_node.GetCellText(row, column) for column in columns])
    return text.getvalue()


def write_csv(table_node: Any, path: Path) -> None:
    """Write a table into a CSV file (UTF-8), whole or not at all.

    Raises:
        BridgeError: it cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(as_text(table_node, ","))
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        msg = f"'{path}' cannot be written ({error.strerror}); choose another folder, or close the file elsewhere."
        raise BridgeError(msg) from error


def plottable(table_node: Any) -> list[str]:
    """Return the measures of a table that have values before and after, in its order."""
    return list(dict.fromkeys(measure for measure, *_ in _pairs_of_values(table_node)))


def plot(table_node: Any, measure: str) -> Any:
    """Return a chart of one measure before and after, for each structure or landmark, and show it in the layout.

    Args:
        table_node: of `quality_table`.
        measure: one of `plottable`.
    """
    rows = [row for row in _pairs_of_values(table_node) if row[0] == measure]
    scene, chart = table_node.GetScene(), table_node.GetNodeReference(_ROLE)
    if chart is None:
        with all_or_nothing(scene) as changes:
            chart = changes.add(slicer.vtkMRMLPlotChartNode(), f"Plot of {table_node.GetName()}")
            values = changes.add(slicer.vtkMRMLTableNode(), f"Values of {chart.GetName()}")
            values.SetHideFromEditors(True)
            for title, colour in zip(_SERIES, _SERIES_COLOURS, strict=True):
                series = changes.add(slicer.vtkMRMLPlotSeriesNode(), title)
                series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatterBar)
                series.SetAndObserveTableNodeID(values.GetID())
                series.SetYColumnName(title)
                series.SetLabelColumnName(_COLUMNS[1])
                series.SetColor(*colour)
                chart.AddAndObservePlotSeriesNodeID(series.GetID())
        table_node.SetNodeReferenceID(_ROLE, chart.GetID())
    chart.GetNthPlotSeriesNode(0).GetTableNode().SetAndObserveTable(_numbers(rows))
    unit = rows[0][4]
    chart.SetTitle(f"{measure}, {table_node.GetName()}")
    chart.SetYAxisTitle(f"{measure} ({unit})" if unit else measure)
    chart.SetXAxisTitle(", ".join(row[1] for row in rows))
    plots = getattr(slicer.modules, "plots", None)
    if plots is not None:
        plots.logic().ShowChartInLayout(chart)
    return chart


def _pairs_of_values(table_node: Any) -> list[tuple[str, str, float, float, str]]:
    """Return the rows of single structures and landmarks with both values."""
    rows = []
    for row in range(table_node.GetNumberOfRows()):
        measure, structure, before, after, unit = (table_node.GetCellText(row, number) for number in range(5))
        if structure and before and after:
            rows.append((measure, structure, float(before), float(after), unit))
    return rows


def _numbers(rows: list[tuple[str, str, float, float, str]]) -> vtk.vtkTable:
    table, names = vtk.vtkTable(), vtk.vtkStringArray()
    names.SetName(_COLUMNS[1])
    columns = []
    for title in _SERIES:
        column = vtk.vtkDoubleArray()
        column.SetName(title)
        columns.append(column)
    for _, structure, *values, _ in rows:
        names.InsertNextValue(structure)
        for column, value in zip(columns, values, strict=True):
            column.InsertNextValue(value)
    for column in (names, *columns):
        table.AddColumn(column)
    return table
