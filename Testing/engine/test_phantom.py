from functools import cache

import numpy as np
import pytest
import SimpleITK as sitk

from FoundationRegistrationLib.errors import SettingsError
from FoundationRegistrationLib.phantom import LABELS, TASKS, PhantomCase, make_phantom
from FoundationRegistrationLib.phantom.motion import draw_motion

SPACING_MM = 4.0
PET_TASK = "pet-ct-to-mri"


@cache
def phantom(task: str, seed: int = 0) -> PhantomCase:
    return make_phantom(task, seed, spacing_mm=SPACING_MM, difficulty="easy")


def array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2.0 * np.sum(a & b) / (np.sum(a) + np.sum(b))


def warp(mask: sitk.Image, case: PhantomCase, transform: sitk.Transform | None = None) -> np.ndarray:
    """A moving mask on the fixed grid, through the true displacement or another transform."""
    if transform is None:
        transform = sitk.DisplacementFieldTransform(sitk.Image(case.displacement))
    soft = sitk.Cast(mask, sitk.sitkFloat32)
    return array(sitk.Resample(soft, case.fixed, transform, sitk.sitkLinear, 0.0)) > 0.5


def sample_displacement(case: PhantomCase, points: np.ndarray) -> np.ndarray:
    transform = sitk.DisplacementFieldTransform(sitk.Image(case.displacement))
    return np.array([transform.TransformPoint(p.tolist()) for p in points]) - points


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("target", "at_least"), [("body", 0.96), ("breast", 0.93), ("organ", 0.92), ("fibroglandular", 0.77)]
)
def test_true_displacement_carries_moving_labels_onto_fixed(task, target, at_least):
    case = phantom(task)
    fixed = array(case.fixed_labels[target]) > 0
    warped = warp(case.moving_labels[target], case)
    assert dice(fixed, warped) > at_least


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("target", ["breast", "fibroglandular"])
def test_truth_beats_no_motion_and_the_reversed_motion(task, target):
    """Would catch a displacement with the wrong sign, and a pair with nothing to register."""
    case = phantom(task)
    fixed = array(case.fixed_labels[target]) > 0
    negative = sitk.GetImageFromArray(-array(case.displacement), isVector=True)
    negative.CopyInformation(case.displacement)
    reverse = sitk.DisplacementFieldTransform(negative)
    true = dice(fixed, warp(case.moving_labels[target], case))
    assert true > dice(fixed, warp(case.moving_labels[target], case, sitk.Transform())) + 0.05
    assert true > dice(fixed, warp(case.moving_labels[target], case, reverse)) + 0.05


@pytest.mark.parametrize("task", TASKS)
def test_landmarks_agree_with_the_displacement(task):
    case = phantom(task)
    assert len(case.fixed_landmarks) >= 30
    assert case.fixed_landmarks.shape == case.moving_landmarks.shape
    error = case.fixed_landmarks + sample_displacement(case, case.fixed_landmarks) - case.moving_landmarks
    assert np.linalg.norm(error, axis=1).max() < 0.1 * SPACING_MM


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_landmarks_lie_in_the_body(task, side):
    case = phantom(task)
    body = getattr(case, f"{side}_labels")["body"]
    points = getattr(case, f"{side}_landmarks")
    # A voxel's centre may be outside the skin although a nipple in that voxel is inside.
    body = sitk.BinaryDilate(body, [1, 1, 1])
    assert all(body[body.TransformPhysicalPointToIndex(p.tolist())] for p in points)


@pytest.mark.parametrize("task", TASKS)
def test_displacement_has_no_fold(task):
    jacobian = array(sitk.DisplacementFieldJacobianDeterminant(phantom(task).displacement))
    assert jacobian.min() > 0.2


@pytest.mark.parametrize("task", TASKS)
def test_motion_has_no_fold_for_many_seeds(task):
    axes = (np.arange(-164.0, 165.0, 10.0), np.arange(-124.0, 95.0, 10.0), np.arange(-90.0, 91.0, 10.0))
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    step = 1e-3
    for seed in range(10):
        motion = draw_motion(np.random.default_rng([seed, TASKS.index(task), 1]), supine=task == PET_TASK)
        columns = [(motion(points + step * e) - motion(points - step * e)) / (2 * step) for e in np.eye(3)]
        assert np.linalg.det(np.stack(columns, axis=-1)).min() > 0.2
        back = motion.reference_from_moving(motion(points))
        np.testing.assert_allclose(back, motion.reference_from_fixed(points), atol=1e-9)


