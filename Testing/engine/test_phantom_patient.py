"""The pairs that are as hard as patients: where they start, what changes, how masks and images are spoilt."""

import dataclasses
from functools import cache

import numpy as np
import pytest
import SimpleITK as sitk

from FoundationRegistrationLib.errors import SettingsError
from FoundationRegistrationLib.phantom import TASKS, PhantomCase, make_phantom
from FoundationRegistrationLib.phantom.acquisition import VoxelGrid, paint
from FoundationRegistrationLib.phantom.anatomy import Tissues
from FoundationRegistrationLib.phantom.annotation import draw_annotator, with_slips
from FoundationRegistrationLib.phantom.artefacts import Artefacts, acquire_spoilt_mr, add_ghosts, coil_gain
from FoundationRegistrationLib.phantom.cohort import draw_ranks
from FoundationRegistrationLib.phantom.contrasts import CONTRASTS
from FoundationRegistrationLib.phantom.implicit import noise_field
from FoundationRegistrationLib.phantom.patient_anatomy import PatientAnatomy
from FoundationRegistrationLib.phantom.views import draw_mr_view

SPACING_MM = 5.0
SEEDS = (200, 201, 202)
GRID = VoxelGrid((50, 40, 30), (4.0, 4.0, 4.0), (-98.0, -118.0, -58.0), np.eye(3))
BREASTS = np.array([[-80.0, -100.0, -50.0], [80.0, 0.0, 50.0]])


@cache
def phantom(task: str, seed: int = 200) -> PhantomCase:
    return make_phantom(task, seed, spacing_mm=SPACING_MM)


@cache
def anatomy(seed: int) -> PatientAnatomy:
    return PatientAnatomy(np.random.default_rng(seed), draw_ranks(seed, 0))


def array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2.0 * np.sum(a & b) / (np.sum(a) + np.sum(b))


def warped(case: PhantomCase, target: str, transform: sitk.Transform) -> np.ndarray:
    mask = case.moving_labels[target]
    return array(sitk.Resample(mask, case.fixed, transform, sitk.sitkNearestNeighbor, 0)) > 0


def truth(case: PhantomCase) -> sitk.Transform:
    return sitk.DisplacementFieldTransform(sitk.Image(case.displacement))


def artefacts(**changed) -> Artefacts:
    plain = {
        "shading": 1.0,
        "tilt": 1.0,
        "slow": noise_field(np.random.default_rng(0), 90.0, 16),
        "failures": np.zeros((0, 3)),
        "failure_mm": np.zeros(0),
        "failure": np.zeros(0),
        "ghost": 0.0,
        "ghost_mm": 40.0,
        "noise": 0.0,
        "blur_voxels": 0.4,
    }
    return Artefacts(**plain | changed)


def breast_points(seed: int, step: float = 2.5) -> np.ndarray:
    """A grid over the left breast, reference space."""
    axes = (np.arange(15.0, 135.0, step), np.arange(-100.0, 25.0, step), np.arange(-65.0, 66.0, step))
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return points[anatomy(seed)(points, lesion=False).targets["breast"]]


@pytest.mark.parametrize("task", TASKS)
def test_same_arguments_give_the_same_bits(task):
    first, again, other = phantom(task), make_phantom(task, 200, spacing_mm=SPACING_MM), phantom(task, 201)
    for name in ("fixed", "moving", "displacement"):
        np.testing.assert_array_equal(array(getattr(first, name)), array(getattr(again, name)))
        assert not np.array_equal(array(getattr(first, name)), array(getattr(other, name)))
    for side in ("fixed_labels", "moving_labels"):
        for name, mask in getattr(first, side).items():
            np.testing.assert_array_equal(array(mask), array(getattr(again, side)[name]))
    np.testing.assert_array_equal(first.moving_landmarks, again.moving_landmarks)


