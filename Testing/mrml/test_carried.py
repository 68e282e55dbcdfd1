"""Nodes know who carried them; outputs lose nothing of a user's; what was registered is what was given."""

import numpy as np
import pytest
import slicer
import vtk
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.follow.apply import apply_transform
from FoundationRegistrationBridge.nodes.grids import array_from_image, grid_of, image_from_array, map_points
from FoundationRegistrationBridge.nodes.spaces import chain, to_world
from FoundationRegistrationBridge.quality.measures import quality_rows
from FoundationRegistrationBridge.run.inputs import JobInputs, check_inputs
from FoundationRegistrationBridge.scene.attachment_watch import watch_attachments
from FoundationRegistrationBridge.scene.carried import carried_to_world
from FoundationRegistrationBridge.scene.marks import REGISTRATION_ROLE
from FoundationRegistrationBridge.scene.transforms import inverse_of, world_registration
from FoundationRegistrationBridge.views.overlay import PetOverlay
from known_run import (
    at,
    ijk_to_ras,
    in_world,
    points_node,
    rigid,
    run_known,
    set_matrix,
    smooth,
    transform,
    volume,
    world,
)
from nodes import FLIP, segmentation_node, volume_node
from registered import KINDS, Registered, halves
from volumes import empty_grid, on_grid, points_of

HOT = np.array([8.0, 5.0, 5.0])


@pytest.fixture(params=KINDS)
def registered(scene, tmp_path, request):
    return Registered(scene, tmp_path, request.param)


def hot_pet(scene, registered):
    """A PET with one hot spot, beside the moving volume, and where the spot has to go in the world."""
    grid = empty_grid("LAS")
    values = 9.0 * np.exp(-((points_of(grid) - HOT) ** 2).sum(1) / 40.0)
    pet = registered.beside_moving(volume_node(scene, on_grid(values.astype(np.float32), grid), "PET"))
    return pet, map_points(carried_to_world(pet, registered.node), (HOT * FLIP)[None])[0]


def hot_spot(node):
    """Where the hot spot of a volume node is in the world."""
    values = array_from_image(node.GetImageData())
    voxels = np.argwhere(values > 0.5 * values.max())
    weights = values[tuple(voxels.T)]
    centre = (voxels * weights[:, None]).sum(0) / weights.sum()
    return map_points(to_world(node.GetParentTransformNode()), grid_of(node).ras(centre[::-1][None]))[0]


def shown_spot(pet, registered):
    overlay = PetOverlay(pet, registered.fixed, registered.node)
    overlay.show()
    try:
        return hot_spot(overlay.volume_node)
    finally:
        overlay.hide()


@pytest.mark.parametrize("way", ["resampled", "cloned", "attached and hardened", "attached by hand and hardened"])
def test_pet_that_was_carried_is_shown_as_it_lies(scene, registered, way):
    watch_attachments(scene)
    pet, truth = hot_pet(scene, registered)
    assert np.linalg.norm(shown_spot(pet, registered) - truth) < 1.0
    if way in ("resampled", "cloned"):
        pet = apply_transform([pet], registered.node, registered.fixed, mode="resample").created[0]
        if way == "cloned":
            pet = slicer.vtkSlicerVolumesLogic.CloneVolume(scene, pet, "clone")
    elif way == "attached and hardened":
        apply_transform([pet], registered.node, registered.fixed, mode="attach")
        pet.HardenTransform()
    else:
        pet.SetAndObserveTransformNodeID(registered.node.GetID())
        pet.HardenTransform()
    assert np.linalg.norm(shown_spot(pet, registered) - truth) < 1.5
    for mode in ("attach", "resample"):
        with pytest.raises(BridgeError, match=r"was (already )?transformed"):
            apply_transform([pet], registered.node, registered.fixed, mode=mode)
    pet.SetAndObserveTransformNodeID(registered.node.GetID())
    with pytest.raises(BridgeError, match="and is still under it"):
        shown_spot(pet, registered)


def test_a_scene_is_watched_once_however_many_scripts_ask(scene):
    watch_attachments(scene)
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "clips")
    event = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
    watched = [node.HasObserver(event)]
    node.RemoveObservers(event)
    watch_attachments(scene)
    assert watched == [True] and not node.HasObserver(event)


def test_shown_pet_stays_right_when_it_is_hardened(scene, registered):
    pet, truth = hot_pet(scene, registered)
    apply_transform([pet], registered.node, registered.fixed, mode="attach")
    overlay = PetOverlay(pet, registered.fixed, registered.node)
    overlay.show()
    pet.HardenTransform()
    assert np.linalg.norm(hot_spot(overlay.volume_node) - truth) < 1.5
    overlay.hide()


