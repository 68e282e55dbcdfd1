"""Whole registrations of nodes by the real engine in its own process, on small bodies with a known warp."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from FoundationRegistrationBridge.errors import BridgeError, CancelledError
from FoundationRegistrationBridge.nodes.grids import array_from_image, grid_of, map_points
from FoundationRegistrationBridge.nodes.spaces import composed, from_world, to_world
from FoundationRegistrationBridge.run.files_to_nodes import Placement, take_over
from FoundationRegistrationBridge.run.job import JobInputs, RegistrationJob
from FoundationRegistrationBridge.run.nodes_to_files import export_inputs
from FoundationRegistrationBridge.scene.carried import carried_to_world
from FoundationRegistrationBridge.scene.transforms import inverse_of, store_record, stored_record, world_registration
from nodes import FLIP, dice, grid_node, image_of, linear_node, put_under, segmentation_node, state, volume_node
from volumes import body_depth, body_points, empty_grid, on_grid, points_of, smooth_warp, volume

SETTINGS = {"preset": "longitudinal", "working_spacing_mm": 3.0, "initialization": "none", "iterations": 40}
FINE = {**SETTINGS, "working_spacing_mm": 2.0, "grid_spacing": 4}
FIXED_POINTS = body_points(smooth_warp, step_mm=6.0)
MOVING_POINTS = smooth_warp(FIXED_POINTS)


def pair(scene):
    """A fixed and a moving volume; fixed points x and moving points smooth_warp(x) show the same."""
    return (
        volume_node(scene, volume(empty_grid("oblique"), smooth_warp), "today"),
        volume_node(scene, volume(empty_grid("anisotropic")), "last year"),
    )


def distance(moving_to_world, fixed):
    """Mean distance in the world, mm, between the same anatomical points of both volumes."""
    world_moving = map_points(moving_to_world, MOVING_POINTS * FLIP)
    world_fixed = map_points(to_world(fixed.GetParentTransformNode()), FIXED_POINTS * FLIP)
    return np.linalg.norm(world_moving - world_fixed, axis=1).mean()


def position(node):
    return to_world(node.GetParentTransformNode())


@pytest.fixture(scope="module")
def done(temporary_folder):
    """A finished job: fixed under a linear and a grid transform, moving under two linear ones that it shares."""
    scene = slicer.vtkMRMLScene()
    fixed, moving = pair(scene)
    turned = linear_node(scene, "turned", angle=20.0)
    put_under(fixed, linear_node(scene, "patient", angle=3.0), grid_node(scene, amplitude=2.0), turned)
    put_under(moving, linear_node(scene, "table", angle=4.0, shift=(10.0, -4.0, 5.0)), turned)
    events, ends = [], []
    job = RegistrationJob(
        JobInputs(fixed, moving, settings=FINE, create_volume=True),
        scene,
        on_progress=lambda *event: events.append(event),
        on_finished=lambda *end: ends.append(end),
    )
    before = distance(position(moving), fixed)
    outputs = job.wait()
    return {"scene": scene, "fixed": fixed, "moving": moving, "outputs": outputs, "before": before,
            "events": events, "ends": ends}  # fmt: skip


def test_moving_volume_comes_to_lie_on_the_fixed_one(done):
    node, moving = done["outputs"].transform_node, done["moving"]
    assert node.GetParentTransformNode() is moving.GetParentTransformNode()
    carried = carried_to_world(moving, node)
    assert done["before"] > 5.0
    assert distance(carried, done["fixed"]) < 1.0


def test_registered_volume_agrees_with_the_transform(done):
    outputs, fixed, moving = done["outputs"], done["fixed"], done["moving"]
    registered = outputs.volume_node
    assert registered.GetParentTransformNode() is fixed.GetParentTransformNode()
    assert np.allclose(grid_of(registered).ijk_to_ras, grid_of(fixed).ijk_to_ras)
    to_moving = composed(
        position(fixed), world_registration(outputs.transform_node), from_world(moving.GetParentTransformNode())
    )
    points = map_points(to_moving, points_of(image_of(fixed)) * FLIP) * FLIP
    image = image_of(moving)
    index = [image.TransformPhysicalPointToContinuousIndex(point) for point in points[::97].tolist()]
    inside = np.all((np.array(index) >= 0) & (np.array(index) <= np.array(image.GetSize()) - 1), axis=1)
    assert inside.sum() > 300
    expected = [image.EvaluateAtContinuousIndex(i) for i, ok in zip(index, inside, strict=True) if ok]
    values = array_from_image(registered.GetImageData()).ravel()[::97][inside]
    assert np.abs(values - expected).max() < 1.0  # of 700
    shown = array_from_image(fixed.GetImageData()).ravel()[::97][inside]
    assert np.corrcoef(values, shown)[0, 1] > 0.95


def test_inverse_is_real_and_stored(done):
    node = done["outputs"].transform_node
    inverse = inverse_of(node)
    assert inverse is done["outputs"].inverse_node
    points = map_points(position(done["fixed"]), FIXED_POINTS * FLIP)
    there = map_points(world_registration(node), points)
    back = map_points(world_registration(inverse), there)
    assert np.abs(back - points).max() < 0.1
    assert np.abs(map_points(world_registration(node).GetInverse(), there) - points).max() < 0.1
    # What is put under the inverse goes from fixed to moving.
    carried = map_points(carried_to_world(done["fixed"], inverse), FIXED_POINTS * FLIP)
    expected = map_points(position(done["moving"]), MOVING_POINTS * FLIP)
    assert np.linalg.norm(carried - expected, axis=1).mean() < 1.0


def test_progress_grows_to_the_end(done, temporary_folder):
    fractions = [fraction for _, fraction, _ in done["events"]]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {"encoding", "instance optimisation"} <= {step for step, _, _ in done["events"]}
    assert done["ends"] == [(done["outputs"], None, False)]
    assert not list(temporary_folder.iterdir())


def test_record_and_transform_survive_mrb(done, scene, tmp_path):
    node, fixed = done["outputs"].transform_node, done["fixed"]
    assert done["scene"].WriteToMRB(str(tmp_path / "case.mrb"))
    assert scene.ReadFromMRB(str(tmp_path / "case.mrb"))
    again = scene.GetFirstNodeByName(node.GetName())
    record = stored_record(again)
    assert record == done["outputs"].record
    assert record["settings"]["encoder"] == "mind"
    assert record["metrics"]["inverse_error_mm"]["mean"] < 0.1
    assert again.GetNodeReference(again.GetFixedNodeReferenceRole()).GetName() == "today"
    points = map_points(position(fixed), FIXED_POINTS * FLIP)
    for old, new in ((node, again), (inverse_of(node), inverse_of(again))):
        difference = map_points(world_registration(new), points) - map_points(world_registration(old), points)
        assert np.abs(difference).max() < 1e-3


def test_second_run_replaces_the_first_one_in_place(scene):
    fixed, moving = pair(scene)
    earlier, table = linear_node(scene, "earlier result", angle=30.0), linear_node(scene, "table", angle=3.0)
    put_under(moving, earlier, table)
    store_record(earlier, {}, fixed, moving)
    misled = distance(position(moving), fixed)
    ids = set(state(scene))
    outputs = RegistrationJob(JobInputs(fixed, moving, settings=SETTINGS, output_transform=earlier)).wait()
    assert outputs.transform_node is earlier
    assert moving.GetParentTransformNode() is earlier
    assert earlier.GetParentTransformNode() is table
    assert distance(position(moving), fixed) < 1.5 < misled
    assert set(state(scene)) - ids == {outputs.inverse_node.GetID()}


def test_initial_transform_brings_distant_volumes_together(scene):
    fixed, moving = pair(scene)
    put_under(moving, linear_node(scene, "scanner", angle=0.0, shift=(150.0, 0.0, 0.0)))
    initial = linear_node(scene, "by hand", angle=0.0, shift=(-148.0, 1.0, 0.0))
    outputs = RegistrationJob(JobInputs(fixed, moving, initial_transform=initial, settings=SETTINGS)).wait()
    assert distance(carried_to_world(moving, outputs.transform_node), fixed) < 1.5
    assert outputs.record["initialization"] == "given transform"


def test_initial_transform_that_acts_already_is_not_applied_twice(scene, tmp_path):
    fixed, moving = pair(scene)
    initial = linear_node(scene, "by hand")
    put_under(moving, linear_node(scene, "scanner"), initial)
    inputs = JobInputs(fixed, moving, initial_transform=initial, settings={**SETTINGS, "initialization": "affine"})
    arguments = export_inputs(inputs, tmp_path, [])
    assert "--initial-transform" not in arguments
    assert json.loads((tmp_path / "settings.json").read_text())["initialization"] == "none"


def body_mask(grid, side):
    points = points_of(grid)
    inside = body_depth(smooth_warp(points) if side == "fixed" else points) > 0
    return on_grid(np.where(inside, 1, 0).astype(np.uint8), grid)


def test_cancelled_run_leaves_the_scene_as_it_was(scene, temporary_folder):
    fixed, moving = pair(scene)
    put_under(moving, linear_node(scene))
    segmentation = put_under(
        segmentation_node(scene, body_mask(empty_grid(), "moving"), {1: "body"}), linear_node(scene)
    )
    output = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "output")
    volume_output = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "out")
    before = state(scene)
    ends = []
    job = RegistrationJob(
        JobInputs(fixed, moving, moving_mask=segmentation, settings=SETTINGS, output_transform=output,
                  output_volume=volume_output),
        on_progress=lambda step, *_: job.cancel() if step == "encoding" else None,
        on_finished=lambda *end: ends.append(end),
    )  # fmt: skip
    with pytest.raises(CancelledError):
        job.wait()
    assert ends == [(None, None, True)]
    assert state(scene) == before
    assert not list(temporary_folder.iterdir())


def test_failed_run_leaves_the_scene_as_it_was(scene, temporary_folder):
    fixed, moving = pair(scene)
    before = state(scene)
    job = RegistrationJob(JobInputs(fixed, moving, settings={**SETTINGS, "encoder": "no-such-encoder"}))
    with pytest.raises(BridgeError, match="no-such-encoder") as error:
        job.wait()
    assert "\n" not in str(error.value)
    assert state(scene) == before
    assert not list(temporary_folder.iterdir())


@pytest.mark.parametrize("loss", ["moving volume", "parent", "scene"])
def test_nodes_lost_during_the_run_end_it_in_words(scene, loss, temporary_folder):
    fixed, moving = pair(scene)
    put_under(moving, linear_node(scene, "table"))

    job = RegistrationJob(JobInputs(fixed, moving, settings=SETTINGS))
    job.start()
    if loss == "scene":
        scene.Clear(False)
    else:
        scene.RemoveNode(moving if loss == "moving volume" else moving.GetParentTransformNode())
    before = state(scene)
    with pytest.raises(BridgeError, match="removed during the registration"):
        job.wait()
    assert state(scene) == before
    assert not list(temporary_folder.iterdir())


@pytest.mark.parametrize("use", ["mask", "lesion"])
@pytest.mark.parametrize("kind", ["segmentation", "segment", "labelmap"])
def test_masks_of_every_kind_reach_the_engine_on_the_grid_of_their_volume(scene, tmp_path, kind, use):
    fixed, moving = pair(scene)
    put_under(fixed, linear_node(scene, "turned", angle=30.0))
    if kind == "labelmap":
        mask = volume_node(scene, body_mask(empty_grid("sagittal"), "fixed"), "mask", "vtkMRMLLabelMapVolumeNode")
    else:
        mask = segmentation_node(scene, body_mask(empty_grid("sagittal"), "fixed"), {1: "body"})
    mask.SetAndObserveTransformNodeID(fixed.GetTransformNodeID())
    chosen = (mask, mask.GetSegmentation().GetNthSegmentID(0)) if kind == "segment" else mask
    arguments = export_inputs(JobInputs(fixed, moving, settings=SETTINGS, **{f"fixed_{use}": chosen}), tmp_path, [])
    written = sitk.ReadImage(str(arguments[arguments.index(f"--fixed-{use}") + 1]))
    volume_written = sitk.ReadImage(str(arguments[1]))
    assert np.allclose(written.GetDirection(), volume_written.GetDirection())
    assert np.allclose(written.GetOrigin(), volume_written.GetOrigin())
    expected = sitk.GetArrayFromImage(body_mask(empty_grid("oblique"), "fixed"))
    assert dice(sitk.GetArrayFromImage(written), expected) > 0.97


def test_unsuitable_inputs_are_refused_before_anything_starts(scene, temporary_folder):
    fixed, moving = pair(scene)
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    colour = volume_node(scene, sitk.Compose([volume(empty_grid())] * 3), "rgb", "vtkMRMLVectorVolumeNode")
    above = linear_node(scene)
    put_under(fixed, above)
    no_body = segmentation_node(scene, body_mask(empty_grid(), "fixed"), {1: "body"})
    put_under(no_body, linear_node(scene, shift=(900.0, 0.0, 0.0)))
    labels = volume_node(scene, body_mask(empty_grid(), "fixed"), "drawn", "vtkMRMLLabelMapVolumeNode")
    unknown = volume_node(scene, sitk.Cast(body_mask(empty_grid(), "fixed"), sitk.sitkFloat32) / 0.0, "NaN outside")
    before = state(scene)
    for inputs, words in (
        (JobInputs(fixed, labels), "'drawn' is a label map; choose the image"),
        (JobInputs(fixed, moving, output_volume=labels), "'drawn' is not a scalar volume"),
        (JobInputs(fixed, moving, output_volume=colour), "'rgb' is not a scalar volume"),
        (JobInputs(fixed, moving, fixed_mask=moving), "is not a mask. The fixed mask holds"),
        (JobInputs(fixed, moving, fixed_mask=unknown), "'NaN outside' is not a mask. .* fractions or NaN"),
        (JobInputs(fixed, fixed), "both fixed and moving"),
        (JobInputs(None, moving), "fixed volume"),
        (JobInputs(fixed, empty), "no voxels"),
        (JobInputs(colour, moving), "several values"),
        (JobInputs(fixed, moving, output_volume=moving), "output volume"),
        (JobInputs(fixed, moving, output_transform=above), "output transform"),
        (JobInputs(fixed, moving, fixed_mask=no_body), "marks nothing"),
        (JobInputs(fixed, moving, fixed_mask=(no_body, "gone")), "no segment"),
        (JobInputs(fixed, moving, moving_mask=above), "not a mask"),
        (JobInputs(fixed, moving, fixed_lesion=no_body), "fixed lesion .* within the fixed volume"),
        (JobInputs(fixed, moving, settings={"working_spacing_mm": -1.0}), "working_spacing_mm"),
        (JobInputs(fixed, moving, settings={"preset": "best"}), "best"),
    ):
        with pytest.raises(BridgeError, match=words):
            RegistrationJob(inputs).wait()
    assert state(scene) == before
    assert not list(temporary_folder.iterdir())


def test_maps_and_features_of_a_run_become_volumes(scene, tmp_path):
    fixed, moving = pair(scene)
    result = tmp_path / "result"
    result.mkdir()
    for name in ("transform", "inverse"):
        sitk.WriteTransform(sitk.TranslationTransform(3, (1.0, 2.0, 3.0)), str(result / f"{name}.h5"))
    map_image = volume(empty_grid("oblique")) / 700.0
    colours = sitk.Compose([sitk.Cast(map_image * 255.0, sitk.sitkUInt8)] * 3)
    for name in ("jacobian.nii.gz", "expected_error_mm.nrrd"):
        sitk.WriteImage(map_image, str(result / name))
    for side in ("fixed", "moving"):
        sitk.WriteImage(colours, str(result / f"features_{side}.nii.gz"))
    (result / "report.json").write_text(json.dumps({"messages": ["Look twice."]}), encoding="utf-8")
    inputs = JobInputs(fixed, moving)
    outputs = take_over(inputs, Placement.of(inputs), scene, result)
    assert outputs.messages == ("Look twice.",)
    for node in (outputs.jacobian_node, outputs.expected_error_node, *outputs.feature_nodes):
        assert np.allclose(image_of(node).GetOrigin(), map_image.GetOrigin(), atol=1e-4)
        assert np.allclose(image_of(node).GetDirection(), map_image.GetDirection(), atol=1e-4)
        assert node.GetDisplayNode() is not None
    assert np.allclose(array_from_image(outputs.jacobian_node.GetImageData()), sitk.GetArrayFromImage(map_image))
    assert outputs.feature_nodes[1].GetImageData().GetNumberOfScalarComponents() == 3


def test_results_that_cannot_be_read_add_nothing(scene, tmp_path):
    fixed, moving = pair(scene)
    result = tmp_path / "result"
    result.mkdir()
    (result / "report.json").write_text("{}", encoding="utf-8")
    (result / "transform.h5").write_bytes(b"torn")
    before = state(scene)
    inputs = JobInputs(fixed, moving)
    with pytest.raises(BridgeError, match="cannot be read"):
        take_over(inputs, Placement.of(inputs), scene, result)
    assert state(scene) == before
