"""Displacement drawn as grid or arrows, and the colours of the maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.nodes.grids import VoxelGrid, image_from_array, matrix_of
from FoundationRegistrationBridge.scene.map_colours import colour_expected_error, colour_jacobian
from FoundationRegistrationBridge.views.field_display import show_displacement, shown_displacement
from FoundationRegistrationBridge.views.overlay import MapOverlay

EDGE_MM = 120.0


@pytest.fixture
def fixed(scene: Any) -> Any:
    return add_volume(scene, np.zeros((30, 40, 60), np.float32), "fixed")


@pytest.fixture
def view(slice_view: Callable[[str], Any], fixed: Any) -> Any:
    """Looks along S onto a black volume; what has colour was drawn over it."""
    view = slice_view("Red")
    view.logic.GetSliceCompositeNode().SetBackgroundVolumeID(fixed.GetID())
    view.look_at(fixed, (0.0, 0.0, 0.0))
    return view


def add_volume(scene: Any, array: np.ndarray, name: str) -> Any:
    """A volume (k, j, i) around the origin, EDGE_MM long on each side, so with anisotropic voxels."""
    dimensions = array.shape[::-1]
    matrix = np.diag([*(EDGE_MM / np.array(dimensions)), 1.0])
    matrix[:3, 3] = -0.5 * EDGE_MM + 0.5 * matrix.diagonal()[:3]
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.SetAndObserveImageData(image_from_array(array))
    node.SetIJKToRASMatrix(matrix_of(VoxelGrid(dimensions, matrix).ijk_to_ras))
    node.CreateDefaultDisplayNodes()
    return node


def add_bump(scene: Any, shift: tuple[float, float, float]) -> Any:
    """A transform that carries moving tissue by `shift` (RAS mm) in the middle and by nothing at the border."""
    k, j, i = np.indices((21, 21, 21)) / 10.0 - 1.0
    weight = np.clip(2.0 * (1.0 - (i**2 + j**2 + k**2)), 0.0, 1.0)
    image = image_from_array(weight[..., None] * np.array(shift))
    image.SetSpacing(8.0, 8.0, 8.0)
    image.SetOrigin(-80.0, -80.0, -80.0)
    grid = slicer.vtkOrientedGridTransform()
    grid.SetDisplacementGridData(image)
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", "bump")
    node.SetAndObserveTransformToParent(grid)
    return node


def drawn(view: Any) -> np.ndarray:
    return view.pixels().astype(int).sum(axis=-1) > 60


@pytest.mark.parametrize("kind", ["grid", "arrows"])
def test_displacement_appears_and_disappears(scene: Any, fixed: Any, view: Any, kind: str) -> None:
    transform = add_bump(scene, (15.0, 0.0, 0.0))
    plain = view.pixels()
    show_displacement(transform, kind, fixed)
    assert drawn(view).sum() > 200 and shown_displacement(transform) == kind
    show_displacement(transform, "off", fixed)
    assert (view.pixels() == plain).all() and shown_displacement(transform) == "off"


def phase_of_lines(view: Any, period_mm: float) -> float:
    """Where lines along A cross the middle of the view, RAS mm modulo their period, as an angle."""
    points, here = view.ras_of_pixels(), drawn(view)
    middle = here.shape[0] // 2
    row = min(range(middle - 15, middle + 15), key=lambda one: here[one].sum())  # between two lines along R
    crossings = points[row, here[row] & (np.abs(points[row, :, 0]) < 12.0), 0]
    assert len(crossings) > 2
    return float(np.angle(np.exp(2j * np.pi * crossings / period_mm).mean()))


def test_grid_lines_are_carried_to_where_the_tissue_goes(scene: Any, fixed: Any, view: Any) -> None:
    """A shift by two and a quarter periods moves the pattern by a quarter, to the side of the shift."""
    still = add_bump(scene, (0.0, 0.0, 0.0))
    show_displacement(still, "grid", fixed)
    period = still.GetDisplayNode().GetGridSpacingMm()
    straight = phase_of_lines(view, period)
    show_displacement(still, "off", fixed)
    show_displacement(add_bump(scene, (2.25 * period, 0.0, 0.0)), "grid", fixed)
    turned = np.angle(np.exp(1j * (phase_of_lines(view, period) - straight)))
    assert turned == pytest.approx(0.5 * np.pi, abs=0.6)


def test_arrows_point_from_the_moving_to_the_fixed_place(scene: Any, fixed: Any, view: Any) -> None:
    """An arrow's colour fills more where its head is: along a shift to the right, at larger R."""
    add = add_bump(scene, (20.0, 0.0, 0.0))
    show_displacement(add, "arrows", fixed)
    spacing = add.GetDisplayNode().GetGlyphSpacingMm()
    points, here = view.ras_of_pixels(), drawn(view)
    middle = np.abs(points[..., 1]) < 0.6 * spacing
    reach = points[..., 0][here & middle]
    undisplaced = add_bump(scene, (-20.0, 0.0, 0.0))
    show_displacement(add, "off", fixed)
    show_displacement(undisplaced, "arrows", fixed)
    reach_back = points[..., 0][drawn(view) & middle]
    assert reach.mean() > reach_back.mean() + 5.0


