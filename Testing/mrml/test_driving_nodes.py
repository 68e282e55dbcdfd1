"""Structures and points in nodes drive a registration as those in files do, wherever their parents put them."""

import numpy as np
import pytest
import SimpleITK as sitk
import vtk
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.nodes.grids import map_points
from FoundationRegistrationBridge.nodes.spaces import from_world, to_world
from FoundationRegistrationBridge.quality.measures import quality_rows
from FoundationRegistrationBridge.run.inputs import check_inputs
from FoundationRegistrationBridge.run.job import JobInputs, RegistrationJob
from FoundationRegistrationBridge.run.nodes_to_files import export_inputs
from FoundationRegistrationBridge.scene.transforms import store_record
from nodes import FLIP, dice, grid_node, linear_node, put_under, segmentation_node, volume_node
from volumes import body_depth, empty_grid, on_grid, points_of, smooth_warp, volume

from FoundationRegistrationLib.io.landmark_files import read_points
from FoundationRegistrationLib.io.segmentation_files import read_segmentation

BALLS = {"upper": (4.0, -6.0, 10.0), "lower": (-6.0, 5.0, -9.0)}
RADIUS_MM = 9.0


def balls(points):
    """One label a ball of the anatomy, at anatomical points."""
    labels = np.zeros(len(points), np.uint8)
    for label, center in enumerate(BALLS.values(), start=1):
        labels[np.linalg.norm(points - center, axis=1) < RADIUS_MM] = label
    return labels


def structures(scene, grid_name, motion=None, names=tuple(BALLS), name="structures"):
    """The balls drawn on a grid of their own."""
    grid = empty_grid(grid_name)
    points = points_of(grid)
    labels = on_grid(balls(points if motion is None else motion(points)), grid)
    return segmentation_node(scene, labels, dict(enumerate(names, start=1)), name)


def points_node(scene, name, named):
    """A point list at LPS points; None is a point that was not placed."""
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    for label, point in named.items():
        number = node.AddControlPoint(
            vtk.vtkVector3d([0.0] * 3 if point is None else np.multiply(point, FLIP)), label
        )
        if point is None:
            node.UnsetNthControlPointPosition(number)
    return node


@pytest.fixture
def pair(scene):
    """A fixed volume under a linear and a moving one under a bent transform, on oblique and anisotropic grids."""
    fixed = volume_node(scene, volume(empty_grid("oblique"), smooth_warp), "today")
    moving = volume_node(scene, volume(empty_grid("anisotropic")), "last year")
    put_under(fixed, linear_node(scene, "turned", angle=30.0))
    put_under(moving, linear_node(scene, "table", angle=-20.0), grid_node(scene))
    return fixed, moving


def under_same(node, other):
    node.SetAndObserveTransformNodeID(other.GetTransformNodeID())
    return node


def given(arguments, option):
    return arguments[arguments.index(option) + 1]


def test_structures_reach_the_engine_where_they_lie_in_the_world(scene, pair, tmp_path):
    fixed, moving = pair
    drawn = {
        "fixed": under_same(structures(scene, "sagittal", smooth_warp), fixed),
        "moving": under_same(structures(scene, "LAS", names=("UPPER ", "lower")), moving),
    }
    inputs = JobInputs(fixed, moving, fixed_structures=drawn["fixed"], moving_structures=drawn["moving"])
    messages = []
    arguments = export_inputs(inputs, tmp_path, messages)
    assert messages == []
    for role, file, motion in (("fixed", arguments[1], smooth_warp), ("moving", arguments[2], None)):
        image = sitk.ReadImage(str(file))
        path = given(arguments, f"--{role}-structures")
        masks = read_segmentation(path, role, []).on_grid_of(image, role, []).masks()
        assert [*masks] == ["lower", "upper / UPPER "], "names that differ in case and spaces are one"
        here = map_points(from_world(drawn[role].GetParentTransformNode()), points_of(image) * FLIP) * FLIP
        expected = balls(here if motion is None else motion(here))
        for label, mask in zip((2, 1), masks.values(), strict=True):
            assert mask.GetSize() == image.GetSize()
            assert dice(sitk.GetArrayFromImage(mask).ravel(), expected == label) > 0.93


