"""The dynamic phantom: exact motion, lesions that keep their volume, and curves of the types they claim."""

import json
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import SimpleITK as sitk

from FoundationRegistrationLib.cli.files import DYNAMIC_PHANTOM
from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.errors import SettingsError
from FoundationRegistrationLib.phantom import DYNAMIC_LABELS, DynamicPhantom, make_dynamic_phantom
from FoundationRegistrationLib.phantom.incompressible import Chain
from FoundationRegistrationLib.phantom.series_motion import draw_series_motion
from FoundationRegistrationLib.phantom.uptake import CURVE_TYPES, draw_uptakes, lesion_name

SIZES_MM = {"easy": (1.0, 4.0), "patient": (3.0, 8.0)}
SPACINGS_MM = {"easy": 4.5, "patient": 6.0}
WITH_MOTION = ("sudden", "drift")


@cache
def phantom(difficulty: str) -> DynamicPhantom:
    """Moves suddenly before one of the last frames."""
    return make_dynamic_phantom(200, spacing_mm=SPACINGS_MM[difficulty], difficulty=difficulty)


def array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def breast(series: DynamicPhantom) -> np.ndarray:
    return ~np.isin(array(series.labels[0]), [0, DYNAMIC_LABELS["organ"]])


def frames_that(series: DynamicPhantom, *, moved: bool) -> list[int]:
    return [frame for frame in range(1, len(series.frames)) if bool(series.positions[frame].links) == moved]


def resampled(series: DynamicPhantom, frame: int, sign: float) -> sitk.Image:
    field = series.displacement(frame)
    scaled = sitk.GetImageFromArray(sign * array(field), isVector=True)
    scaled.CopyInformation(field)
    image = series.frames[frame]
    return sitk.Resample(image, image, sitk.DisplacementFieldTransform(scaled), sitk.sitkBSpline, 0.0)


def difference(image: sitk.Image, series: DynamicPhantom, frame: int) -> float:
    """Mean difference in the breasts to the frame without motion and noise, of what coarse voxels can show."""
    apart = sitk.SmoothingRecursiveGaussian(image - series.motion_free[frame], 1.2 * min(image.GetSpacing()))
    return float(np.abs(array(apart)[breast(series)]).mean())


def points_of(image: sitk.Image, mask: np.ndarray) -> np.ndarray:
    return np.array([image.TransformIndexToPhysicalPoint([int(i) for i in v[::-1]]) for v in np.argwhere(mask)])


def determinants(position: Chain, points: np.ndarray) -> np.ndarray:
    step = 1e-3
    columns = [(position.forward(points + step * e) - position.forward(points - step * e)) for e in np.eye(3)]
    return np.linalg.det(np.stack(columns, axis=-1) / (2.0 * step))


def size_mm(shifts: np.ndarray) -> float:
    return float(np.percentile(np.linalg.norm(shifts, axis=1), 90.0))


def test_frames_that_are_resampled_through_the_true_displacement_show_no_motion():
    """Would catch a displacement of the wrong sign, frame or space."""
    series = phantom("easy")
    noise = max(difference(series.frames[frame], series, frame) for frame in frames_that(series, moved=False))
    for frame in frames_that(series, moved=True):
        moved = difference(series.frames[frame], series, frame)
        assert moved > 8.0 * noise
        assert difference(resampled(series, frame, 1.0), series, frame) < 0.4 * moved
        assert difference(resampled(series, frame, -1.0), series, frame) > 1.5 * moved


@pytest.mark.parametrize("difficulty", SPACINGS_MM)
def test_the_displacement_leads_to_the_tissue_that_was_painted(difficulty):
    """Frames are painted through the inverse of their position: the two must undo each other, oblique grids too."""
    series = phantom(difficulty)
    mask = breast(series)
    points = points_of(series.frames[0], mask)
    for frame, position in enumerate(series.positions):
        field = series.displacement(frame)
        assert field.IsSameImageGeometryAs(series.frames[0])
        np.testing.assert_allclose(position.inverse(points + array(field)[mask]), points, atol=1e-9)
    assert not array(series.displacement(0)).any()


@pytest.mark.parametrize("difficulty", SPACINGS_MM)
def test_labels_move_with_the_tissue(difficulty):
    series = phantom(difficulty)
    reference = breast(series)
    frame = frames_that(series, moved=True)[-1]
    labels = series.labels[frame]
    moved = sitk.Cast((labels > 0) & (labels != DYNAMIC_LABELS["organ"]), sitk.sitkFloat32)
    transform = sitk.DisplacementFieldTransform(series.displacement(frame))
    back = array(sitk.Resample(moved, moved, transform, sitk.sitkLinear)) > 0.5
    assert (back != reference).sum() < 0.65 * ((array(moved) > 0) != reference).sum()


@pytest.mark.parametrize("difficulty", SPACINGS_MM)
def test_lesions_keep_their_volume(difficulty):
    series = phantom(difficulty)
    for name in map(lesion_name, CURVE_TYPES):
        points = points_of(series.frames[0], array(series.labels[0]) == DYNAMIC_LABELS[name])
        assert len(points) > 0
        for position in series.positions:
            assert abs(determinants(position, points).mean() - 1.0) < 0.001


@pytest.mark.parametrize("difficulty", SPACINGS_MM)
def test_curves_of_the_lesions_have_their_types(difficulty):
    """The signal changes after the first frame with contrast by more than 10 %, within 10 % and below -10 %."""
    series = phantom(difficulty)
    late = {}
    for name in map(lesion_name, CURVE_TYPES):
        mask = array(series.labels[0]) == DYNAMIC_LABELS[name]
        before, early, *_, last = (array(frame)[mask].mean() for frame in series.motion_free)
        late[name] = last / early - 1.0
        assert early / before > 1.25
    assert late["persistent lesion"] > 0.1
    assert abs(late["plateau lesion"]) < 0.1
    assert late["washout lesion"] < -0.1


