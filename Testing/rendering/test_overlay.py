"""PET over MRI: what the pixels show, and that the user's own display comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import slicer.util
import vtk
from display_state import display_state
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.nodes.grids import array_from_image, image_from_array
from FoundationRegistrationBridge.nodes.pet_units import mark_as_suv
from FoundationRegistrationBridge.nodes.spaces import to_world
from FoundationRegistrationBridge.run.job import JobInputs, RegistrationJob
from FoundationRegistrationBridge.scene.transforms import below
from FoundationRegistrationBridge.views.compare import Comparison
from FoundationRegistrationBridge.views.overlay import MapOverlay, PetOverlay
from mrml.nodes import linear_node
from phantom_nodes import PhantomNodes, add_phantom, add_transform

from FoundationRegistrationLib.phantom import PhantomCase, make_phantom

LOWER, UPPER = 3.5, 9.0
VIEWS = ("Red", "Yellow", "Green")


@pytest.fixture(scope="session")
def case() -> PhantomCase:
    return make_phantom("pet-ct-to-mri", seed=1, spacing_mm=3.0, difficulty="easy")


@pytest.fixture(scope="session")
def exact(case: PhantomCase) -> sitk.Transform:
    return sitk.DisplacementFieldTransform(sitk.Image(case.displacement))


@pytest.fixture
def nodes(scene: Any, case: PhantomCase) -> PhantomNodes:
    return add_phantom(scene, case)


@pytest.fixture
def transform_node(scene: Any, exact: sitk.Transform, tmp_path: Path) -> Any:
    return add_transform(scene, exact, "CT to MRI", tmp_path)


def hot_points(view: Any) -> np.ndarray:
    """RAS points (N, 3) of the pixels that are coloured like PET uptake, not grey like MRI."""
    pixels = view.pixels().astype(int)
    coloured = pixels.max(axis=-1) - pixels.min(axis=-1) > 60
    return view.ras_of_pixels()[coloured]


def look_at_lesion(view: Any, nodes: PhantomNodes) -> None:
    view.look_at(nodes.fixed, tuple(nodes.fixed_lesion))


def distances(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points - centre, axis=1)


@pytest.mark.parametrize("name", VIEWS)
def test_hot_lesion_lies_over_the_mri_lesion_only_with_the_transform(
    nodes: PhantomNodes, transform_node: Any, slice_view: Callable[[str], Any], name: str
) -> None:
    view = slice_view(name)
    look_at_lesion(view, nodes)
    PetOverlay(nodes.pet, nodes.fixed, None).show(LOWER, UPPER)
    assert not (distances(hot_points(view), nodes.fixed_lesion) < nodes.radius).any()

    PetOverlay(nodes.pet, nodes.fixed, transform_node).show(LOWER, UPPER)
    hot = hot_points(view)
    assert len(hot) > 20
    assert np.linalg.norm(hot.mean(axis=0) - nodes.fixed_lesion) < 0.5 * nodes.radius
    assert distances(hot, nodes.fixed_lesion).max() < 1.5 * nodes.radius


def test_pet_is_shown_at_its_own_place_without_a_transform(
    nodes: PhantomNodes, slice_view: Callable[[str], Any]
) -> None:
    view = slice_view("Red")
    view.look_at(nodes.fixed, tuple(nodes.moving_lesion))
    PetOverlay(nodes.pet, nodes.fixed, None).show(LOWER, UPPER)
    assert np.median(distances(hot_points(view), nodes.moving_lesion)) < nodes.radius


def test_real_registration_brings_the_hot_lesion_over_the_mri_lesion(
    nodes: PhantomNodes, slice_view: Callable[[str], Any]
) -> None:
    """Half the preset's resolution, for speed, with a search grid nearly as fine in mm as the preset's."""
    settings = {
        "preset": "pet-ct-to-mri",
        "working_spacing_mm": 4.0,
        "grid_spacing": 4,
        "feature_cache_gb": 0.0,
    }
    registered = RegistrationJob(JobInputs(nodes.fixed, nodes.moving, settings=settings)).wait().transform_node
    view = slice_view("Red")
    look_at_lesion(view, nodes)
    PetOverlay(nodes.pet, nodes.fixed, None).show(LOWER, UPPER)
    assert not (distances(hot_points(view), nodes.fixed_lesion) < nodes.radius).any()

    PetOverlay(nodes.pet, nodes.fixed, registered).show(LOWER, UPPER)
    assert np.median(distances(hot_points(view), nodes.fixed_lesion)) < nodes.radius


@pytest.mark.parametrize("attached", [False, True])
def test_parents_of_the_pet_count_and_a_transform_above_it_is_not_applied_twice(
    scene: Any, nodes: PhantomNodes, exact: sitk.Transform, tmp_path: Path, slice_view: Callable, attached: bool
) -> None:
    """The scan is given on a turned table: its parent turns it back, the result acts below that parent."""
    parent = linear_node(scene, "table position")
    turned_away = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformFromParent(turned_away)
    for node in (nodes.moving, nodes.pet):
        node.ApplyTransformMatrix(turned_away)
        node.SetAndObserveTransformNodeID(parent.GetID())
    world = add_transform(scene, exact, "in the world", tmp_path)
    result = scene.AddNode(below(to_world(parent), world.GetTransformFromParent()))
    result.SetAndObserveTransformNodeID(parent.GetID())
    if attached:
        nodes.pet.SetAndObserveTransformNodeID(result.GetID())

    view = slice_view("Red")
    look_at_lesion(view, nodes)
    PetOverlay(nodes.pet, nodes.fixed, result).show(LOWER, UPPER)
    hot = hot_points(view)
    assert len(hot) > 20
    assert np.linalg.norm(hot.mean(axis=0) - nodes.fixed_lesion) < 0.5 * nodes.radius


def test_overlay_follows_the_transform_when_it_changes(
    scene: Any, nodes: PhantomNodes, transform_node: Any, slice_view: Callable[[str], Any]
) -> None:
    changing = scene.AddNewNodeByClass("vtkMRMLTransformNode", "still the identity")
    view = slice_view("Red")
    look_at_lesion(view, nodes)
    PetOverlay(nodes.pet, nodes.fixed, changing).show(LOWER, UPPER)
    assert not (distances(hot_points(view), nodes.fixed_lesion) < nodes.radius).any()
    changing.CopyContent(transform_node)
    assert np.median(distances(hot_points(view), nodes.fixed_lesion)) < nodes.radius


def test_mri_is_untouched_where_uptake_is_below_the_window(
    nodes: PhantomNodes, transform_node: Any, slice_view: Callable[[str], Any]
) -> None:
    view = slice_view("Red")
    look_at_lesion(view, nodes)
    overlay = PetOverlay(nodes.pet, nodes.fixed, transform_node)
    overlay.show(LOWER, UPPER, opacity=0.0)
    plain = view.pixels()
    overlay.set_opacity(0.7)
    changed = (view.pixels() != plain).any(axis=-1)
    away = np.linalg.norm(view.ras_of_pixels() - nodes.fixed_lesion, axis=-1) > 2.5 * nodes.radius
    assert changed.any()
    assert not (changed & away).any()


def test_pet_is_transparent_up_to_the_lower_end_of_the_window(
    nodes: PhantomNodes, transform_node: Any, slice_view: Callable[[str], Any]
) -> None:
    view = slice_view("Red")
    look_at_lesion(view, nodes)
    shape = array_from_image(nodes.pet.GetImageData()).shape
    for value, is_seen in ((LOWER - 0.05, False), (LOWER + 0.05 * (UPPER - LOWER), True), (UPPER + 5.0, True)):
        nodes.pet.SetAndObserveImageData(image_from_array(np.full(shape, value, np.float32)))
        overlay = PetOverlay(nodes.pet, nodes.fixed, transform_node)
        overlay.show(LOWER, UPPER, opacity=0.0)
        plain = view.pixels()
        overlay.set_opacity(1.0)
        assert (view.pixels() != plain).any() == is_seen, value
        overlay.hide()


def test_legend_names_the_unit_and_goes_with_the_overlay(
    scene: Any, nodes: PhantomNodes, transform_node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def legends() -> list[Any]:
        return list(slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode", scene))

    overlay = PetOverlay(nodes.pet, nodes.fixed, transform_node)
    overlay.show(LOWER, UPPER)
    (legend,) = legends()
    assert legend.GetTitleText() == "SUV" and legend.GetVisibility() and not legend.GetSaveWithScene()
    assert legend.GetPrimaryDisplayNode() is overlay.volume_node.GetDisplayNode()
    overlay.hide()
    assert not legends()
    units = slicer.vtkCodedEntry()
    units.SetValueSchemeMeaning("Bq/ml", "UCUM", "Becquerels/milliliter")
    nodes.pet.SetVoxelValueUnits(units)
    overlay.show(LOWER, UPPER)
    assert legends()[0].GetTitleText() == "Becquerels/milliliter"
    overlay.hide()
    monkeypatch.delattr(slicer.modules, "colors")  # a Slicer without legends
    overlay.show(LOWER, UPPER)
    assert overlay.is_shown and not legends()
    overlay.hide()


def test_legend_is_drawn_with_the_range_and_unit_of_the_overlay(
    scene: Any, nodes: PhantomNodes, transform_node: Any, slice_view: Callable[..., Any]
) -> None:
    view = slice_view("Red", legends=True)
    look_at_lesion(view, nodes)
    overlay = PetOverlay(nodes.pet, nodes.fixed, transform_node)
    overlay.show(LOWER, UPPER, opacity=0.0)  # of the PET itself nothing is seen
    legend = scene.GetFirstNodeByClass("vtkMRMLColorLegendDisplayNode")

    def seen() -> np.ndarray:
        """Columns of the view that have colours."""
        pixels = view.pixels().astype(int)
        return np.unique(np.nonzero(pixels.max(axis=-1) - pixels.min(axis=-1) > 60)[1]) / pixels.shape[1]

    columns = seen()
    assert columns.size and columns.min() > 0.85, "at the right edge, beside the anatomy"
    actor = view.drawn_legend(legend)
    assert actor.GetTitle() == "SUV" and actor.GetLookupTable().GetTableRange() == pytest.approx((LOWER, UPPER))
    overlay.set_window(LOWER - 1.0, UPPER + 5.0)
    view.pixels()
    assert actor.GetLookupTable().GetTableRange() == pytest.approx((LOWER - 1.0, UPPER + 5.0))
    overlay.hide()
    assert not seen().size


def test_window_and_opacity_change_what_is_shown(
    nodes: PhantomNodes, transform_node: Any, slice_view: Callable[[str], Any]
) -> None:
    view = slice_view("Red")
    look_at_lesion(view, nodes)
    overlay = PetOverlay(nodes.pet, nodes.fixed, transform_node)
    overlay.show(LOWER, UPPER, opacity=1.0)
    wide = len(hot_points(view))
    overlay.set_window(LOWER + 2.0, UPPER)
    assert 0 < len(hot_points(view)) < wide
    overlay.set_window(UPPER + 10.0, UPPER + 20.0)
    assert len(hot_points(view)) == 0


def test_background_beyond_the_mri_shows_no_pet(
    nodes: PhantomNodes, transform_node: Any, slice_view: Callable[[str], Any]
) -> None:
    view = slice_view("Yellow")
    view.look_at(nodes.fixed, tuple(nodes.moving_lesion))
    PetOverlay(nodes.pet, nodes.fixed, None).show(0.3, 3.0, opacity=1.0)
    bounds = [0.0] * 6
    nodes.fixed.GetRASBounds(bounds)
    low, high = np.array(bounds[::2]) - 4.0, np.array(bounds[1::2]) + 4.0
    hot = hot_points(view)
    assert len(hot) > 100
    assert ((hot >= low) & (hot <= high)).all()


def user_display(scene: Any, nodes: PhantomNodes) -> None:
    """A display of the user's own: other volumes, blend, slices and window."""
    for index, name in enumerate(VIEWS):
        composite = scene.GetNodeByID(f"vtkMRMLSliceCompositeNode{name}")
        composite.SetBackgroundVolumeID(nodes.moving.GetID())
        composite.SetForegroundVolumeID(nodes.pet.GetID())
        composite.SetForegroundOpacity(0.3 + 0.1 * index)
        composite.SetCompositing(slicer.vtkMRMLSliceCompositeNode.Add)
        slice_node = scene.GetNodeByID(f"vtkMRMLSliceNode{name}")
        slice_node.SetFieldOfView(90.0, 80.0 + index, 1.0)
        slice_node.SetSliceOffset(500.0 + index)
    nodes.pet.GetDisplayNode().AutoWindowLevelOff()
    nodes.pet.GetDisplayNode().SetWindowLevelMinMax(0.0, 4.0)