def test_overlapping_structures_stay_whole_and_lonely_or_distant_ones_are_named(scene, pair, tmp_path):
    fixed, moving = pair
    both = {}
    for role, volume_in in (("fixed", fixed), ("moving", moving)):
        node = under_same(structures(scene, "LPS", name=f"{role} structures"), volume_in)
        whole = (body_depth(points_of(empty_grid("LPS"))) > 0).astype(np.uint8)
        far = empty_grid("LPS", center=(700.0, 0.0, 0.0))
        for labels, name in ((on_grid(whole, empty_grid("LPS")), "body"), (on_grid(whole, far), "far")):
            other = segmentation_node(scene, labels, {1: name})
            segment = other.GetSegmentation().GetNthSegment(0)
            node.GetSegmentation().AddSegment(segment, name)
        both[f"{role}_structures"] = node
    both["fixed_structures"].GetSegmentation().AddEmptySegment("nothing", "not drawn")
    messages = []
    arguments = export_inputs(JobInputs(fixed, moving, **both), tmp_path, messages)
    masks = read_segmentation(given(arguments, "--fixed-structures"), "fixed", []).masks()
    assert [*masks] == ["upper", "lower", "body"]
    inside = sitk.GetArrayViewFromImage(masks["body"])
    assert all(inside[sitk.GetArrayViewFromImage(mask) > 0].mean() > 0.99 for mask in masks.values())
    (message,) = messages
    assert "do not drive" in message
    assert "not drawn (only in 'fixed structures')" in message
    assert "far ('moving structures' has none of it within the moving volume)" in message


def test_points_reach_the_engine_paired_and_where_they_lie_in_the_world(scene, pair, tmp_path):
    fixed, moving = pair
    there = {"nipple": (4.0, -20.0, 3.0), "sternum": (-5.0, 15.0, 12.0), "rib": (9.0, 3.0, -14.0), "skin": None}
    one = under_same(points_node(scene, "F", there), fixed)
    other = points_node(scene, "M", dict([*reversed(there.items()), ("clip", (1.0, 1.0, 1.0))]))
    under_same(other, moving)
    other.UnsetNthControlPointPosition(1)  # the rib
    messages = []
    arguments = export_inputs(JobInputs(fixed, moving, fixed_points=one, moving_points=other), tmp_path, messages)
    expected = np.array([there["nipple"], there["sternum"]])
    for role, node in (("fixed", one), ("moving", other)):
        read = read_points(given(arguments, f"--{role}-points"))
        assert read.names == ("nipple", "sternum")
        world = map_points(to_world(node.GetParentTransformNode()), expected * FLIP) * FLIP
        np.testing.assert_allclose(read.points, world, atol=1e-4)
    (message,) = messages
    for words in ("rib of 'M' (not placed)", "skin of 'F' (not placed)", "clip of 'M' (no placed counterpart)"):
        assert words in message


def test_an_earlier_result_above_the_moving_nodes_is_ignored(scene, tmp_path):
    fixed = volume_node(scene, volume(empty_grid("LPS")), "today")
    moving = volume_node(scene, volume(empty_grid("RAS")), "last year")
    earlier = linear_node(scene, "earlier")
    store_record(earlier, {}, fixed, moving)
    put_under(moving, earlier)
    places = {"a": (4.0, -6.0, 10.0), "b": (-6.0, 5.0, -9.0)}
    nodes = {
        "fixed_points": points_node(scene, "F", places),
        "moving_points": under_same(points_node(scene, "M", places), moving),
        "fixed_structures": structures(scene, "LPS"),
        "moving_structures": under_same(structures(scene, "LPS"), moving),
    }
    arguments = export_inputs(JobInputs(fixed, moving, output_transform=earlier, **nodes), tmp_path, [])
    np.testing.assert_allclose(read_points(given(arguments, "--moving-points")).points, [*places.values()], atol=1e-4)
    masks = read_segmentation(given(arguments, "--moving-structures"), "moving", []).masks()
    expected = balls(points_of(masks["upper"]))
    assert dice(sitk.GetArrayFromImage(masks["upper"]).ravel(), expected == 1) > 0.85


