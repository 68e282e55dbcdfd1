"""The displacement of a registration as a grid or arrows."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import slicer

from ..errors import BridgeError
from ..nodes.grids import grid_of, map_points
from ..nodes.spaces import from_world, to_world
from ..scene.map_colours import colour_function

DisplacementKind = Literal["grid", "arrows", "off"]

_LINES_ACROSS = 16
_ARROWS_ACROSS = 24
_NICE_STEPS_MM = (1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0)
_LENGTH_COLOURS = ((0.0, (0.10, 0.60, 1.00)), (0.5, (1.00, 0.70, 0.00)), (1.0, (0.95, 0.10, 0.10)))
"""Fraction of the largest displacement and colour: blue for none, red for the largest."""
_FINEST_LINE_MM = 1.0
_SAFELY_ABOVE = 1.5
"""In units of the largest sampled displacement: no arrow is omitted."""


def show_displacement(transform_node: Any, kind: DisplacementKind, fixed_node: Any) -> None:
    """Show a registration in the slice views, or hide it.

    ToParent is drawn, as always in Slicer: the motion of tissue of the moving volume. A regular grid of the moving
    volume is drawn as deformed to the fixed one; an arrow starts at a moving point and ends at its fixed point, at
    true length.

    Args:
        transform_node: the result of a registration.
        kind: "grid", "arrows", or "off".
        fixed_node: the volume that determines the density and, in 3D, the extent of the display.

    Raises:
        BridgeError: an unknown kind, a missing node, or a fixed volume without voxels.
    """
    if kind not in ("grid", "arrows", "off"):
        msg = f"The displacement display must be grid, arrows or off, not '{kind}'."
        raise BridgeError(msg)
    if transform_node is None or transform_node.GetScene() is None:
        msg = "There is no transform to show; register first, or choose one."
        raise BridgeError(msg)
    if kind == "off":
        if transform_node.GetDisplayNode() is not None:
            transform_node.GetDisplayNode().SetVisibility(False)
        return
    if fixed_node is None or fixed_node.GetImageData() is None:
        msg = "Choose the fixed volume: it determines the density of the displacement display."
        raise BridgeError(msg)
    if transform_node.GetDisplayNode() is None:
        transform_node.CreateDefaultDisplayNodes()
    largest_mm = _largest_displacement(transform_node, fixed_node)
    _set_up(transform_node.GetDisplayNode(), kind, fixed_node, largest_mm)


def shown_displacement(transform_node: Any) -> DisplacementKind:
    """Return how a transform is drawn in the slice views; "off" also if there is none."""
    display = transform_node.GetDisplayNode() if transform_node is not None else None
    if display is None or not (display.GetVisibility() and display.GetVisibility2D()):
        return "off"
    modes: dict[int, DisplacementKind] = {
        slicer.vtkMRMLTransformDisplayNode.VIS_MODE_GRID: "grid",
        slicer.vtkMRMLTransformDisplayNode.VIS_MODE_GLYPH: "arrows",
    }
    return modes.get(display.GetVisualizationMode(), "off")


def _largest_displacement(transform_node: Any, fixed_node: Any) -> float:
    """Return the largest displacement at points spread over the fixed volume, mm."""
    points = map_points(to_world(fixed_node.GetParentTransformNode()), grid_of(fixed_node).sample_points())
    points = map_points(from_world(transform_node.GetParentTransformNode()), points)
    moved = map_points(transform_node.GetTransformFromParent(), points)
    return float(np.linalg.norm(moved - points, axis=1).max())


def _set_up(display: Any, kind: DisplacementKind, fixed_node: Any, largest_mm: float) -> None:
    longest_mm = float((grid_of(fixed_node).spacing * fixed_node.GetImageData().GetDimensions()).max())
    changing = display.StartModify()
    display.SetAndObserveRegionNode(fixed_node)
    if kind == "grid":
        spacing = _nice(longest_mm / _LINES_ACROSS)
        display.SetVisualizationMode(slicer.vtkMRMLTransformDisplayNode.VIS_MODE_GRID)
        display.SetGridScalePercent(100.0)
        display.SetGridSpacingMm(spacing)
        display.SetGridResolutionMm(max(spacing / 5.0, _FINEST_LINE_MM))
        display.SetGridLineDiameterMm(spacing / 12.0)
        display.SetGridShowNonWarped(False)
    else:
        spacing = _nice(longest_mm / _ARROWS_ACROSS)
        display.SetVisualizationMode(slicer.vtkMRMLTransformDisplayNode.VIS_MODE_GLYPH)
        display.SetGlyphType(slicer.vtkMRMLTransformDisplayNode.GLYPH_TYPE_ARROW)
        display.SetGlyphSpacingMm(spacing)
        display.SetGlyphScalePercent(100.0)
        display.SetGlyphDiameterMm(spacing / 4.0)
        display.SetGlyphDisplayRangeMinMm(0.1)
        display.SetGlyphDisplayRangeMaxMm(max(largest_mm, 1.0) * _SAFELY_ABOVE)
    display.SetColorMap(colour_function(tuple((share * max(largest_mm, 1.0), rgb) for share, rgb in _LENGTH_COLOURS)))
    display.SetSliceIntersectionThickness(2)
    display.SetVisibility(True)
    display.SetVisibility2D(True)
    display.SetVisibility3D(False)
    display.EndModify(changing)


def _nice(step_mm: float) -> float:
    return min(_NICE_STEPS_MM, key=lambda nice: abs(nice - step_mm))