@pytest.mark.parametrize("task", TASKS)
def test_motion_is_of_realistic_size(task):
    case = phantom(task)
    distance = np.linalg.norm(array(case.displacement), axis=-1)
    if task == PET_TASK:
        nipples = np.linalg.norm(case.moving_landmarks[:2] - case.fixed_landmarks[:2], axis=1)
        assert distance[array(case.fixed_labels["breast"]) > 0].mean() > 20.0
        assert nipples.min() >= 40.0
    else:
        assert 6.0 < distance[array(case.fixed_labels["body"]) > 0].mean() < 15.0


def test_same_seed_gives_the_same_bits_and_another_seed_another_patient():
    first, again = phantom(PET_TASK), make_phantom(PET_TASK, 0, spacing_mm=SPACING_MM, difficulty="easy")
    other = phantom(PET_TASK, 1)
    for name in ("fixed", "moving", "displacement", "pet"):
        np.testing.assert_array_equal(array(getattr(first, name)), array(getattr(again, name)))
        assert not np.array_equal(array(getattr(first, name)), array(getattr(other, name)))
    np.testing.assert_array_equal(first.fixed_landmarks, again.fixed_landmarks)
    for name, mask in first.moving_labels.items():
        np.testing.assert_array_equal(array(mask), array(again.moving_labels[name]))
        assert not np.array_equal(array(mask), array(other.moving_labels[name]))


@pytest.mark.parametrize(
    ("task", "in_fixed", "in_moving"),
    [
        ("longitudinal", False, False),
        ("cross-sequence", False, False),
        ("lesion", False, True),
        (PET_TASK, True, True),
    ],
)
def test_lesion_is_present_only_where_it_must_be(task, in_fixed, in_moving):
    case = phantom(task)
    for labels, present in ((case.fixed_labels, in_fixed), (case.moving_labels, in_moving)):
        assert ("lesion" in labels) == present
        if present:
            lesion = array(labels["lesion"]) > 0
            assert lesion.any()
            assert np.all(array(labels["breast"])[lesion] > 0)
    assert (array(case.labelmap("fixed")) == LABELS["lesion"]).any() == in_fixed
    assert (array(case.labelmap("moving")) == LABELS["lesion"]).any() == in_moving


def test_lesion_enhances_in_moving_and_is_plain_tissue_in_fixed():
    case = phantom("lesion")
    lesion = array(case.moving_labels["lesion"]) > 0
    place = warp(case.moving_labels["lesion"], case)
    breast = array(case.moving_labels["breast"]) > 0
    ordinary = np.percentile(array(case.moving)[breast & ~lesion], 97)
    assert array(case.moving)[lesion].mean() > 1.3 * ordinary
    assert array(case.fixed)[place].mean() < ordinary


def test_pet_is_hot_over_the_ct_lesion():
    case = phantom(PET_TASK)
    uptake = array(case.pet)
    assert 6.0 < uptake.max() < 10.0
    hottest = np.unravel_index(uptake.argmax(), uptake.shape)[::-1]
    peak = np.array(case.pet.TransformIndexToPhysicalPoint([int(i) for i in hottest]))
    voxels = np.argwhere(array(case.moving_labels["lesion"]))[:, ::-1]
    points = [case.moving.TransformIndexToPhysicalPoint([int(i) for i in v]) for v in voxels]
    # Both grids sample the lesion coarsely: allow half a CT voxel's diagonal and half a PET voxel.
    reach = 0.5 * np.linalg.norm(case.moving.GetSpacing()) + 0.5 * case.pet.GetSpacing()[0]
    assert np.linalg.norm(np.array(points) - peak, axis=1).min() < reach
    body = sitk.Resample(case.moving_labels["body"], case.pet, sitk.Transform(), sitk.sitkNearestNeighbor)
    assert 0.3 < np.median(uptake[array(body) > 0]) < 1.2


def test_only_the_pet_task_has_pet():
    assert [task for task in TASKS if phantom(task).pet is not None] == [PET_TASK]