def test_attached_and_pulled_out_again_is_as_never_carried(scene, registered):
    pet, truth = hot_pet(scene, registered)
    apply_transform([pet], registered.node, registered.fixed, mode="attach")
    registered.beside_moving(pet)
    assert np.linalg.norm(shown_spot(pet, registered) - truth) < 1.0
    pet.SetOrigin(40.0, 3.0, -7.0)
    with pytest.raises(BridgeError, match="not known whether it was transformed"):
        shown_spot(pet, registered)


@pytest.mark.parametrize("way", ["resampled", "attached and hardened"])
def test_quality_of_labels_that_were_carried(scene, registered, way):
    grid = empty_grid("LAS")
    moving = segmentation_node(scene, on_grid(halves(points_of(grid)), grid), {1: "right", 2: "left"}, "moving")
    registered.beside_moving(moving)
    on_fixed = registered.on_fixed(halves(registered.origins(registered.parent)))
    fixed = segmentation_node(scene, on_grid(on_fixed, empty_grid("anisotropic")), {1: "right", 2: "left"}, "fixed")
    fixed.SetAndObserveTransformNodeID(registered.fixed.GetTransformNodeID())

    def dice():
        rows = quality_rows(fixed, moving, None, None, registered.node)
        return np.array([(row.before, row.after) for row in rows if row.measure == "Dice"])

    expected = dice()
    if way == "resampled":
        moving = apply_transform([moving], registered.node, registered.fixed, mode="resample").created[0]
    else:
        apply_transform([moving], registered.node, registered.fixed, mode="attach")
        moving.HardenTransform()
    assert np.abs(dice() - expected).max() < 0.05
    assert (expected[:, 1] - expected[:, 0]).min() > 0.1


def test_segmentation_edited_and_taken_out_is_not_taken_for_hardened_nor_for_never_carried(scene, registered):
    grid = empty_grid("LAS")
    node = segmentation_node(scene, on_grid(halves(points_of(grid)), grid), {1: "right", 2: "left"}, "contours")
    registered.beside_moving(node)
    apply_transform([node], registered.node, registered.fixed, mode="attach")
    image = node.GetSegmentation().GetNthSegment(0).GetRepresentation("Binary labelmap")
    array_from_image(image)[8:11] = 0
    apply_transform([node], registered.node, registered.fixed, mode="resample")  # it hangs there: no question
    registered.beside_moving(node)
    with pytest.raises(BridgeError, match="not known whether it was transformed"):
        apply_transform([node], registered.node, registered.fixed, mode="resample")


@pytest.mark.parametrize("kind", ["markups", "model", "surface"])
def test_what_moves_point_by_point_is_known_when_hardened(scene, registered, kind):
    source = vtk.vtkSphereSource()
    source.SetRadius(9.0)
    source.Update()
    if kind == "markups":
        node = points_node(scene, "clips", np.array([[1.0, 2, 3], [9, -4, 2], [-5, 5, 5]]))
    elif kind == "model":
        node = scene.AddNewNodeByClass("vtkMRMLModelNode", "ball")
        node.SetAndObservePolyData(source.GetOutput())
    else:
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "contours")
        node.GetSegmentation().SetSourceRepresentationName("Closed surface")
        node.AddSegmentFromClosedSurfaceRepresentation(source.GetOutput(), "ball", (0.0, 1.0, 0.0))
    registered.beside_moving(node)
    apply_transform([node], registered.node, registered.fixed, mode="attach")
    if kind == "markups":  # edited while attached: most points still tell
        node.SetNthControlPointPosition(0, 30.0, 0.0, 0.0)
    node.HardenTransform()
    with pytest.raises(BridgeError, match=r"was (already )?transformed"):
        apply_transform([node], registered.node, registered.fixed, mode="resample")


class Run:
    """A pair, and runs of it with known answers."""

    def __init__(self, scene, folder, seed=3):
        self.scene, self.folder, self.rng = scene, folder, np.random.default_rng(seed)
        self.table = transform(scene, "table", rigid(self.rng))
        self.fixed, self.moving = volume(scene, "fixed", self.rng), volume(scene, "moving", self.rng, self.table)

    def __call__(self, between=(), **inputs):
        self.answer = rigid(self.rng)
        self.folder = self.folder / "run"
        self.folder.mkdir(parents=True)
        given = {"fixed": self.fixed, "moving": self.moving, **inputs}
        job = run_known(self.folder, self.answer, self.scene, between, **given)
        assert job.error is None
        return job.outputs


@pytest.fixture
def run(scene, tmp_path):
    return Run(scene, tmp_path)