def test_hiding_restores_the_display_of_the_user(scene: Any, nodes: PhantomNodes, transform_node: Any) -> None:
    user_display(scene, nodes)
    before = display_state(scene)
    overlay = PetOverlay(nodes.pet, nodes.fixed, transform_node)
    overlay.show(LOWER, UPPER)
    overlay.set_opacity(0.9)
    assert overlay.is_shown
    assert display_state(scene) != before
    overlay.hide()
    overlay.hide()
    assert not overlay.is_shown
    assert display_state(scene) == before


def test_a_removed_transform_never_leaves_pet_at_a_wrong_place(
    scene: Any, nodes: PhantomNodes, transform_node: Any
) -> None:
    user_display(scene, nodes)
    before, _ = display_state(scene)
    overlay = PetOverlay(nodes.pet, nodes.fixed, transform_node)
    overlay.show(LOWER, UPPER)
    scene.RemoveNode(transform_node)
    after, _ = display_state(scene)
    assert not overlay.is_shown
    with pytest.raises(BridgeError, match="not in the scene"):
        overlay.show(LOWER, UPPER)
    assert set(after) < set(before)
    assert scene.GetNodeByID("vtkMRMLSliceCompositeNodeRed").GetForegroundVolumeID() == nodes.pet.GetID()