def test_uptake_is_that_of_patients():
    for interval in (60.0, 90.0):
        times = np.arange(6) * interval
        for seed in range(40):
            curves = {name: uptake(times) for name, uptake in draw_uptakes(np.random.default_rng(seed)).items()}
            assert all(curve[0] == 0.0 for curve in curves.values())
            assert all(0.8 < curves[lesion_name(curve)].max() < 2.05 for curve in CURVE_TYPES)
            assert 0.09 < curves["gland"][-1] < 0.41
            assert 1.4 < curves["vessel"].max() < 1.7
            assert curves["vessel"].argmax() == 1
            assert np.diff(curves["gland"]).min() > 0.0
            assert np.diff(curves[lesion_name("washout")][1:]).max() < 0.0
            late = {curve: (1.0 + c[-1]) / (1.0 + c[1]) - 1.0 for curve, c in curves.items()}
            assert late[lesion_name("persistent")] > 0.15
            assert abs(late[lesion_name("plateau")]) < 0.05
            assert late[lesion_name("washout")] < -0.12


def test_lesions_look_like_gland_until_they_enhance():
    series = phantom("easy")
    labels = array(series.labels[0])
    lesion = labels >= DYNAMIC_LABELS[lesion_name(CURVE_TYPES[0])]
    gland = labels == DYNAMIC_LABELS["fibroglandular"]
    before, after = (array(frame) for frame in series.motion_free[:2])
    assert abs(before[lesion].mean() / before[gland].mean() - 1.0) < 0.15
    assert after[lesion].mean() / after[gland].mean() > 1.4


@pytest.mark.parametrize("difficulty", SIZES_MM)
@pytest.mark.parametrize("motion", WITH_MOTION)
def test_motion_has_its_size_and_keeps_every_volume(motion, difficulty):
    breasts = np.random.default_rng(0).uniform([-120.0, -95.0, -55.0], [120.0, 10.0, 55.0], (150, 3))
    least, most = SIZES_MM[difficulty]
    for seed in range(3):
        times = np.arange(7) * 70.0
        positions = draw_series_motion(np.random.default_rng(seed), motion, difficulty, times, breasts)
        places = [position.forward(breasts) for position in positions]
        np.testing.assert_array_equal(places[0], breasts)
        steps = [size_mm(after - before) for before, after in pairwise(places)]
        assert max(steps) < most + 0.5
        np.testing.assert_allclose(determinants(positions[-1], breasts), 1.0, atol=1e-6)
        if motion == "sudden":
            jumps = [step for step in steps if step > 0.0]
            assert 1 <= len(jumps) <= 2
            assert jumps[0] > least - 0.1
        else:
            assert min(steps) > 0.0
            assert least - 1.5 < size_mm(places[-1] - breasts) < most + 1.5


def test_patient_uptake_and_noise_are_the_same_with_every_motion():
    drift, still = (make_dynamic_phantom(3, spacing_mm=14.0, motion=m, difficulty="easy") for m in ("drift", "none"))
    for frame in range(6):
        np.testing.assert_array_equal(array(drift.motion_free[frame]), array(still.motion_free[frame]))
        assert array(drift.displacement(frame)).any() == (frame > 0)
        assert not array(still.displacement(frame)).any()
    np.testing.assert_array_equal(array(drift.frames[0]), array(still.frames[0]))
    noise = [array(still.frames[frame]) - array(still.motion_free[frame]) for frame in (0, 1)]
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.5  # air is never below 0
    assert not np.array_equal(array(drift.frames[5]), array(still.frames[5]))


def test_the_command_writes_the_series_and_its_truth_and_nothing_of_the_one_before(tmp_path):
    out = tmp_path / "series"
    out.mkdir()
    for name in DYNAMIC_PHANTOM:
        (out / name).write_bytes(b"of an earlier phantom")
    command = ["phantom", "dynamic", "--output", str(out), "--spacing-mm", "14", "--motion", "drift", "--seed", "200"]
    assert main([*command, "--frames", "7"]) == 2  # without --overwrite
    assert main([*command, "--frames", "7", "--overwrite"]) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(DYNAMIC_PHANTOM[:10])
    written = sitk.ReadImage(str(out / "series.nii.gz"))
    truth = json.loads((out / "truth.json").read_text())
    assert written.GetSize()[3] == 7
    assert written.GetSpacing()[3] == truth["times_s"][1] >= 60.0
    assert truth["labels"] == dict(DYNAMIC_LABELS)
    assert len(truth["enhancement"]["washout lesion"]) == 7
    field = sitk.ReadImage(str(out / "displacement_06.nii.gz"))
    np.testing.assert_allclose(field.GetDirection(), written[:, :, :, 6].GetDirection(), atol=1e-6)
    assert np.linalg.norm(array(field), axis=-1).max() > 1.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dynamic", "--motion", "jump"], "sudden, drift, none"),
        (["dynamic", "--frames", "2"], "6 to 30 frames"),
        (["longitudinal", "--motion", "drift"], "belong to the task 'dynamic'"),
        (["dynamo"], "pet-ct-to-mri, dynamic"),
    ],
)
def test_what_cannot_be_made_is_refused(arguments, words, tmp_path, capsys):
    assert main(["phantom", *arguments, "--output", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_phantom_of_too_few_frames_is_refused():
    with pytest.raises(SettingsError, match="6 to 30"):
        make_dynamic_phantom(frames=5)