def test_products_refer_to_their_registration_in_a_saved_scene(scene, run, tmp_path):
    outputs = run(create_volume=True)
    clips = points_node(scene, "clips", run.rng.uniform(-9, 9, (4, 3)), run.table)
    copy = apply_transform([clips], outputs.transform_node, run.fixed, mode="resample").created[0]
    apply_transform([clips], outputs.transform_node, run.fixed, mode="attach")
    where = in_world(clips)
    assert np.abs(in_world(copy) - where).max() < 0.01
    assert scene.WriteToMRB(str(tmp_path / "case.mrb"))
    scene.Clear(False)
    assert scene.ReadFromMRB(str(tmp_path / "case.mrb"))
    node = scene.GetFirstNodeByName("moving to fixed")
    for name in ("moving to fixed: registered volume", "clips registered", "clips"):
        product = scene.GetFirstNodeByName(name)
        assert product.GetNodeReference(REGISTRATION_ROLE) is node
        if name == "clips":
            product.HardenTransform()
            assert np.abs(in_world(product) - where).max() < 0.01
        with pytest.raises(BridgeError, match=r"was (already )?transformed"):
            apply_transform([product], node, scene.GetFirstNodeByName("fixed"), mode="attach")


def test_product_of_an_earlier_run_is_refused(scene, run):
    first = run(create_volume=True)
    clips = points_node(scene, "clips", run.rng.uniform(-9, 9, (4, 3)), run.table)
    apply_transform([clips], first.transform_node, run.fixed, mode="attach")
    second = run(output_transform=first.transform_node)
    assert second.transform_node is first.transform_node
    with pytest.raises(BridgeError, match="earlier run"):
        carried_to_world(first.volume_node, second.transform_node)
    clips.HardenTransform()  # it hung under the new run by then
    with pytest.raises(BridgeError, match=r"was (already )?transformed"):
        apply_transform([clips], second.transform_node, run.fixed, mode="attach")


def test_what_one_result_brought_there_is_not_carried_by_another_of_the_same_pair(scene, run):
    first = run(create_volume=True)
    clips = points_node(scene, "clips", run.rng.uniform(-9, 9, (4, 3)), run.table)
    copy = apply_transform([clips], first.transform_node, run.fixed, mode="resample").created[0]
    apply_transform([clips], first.transform_node, run.fixed, mode="attach")
    second = run()
    for node in (first.volume_node, copy, clips):
        with pytest.raises(BridgeError, match="already registered to 'fixed' by 'moving to fixed'"):
            carried_to_world(node, second.transform_node)
    # A result refined from the registered volume does carry what is there.
    refined = run(moving=first.volume_node)
    expected = at(np.linalg.inv(run.answer), in_world(copy))
    moved = apply_transform([copy], refined.transform_node, run.fixed, mode="resample").created[0]
    assert np.abs(in_world(moved) - expected).max() < 0.01


def test_refinement_below_a_result_takes_what_is_beside_through_both(scene, run):
    first = run()
    answers = [run.answer]
    clips = points_node(scene, "clips", run.rng.uniform(-9, 9, (4, 3)), run.table)
    apart = points_node(scene, "apart", run.rng.uniform(-9, 9, (4, 3)), transform(scene, "own", rigid(run.rng)))
    expected = [at(np.linalg.inv(run.answer), in_world(node)) for node in (clips, apart)]
    apply_transform([run.moving], first.transform_node, run.fixed, mode="attach")
    second = run()
    assert second.transform_node.GetParentTransformNode() is first.transform_node
    answers.append(run.answer)
    apply_transform([clips, apart], second.transform_node, run.fixed, mode="attach")
    for node, once in zip((clips, apart), expected, strict=True):
        assert np.abs(in_world(node) - at(np.linalg.inv(answers[1]), once)).max() < 0.01


def test_transforms_of_a_user_are_refused_as_output(scene, run):
    outputs = run()
    manual, pet_alignment = (transform(scene, name, rigid(run.rng)) for name in ("by hand", "PET alignment"))
    empty_but_used = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "used")
    points_node(scene, "clips", np.zeros((1, 3)), empty_but_used)
    placed = transform(scene, "placed", np.eye(4), run.table)
    wanted = (manual, pet_alignment, outputs.inverse_node, empty_but_used, placed)
    for output in wanted:
        with pytest.raises(BridgeError, match="would be lost"):
            check_inputs(JobInputs(run.fixed, run.moving, output_transform=output))
    run.moving.SetAndObserveTransformNodeID(manual.GetID())
    with pytest.raises(BridgeError, match="would be lost"):
        check_inputs(JobInputs(run.fixed, run.moving, output_transform=manual))
    for kind in ("", "Linear", "Grid", "BSpline"):
        new = scene.AddNewNodeByClass(f"vtkMRML{kind}TransformNode", "new")
        check_inputs(JobInputs(run.fixed, run.moving, output_transform=new))
        assert run(output_transform=new).transform_node is new
        check_inputs(JobInputs(run.fixed, run.moving, output_transform=new))
    other = volume(scene, "other", run.rng)
    points_node(scene, "clips", np.zeros((1, 3)), outputs.transform_node)
    with pytest.raises(BridgeError, match="another moving volume"):
        check_inputs(JobInputs(run.fixed, other, output_transform=outputs.transform_node))


