"""Fade, flicker and checkerboard: what the pixels show, and that the user's own display comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import slicer
import vtk
from display_state import display_state
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.nodes.grids import VoxelGrid, image_from_array, matrix_of
from FoundationRegistrationBridge.views.compare import Comparison
from FoundationRegistrationBridge.views.feature_preview import show_features

FOUR_UP = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
ONE_3D = slicer.vtkMRMLLayoutNode.SlicerLayoutOneUp3DView


def oblique_grid(spacing: tuple[float, float, float], size: tuple[int, int, int], degrees: float) -> VoxelGrid:
    """A grid centred on the world's origin, turned about an axis of no symmetry, one axis flipped."""
    turn = vtk.vtkTransform()
    turn.RotateWXYZ(degrees, 1.0, -2.0, 2.5)
    rotation = np.array([[turn.GetMatrix().GetElement(row, column) for column in range(3)] for row in range(3)])
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * np.array(spacing) * (-1, 1, 1)
    matrix[:3, 3] = -matrix[:3, :3] @ (0.5 * (np.array(size) - 1))
    return VoxelGrid(size, matrix)


def add_volume(scene: Any, grid: VoxelGrid, values: Callable[[np.ndarray], np.ndarray], name: str) -> Any:
    """A volume whose values are a function of RAS points (N, 3); (N, 3) uint8 values make a colour volume."""
    k, j, i = np.indices(grid.dimensions[::-1]).reshape(3, -1)
    array = values(grid.ras(np.stack([i, j, k], axis=1)))
    colour = array.ndim == 2
    node = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode" if colour else "vtkMRMLScalarVolumeNode", name)
    node.SetAndObserveImageData(image_from_array(array.reshape(*grid.dimensions[::-1], *array.shape[1:])))
    node.SetIJKToRASMatrix(matrix_of(grid.ijk_to_ras))
    node.CreateDefaultDisplayNodes()
    if not colour:
        node.GetDisplayNode().AutoWindowLevelOff()
        node.GetDisplayNode().SetWindowLevelMinMax(0.0, 255.0)
    return node