def test_density_follows_the_size_of_the_volume(scene: Any, fixed: Any) -> None:
    transform = add_bump(scene, (10.0, 5.0, 0.0))
    small = add_volume(scene, np.zeros((30, 40, 60), np.float32), "small")
    small.SetSpacing(*(0.25 * np.array(fixed.GetSpacing())))
    steps = []
    for node in (fixed, small):
        show_displacement(transform, "grid", node)
        steps.append(transform.GetDisplayNode().GetGridSpacingMm())
    assert 10 <= EDGE_MM / steps[0] <= 40
    assert 10 <= 0.25 * EDGE_MM / steps[1] <= 40


def test_parents_of_the_transform_are_looked_through(scene: Any, fixed: Any) -> None:
    """The colours span the displacement inside the fixed volume, wherever parents put both."""
    parent_transform = vtk.vtkTransform()
    parent_transform.Translate(500.0, 0.0, 0.0)
    parent = scene.AddNewNodeByClass("vtkMRMLTransformNode", "parent")
    parent.SetAndObserveTransformToParent(parent_transform)
    transform = add_bump(scene, (18.0, 0.0, 0.0))
    for node in (fixed, transform):
        node.SetAndObserveTransformNodeID(parent.GetID())
    show_displacement(transform, "arrows", fixed)
    assert transform.GetDisplayNode().GetColorMap().GetRange()[1] == pytest.approx(18.0, abs=1.5)


def test_bad_choices_end_in_words(scene: Any, fixed: Any) -> None:
    transform = add_bump(scene, (1.0, 0.0, 0.0))
    with pytest.raises(BridgeError, match="grid, arrows or off"):
        show_displacement(transform, "spaghetti", fixed)
    with pytest.raises(BridgeError, match="no transform"):
        show_displacement(None, "grid", fixed)
    with pytest.raises(BridgeError, match="fixed volume"):
        show_displacement(transform, "grid", None)
    show_displacement(transform, "off", fixed)
    assert transform.GetDisplayNode() is None


def ramp(scene: Any, low: float, high: float) -> Any:
    """A map with values from low to high along R."""
    array = np.broadcast_to(np.linspace(low, high, 60, dtype=np.float32), (30, 40, 60)).copy()
    return add_volume(scene, array, "map")


def colours_at(view: Any, node: Any, fixed: Any, low: float, high: float, values: list[float]) -> list[np.ndarray]:
    overlay = MapOverlay(node, fixed)
    overlay.show(1.0)
    view.look_at(fixed, (0.0, 0.0, 0.0))
    pixels, points = view.pixels().astype(int), view.ras_of_pixels()
    row = pixels.shape[0] // 2
    overlay.hide()
    found = []
    for value in values:
        ras = EDGE_MM * ((value - low) / (high - low) - 0.5)
        found.append(pixels[row, np.abs(points[row, :, 0] - ras).argmin()])
    return found


def test_jacobian_is_blue_below_one_dark_at_one_red_above_and_green_where_folded(
    scene: Any, fixed: Any, view: Any
) -> None:
    node = ramp(scene, -1.0, 3.0)
    colour_jacobian(node)
    colour_jacobian(node)
    folded, small, same, large = colours_at(view, node, fixed, -1.0, 3.0, [-0.5, 0.5, 1.0, 1.5])
    assert folded[1] > 200
    assert folded[2] < 60
    assert small[2] > small[0] + 60
    assert same.max() < 60
    assert large[0] > large[2] + 60
    assert scene.GetNodesByName("Volume change").GetNumberOfItems() == 1


def test_expected_error_goes_from_green_to_red_and_is_transparent_where_it_is_not_known(
    scene: Any, fixed: Any, view: Any
) -> None:
    node = ramp(scene, 0.0, 20.0)
    colour_expected_error(node)
    small, some, large = colours_at(view, node, fixed, 0.0, 20.0, [0.3, 2.5, 15.0])
    assert small[1] > small[0] + 60
    assert some.min() < 100 < min(some[0], some[1])
    assert large[0] > large[1] + 100
    values = np.linspace(0.0, 20.0, 60, dtype=np.float32)
    values[values > 12.0] = np.nan
    partly = add_volume(scene, np.broadcast_to(values, (30, 40, 60)).copy(), "partly known")
    colour_expected_error(partly)
    large, unknown = colours_at(view, partly, fixed, 0.0, 20.0, [10.0, 15.0])
    assert large[0] > large[1] + 100
    assert unknown.max() < 30