@pytest.mark.parametrize("gone", ["pet", "fixed"])
def test_a_removed_volume_ends_the_overlay(scene: Any, nodes: PhantomNodes, transform_node: Any, gone: str) -> None:
    user_display(scene, nodes)
    overlay = PetOverlay(nodes.pet, nodes.fixed, transform_node)
    overlay.show(LOWER, UPPER)
    scene.RemoveNode(getattr(nodes, gone))
    assert not overlay.is_shown
    composite = scene.GetNodeByID("vtkMRMLSliceCompositeNodeRed")
    assert composite.GetBackgroundVolumeID() == nodes.moving.GetID()
    assert composite.GetForegroundVolumeID() == (None if gone == "pet" else nodes.pet.GetID())
    with pytest.raises(BridgeError, match="not in the scene"):
        overlay.show(LOWER, UPPER)


def test_the_temporary_volume_removed_by_the_user_ends_the_overlay(
    scene: Any, nodes: PhantomNodes, transform_node: Any
) -> None:
    user_display(scene, nodes)
    before = display_state(scene)
    overlay = PetOverlay(nodes.pet, nodes.fixed, transform_node)
    overlay.show(LOWER, UPPER)
    display_id = overlay.volume_node.GetDisplayNodeID()
    scene.RemoveNode(overlay.volume_node)
    assert not overlay.is_shown
    if scene.GetNodeByID(display_id):
        scene.RemoveNode(scene.GetNodeByID(display_id))
    assert display_state(scene) == before