def test_other_voxels_show_the_same_patient():
    volumes, middles = [], []
    for spacing in (4.0, SPACING_MM):
        mask = make_phantom("lesion", 200, spacing_mm=spacing).moving_labels["breast"]
        shape = sitk.LabelShapeStatisticsImageFilter()
        shape.Execute(mask)
        volumes.append(shape.GetPhysicalSize(1))
        middles.append(shape.GetCentroid(1))
    assert volumes[0] == pytest.approx(volumes[1], rel=0.05)
    np.testing.assert_allclose(middles[0], middles[1], atol=2.0)


@pytest.mark.parametrize("task", TASKS)
def test_the_displacement_leads_from_fixed_to_moving_landmarks(task):
    case = phantom(task)
    assert len(case.fixed_landmarks) >= 15
    found = np.array([truth(case).TransformPoint(point.tolist()) for point in case.fixed_landmarks])
    apart = np.linalg.norm(found - case.moving_landmarks, axis=1)  # by interpolation between voxels of 5 mm alone
    assert np.median(apart) < 0.1 * SPACING_MM and apart.max() < 0.6 * SPACING_MM


@pytest.mark.parametrize("task", TASKS)
def test_truth_beats_no_motion_and_is_not_perfect(task):
    """The annotators disagree and the gland changes, so even the truth does not make the masks equal."""
    for seed in SEEDS:
        case = phantom(task, seed)
        for target, gain in (("breast", 0.1), ("fibroglandular", 0.05)):  # voxels of 5 mm show few strands
            fixed = array(case.fixed_labels[target]) > 0
            best = dice(fixed, warped(case, target, truth(case)))
            assert best > dice(fixed, warped(case, target, sitk.Transform())) + gain
            assert best < 0.97


def test_pairs_start_as_far_apart_as_patients_do():
    start = []
    for task in TASKS[:3]:
        for seed in SEEDS:
            case = phantom(task, seed)
            fixed = array(case.fixed_labels["breast"]) > 0
            start.append(dice(fixed, warped(case, "breast", sitk.Transform())))
            shift = np.linalg.norm(array(case.displacement)[fixed], axis=-1)
            assert 15.0 < np.median(shift) < 100.0
    assert 0.3 < np.mean(start) < 0.65
    assert min(start) < 0.5


@pytest.mark.parametrize("task", TASKS)
def test_geometry_masks_and_targets(task):
    case = phantom(task)
    assert (case.pet is not None) == (task == "pet-ct-to-mri")
    assert ("lesion" in case.fixed_labels) == (task == "pet-ct-to-mri")
    assert ("lesion" in case.moving_labels) == (task in ("lesion", "pet-ct-to-mri"))
    assert case.fixed.GetSize() != case.moving.GetSize()
    for side in ("fixed", "moving"):
        labels = getattr(case, f"{side}_labels")
        assert all(mask.IsSameImageGeometryAs(getattr(case, side)) for mask in labels.values())
        breast = array(labels["breast"]) > 0
        for inner in ("fibroglandular", "lesion"):
            if inner in labels:
                part = array(labels[inner]) > 0
                assert part.any() and np.all(breast[part])


def test_fields_of_view_differ_in_extent_orientation_and_crop():
    views = [draw_mr_view(np.random.default_rng(seed), "t1", BREASTS) for seed in range(200, 300)]
    kinds = {tuple(np.abs(np.round(view.direction)).ravel()) for view in views}
    assert len(kinds) == 2  # axial and sagittal
    assert any(0.0 < np.abs(view.direction[0, 1]) < 0.2 for view in views)
    cropped = [np.any(view.low > BREASTS[0]) or np.any(view.high < BREASTS[1]) for view in views]
    assert 0.05 < np.mean(cropped) < 0.3
    assert np.std([view.low[2] for view in views]) > 15.0


