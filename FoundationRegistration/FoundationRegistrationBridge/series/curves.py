"""Curves of signal over time in structures, as acquired and registered: a table and its plot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import slicer
import vtk

from ..errors import BridgeError
from ..nodes.grids import VoxelGrid, sitk_image
from ..nodes.masks import mask_on, union_on
from ..nodes.spaces import from_world
from ..nodes.structures import parts_by_name
from ..scene.changes import all_or_nothing, remove_with_helpers
from .registered import RegisteredSeries, engine_words

_ROLE = "FoundationRegistration.Curves"
_KINDS = ("as acquired", "registered")
_COLOURS = ((0.84, 0.15, 0.16), (0.12, 0.47, 0.71), (0.17, 0.63, 0.17), (0.58, 0.40, 0.74), (1.0, 0.50, 0.05))

Means = tuple[np.ndarray, np.ndarray]
"""Mean signal of a structure at each time point, as acquired and registered."""


def plot_curves(node: Any, labels: Any, before: int = 1) -> Any:
    """Return a chart of the mean signal over time inside structures, and show it in the layout.

    Its table has the values. The voxels of a structure are those of the reference; as acquired, they show what lay
    there at each time. A second call renews chart and table of the series.

    Args:
        node: the registered sequence, its browser, or the volume that the browser shows.
        labels: a segmentation node (each segment), a pair of such a node and a segment ID, or a label map node (each
            label), with its own parent transforms.
        before: number of time points before contrast.

    Raises:
        BridgeError: it is no registered series, its original was removed, or no structure lies within it.
    """
    series = RegisteredSeries.of(node)
    registered, grid = series.world_images()
    masks = _masks(labels, grid)
    curves = _curves(series, registered, {name: sitk_image(mask, grid) for name, mask in masks.items()}, before)
    title, times = _times(series)
    of = labels[0] if isinstance(labels, tuple) else labels
    scene, earlier = series.sequence.GetScene(), series.sequence.GetNodeReference(_ROLE)
    if earlier is not None:
        _remove(scene, earlier)
    with all_or_nothing(scene) as changes:
        table = changes.add(slicer.vtkMRMLTableNode(), f"Curves of {series.name} in {of.GetName()}")
        table.SetUseColumnTitleAsColumnHeader(True)
        table.SetLocked(True)
        table.SetAndObserveTable(_table(title, times, curves))
        chart = changes.add(slicer.vtkMRMLPlotChartNode(), f"Plot of {table.GetName()}")
        for number, name in enumerate(curves):
            for kind in _KINDS:
                line = changes.add(slicer.vtkMRMLPlotSeriesNode(), f"{name}, {kind}")
                _draw(line, table, title, f"{name}, {kind}", _COLOURS[number % len(_COLOURS)])
                chart.AddAndObservePlotSeriesNodeID(line.GetID())
        chart.SetTitle(f"Mean signal, {series.name}")
        chart.SetXAxisTitle(title)
        chart.SetYAxisTitle("Mean signal")
        series.sequence.SetNodeReferenceID(_ROLE, chart.GetID())
    plots = getattr(slicer.modules, "plots", None)
    if plots is not None:
        plots.logic().ShowChartInLayout(chart)
    return chart


def _masks(labels: Any, grid: VoxelGrid) -> dict[str, np.ndarray]:
    """Return the voxels of each structure on a grid in the world by its name, of those that lie within it.

    Raises:
        BridgeError: none does.
    """
    if isinstance(labels, tuple):
        marked = mask_on(labels, grid, "series mask")
        return {labels[0].GetSegmentation().GetSegment(labels[1]).GetName(): marked}
    mask_on(labels, grid, "series mask")
    to_node = from_world(labels.GetParentTransformNode())
    masks = {
        name: union_on([part() for part in parts], grid, to_node) for name, parts in parts_by_name(labels).items()
    }
    return {name: mask for name, mask in masks.items() if mask.any()}


def _curves(
    series: RegisteredSeries, registered: list[Any], labels: Mapping[str, Any], before: int
) -> dict[str, Means]:
    """Return the curves of each structure, as the engine computes them.

    Raises:
        BridgeError: a structure has no voxel that is known at all times.
    """
    from FoundationRegistrationLib.series.curves import label_curves
    from FoundationRegistrationLib.series.figures import on_grid_of
    from FoundationRegistrationLib.series.phases import choose_phases

    acquired = [on_grid_of(registered[0], image) for image in series.world_images_as_acquired()]
    curves = {}
    with engine_words():
        phases = choose_phases(len(registered), series.times_s, before, messages=[])
        for name, label in labels.items():
            found = [label_curves(images, label, phases)[0] for images in (acquired, registered)]
            if not all(curve.voxels for curve in found):
                msg = f"No voxel of '{name}' is known at all time points; choose another structure."
                raise BridgeError(msg)
            curves[name] = (found[0].mean, found[1].mean)
    return curves


def _times(series: RegisteredSeries) -> tuple[str, np.ndarray]:
    """Return the title of the time axis and the time of each time point, or its number."""
    if series.times_s is None:
        return "Time point", np.arange(len(series.frames), dtype=np.float64)
    return "Time (s)", np.asarray(series.times_s)


def _table(title: str, times: np.ndarray, curves: Mapping[str, Means]) -> vtk.vtkTable:
    columns = {title: times}
    columns |= {
        f"{name}, {kind}": mean for name, pair in curves.items() for kind, mean in zip(_KINDS, pair, strict=True)
    }
    table = vtk.vtkTable()
    for name, values in columns.items():
        column = vtk.vtkDoubleArray()
        column.SetName(name)
        for value in values.tolist():
            column.InsertNextValue(value)
        table.AddColumn(column)
    return table


def _draw(line: Any, table: Any, across: str, column: str, colour: tuple[float, float, float]) -> None:
    """Set up one line of the plot: solid if registered, dashed as acquired."""
    line.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
    line.SetAndObserveTableNodeID(table.GetID())
    line.SetXColumnName(across)
    line.SetYColumnName(column)
    line.SetColor(*colour)
    dashed = column.endswith(_KINDS[0])
    line.SetLineStyle(line.LineStyleDash if dashed else line.LineStyleSolid)
    line.SetMarkerStyle(line.MarkerStyleNone if dashed else line.MarkerStyleCircle)


def _remove(scene: Any, chart: Any) -> None:
    """Remove an earlier chart with its lines and its table."""
    lines = [chart.GetNthPlotSeriesNode(index) for index in range(chart.GetNumberOfPlotSeriesNodes())]
    lines = [line for line in lines if line is not None]
    tables = {line.GetTableNodeID(): line.GetTableNode() for line in lines}
    for node in (*tables.values(), *lines, chart):
        if node is not None:
            remove_with_helpers(scene, node)