def test_closing_the_scene_ends_the_overlay(scene: Any, nodes: PhantomNodes, transform_node: Any) -> None:
    overlay = PetOverlay(nodes.pet, nodes.fixed, transform_node)
    overlay.show(LOWER, UPPER)
    scene.Clear(0)
    assert not overlay.is_shown
    assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0
    overlay.hide()


def test_a_comparison_takes_over_from_an_overlay_and_both_are_undone(
    scene: Any, nodes: PhantomNodes, transform_node: Any
) -> None:
    user_display(scene, nodes)
    before = display_state(scene)
    overlay = PetOverlay(nodes.pet, nodes.fixed, transform_node)
    overlay.show(LOWER, UPPER)
    comparison = Comparison(nodes.fixed, nodes.moving)
    comparison.fade(0.4)
    assert not overlay.is_shown
    overlay.hide()
    assert comparison.is_open
    comparison.close()
    assert display_state(scene) == before


def test_a_map_lies_over_the_anatomy(nodes: PhantomNodes, scene: Any) -> None:
    user_display(scene, nodes)
    before = display_state(scene)
    overlay = MapOverlay(nodes.pet, nodes.fixed)
    overlay.show(0.25)
    composite = scene.GetNodeByID("vtkMRMLSliceCompositeNodeGreen")
    assert composite.GetForegroundVolumeID() == nodes.pet.GetID()
    assert composite.GetForegroundOpacity() == 0.25
    overlay.hide()
    assert display_state(scene) == before