def constant(value: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda points: np.full(len(points), value, np.float32)


def waves(points: np.ndarray) -> np.ndarray:
    """Smooth, without symmetry, 30 to 230."""
    return (130.0 + 100.0 * np.sin(points @ (0.11, 0.05, 0.02)) * np.cos(points @ (0.02, -0.07, 0.09))).astype("f4")


FIXED_GRID = oblique_grid((1.0, 2.0, 3.0), (80, 40, 30), 20.0)
MOVED_GRID = oblique_grid((2.5, 1.5, 2.0), (50, 70, 60), -35.0)


@pytest.fixture
def bright(scene: Any) -> Any:
    return add_volume(scene, FIXED_GRID, constant(200.0), "bright")


@pytest.fixture
def dark(scene: Any) -> Any:
    return add_volume(scene, MOVED_GRID, constant(40.0), "dark")


@pytest.fixture
def view(slice_view: Callable[[str], Any]) -> Any:
    return slice_view("Red")


def grey(view: Any) -> float:
    """Brightness of the middle of a view that looks at the world's origin."""
    pixels = view.pixels()
    rows, columns = (slice(size // 2 - 4, size // 2 + 4) for size in pixels.shape[:2])
    return float(pixels[rows, columns].mean())


def test_fade_blends_from_fixed_to_moved(bright: Any, dark: Any, view: Any) -> None:
    view.look_at(bright, (0.0, 0.0, 0.0))
    comparison = Comparison(bright, dark)
    shown = []
    for share in (0.0, 0.25, 1.0, 7.0):
        comparison.fade(share)
        shown.append(grey(view))
    assert shown == pytest.approx([200.0, 160.0, 40.0, 40.0], abs=2.0)


def test_flicker_shows_the_volumes_in_turn_and_returns_to_the_fade(bright: Any, dark: Any, view: Any) -> None:
    view.look_at(bright, (0.0, 0.0, 0.0))
    comparison = Comparison(bright, dark)
    comparison.fade(0.25)
    comparison.tick()
    assert grey(view) == pytest.approx(160.0, abs=2.0)
    comparison.flicker(True)
    shown = []
    for _ in range(4):
        shown.append(grey(view))
        comparison.tick()
    assert shown == pytest.approx([200.0, 40.0, 200.0, 40.0], abs=2.0)
    comparison.flicker(False)
    comparison.tick()
    assert grey(view) == pytest.approx(160.0, abs=2.0)


@pytest.mark.parametrize("cells", [2, 5])
def test_checkerboard_tiles_are_squares_of_both_volumes(bright: Any, dark: Any, view: Any, cells: int) -> None:
    """Tiles have one size in mm along all axes of an anisotropic volume."""
    view.look_at(bright, (0.0, 0.0, 0.0))
    comparison = Comparison(bright, dark)
    comparison.checkerboard(cells)
    points = view.ras_of_pixels()
    index = FIXED_GRID.indices(points.reshape(-1, 3)).reshape(points.shape)
    extents = np.array(FIXED_GRID.dimensions) * FIXED_GRID.spacing
    tile = (index + 0.5) * FIXED_GRID.spacing / (extents.max() / cells)
    well_inside = (np.abs(tile - np.round(tile)) * extents.max() / cells > 3.5).all(axis=-1)
    well_inside &= ((index > 2) & (index < np.array(FIXED_GRID.dimensions) - 3)).all(axis=-1)
    of_fixed = np.floor(tile).astype(int).sum(axis=-1) % 2 == 0
    pixels = view.pixels()[..., 0]
    assert (well_inside & of_fixed).sum() > 100
    assert (well_inside & ~of_fixed).sum() > 100
    assert (pixels[well_inside & of_fixed] == 200).all()
    assert (pixels[well_inside & ~of_fixed] == 40).all()


@pytest.mark.parametrize("name", ["Red", "Yellow", "Green"])
def test_checkerboard_of_one_pattern_under_differing_grids_and_transforms_has_no_seams(
    scene: Any, slice_view: Callable[[str], Any], name: str
) -> None:
    """The moved volume holds the pattern elsewhere; a transform above it brings it back."""
    shift = np.array([30.0, -50.0, 20.0])
    fixed = add_volume(scene, FIXED_GRID, waves, "fixed")
    fixed.GetDisplayNode().SetInterpolate(False)
    there = MOVED_GRID.ijk_to_ras.copy()
    there[:3, 3] += shift
    moved = add_volume(scene, VoxelGrid(MOVED_GRID.dimensions, there), lambda p: waves(p - shift), "moved")
    back = vtk.vtkTransform()
    back.Translate(*-shift)
    parent = scene.AddNewNodeByClass("vtkMRMLTransformNode", "back")
    parent.SetAndObserveTransformToParent(back)
    moved.SetAndObserveTransformNodeID(parent.GetID())

    view = slice_view(name)
    view.look_at(fixed, (0.0, 0.0, 0.0))
    comparison = Comparison(fixed, moved)
    comparison.fade(0.0)
    alone = view.pixels()[..., 0].astype(int)
    comparison.checkerboard(6)
    board = view.pixels()[..., 0].astype(int)
    inside = np.linalg.norm(view.ras_of_pixels(), axis=-1) < 30.0
    assert inside.sum() > 1000
    assert (alone != board)[inside].any()
    assert np.abs(alone - board)[inside].max() <= 6
    assert alone[inside].std() > 20


def test_the_checkerboard_follows_a_transform_that_changes(bright: Any, scene: Any, view: Any) -> None:
    with_black_rim = np.pad(np.full((58, 68, 48), 40.0, np.float32), 1).ravel()
    dark = add_volume(scene, MOVED_GRID, lambda points: with_black_rim, "dark")
    parent = scene.AddNewNodeByClass("vtkMRMLTransformNode", "result")
    dark.SetAndObserveTransformNodeID(parent.GetID())
    view.look_at(bright, (0.0, 0.0, 0.0))
    Comparison(bright, dark).checkerboard(5)
    before = (view.pixels() == 40).mean()
    away = vtk.vtkTransform()
    away.Translate(70.0, 0.0, 0.0)
    parent.SetAndObserveTransformToParent(away)
    assert (view.pixels() == 40).mean() < before
    parent.SetAndObserveTransformToParent(vtk.vtkTransform())
    assert (view.pixels() == 40).mean() == before


def test_each_volume_keeps_its_own_window_in_the_checkerboard(bright: Any, scene: Any, view: Any) -> None:
    ct = add_volume(scene, MOVED_GRID, constant(-80.0), "ct")
    ct.GetDisplayNode().SetWindowLevelMinMax(-160.0, 0.0)
    view.look_at(bright, (0.0, 0.0, 0.0))
    Comparison(bright, ct).checkerboard(5)
    shown = view.pixels().astype(int)
    assert (np.abs(shown - 127) <= 1).sum() > 1000
    assert (shown == 200).sum() > 1000


def test_only_the_common_part_is_compared(bright: Any, scene: Any, view: Any) -> None:
    large = add_volume(scene, oblique_grid((4.0, 4.0, 4.0), (60, 60, 60), 0.0), constant(90.0), "large")
    view.look_at(large, (0.0, 0.0, 0.0))
    Comparison(bright, large).fade(1.0)
    beyond = np.abs(FIXED_GRID.indices(view.ras_of_pixels().reshape(-1, 3)))
    outside = (np.abs(beyond - 0.5 * np.array(FIXED_GRID.dimensions)) > FIXED_GRID.dimensions).any(axis=-1)
    assert (view.pixels().reshape(-1, 3)[outside] == 0).all()


def user_display(scene: Any, volume: Any, layout: int) -> None:
    scene.GetFirstNodeByClass("vtkMRMLLayoutNode").SetViewArrangement(layout)
    for index, name in enumerate(("Red", "Yellow", "Green")):
        composite = scene.GetNodeByID(f"vtkMRMLSliceCompositeNode{name}")
        composite.SetBackgroundVolumeID(volume.GetID())
        composite.SetForegroundOpacity(0.2 * index)
        slice_node = scene.GetNodeByID(f"vtkMRMLSliceNode{name}")
        slice_node.SetFieldOfView(70.0, 60.0 + index, 1.0)
        slice_node.SetSliceOffset(400.0 * index)


@pytest.fixture
def restored_layout(scene: Any) -> Any:
    yield scene
    scene.GetFirstNodeByClass("vtkMRMLLayoutNode").SetViewArrangement(FOUR_UP)


@pytest.mark.parametrize("layout", [FOUR_UP, ONE_3D])
def test_closing_restores_layout_and_display(bright: Any, dark: Any, restored_layout: Any, layout: int) -> None:
    scene = restored_layout
    user_display(scene, dark, layout)
    before = display_state(scene)
    comparison = Comparison(bright, dark)
    assert scene.GetNodeByID("vtkMRMLSliceNodeRed").IsMappedInLayout()
    comparison.fade(0.3)
    comparison.checkerboard(4)
    comparison.checkerboard(9)
    comparison.flicker(True)
    comparison.tick()
    assert display_state(scene) != before
    comparison.close()
    comparison.close()
    assert not comparison.is_open
    assert display_state(scene) == before


def test_a_slice_that_shows_the_volume_stays_where_the_user_put_it(bright: Any, dark: Any, scene: Any) -> None:
    slice_node = scene.GetNodeByID("vtkMRMLSliceNodeRed")
    slice_node.SetSliceOffset(7.0)
    slice_node.SetFieldOfView(33.0, 22.0, 1.0)
    Comparison(bright, dark).fade(0.5)
    assert slice_node.GetSliceOffset() == 7.0
    assert slice_node.GetFieldOfView()[0] == 33.0
    slice_node.SetSliceOffset(900.0)
    Comparison(bright, dark).fade(0.5)
    assert abs(slice_node.GetSliceOffset()) < 100.0


@pytest.mark.parametrize("mode", ["fade", "checkerboard"])
@pytest.mark.parametrize("gone", ["fixed", "moved"])
def test_a_removed_volume_closes_the_comparison(bright: Any, dark: Any, scene: Any, mode: str, gone: str) -> None:
    user = add_volume(scene, FIXED_GRID, constant(10.0), "of the user")
    user_display(scene, user, FOUR_UP)
    comparison = Comparison(bright, dark)
    comparison.fade(0.5) if mode == "fade" else comparison.checkerboard(4)
    scene.RemoveNode(bright if gone == "fixed" else dark)
    assert not comparison.is_open
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 2
    assert scene.GetNodeByID("vtkMRMLSliceCompositeNodeRed").GetBackgroundVolumeID() == user.GetID()
    comparison.tick()
    with pytest.raises(BridgeError, match="start it again"):
        comparison.fade(0.5)
    comparison.close()


def test_a_user_volume_removed_meanwhile_leaves_its_layer_empty(bright: Any, dark: Any, scene: Any) -> None:
    user = add_volume(scene, FIXED_GRID, constant(10.0), "of the user")
    user_display(scene, user, FOUR_UP)
    comparison = Comparison(bright, dark)
    comparison.fade(0.5)
    scene.RemoveNode(user)
    assert comparison.is_open
    comparison.close()
    assert scene.GetNodeByID("vtkMRMLSliceCompositeNodeRed").GetBackgroundVolumeID() is None


@pytest.mark.parametrize("mode", ["fade", "checkerboard"])
def test_closing_the_scene_closes_the_comparison(bright: Any, dark: Any, scene: Any, mode: str) -> None:
    comparison = Comparison(bright, dark)
    comparison.fade(0.5) if mode == "fade" else comparison.checkerboard(4)
    scene.Clear(0)
    assert not comparison.is_open
    assert scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 0
    comparison.close()


def test_the_checkerboard_is_not_saved(bright: Any, dark: Any, scene: Any) -> None:
    Comparison(bright, dark).checkerboard(4)
    _, saved = display_state(scene)
    assert saved.count("<Volume\n") == 2
    assert saved.count("<VolumeDisplay\n") == 2


def test_a_second_comparison_takes_over_from_the_first(bright: Any, dark: Any, scene: Any) -> None:
    user_display(scene, dark, FOUR_UP)
    before = display_state(scene)
    first = Comparison(bright, dark)
    first.checkerboard(4)
    second = Comparison(dark, bright)
    second.fade(0.5)
    assert not first.is_open
    first.close()
    assert second.is_open
    second.close()
    assert display_state(scene) == before


def test_a_checkerboard_of_a_volume_without_voxels_closes_instead_of_raising(
    bright: Any, dark: Any, scene: Any
) -> None:
    parent = scene.AddNewNodeByClass("vtkMRMLTransformNode", "result")
    dark.SetAndObserveTransformNodeID(parent.GetID())
    comparison = Comparison(bright, dark)
    comparison.checkerboard(5)
    dark.SetAndObserveImageData(None)
    away = vtk.vtkTransform()
    away.Translate(7.0, 0.0, 0.0)
    parent.SetAndObserveTransformToParent(away)
    assert not comparison.is_open


def test_feature_colours_are_shown_as_they_are(scene: Any, view: Any) -> None:
    def colours(red: int, green: int, blue: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda points: np.tile(np.array([red, green, blue], np.uint8), (len(points), 1))

    fixed = add_volume(scene, FIXED_GRID, colours(250, 120, 10), "fixed features")
    moving = add_volume(scene, MOVED_GRID, colours(20, 60, 240), "moving features")
    before = display_state(scene)
    view.look_at(fixed, (0.0, 0.0, 0.0))
    preview = show_features(fixed, moving)
    centre = tuple(size // 2 for size in view.pixels().shape[:2])
    assert tuple(view.pixels()[centre]) == (250, 120, 10)
    preview.fade(1.0)
    assert tuple(view.pixels()[centre]) == (20, 60, 240)
    preview.checkerboard(4)
    shown = {tuple(colour) for colour in view.pixels().reshape(-1, 3)}
    assert {(250, 120, 10), (20, 60, 240)} <= shown
    preview.close()
    assert display_state(scene)[0] == before[0]


def test_bad_choices_end_in_words(bright: Any, dark: Any, scene: Any) -> None:
    with pytest.raises(BridgeError, match="not in the scene"):
        Comparison(bright, None)
    running = Comparison(bright, dark)
    with pytest.raises(BridgeError, match="no slice view 'Purple'"):
        Comparison(bright, dark, ["Red", "Purple"])
    assert running.is_open
    with pytest.raises(BridgeError, match="at least 2 cells"):
        Comparison(bright, dark).checkerboard(1)
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    with pytest.raises(BridgeError, match="'empty' has no voxels"):
        Comparison(bright, empty).checkerboard(4)
    with pytest.raises(BridgeError, match="feature preview enabled"):
        show_features(bright, None)
