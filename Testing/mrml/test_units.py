"""What the values of a volume are (SUV, Bq/ml, HU) goes with every copy, and decides what an SUV window may show."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from FoundationRegistrationBridge.follow.apply import apply_transform
from FoundationRegistrationBridge.nodes.grids import array_from_image, image_from_array
from FoundationRegistrationBridge.nodes.pet_units import PetScale, mark_as_suv, pet_scale
from FoundationRegistrationBridge.run.files_to_nodes import Placement, take_over
from FoundationRegistrationBridge.run.job import JobInputs
from nodes import volume_node
from volumes import empty_grid, on_grid, points_of, volume

SUV_QUANTITY = ("126400", "DCM", "Standardized Uptake Value")
ACTIVITY = (("110852", "DCM", "Activity concentration"), ("Bq/ml", "UCUM", "Becquerels/milliliter"))
IS_SUV = PetScale(1.0, "", "")
HOUNSFIELD = (("112031", "DCM", "Attenuation Coefficient"), ("[hnsf'U]", "UCUM", "Hounsfield unit"))


def coded(code):
    entry = slicer.vtkCodedEntry()
    entry.SetValueSchemeMeaning(*code)
    return entry


def in_units(node, quantity, units):
    node.SetVoxelValueQuantity(coded(quantity) if quantity else None)
    node.SetVoxelValueUnits(coded(units) if units else None)
    return node


def units_of(node):
    entries = (node.GetVoxelValueQuantity(), node.GetVoxelValueUnits())
    return tuple(entry.GetAsString() if entry is not None else None for entry in entries)


def pet_node(scene, factor=1.0, name="PET"):
    grid = empty_grid("LAS")
    points = points_of(grid)
    uptake = 1.0 + 9.0 * np.exp(-((points - (8.0, 5.0, 5.0)) ** 2).sum(1) / 30.0)
    uptake[np.abs(points).max(axis=1) > 28.0] = 0.0  # air
    return volume_node(scene, on_grid((factor * uptake).astype(np.float32), grid), name)


def pair(scene):
    return volume_node(scene, volume(empty_grid("oblique")), "MRI"), pet_node(scene)


def finished(scene, folder, **inputs):
    """Take over a result with a known transform."""
    result = folder / "result"
    result.mkdir()
    for name in ("transform", "inverse"):
        sitk.WriteTransform(sitk.TranslationTransform(3, (0.0, 0.0, 0.0)), str(result / f"{name}.h5"))
    (result / "report.json").write_text(json.dumps({"messages": []}), encoding="utf-8")
    job_inputs = JobInputs(**inputs)
    return take_over(job_inputs, Placement.of(job_inputs), scene, folder / "result")


def test_registered_volume_and_followers_keep_quantity_and_units_of_their_own(scene, tmp_path):
    mri, pet = pair(scene)
    mark_as_suv(pet)
    pet.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    ct = in_units(volume_node(scene, volume(empty_grid("LAS")), "CT"), *HOUNSFIELD)
    outputs = finished(scene, tmp_path, fixed=mri, moving=pet, create_volume=True)
    followed = apply_transform([pet, ct], outputs.transform_node, mri, mode="resample").created
    for copy, original in ((outputs.volume_node, pet), (followed[0], pet), (followed[1], ct)):
        assert units_of(copy) == units_of(original)
        assert copy.GetVoxelValueUnits() is not original.GetVoxelValueUnits()
        assert copy.GetAttribute("DICOM.instanceUIDs") is None, "its voxels are not those of the files"
    assert pet_scale(outputs.volume_node) == IS_SUV


@pytest.mark.parametrize("known", [True, False])
def test_overwritten_volume_says_what_it_holds_now(scene, tmp_path, known):
    mri, pet = pair(scene)
    if known:
        mark_as_suv(pet)
    output = in_units(volume_node(scene, volume(empty_grid()), "mine"), *HOUNSFIELD)
    output.SetAttribute("DICOM.instanceUIDs", "1.2.3")
    output.SetAttribute("Study", "kept")
    display = output.GetDisplayNode()
    finished(scene, tmp_path, fixed=mri, moving=pet, output_volume=output)
    assert units_of(output) == units_of(pet)
    assert output.GetAttribute("DICOM.instanceUIDs") is None and output.GetAttribute("Study") == "kept"
    assert output.GetName() == "mine" and output.GetDisplayNode() is display
    assert array_from_image(output.GetImageData()).max() < 11.0


@pytest.mark.parametrize(
    ("quantity", "units"),
    [
        (SUV_QUANTITY, ("{SUVbw}g/ml", "UCUM", "Standardized Uptake Value body weight")),
        (SUV_QUANTITY, ("{SUVlbm}g/ml", "UCUM", "Standardized Uptake Value lean body mass")),
        (SUV_QUANTITY, ("g/ml", "UCUM", "")),
        (("126402", "DCM", "SUVlbm"), None),
        (None, ("g/ml", "UCUM", "gram per milliliter")),
        (("SUVbw", "99LOCAL", "Standardized Uptake Value (body weight)"), ("1", "UCUM", "no units")),
    ],
)
def test_what_says_that_it_is_suv_is_taken_for_it(scene, quantity, units):
    assert pet_scale(in_units(pet_node(scene), quantity, units)) == IS_SUV


@pytest.mark.parametrize(
    ("quantity", "units", "named"),
    [
        (*ACTIVITY, "Becquerels/milliliter"),
        (SUV_QUANTITY, ("Bq/ml", "UCUM", "Becquerels/milliliter"), "Becquerels/milliliter"),
        (None, ("kBq/ml", "UCUM", ""), "kBq/ml"),
        (*HOUNSFIELD, "Hounsfield unit"),
        (("110852", "DCM", "Activity concentration"), None, "Activity concentration"),
        (None, ("{counts}", "UCUM", "Counts"), "Counts"),
    ],
)
def test_what_says_that_it_is_something_else_is_scaled_by_its_values_in_its_units(scene, quantity, units, named):
    node = in_units(pet_node(scene, factor=5000.0, name="my PET"), quantity, units)
    scale = pet_scale(node)
    # Most of the body has an uptake of 1 before the factor.
    assert scale.units == named and scale.factor == pytest.approx(5000.0 / 0.7, rel=0.1)
    words = scale.words(2.5, 10)
    assert words.startswith(f"'my PET' is in {named}, not SUV. The colours go from {2.5 * scale.factor:.3g} to ")
    assert "Convert it to SUV" in words


def test_values_without_units_are_judged_by_what_they_can_be(scene):
    for factor in (5230.0, 120.0):
        scale = pet_scale(pet_node(scene, factor=factor))
        assert "beyond any SUV" in scale.caution
        assert scale.factor == pytest.approx(factor * pet_scale(in_units(pet_node(scene), *ACTIVITY)).factor)
    hot_bladder = pet_node(scene)
    values = array_from_image(hot_bladder.GetImageData()).copy()
    values[:3, :3, :3] = 150.0
    values[5] = np.nan
    hot_bladder.SetAndObserveImageData(image_from_array(values))
    for node in (pet_node(scene), hot_bladder):
        assert pet_scale(node).factor == 1 and pet_scale(node).words(2.5, 10).endswith("assumed to be SUV.")


def test_a_hot_bladder_does_not_dim_the_rest(scene):
    node = in_units(pet_node(scene, factor=5000.0), *ACTIVITY)
    usual = pet_scale(node).factor
    values = array_from_image(node.GetImageData()).copy()
    values.ravel()[: values.size // 500] = 5e6
    values[-1, -1] = np.nan
    node.SetAndObserveImageData(image_from_array(values))
    assert pet_scale(node).factor == pytest.approx(usual, rel=0.3)


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_a_pet_without_uptake_has_a_scale_too(scene, value):
    node = in_units(pet_node(scene, factor=0.0), *ACTIVITY)
    node.SetAndObserveImageData(image_from_array(np.full((4, 5, 6), value, np.float32)))
    assert pet_scale(node).factor > 0