def test_the_gland_changes_between_the_dates():
    """Some strands go and others come, in place: some of both, whatever the annotators say."""
    for seed in SEEDS:
        points = breast_points(seed)
        rng = np.random.default_rng(seed)
        visits = [anatomy(seed).draw_visit(rng, 1.0, lesion=False, treated=False) for _ in range(2)]
        before, after = (anatomy(seed).at(points, visit).targets["fibroglandular"] for visit in visits)
        union = np.count_nonzero(before | after)
        assert np.count_nonzero(before & ~after) > 0.01 * union
        assert np.count_nonzero(after & ~before) > 0.01 * union
        assert 0.4 < dice(before, after) < 0.97


@pytest.mark.parametrize(("rank", "part"), [(0.05, 0.055), (0.95, 0.38)])
def test_breasts_are_as_dense_as_their_rank(rank, part):
    ranks = dataclasses.replace(draw_ranks(200, 0), density=rank)
    woman = PatientAnatomy(np.random.default_rng(200), ranks)
    points = np.random.default_rng(0).uniform([-135.0, -110.0, -70.0], [135.0, 25.0, 70.0], (150_000, 3))
    targets = woman(points, lesion=False).targets
    found = np.count_nonzero(targets["fibroglandular"]) / np.count_nonzero(targets["breast"])
    assert found == pytest.approx(part, rel=0.3)


def test_strands_are_thin():
    """Most gland of a woman with strands lies within 2 mm of fat."""
    seed = next(seed for seed in range(200, 230) if anatomy(seed).strands)
    visit = anatomy(seed).draw_visit(np.random.default_rng(0), 0.0, lesion=False, treated=False)
    depth = anatomy(seed).at(breast_points(seed), visit).distance["gland"]
    assert np.percentile(depth[depth < 0.0], 20) > -2.0


def test_annotators_disagree_about_limits_and_outline():
    seed = SEEDS[0]
    axes = (np.arange(-140.0, 141.0, 4.0), np.arange(-100.0, 61.0, 4.0), np.arange(-90.0, 91.0, 4.0))
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    visit = anatomy(seed).draw_visit(np.random.default_rng(0), 0.0, lesion=False, treated=False)
    tissues = anatomy(seed).at(points, visit)

    def agreement(disagreement):
        rng = np.random.default_rng(7)
        ranks = dataclasses.replace(draw_ranks(seed, 0), disagreement=disagreement)
        found = []
        for _ in range(8):
            first, second = (draw_annotator(rng, ranks)(tissues, points)["breast"] for _ in range(2))
            found.append(dice(first, second))
        return np.array(found)

    small, large = agreement(0.1), agreement(0.9)
    assert small.mean() > 0.9
    assert large.mean() < small.mean() - 0.05
    assert large.std() > small.std()


def test_slips_change_voxels_of_the_border_only():
    mask = np.zeros((30, 30, 30), bool)
    mask[8:22, 8:22, 8:22] = True
    changed = mask ^ with_slips(mask, np.random.default_rng(0), 0.1)
    assert 0 < changed.sum() < 0.1 * mask.sum()
    assert not changed[10:20, 10:20, 10:20].any()
    assert not changed[:7].any()


@pytest.mark.parametrize("shading", [2.0, 4.0])
def test_shading_is_as_strong_across_the_breast_as_drawn(shading):
    gain = coil_gain(artefacts(shading=shading), BREASTS, GRID)
    front, chest = gain[:, 5, 10:40].mean(), gain[:, 29, 10:40].mean()
    assert front / chest == pytest.approx(shading, rel=0.25)


def test_fat_suppression_fails_where_it_is_drawn_and_in_fat_only():
    spoilt = artefacts(failures=np.zeros((1, 3)), failure_mm=np.array([20.0]), failure=np.array([0.8]))
    points = np.array([[0.0, 0.0, 0.0], [80.0, 0.0, 0.0]])
    share = spoilt.unsuppressed(points)
    np.testing.assert_allclose(share, [0.8, 0.0], atol=1e-6)
    nothing = np.zeros(2, np.float32)
    fat, dark, bright = {"fat": np.full(2, -9.0, np.float32)}, CONTRASTS["t2-fs"], CONTRASTS["t2"]

    def signal(distance):
        tissues = Tissues(distance, {}, nothing, nothing, nothing)
        return paint(tissues, dark, 0.0, 2.0, (share, bright))

    expected = dark["fat"][0] + 0.8 * (bright["fat"][0] - dark["fat"][0])
    np.testing.assert_allclose(signal(fat), [expected, dark["fat"][0]], rtol=1e-5)
    np.testing.assert_allclose(signal({"gland": fat["fat"]}), dark["gland"][0], rtol=1e-5)