def test_what_cannot_drive_is_refused_in_words(scene, pair):
    fixed, moving = pair
    drawn, marked = structures(scene, "LPS"), points_node(scene, "F", {"a": (0.0, 0.0, 0.0)})
    empty = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "not drawn yet")
    unplaced = points_node(scene, "unplaced", {"a": None})
    for nodes, words in (
        ({"fixed_structures": drawn}, "Choose the moving structures too, or no fixed structures"),
        ({"moving_points": marked}, "Choose the fixed points too, or no moving points"),
        ({"fixed_points": marked, "moving_points": marked}, "both the fixed and the moving points"),
        ({"fixed_structures": marked, "moving_structures": drawn}, "choose a segmentation or a label map"),
        ({"fixed_structures": drawn, "moving_structures": empty}, "'not drawn yet' are empty"),
        ({"fixed_points": unplaced, "moving_points": marked}, "'unplaced' are empty"),
    ):
        with pytest.raises(BridgeError, match=words):
            check_inputs(JobInputs(fixed, moving, **nodes))


def test_nothing_in_common_is_refused_before_the_engine_starts(scene, pair, temporary_folder):
    fixed, moving = pair
    one = under_same(structures(scene, "LPS", names=("breast", "organ")), fixed)
    for other, words in (
        (structures(scene, "LPS", names=("liver", "spleen")), "no segment of the same name"),
        (put_under(structures(scene, "LPS", names=("breast", "organ")), linear_node(scene, shift=(900.0, 0.0, 0.0))),
         "within the moving volume"),
    ):  # fmt: skip
        with pytest.raises(BridgeError, match=words):
            RegistrationJob(JobInputs(fixed, moving, fixed_structures=one, moving_structures=other)).start()
    assert not list(temporary_folder.iterdir())


@pytest.mark.parametrize("stages", ["rigid", "deformable"])
def test_a_run_follows_them_records_them_and_never_counts_them_as_proof(scene, stages):
    fixed = volume_node(scene, volume(empty_grid("oblique"), smooth_warp), "today")
    moving = volume_node(scene, volume(empty_grid("anisotropic")), "last year")
    turned = linear_node(scene, "turned", angle=30.0)
    put_under(fixed, turned), put_under(moving, turned)
    places = np.array([(4.0, -14.0, 3.0), (-5.0, 12.0, 9.0), (9.0, 3.0, -14.0), (-11.0, -3.0, -4.0)])
    there = smooth_warp(places)
    marked = {
        side: under_same(points_node(scene, side, dict(zip("abcd", at, strict=True))), fixed)
        for side, at in (("F", places), ("M", there))
    }
    drawn = {
        "fixed_structures": under_same(structures(scene, "LPS", smooth_warp), fixed),
        "moving_structures": under_same(structures(scene, "LPS"), fixed),
    }
    start = "rigid" if stages == "rigid" else "none"
    settings = {"stages": stages, "initialization": start, "encoder": "mind", "device": "cpu"}
    settings |= {"working_spacing_mm": 6.0, "iterations": 5, "fluid_iterations": 2}
    inputs = JobInputs(fixed, moving, settings=settings, fixed_points=marked["F"], moving_points=marked["M"], **drawn)
    outputs = RegistrationJob(inputs).wait()
    driving = outputs.record["driving"]
    assert [each["name"] for each in driving["structures"]] == ["upper", "lower"]
    assert [each["name"] for each in driving["points"]["drove"]] == list("abcd")
    assert max(each["left_mm"] for each in driving["points"]["drove"]) < 4.0

    labels = (drawn["fixed_structures"], drawn["moving_structures"])
    for side, at in (("F", (0.0, 5.0, 2.0)), ("M", smooth_warp(np.array([(0.0, 5.0, 2.0)]))[0])):
        marked[side].AddControlPoint(vtk.vtkVector3d(np.multiply(at, FLIP)), "new")
    rows = quality_rows(*labels, marked["F"], marked["M"], outputs.transform_node)
    assert [row.structure for row in rows if row.measure == "TRE"] == ["new"]
    assert {f"{name} (drove the registration)" for name in "abcd"} <= {row.structure for row in rows}
    assert {row.structure for row in rows if row.measure == "Dice"} == {
        "upper (drove the registration)",
        "lower (drove the registration)",
    }
