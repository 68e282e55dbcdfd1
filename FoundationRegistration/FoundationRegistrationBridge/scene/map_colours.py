"""Colours of the maps of a registration: volume change and expected error."""

from __future__ import annotations

from typing import Any

import vtk

ColourPoints = tuple[tuple[float, tuple[float, float, float]], ...]
"""Values, ascending, and the red, green and blue of each, 0 to 1."""

_ANY_ERROR_MM = 1000.0
_FOLDED = (0.71, 1.0, 0.0)
_VOLUME_CHANGE = (
    (0.001, (0.73, 0.90, 1.00)),
    (0.4, (0.18, 0.56, 0.88)),
    (0.8, (0.12, 0.40, 0.70)),
    (1.0, (0.10, 0.10, 0.11)),
    (1.25, (0.70, 0.20, 0.15)),
    (1.6, (0.91, 0.34, 0.18)),
    (2.0, (1.00, 0.88, 0.76)),
)
"""Determinant and colour: blue where the moving volume is smaller, dark where the volume is preserved."""
_EXPECTED_ERROR = (
    (0.0, (0.10, 0.55, 0.30)),
    (1.0, (0.45, 0.75, 0.35)),
    (2.5, (0.98, 0.80, 0.25)),
    (5.0, (0.85, 0.15, 0.15)),
)
"""Millimetres and colour: green for a small error, amber about 2.5 mm, red from 5 mm."""


def colour_jacobian(volume_node: Any) -> None:
    """Set the colours of a map of Jacobian determinants, 0 to 2 about 1.

    From the fixed to the moving volume, blue shrinks, red grows, black preserves volume; folded voxels (0 and less)
    are bright green.
    """
    _colour(volume_node, "Volume change", ((0.0, _FOLDED), *_VOLUME_CHANGE))


def colour_expected_error(volume_node: Any) -> None:
    """Set the colours of a map of the expected error, in mm: green to red, transparent where unknown."""
    _colour(volume_node, "Expected error (mm)", _EXPECTED_ERROR)
    display = volume_node.GetDisplayNode()
    display.InterpolateOff()  # no interpolation between known and unknown
    display.SetThreshold(0.0, _ANY_ERROR_MM)  # NaN is not within
    display.ApplyThresholdOn()


def _colour(volume_node: Any, name: str, points: ColourPoints) -> None:
    if volume_node.GetDisplayNode() is None:
        volume_node.CreateDefaultDisplayNodes()
    display = volume_node.GetDisplayNode()
    display.SetAndObserveColorNodeID(_colour_node(volume_node.GetScene(), name, points).GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(points[0][0], points[-1][0])


def _colour_node(scene: Any, name: str, points: ColourPoints) -> Any:
    """Return the scene's colour table of that name, created on first use."""
    node = scene.GetFirstNode(name, "vtkMRMLProceduralColorNode")
    if node is None:
        node = scene.AddNewNodeByClass("vtkMRMLProceduralColorNode", name)
        node.SetAndObserveColorTransferFunction(colour_function(points))
    return node


def colour_function(points: ColourPoints) -> vtk.vtkColorTransferFunction:
    """Return the transfer function through points, linear between them."""
    colours = vtk.vtkDiscretizableColorTransferFunction()
    for value, rgb in points:
        colours.AddRGBPoint(value, *rgb)
    return colours