def test_ghosts_of_the_heart_lie_beside_it_along_the_phase():
    values = np.full(GRID.size[::-1], 100.0, np.float32)
    heart = np.zeros(values.shape, bool)
    heart[10:15, 25:30, 20:25] = True
    change = add_ghosts(values, heart, artefacts(ghost=0.2, ghost_mm=40.0), GRID) - values
    assert change[12, 27, 32] == pytest.approx(20.0) and change[12, 27, 12] == pytest.approx(20.0)
    assert change[12, 27, 42] == pytest.approx(10.0)
    assert np.all(change[:, :24] == 0.0) and np.all(change[12, 27, 20:25] == 0.0)


def test_noise_is_as_strong_as_drawn():
    signal = np.full(np.prod(GRID.size), 500.0, np.float32)
    nowhere = np.zeros(signal.shape, bool)
    rngs = (np.random.default_rng(1), np.random.default_rng(1))
    clean, noisy = (
        array(acquire_spoilt_mr(signal, nowhere, artefacts(noise=noise), BREASTS, GRID, rng))
        for noise, rng in zip((0.0, 20.0), rngs, strict=True)
    )
    assert np.std(noisy - clean) == pytest.approx(20.0, rel=0.05)


def test_a_clip_is_a_void_in_mr_and_bright_in_ct():
    for seed in range(200, 240):
        visit = anatomy(SEEDS[0]).draw_visit(np.random.default_rng(seed), 0.5, lesion=False, treated=True)
        if visit.clips:
            break
    centre, radius = visit.clips[0]
    assert 1.5 <= radius <= 4.0
    tissues = anatomy(SEEDS[0]).at(centre[None] + 0.3, visit)
    assert paint(tissues, CONTRASTS["t1"], 0.0, 1.0)[0] < 20.0
    assert paint(tissues, CONTRASTS["ct"], -1000.0, 1.0)[0] > 2000.0


def test_slices_of_t2_are_thick():
    thick = [draw_mr_view(np.random.default_rng(seed), "t2-fs", BREASTS).slice_mm for seed in range(200, 230)]
    assert 2.0 <= min(thick) < 2.5 and 3.5 < max(thick) <= 4.0


def test_the_lesion_enhances_in_the_volume_with_contrast_agent():
    case = phantom("lesion")
    lesion = array(case.moving_labels["lesion"]) > 0
    fat = (array(case.moving_labels["breast"]) > 0) & ~(array(case.moving_labels["fibroglandular"]) > 0) & ~lesion
    assert array(case.moving)[lesion].mean() > 1.5 * np.median(array(case.moving)[fat])


def test_pet_is_hot_over_the_ct_lesion():
    case = phantom("pet-ct-to-mri")
    uptake = array(case.pet)
    hottest = np.unravel_index(uptake.argmax(), uptake.shape)[::-1]
    peak = np.array(case.pet.TransformIndexToPhysicalPoint([int(i) for i in hottest]))
    voxels = np.argwhere(array(case.moving_labels["lesion"]))[:, ::-1]
    points = [case.moving.TransformIndexToPhysicalPoint([int(i) for i in v]) for v in voxels]
    assert np.linalg.norm(np.array(points) - peak, axis=1).min() < 2.0 * SPACING_MM


def test_an_unknown_difficulty_is_named_with_the_valid_ones():
    with pytest.raises(SettingsError, match="patient, easy"):
        make_phantom("lesion", difficulty="nightmare")