def test_inverse_that_two_results_share_is_left_to_the_other(scene, run):
    first = run()
    shared = world_registration(first.inverse_node)
    points = run.rng.uniform(-20, 20, (5, 3))
    before = map_points(shared, points)
    twin = slicer.vtkMRMLTransformNode()
    twin.Copy(first.transform_node)
    scene.AddNode(twin)
    second = run(output_transform=twin)
    assert second.inverse_node is not first.inverse_node
    assert inverse_of(first.transform_node) is first.inverse_node
    assert np.abs(map_points(world_registration(first.inverse_node), points) - before).max() < 1e-6


def test_inverse_carries_what_belongs_to_the_fixed_volume(scene, run):
    outputs = run()
    contour = points_node(scene, "contour", run.rng.uniform(-9, 9, (4, 3)))
    copy = apply_transform([contour], outputs.inverse_node, run.moving, mode="resample").created[0]
    assert np.abs(in_world(copy) - at(run.answer, in_world(contour))).max() < 0.01
    with pytest.raises(BridgeError, match="is the fixed volume of"):
        carried_to_world(run.fixed, outputs.transform_node)


def test_scrolling_a_sequence_during_a_run_changes_nothing(scene, run):
    frames = [smooth(run.rng, (9, 10, 11)) + 5000.0 * number for number in range(3)]
    logic = slicer.vtkSlicerSequencesLogic()
    logic.SetMRMLScene(scene)
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "DCE")
    for number, frame in enumerate(frames):
        node = slicer.vtkMRMLScalarVolumeNode()
        node.SetAndObserveImageData(image_from_array(frame))
        sequence.SetDataNodeAtValue(node, str(number))
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.SetSelectedItemNumber(0)
    logic.UpdateProxyNodesFromSequences(browser)
    proxy = browser.GetProxyNode(sequence)

    def scroll():
        browser.SetSelectedItemNumber(2)
        logic.UpdateProxyNodesFromSequences(browser)

    outputs = run([scroll], moving=proxy, create_volume=True)
    assert proxy.GetImageData().GetScalarRange()[1] > 9000.0
    assert outputs.volume_node.GetImageData().GetScalarRange()[1] <= frames[0].max()
    assert "'DCE' has other voxels" in outputs.messages[0]


def test_registration_under_another_transform_takes_its_followers_along(scene, run):
    outputs = run()
    clips = points_node(scene, "clips", run.rng.uniform(-9, 9, (4, 3)), transform(scene, "own", rigid(run.rng)))
    apply_transform([run.moving, clips], outputs.transform_node, run.fixed, mode="attach")
    where = in_world(clips)
    above = transform(scene, "above", rigid(run.rng))
    outputs.transform_node.SetAndObserveTransformNodeID(above.GetID())
    moved = world(above) @ np.linalg.inv(world(run.table))
    assert np.abs(in_world(clips) - at(moved, where)).max() < 0.01
    assert outputs.transform_node in chain(run.moving.GetParentTransformNode())
    late = points_node(scene, "late", run.rng.uniform(-9, 9, (4, 3)), run.table)
    apply_transform([late], outputs.transform_node, run.fixed, mode="attach")
    own = np.array([late.GetNthControlPointPosition(number) for number in range(4)])
    assert np.abs(in_world(late) - at(world(outputs.transform_node), own)).max() < 0.01


def test_what_cannot_be_undone_is_left_and_said(scene, run):
    outputs = run()
    own = transform(scene, "own", rigid(run.rng))
    clips = points_node(scene, "clips", run.rng.uniform(-9, 9, (4, 3)), own)
    undo = apply_transform([clips], outputs.transform_node, run.fixed, mode="attach")
    place = clips.GetParentTransformNode()
    set_matrix(place, rigid(run.rng))  # the user's own correction
    where = in_world(clips)
    assert "has been changed since" in undo.undo()[0]
    assert np.abs(in_world(clips) - where).max() < 1e-6
    moved = points_node(scene, "moved", run.rng.uniform(-9, 9, (4, 3)), own)
    undo = apply_transform([moved], outputs.transform_node, run.fixed, mode="attach")
    scene.RemoveNode(own)
    where = in_world(moved)
    assert "was removed" in undo.undo()[0]
    assert np.abs(in_world(moved) - where).max() < 1e-6
    copy = apply_transform([run.moving], outputs.transform_node, run.fixed, mode="resample")
    node = copy.created[0]
    slicer.util.arrayFromVolume(node)[2] = 3.0  # and nobody is told
    assert "it stays" in copy.undo()[0]
    assert scene.IsNodePresent(node)
    assert np.allclose(ijk_to_ras(node), ijk_to_ras(run.fixed))
