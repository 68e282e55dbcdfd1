"""A finished cohort opens in Slicer: a pair of it as nodes on real MRML, where the registration had them."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from FoundationRegistrationBridge.cohort.batch import register_batch
from FoundationRegistrationBridge.cohort.results import load_pair, pairs_in
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.quality.measures import quality_rows
from FoundationRegistrationBridge.scene.carried import Carrying, carrying
from FoundationRegistrationBridge.scene.transforms import fixed_of, moving_of, stored_record, world_registration
from nodes import FLIP, image_of, state
from volumes import body_points, smooth_warp, write_labelled_pair

ROWS = """fixed,moving,name,fixed_labels,moving_labels
today.nrrd,before.nrrd,Ada,today_labels.nrrd,before_labels.nrrd
today.nrrd,damaged.nrrd,lost,,
"""


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_labelled_pair(folder)
    (folder / "damaged.nrrd").write_bytes(b"NRRD0004\ntype: float\n")
    (folder / "cohort.csv").write_text(ROWS)
    quick = {"encoder": "mind", "working_spacing_mm": 4.0, "initialization": "none", "fluid_iterations": 0}
    register_batch(folder / "cohort.csv", **quick)
    return folder


@pytest.fixture
def results(scene, registered):
    return registered / "cohort_results"


def test_the_pairs_say_how_they_ended(results):
    ada, lost = pairs_in(results)
    assert (ada.name, ada.state, lost.name, lost.state) == ("Ada", "done", "lost", "failed")
    assert ada.verdict in ("good", "check") and "damaged.nrrd" in lost.message


def test_a_pair_is_there_as_if_it_had_been_registered_in_slicer(scene, results):
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    loaded = load_pair(results, "Ada")
    transform = loaded.outputs.transform_node
    assert (fixed_of(transform), moving_of(transform)) == (loaded.fixed, loaded.moving)
    assert stored_record(transform)["verdict"] == loaded.outputs.record["verdict"]
    points = body_points(smooth_warp) * FLIP
    truth = smooth_warp(points * FLIP) * FLIP
    mapped = np.array([world_registration(transform).TransformPoint(point) for point in points])
    before = np.linalg.norm(points - truth, axis=1).mean()
    assert np.linalg.norm(mapped - truth, axis=1).mean() < 0.5 * before
    warped = sitk.ReadImage(str(results / "Ada" / "warped.nii.gz"))
    assert np.allclose(sitk.GetArrayFromImage(image_of(loaded.outputs.volume_node)), sitk.GetArrayFromImage(warped))
    assert np.allclose(image_of(loaded.fixed).GetDirection(), image_of(loaded.outputs.volume_node).GetDirection())
    assert carrying(loaded.outputs.volume_node, transform) is Carrying.LIES_THERE
    assert carrying(loaded.moving, transform) is Carrying.NOT_YET
    made = (transform, loaded.outputs.inverse_node, loaded.outputs.volume_node)
    folders = {tree.GetItemParent(tree.GetItemByDataNode(node)) for node in made}
    assert [tree.GetItemName(folder) for folder in folders] == ["Ada registration"]
    assert loaded.outputs.volume_node.GetName() == "Ada registration: registered volume"
    rows = quality_rows(loaded.fixed_labels, loaded.moving_labels, None, None, transform)
    (dice,) = (row for row in rows if row.measure == "Dice")
    assert dice.after > dice.before and dice.after > 0.9


def test_two_loads_have_names_of_their_own(scene, results):
    first, second = load_pair(results, "Ada"), load_pair(results, "Ada")
    assert first.outputs.transform_node.GetName() != second.outputs.transform_node.GetName()
    assert first.fixed is not second.fixed


def test_what_cannot_be_loaded_is_said_and_adds_nothing(scene, results, registered, tmp_path):
    before = state(scene)

    def refused(words, folder=results, name="Ada"):
        with pytest.raises(BridgeError, match=words):
            load_pair(folder, name)
        assert state(scene) == before

    refused("holds no results of a cohort", folder=tmp_path)
    refused("has no pair 'Eve'", name="Eve")
    refused("'lost' is not registered .*damaged.nrrd", name="lost")
    copy = tmp_path / "copy"
    shutil.copytree(results, copy)
    (copy / "Ada" / "transform.h5").write_bytes(b"torn")
    refused("transform.h5' cannot be read", folder=copy)
    (copy / "Ada" / "report.json").write_text("{")
    refused("record of 'Ada' cannot be read", folder=copy)
    moving = registered / "before.nrrd"
    content = moving.read_bytes()
    try:
        moving.write_bytes(content + b" ")
        refused(r"before.nrrd' is gone or has changed")
    finally:
        moving.write_bytes(content)
