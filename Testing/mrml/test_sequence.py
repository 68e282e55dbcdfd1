"""Sequences of volumes: all time points are registered, and the result is a sequence with a browser of its own."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from FoundationRegistrationBridge.errors import BridgeError, CancelledError
from FoundationRegistrationBridge.nodes.grids import array_from_image, grid_of, map_points
from FoundationRegistrationBridge.nodes.spaces import to_world
from FoundationRegistrationBridge.series.job import SequenceInputs, SequenceJob
from known_run import at, in_world, points_node, rigid, transform
from known_run import world as world_matrix
from known_sequence import browser_of, moved_image, run_known_sequence, scroll, sequence_of
from nodes import FLIP, grid_node, image_of, linear_node, put_under, state, volume_node
from volumes import body_points, empty_grid, smooth_warp, volume

GRIDS = ("oblique", "anisotropic", "oblique")


def images():
    """Frames on oblique and on anisotropic grids that can be told apart by their values."""
    frames = [empty_grid(name, extent_mm=(24.0, 20.0, 28.0)) for name in GRIDS]
    for index, frame in enumerate(frames):
        noise = np.random.default_rng(index).normal(1000.0 * index, 100.0, frame.GetSize()[::-1])
        frames[index] = sitk.GetImageFromArray(noise.astype(np.float32))
        frames[index].CopyInformation(frame)
    return frames


def voxels(node):
    return array_from_image(node.GetImageData())


def known(scene, folder, parent=None, states=("reference", "registered", "registered"), between=()):
    """A finished known run of a sequence in a browser; its original images, matrices and corrected images."""
    rng = np.random.default_rng(3)
    originals = images()
    sequence = sequence_of(scene, originals)
    browser, proxy = browser_of(sequence)
    proxy.SetAndObserveTransformNodeID(parent.GetID() if parent else None)
    matrices = [rigid(rng) if name == "registered" else np.eye(4) for name in states]
    world = moved_image(originals[0], world_matrix(parent))
    corrected = [world + 10.0 * index for index in range(len(originals))]
    job = run_known_sequence(
        folder, scene, list(zip(states, matrices, strict=True)), corrected, between(browser) if between else (),
        sequence=sequence,
    )  # fmt: skip
    return job, sequence, browser, proxy, originals, matrices, corrected


def test_all_time_points_are_registered_whatever_the_browser_shows(scene, tmp_path, temporary_folder):
    parent = transform(scene, "table", rigid(np.random.default_rng(8)))
    written = []

    def between(browser):
        def look(_):
            files = sorted(temporary_folder.glob("FoundationRegistration-*/frames/*.nrrd"))
            written.extend(sitk.ReadImage(str(file)) for file in files)

        return (lambda _: scroll(browser, 2), look, lambda _: scroll(browser, 1))

    job, sequence, browser, proxy, originals, matrices, corrected = known(scene, tmp_path, parent, between=between)
    assert job.error is None
    outputs = job.outputs

    for image, original in zip(written, originals, strict=True):
        expected = moved_image(original, world_matrix(parent))
        assert np.allclose(image.GetOrigin(), expected.GetOrigin(), atol=1e-3)
        assert np.allclose(image.GetDirection(), expected.GetDirection(), atol=1e-5)
        assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(original))
    for new in (outputs.sequence_node, outputs.transforms_node):
        assert [new.GetNthIndexValue(index) for index in range(3)] == ["0", "60.5", "121"]
        assert (new.GetIndexName(), new.GetIndexUnit()) == ("time", "s")
    for index, image in enumerate(corrected):
        item = outputs.sequence_node.GetNthDataNode(index)
        assert np.array_equal(voxels(item), sitk.GetArrayFromImage(image))
        assert np.allclose(grid_of(item).ijk_to_ras, grid_of(sequence.GetNthDataNode(0)).ijk_to_ras)

    new_browser = outputs.browser_node
    shown = new_browser.GetProxyNode(outputs.sequence_node)
    moving = new_browser.GetProxyNode(outputs.transforms_node)
    assert new_browser.GetSelectedItemNumber() == browser.GetSelectedItemNumber() == 1
    assert np.array_equal(voxels(shown), sitk.GetArrayFromImage(corrected[1]))
    assert shown.GetParentTransformNode() is parent
    assert moving.GetParentTransformNode() is parent
    assert proxy.GetParentTransformNode() is parent

    # Under the transform of its time, what is in a frame comes to lie on the reference, in the world.
    points = np.random.default_rng(1).uniform(-20.0, 20.0, (5, 3))
    for index, matrix in enumerate(matrices):
        scroll(new_browser, index)
        in_frame = at(np.linalg.inv(world_matrix(parent)), at(matrix, points))
        assert np.abs(in_world(points_node(scene, "points", in_frame, moving)) - points).max() < 1e-3


def test_both_browsers_scroll_the_results(scene, tmp_path):
    job, _, browser, proxy, originals, _, corrected = known(scene, tmp_path)
    new_browser = job.outputs.browser_node
    shown = new_browser.GetProxyNode(job.outputs.sequence_node)
    assert shown.GetName() == "DCE registered"
    scroll(browser, 2)
    assert np.array_equal(voxels(proxy), sitk.GetArrayFromImage(originals[2]))
    assert np.array_equal(voxels(shown), sitk.GetArrayFromImage(corrected[2]))
    scroll(new_browser, 1)
    assert np.array_equal(voxels(proxy), sitk.GetArrayFromImage(originals[2]))
    assert np.array_equal(voxels(shown), sitk.GetArrayFromImage(corrected[1]))
    assert browser.GetMasterSequenceNode().GetName() == "DCE"
    assert shown.GetName() == "DCE registered"


def test_sequence_without_a_browser_gets_one(scene, tmp_path):
    originals = images()
    sequence = sequence_of(scene, originals)
    frames = [("reference", np.eye(4)), ("registered", np.eye(4)), ("registered", np.eye(4))]
    outputs = run_known_sequence(tmp_path, scene, frames, [originals[0]] * 3, sequence=sequence).outputs
    assert outputs.browser_node.GetMasterSequenceNode() is outputs.sequence_node
    assert slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode", scene) == [outputs.browser_node]


def test_volumes_at_several_places_are_refused(scene):
    sequence = sequence_of(scene, images())
    _, proxy = browser_of(sequence)
    browser_of(sequence)
    put_under(proxy, linear_node(scene))
    with pytest.raises(BridgeError, match="Several volumes under different transforms"):
        SequenceJob(SequenceInputs(sequence), scene).start()


def test_failed_time_point_is_said(scene, tmp_path):
    job, _, _, _, _, _, corrected = known(scene, tmp_path, states=("reference", "failed", "registered"))
    assert job.outputs.messages[0] == (
        "Time point 1 (60.5 s) of 'DCE' could not be registered; it is left as it was."
    )
    assert "The engine's own." in job.outputs.messages
    assert np.array_equal(voxels(job.outputs.sequence_node.GetNthDataNode(1)), sitk.GetArrayFromImage(corrected[1]))


def test_failed_time_point_is_called_by_its_time_at_the_start(scene, tmp_path):
    def between(browser):
        return (lambda _: browser.GetMasterSequenceNode().RemoveDataNodeAtValue("0"),)

    states = ("reference", "failed", "registered")
    job, *_ = known(scene, tmp_path, states=states, between=between)
    assert job.outputs.messages[0].startswith("Time point 1 (60.5 s) of 'DCE'")


def test_edit_during_the_run_is_said(scene, tmp_path):
    def between(browser):
        def edit(_):
            item = browser.GetMasterSequenceNode().GetNthDataNode(1)
            voxels(item)[:] = 0.0
            item.GetImageData().Modified()

        return (edit,)

    job, *_ = known(scene, tmp_path, between=between)
    assert "The sequence 'DCE' was edited during the registration" in job.outputs.messages[0]


def test_cancelled_run_changes_nothing(scene, tmp_path, temporary_folder):
    before = []

    def between(_):
        return (lambda job: before.append(state(scene)), lambda job: job.cancel())

    job, *_ = known(scene, tmp_path, between=between)
    assert job.cancelled
    assert state(scene) == before[0]
    assert not list(temporary_folder.iterdir())
    with pytest.raises(CancelledError):
        job.wait()


def test_mask_is_written_on_the_reference_in_the_world(scene, tmp_path, temporary_folder):
    originals = images()
    drawn = sitk.Image(originals[1].GetSize(), sitk.sitkUInt8)
    drawn.CopyInformation(originals[1])
    drawn[3:6, 2:5, 4:8] = 1
    sequence = sequence_of(scene, originals)
    _, proxy = browser_of(sequence)
    lesion = volume_node(scene, drawn, "drawn", "vtkMRMLLabelMapVolumeNode")
    parent = transform(scene, "table", rigid(np.random.default_rng(8)))
    for node in (proxy, lesion):
        put_under(node, parent)
    written = []

    def look(job):
        file = next(temporary_folder.glob("FoundationRegistration-*/mask.nrrd"))
        written.append(sitk.ReadImage(str(file)))

    frames = [("registered", np.eye(4)), ("reference", np.eye(4)), ("registered", np.eye(4))]
    corrected = [moved_image(originals[1], world_matrix(parent))] * 3
    run_known_sequence(tmp_path, scene, frames, corrected, (look,), sequence=proxy, reference_frame=1, mask=lesion)
    expected = moved_image(drawn, world_matrix(parent))
    assert np.allclose(written[0].GetOrigin(), expected.GetOrigin(), atol=1e-3)
    assert np.array_equal(sitk.GetArrayFromImage(written[0]), sitk.GetArrayFromImage(drawn))
    put_under(lesion, transform(scene, "away", np.diag([1.0, 1.0, 1.0, 1.0]) + 500.0 * np.eye(4, k=3)))
    with pytest.raises(BridgeError, match="The reference mask 'drawn' marks nothing within the reference volume"):
        SequenceJob(SequenceInputs(proxy, 1, mask=lesion), scene).start()


def test_removed_sequence_ends_the_run(scene, tmp_path):
    job, *_ = known(
        scene, tmp_path, between=lambda browser: (lambda _: scene.RemoveNode(browser.GetMasterSequenceNode()),)
    )
    assert job.error == ("The sequence 'DCE' was removed during the registration; nothing was added to the scene.")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda scene: None, "Choose a sequence"),
        (lambda scene: volume_node(scene, images()[0], "alone"), "'alone' is not a sequence"),
        (lambda scene: sequence_of(scene, images()[:1]), "fewer than two time points"),
        (lambda scene: scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "empty"), "has no sequence"),
    ],
)
def test_what_is_no_sequence_of_volumes_is_refused(scene, make, words):
    node = make(scene)
    with pytest.raises(BridgeError, match=words):
        SequenceJob(SequenceInputs(node), scene).start()


def test_sequence_of_transforms_is_refused(scene):
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "moves")
    for value in ("0", "1"):
        sequence.SetDataNodeAtValue(linear_node(scene), value)
    with pytest.raises(BridgeError, match="does not hold scalar volumes"):
        SequenceJob(SequenceInputs(sequence), scene).start()


@pytest.mark.parametrize("reference", [3, -1, "first", True])
def test_unknown_reference_is_refused(scene, reference):
    with pytest.raises(BridgeError, match="There is no time point"):
        SequenceJob(SequenceInputs(sequence_of(scene, images()), reference), scene).start()


def test_parent_that_changes_over_time_is_refused(scene):
    _, proxy = browser_of(sequence_of(scene, images()))
    moves = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "moves")
    for value in ("0", "1"):
        moves.SetDataNodeAtValue(linear_node(scene), value)
    _, above = browser_of(moves)
    put_under(proxy, above)
    with pytest.raises(BridgeError, match="differs from one time point to the next"):
        SequenceJob(SequenceInputs(proxy), scene).start()


def test_real_run_aligns_the_time_points(scene, tmp_path):
    fixed, moving = empty_grid("oblique"), empty_grid("anisotropic")
    originals = [volume(fixed, smooth_warp), volume(moving), volume(fixed, smooth_warp) * 1.5]
    sequence = sequence_of(scene, originals)
    browser, proxy = browser_of(sequence)
    parent = grid_node(scene, amplitude=2.0)
    put_under(proxy, parent, linear_node(scene, "table", angle=10.0))
    settings = {"preset": "dce", "working_spacing_mm": 5.0, "initialization": "none", "iterations": 20}
    job = SequenceJob(SequenceInputs(proxy, 0, settings), scene)
    job.start()
    scroll(browser, 1)
    outputs = job.wait()

    fixed_points = body_points(smooth_warp, step_mm=8.0)
    moving_points = smooth_warp(fixed_points)
    frame = outputs.transforms_node.GetNthDataNode(1)
    on_reference = map_points(frame.GetTransformToParent(), moving_points * FLIP)
    distance = np.linalg.norm(on_reference - fixed_points * FLIP, axis=1).mean()
    assert distance < 0.5 * np.linalg.norm(moving_points - fixed_points, axis=1).mean()

    shown = outputs.browser_node.GetProxyNode(outputs.sequence_node)
    assert shown.GetParentTransformNode() is None  # under a nonlinear parent, the result is in the world
    in_the_world, image = map_points(to_world(parent), fixed_points * FLIP) * FLIP, image_of(shown)
    values = np.array([image.EvaluateAtPhysicalPoint(point, sitk.sitkLinear) for point in in_the_world.tolist()])
    expected = np.array(
        [originals[0].EvaluateAtPhysicalPoint(point, sitk.sitkLinear) for point in fixed_points.tolist()]
    )
    assert np.corrcoef(values, expected)[0, 1] > 0.9
    assert not [message for message in outputs.messages if "frames" in message]

    browser_name, transforms_name = outputs.browser_node.GetName(), outputs.transforms_node.GetName()
    assert scene.WriteToMRB(str(tmp_path / "case.mrb"))
    scene.Clear(False)
    assert scene.ReadFromMRB(str(tmp_path / "case.mrb"))
    transforms, browser = scene.GetFirstNodeByName(transforms_name), scene.GetFirstNodeByName(browser_name)
    again = map_points(transforms.GetNthDataNode(1).GetTransformToParent(), moving_points * FLIP)
    assert np.abs(again - on_reference).max() < 0.05  # mm; the grid of the parent is inverted numerically
    assert transforms.GetNthIndexValue(1) == "60.5"
    assert browser.GetProxyNode(transforms).GetName() == "DCE transform"
