"""The subtraction and the curves of a registered series, on oblique volumes under a moved table."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.nodes.grids import array_from_image, grid_of, map_points
from FoundationRegistrationBridge.nodes.spaces import to_world
from FoundationRegistrationBridge.series.curves import plot_curves
from FoundationRegistrationBridge.series.subtraction import subtraction_volume
from known_run import rigid, transform
from known_run import world as world_matrix
from known_sequence import browser_of, moved_image, run_known_sequence, sequence_of
from nodes import FLIP, put_under, segmentation_node, volume_node
from volumes import empty_grid, on_grid, points_of

TIMES = ("0", "20", "75", "140")
SIGNALS = (100.0, 150.0, 400.0, 300.0)  # of the lesion
SHIFT_MM = np.array([9.0, 0.0, 0.0])  # of the later time points, in patient coordinates (LPS)
CENTRE_MM = np.array([4.0, -3.0, 5.0])


def frame(grid, signal, shift=0.0):
    """A dark volume with a bright ball of 6 mm radius."""
    inside = np.linalg.norm(points_of(grid) - CENTRE_MM - shift, axis=1) < 6.0
    return on_grid(np.where(inside, signal, 50.0).astype(np.float32), grid)


@pytest.fixture
def case(scene, tmp_path):
    """A registered series under a transform, with a segmentation of its lesion; the originals lie on two grids."""
    grids = [
        empty_grid(name, extent_mm=(40.0, 36.0, 44.0)) for name in ("oblique", "anisotropic", "oblique", "oblique")
    ]
    shifts = (0.0, SHIFT_MM, SHIFT_MM, SHIFT_MM)
    originals = [frame(grid, signal, shift) for grid, signal, shift in zip(grids, SIGNALS, shifts, strict=True)]
    sequence = sequence_of(scene, originals, TIMES)
    _, proxy = browser_of(sequence)
    parent = transform(scene, "table", rigid(np.random.default_rng(8)))
    put_under(proxy, parent)
    corrected = [moved_image(frame(grids[0], signal), world_matrix(parent)) for signal in SIGNALS]
    frames = [("reference", np.eye(4)), *[("registered", np.eye(4))] * 3]
    job = run_known_sequence(tmp_path, scene, frames, corrected, sequence=sequence)
    assert job.error is None
    ball = sitk.Cast(frame(grids[0], 100.0) > 75.0, sitk.sitkUInt8)
    lesion = segmentation_node(scene, ball, {1: "lesion"}, "drawn")
    put_under(lesion, parent)
    return {"outputs": job.outputs, "lesion": lesion, "sequence": sequence, "parent": parent, "ball": ball}


def column(chart, name):
    table = chart.GetNthPlotSeriesNode(0).GetTableNode().GetTable()
    found = table.GetColumnByName(name)
    return [found.GetValue(index) for index in range(found.GetNumberOfTuples())]


def test_subtraction_of_the_first_minute_lies_on_the_lesion_in_the_world(case):
    node = subtraction_volume(case["outputs"].sequence_node)
    values = array_from_image(node.GetImageData())
    assert values.max() == pytest.approx(300.0), "75 s is nearest to a minute"
    assert values.min() == pytest.approx(0.0), "motion is corrected"
    where = grid_of(node).ras(np.argwhere(values > 150.0)[:, ::-1].astype(float)).mean(0)
    in_world = map_points(to_world(node.GetParentTransformNode()), where[None])[0]
    true = map_points(to_world(case["parent"]), (CENTRE_MM * FLIP)[None])[0]
    assert np.linalg.norm(in_world - true) < 1.0
    assert node.GetName() == "DCE registered subtraction, time point 2 (75 s)"
    display = node.GetDisplayNode()
    assert display.GetApplyThreshold() and 0.0 < display.GetLowerThreshold() < 100.0


def test_another_time_point_and_the_same_again(case, scene):
    series = case["outputs"].browser_node
    node = subtraction_volume(series, 1)
    assert array_from_image(node.GetImageData()).max() == pytest.approx(50.0)
    assert subtraction_volume(series, 1) is node
    assert subtraction_volume(series, 3) is not node
    two_before = subtraction_volume(series, 3, before=2)
    assert array_from_image(two_before.GetImageData()).max() == pytest.approx(300.0 - 125.0)
    for wrong in (0, 4, -1, True):
        with pytest.raises(BridgeError, match=r"no time point .* after contrast; give a number from 1 to 3"):
            subtraction_volume(series, wrong)


def test_index_that_is_no_time_takes_the_first_time_point_after_contrast(case):
    sequence = case["outputs"].sequence_node
    sequence.SetIndexUnit("mm")
    assert array_from_image(subtraction_volume(sequence).GetImageData()).max() == pytest.approx(50.0)
    assert column(plot_curves(sequence, case["lesion"]), "Time point") == [0.0, 1.0, 2.0, 3.0]


def test_curve_is_that_of_the_lesion_only_once_it_is_registered(case, scene):
    sequence = case["outputs"].sequence_node
    chart = plot_curves(sequence, case["lesion"])
    assert column(chart, "Time (s)") == [0.0, 20.0, 75.0, 140.0]
    assert column(chart, "lesion, registered") == pytest.approx(list(SIGNALS), rel=1e-4)
    acquired = column(chart, "lesion, as acquired")
    assert acquired[0] == pytest.approx(SIGNALS[0]) and max(acquired[1:]) < 250.0, "it has left its place"
    lines = [chart.GetNthPlotSeriesNode(index) for index in range(chart.GetNumberOfPlotSeriesNodes())]
    assert [line.GetYColumnName() for line in lines] == ["lesion, as acquired", "lesion, registered"]
    assert all(line.GetXColumnName() == "Time (s)" for line in lines)
    counts = [scene.GetNumberOfNodesByClass(f"vtkMRML{kind}Node") for kind in ("PlotChart", "PlotSeries", "Table")]
    again = plot_curves(sequence, (case["lesion"], case["lesion"].GetSegmentation().GetNthSegmentID(0)))
    assert column(again, "lesion, registered") == pytest.approx(list(SIGNALS), rel=1e-4)
    assert counts == [
        scene.GetNumberOfNodesByClass(f"vtkMRML{kind}Node") for kind in ("PlotChart", "PlotSeries", "Table")
    ]


@pytest.mark.parametrize("removed", ["original", "registered", "both"])
def test_curves_stay_in_place_when_the_volumes_that_showed_the_series_are_removed(case, scene, removed):
    outputs = case["outputs"]
    before = plot_curves(outputs.sequence_node, case["lesion"])
    curves = {kind: column(before, f"lesion, {kind}") for kind in ("as acquired", "registered")}
    browser = outputs.browser_node
    shown = browser.GetProxyNode(outputs.sequence_node)
    original = outputs.sequence_node.GetNodeReference("FoundationRegistration.OriginalSeriesShown")
    for node in {"original": [original], "registered": [shown], "both": [original, shown]}[removed]:
        scene.RemoveNode(node)
    after = plot_curves(outputs.sequence_node, case["lesion"])
    for kind, values in curves.items():
        assert column(after, f"lesion, {kind}") == pytest.approx(values, rel=1e-4)
    if removed == "both":
        scene.RemoveNode(case["parent"])
        with pytest.raises(BridgeError, match="nothing tells where they lie"):
            plot_curves(outputs.sequence_node, case["lesion"])


def test_curve_of_each_label_of_a_label_map(case, scene):
    ball = sitk.GetArrayFromImage(case["ball"])
    ball[tuple(np.argwhere(ball)[::2].T)] = 2
    image = sitk.GetImageFromArray(ball)
    image.CopyInformation(case["ball"])
    labels = volume_node(scene, image, "halves", "vtkMRMLLabelMapVolumeNode")
    put_under(labels, case["parent"])
    chart = plot_curves(case["outputs"].sequence_node, labels)
    for name in ("label 1", "label 2"):
        assert column(chart, f"{name}, registered") == pytest.approx(list(SIGNALS), rel=1e-4)


def test_what_cannot_be_shown_is_refused_and_adds_nothing(case, scene):
    sequence, lesion = case["outputs"].sequence_node, case["lesion"]
    with pytest.raises(BridgeError, match="'DCE' is not a registered series"):
        subtraction_volume(case["sequence"])
    before = scene.GetNumberOfNodes()
    with pytest.raises(BridgeError, match="cannot be before contrast"):
        plot_curves(sequence, lesion, before=4)
    away = transform(scene, "away", np.array([[1, 0, 0, 500.0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    put_under(lesion, away)
    with pytest.raises(BridgeError, match="marks nothing within the series volume"):
        plot_curves(sequence, lesion)
    put_under(lesion, case["parent"])
    case["sequence"].RemoveDataNodeAtValue("140")
    with pytest.raises(BridgeError, match="has other time points than"):
        plot_curves(sequence, lesion)
    assert scene.GetNumberOfNodes() == before + 1
    scene.RemoveNode(case["sequence"])
    with pytest.raises(BridgeError, match="no longer in the scene"):
        plot_curves(sequence, lesion)


def test_products_are_found_again_in_a_saved_scene(case, scene, tmp_path):
    sequence = case["outputs"].sequence_node
    name = subtraction_volume(sequence).GetName()
    assert scene.WriteToMRB(str(tmp_path / "case.mrb"))
    scene.Clear(False)
    assert scene.ReadFromMRB(str(tmp_path / "case.mrb"))
    sequence = scene.GetFirstNodeByName("DCE registered sequence")
    assert subtraction_volume(sequence).GetName() == name
    lesion = scene.GetFirstNodeByName("drawn")
    chart = plot_curves(sequence, lesion)
    assert column(chart, "lesion, registered") == pytest.approx(list(SIGNALS), rel=1e-4)
    assert slicer.util.getNodesByClass("vtkMRMLPlotChartNode", scene) == [chart]