def test_ct_is_in_hounsfield_units():
    case = phantom(PET_TASK)
    assert case.moving.GetPixelID() == sitk.sitkInt16
    hu = array(case.moving)
    gland = array(case.moving_labels["fibroglandular"]) > 0
    fat = (array(case.moving_labels["breast"]) > 0) & ~gland
    corner = hu[:, :3, :3]
    assert abs(corner.mean() + 1000) < 15
    assert np.median(hu[fat]) < -70
    assert -10 < np.median(hu[gland]) < 60


def test_fat_is_bright_in_t1_and_dark_in_fat_suppressed_t2():
    case = phantom("cross-sequence")
    ratio = {}
    for side in ("fixed", "moving"):
        values, labels = array(getattr(case, side)), array(case.labelmap(side))
        fat = np.median(values[labels == LABELS["breast"]])
        ratio[side] = fat / np.median(values[labels == LABELS["fibroglandular"]])
    assert ratio["fixed"] > 1.5
    assert ratio["moving"] < 0.6


@pytest.mark.parametrize("task", TASKS)
def test_the_sides_have_different_grids(task):
    case = phantom(task)
    assert case.fixed.GetSize() != case.moving.GetSize()
    assert case.fixed.GetSpacing() != case.moving.GetSpacing()
    assert case.fixed.GetOrigin() != case.moving.GetOrigin()
    for side, labels in (("fixed", case.fixed_labels), ("moving", case.moving_labels)):
        for mask in labels.values():
            assert mask.GetPixelID() == sitk.sitkUInt8
            assert mask.IsSameImageGeometryAs(getattr(case, side))
    assert case.displacement.IsSameImageGeometryAs(case.fixed)


def test_longitudinal_fixed_is_sagittal_and_cross_sequence_moving_is_oblique():
    sagittal = np.reshape(phantom("longitudinal").fixed.GetDirection(), (3, 3))
    np.testing.assert_array_equal(sagittal.T, [[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    oblique = np.reshape(phantom("cross-sequence").moving.GetDirection(), (3, 3))
    np.testing.assert_allclose(oblique @ oblique.T, np.eye(3), atol=1e-12)
    tilt = np.degrees(np.arccos(np.diag(oblique)))
    assert np.sum(tilt > 5.0) >= 2
    assert tilt.max() < 15.0


@pytest.mark.parametrize("task", TASKS)
def test_breasts_lie_in_both_fields_of_view(task):
    case = phantom(task)
    for labels in (case.fixed_labels, case.moving_labels):
        breast = labels["breast"]
        shape = sitk.LabelShapeStatisticsImageFilter()
        shape.Execute(breast)
        box = shape.GetBoundingBox(1)
        for axis in range(3):
            assert box[axis] > 0
            assert box[axis] + box[axis + 3] < breast.GetSize()[axis]


def test_labelmap_nests_the_targets():
    case = phantom("lesion")
    labels = array(case.labelmap("moving"))
    whole = np.isin(labels, [LABELS["breast"], LABELS["fibroglandular"], LABELS["lesion"]])
    np.testing.assert_array_equal(whole, array(case.moving_labels["breast"]) > 0)
    np.testing.assert_array_equal(labels == LABELS["organ"], array(case.moving_labels["organ"]) > 0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gland_fills_a_plausible_part_of_the_breast(seed):
    labels = phantom("longitudinal", seed).fixed_labels
    fraction = array(labels["fibroglandular"]).sum() / array(labels["breast"]).sum()
    assert 0.06 < fraction < 0.45


def test_unknown_task_is_named_with_the_valid_ones():
    with pytest.raises(SettingsError, match="pet-ct-to-mri") as caught:
        make_phantom("mammography")
    assert all(task in str(caught.value) for task in TASKS)


@pytest.mark.parametrize("spacing", [0.0, -1.0, float("nan"), float("inf")])
def test_spacing_must_be_a_length(spacing):
    with pytest.raises(SettingsError, match="spacing_mm"):
        make_phantom("lesion", spacing_mm=spacing)


def test_seed_must_not_be_negative():
    with pytest.raises(SettingsError, match="seed"):
        make_phantom("lesion", -1)