def test_what_is_suv_and_what_may_be_is_told(nodes: PhantomNodes, transform_node: Any) -> None:
    overlay = PetOverlay(nodes.pet, nodes.fixed, transform_node)
    overlay.show(LOWER, UPPER)
    assert "assumed to be SUV" in overlay.caution
    overlay.hide()
    mark_as_suv(nodes.pet)
    overlay.show(LOWER, UPPER)
    assert overlay.caution == ""
    overlay.hide()


@pytest.mark.parametrize("has_units", [True, False])
def test_activity_is_shown_in_a_window_of_its_own(
    nodes: PhantomNodes, transform_node: Any, slice_view: Callable[[str], Any], has_units: bool
) -> None:
    """In an SUV window every voxel of the body would have the brightest colour."""
    values = array_from_image(nodes.pet.GetImageData()) * np.float32(5230.0)
    nodes.pet.SetAndObserveImageData(image_from_array(values))
    if has_units:
        units = slicer.vtkCodedEntry()
        units.SetValueSchemeMeaning("Bq/ml", "UCUM", "Becquerels/milliliter")
        nodes.pet.SetVoxelValueUnits(units)
    view = slice_view("Red")
    look_at_lesion(view, nodes)
    overlay = PetOverlay(nodes.pet, nodes.fixed, transform_node)
    overlay.show(LOWER, UPPER)
    hot = hot_points(view)
    assert np.median(distances(hot, nodes.fixed_lesion)) < nodes.radius
    assert len(hot) < 0.1 * view.pixels()[..., 0].size
    assert ("Becquerels/milliliter, not SUV" if has_units else "beyond any SUV") in overlay.caution
    first = overlay.caution
    overlay.set_window(LOWER, 2 * UPPER)
    assert overlay.caution != first, "it tells the values that the colours stand for"
    overlay.set_window(40 * UPPER, 50 * UPPER)
    assert not len(hot_points(view))
    overlay.hide()


def test_pet_that_does_not_reach_the_anatomy_is_said_first(nodes: PhantomNodes) -> None:
    nodes.pet.SetOrigin(900.0, 0.0, 0.0)
    overlay = PetOverlay(nodes.pet, nodes.fixed)
    overlay.show(LOWER, UPPER)
    assert overlay.caution.startswith("'PET' does not overlap with 'MRI'")
    overlay.hide()


def test_pet_that_loses_its_voxels_is_hidden(nodes: PhantomNodes, transform_node: Any) -> None:
    overlay = PetOverlay(nodes.pet, nodes.fixed, transform_node)
    overlay.show(LOWER, UPPER)
    nodes.pet.SetAndObserveImageData(None)
    overlay.set_window(LOWER, UPPER + 1.0)
    assert not overlay.is_shown


def test_what_an_overlay_shows_cannot_be_overlaid_itself(scene: Any, nodes: PhantomNodes) -> None:
    overlay = PetOverlay(nodes.pet, nodes.fixed)
    overlay.show(LOWER, UPPER)
    of_the_overlay = overlay.volume_node
    with pytest.raises(BridgeError, match="not in the scene"):
        PetOverlay(of_the_overlay, nodes.fixed).show(LOWER, UPPER)
    assert not overlay.is_shown and not scene.IsNodePresent(of_the_overlay)


def test_bad_choices_end_in_words(scene: Any, nodes: PhantomNodes) -> None:
    before = display_state(scene)
    with pytest.raises(BridgeError, match="SUV window is empty"):
        PetOverlay(nodes.pet, nodes.fixed).show(5.0, 5.0)
    with pytest.raises(BridgeError, match="not in the scene"):
        PetOverlay(None, nodes.fixed).show()
    with pytest.raises(BridgeError, match="no slice view 'Purple'"):
        PetOverlay(nodes.pet, nodes.fixed, slice_view_names=["Purple"]).show()
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    with pytest.raises(BridgeError, match="no voxels"):
        PetOverlay(empty, nodes.fixed).show()
    colour = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colour")
    colour.SetAndObserveImageData(image_from_array(np.ones((3, 4, 5, 3), np.uint8)))
    with pytest.raises(BridgeError, match="several values per voxel"):
        PetOverlay(colour, nodes.fixed).show()
    for node in (empty, colour):
        scene.RemoveNode(node)
    assert display_state(scene) == before
