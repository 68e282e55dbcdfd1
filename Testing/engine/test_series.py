"""A dynamic series is registered frame by frame: motion is found under changing contrast, each frame on its own."""

import dataclasses
import json

import numpy as np
import pytest
import SimpleITK as sitk
from dynamic import MOTIONS, TIMES_S, body, inside, moved, settings, slice_series, small_series, with_frames
from volumes import OBLIQUE, assert_readable, empty_grid, mean_error, through

from FoundationRegistrationLib import InputError, RegistrationCancelledError, Series, read_series, register_series
from FoundationRegistrationLib.features.encoding import SliceRunner
from FoundationRegistrationLib.series.registration import reference_of
from FoundationRegistrationLib.spatial.warping import warp_image

REFERENCE = 0


@pytest.fixture(scope="module")
def series():
    return small_series("oblique")


@pytest.fixture(scope="module")
def events():
    """The progress of `result`."""
    return []


@pytest.fixture(scope="module")
def result(series, events):
    return register_series(series, settings(), progress=events.append)


def error_mm(transform, amount, points):
    """Mean distance between the points of the reference and where frame and true motion bring them back to."""
    return float(np.linalg.norm(moved(amount)(through(transform, points)) - points, axis=1).mean())


def test_motion_is_found_under_changing_contrast_and_contrast_is_kept(series, result):
    points = inside(series.frames[REFERENCE])[::17]
    for amount, frame in zip(MOTIONS[1:], result.frames[1:], strict=True):
        assert frame.state == "registered"
        assert error_mm(frame.transform, amount, points) < 0.35 * mean_error(frame.transform, lambda p: p, points)
        assert frame.folded_percent == 0.0
        there = through(frame.transform, points)
        assert np.abs(through(frame.inverse, there) - points).max() < 0.5
        assert 0.0 < frame.motion_mm[0] < frame.motion_mm[1]
    without, with_contrast = (sitk.GetArrayFromImage(body(series.frames[REFERENCE], 0.0, c)) for c in (0.0, 1.0))
    lesion = with_contrast - without > 400.0
    gained = [sitk.GetArrayViewFromImage(each)[lesion].mean() for each in result.corrected.frames]
    assert gained[2] - gained[0] == pytest.approx((with_contrast - without)[lesion].mean(), rel=0.15)


def test_the_corrected_series_lies_on_the_reference_with_its_times(series, result):
    reference = series.frames[REFERENCE]
    assert result.corrected.times_s == TIMES_S
    for frame in result.corrected.frames:
        assert frame.GetSize() == reference.GetSize()
        assert np.allclose(frame.GetDirection(), reference.GetDirection())
    first = sitk.GetArrayViewFromImage(result.corrected.frames[REFERENCE])
    assert np.array_equal(first, sitk.GetArrayViewFromImage(reference))
    assert result.frames[REFERENCE].state == "reference"


def test_a_corrected_frame_is_as_sharp_as_its_settings_say(series, result):
    """By a line between voxels, or by the splines of the preset, which blur less."""
    frame = series.frames[1]
    pair = Series((series.frames[REFERENCE], frame))
    by_line = register_series(pair, settings(interpolation="linear")).corrected.frames[1]
    for corrected, interpolation in ((by_line, "linear"), (result.corrected.frames[1], "bspline")):
        expected = warp_image(frame, series.frames[REFERENCE], result.frames[1].transform, interpolation)
        assert np.allclose(*map(sitk.GetArrayFromImage, (corrected, expected)), atol=1e-3)


def test_less_changes_over_time_outside_enhancing_tissue(result):
    deviation = result.metrics["temporal_deviation_percent"]
    assert deviation["after"] < 0.5 * deviation["before"]
    assert 0.0 < result.metrics["enhancing_percent"] < 50.0


def test_all_frames_share_one_working_grid(result):
    grids = [frame.report["working_grid"] for frame in result.frames[1:]]
    assert grids[0] == grids[1]


def test_the_slices_of_the_reference_are_encoded_once(series, monkeypatch):
    encoded = []
    tokens = SliceRunner.tokens

    def counted(self, volume, chosen, square):
        encoded.append(len(chosen))
        return tokens(self, volume, chosen, square)

    monkeypatch.setattr(SliceRunner, "tokens", counted)
    quick = settings(encoder="efficientnet-lite0", input_size=64, working_spacing_mm=6.0, fluid_iterations=0)
    result = register_series(series, quick)
    assert encoded.count(max(encoded)) == len(series.frames)  # one each; others are an empty slice
    assert all(frame.state == "registered" for frame in result.frames[1:])


def test_frames_on_other_grids_come_onto_that_of_the_reference(series):
    other = with_frames(series, f1=small_series("sagittal").frames[1])
    result = register_series(Series(other.frames[:2]), settings())
    reference = other.frames[REFERENCE]
    assert result.corrected.frames[1].GetSize() == reference.GetSize()
    assert error_mm(result.frames[1].transform, MOTIONS[1], inside(reference)[::17]) < 1.0


def test_nothing_is_said_of_an_option_that_a_series_has_not(series):
    first, second, _ = series.frames
    third = first.GetSize()[0] // 3
    result = register_series(Series((first[third:-third], second)), settings())
    assert result.frames[1].state == "registered"
    assert not any("--extent" in message for message in result.messages)


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_frame_that_cannot_be_registered_is_left_as_it_was(series, value):
    empty = series.frames[1] * value
    result = register_series(with_frames(series, f1=empty), settings(iterations=2, fluid_iterations=0))
    assert [frame.state for frame in result.frames] == ["reference", "failed", "registered"]
    assert "frame 1" in result.frames[1].messages[0]
    assert np.array_equal(*map(sitk.GetArrayFromImage, (result.corrected.frames[1], empty)), equal_nan=True)
    without = register_series(Series(series.frames[::2]), settings(iterations=2, fluid_iterations=0))
    assert result.metrics["temporal_deviation_percent"] == pytest.approx(
        without.metrics["temporal_deviation_percent"], rel=1e-6
    )
    point = (3.0, -4.0, 5.0)
    assert result.frames[1].transform.TransformPoint(point) == point
    assert any(message.startswith("Frame 1: ") for message in result.messages)


def test_if_no_frame_can_be_registered_the_first_reason_is_an_error(series):
    empty = series.frames[1] * 0.0
    with pytest.raises(InputError, match="frame 1") as error:
        register_series(with_frames(series, f1=empty, f2=empty), settings())
    assert_readable(error)


@pytest.mark.parametrize("reference", [3, -1, "first", True, 1.0])
def test_another_reference_is_refused(series, reference):
    with pytest.raises(InputError, match="from 0 to 2") as error:
        register_series(series, settings(), reference=reference)
    assert_readable(error)


def test_an_empty_reference_is_refused(series):
    with pytest.raises(InputError, match="reference volume is empty"):
        register_series(with_frames(series, f0=series.frames[0] * 0.0), settings())


def test_the_mean_is_of_what_was_measured(series):
    """Of three frames one shows nothing, and one has no values in its upper half."""
    values = sitk.GetArrayFromImage(series.frames[0]).astype(np.float32)
    half = values + 100.0
    half[: len(half) // 2] = np.nan
    frames = []
    for each in (values, half, values * np.nan):
        frame = sitk.GetImageFromArray(each)
        frame.CopyInformation(series.frames[0])
        frames.append(frame)
    mean, number = reference_of(Series(tuple(frames)), "mean")
    assert number is None
    expected = np.where(np.isnan(half), values, values + 50.0)
    np.testing.assert_allclose(sitk.GetArrayFromImage(mean), expected, rtol=1e-5)


def test_the_mean_counts_a_frame_of_another_grid_only_where_it_was_measured(series):
    """The second frame has only the middle of the first one's rows, and no values at its upper end."""
    first = sitk.Cast(series.frames[0], sitk.sitkFloat32)
    rows = first.GetSize()[1] // 4
    values = sitk.GetArrayFromImage(first[:, rows:-rows, :]) + 100.0
    values[-3:] = np.nan
    second = sitk.GetImageFromArray(values)
    second.CopyInformation(first[:, rows:-rows, :])
    mean = sitk.GetArrayFromImage(reference_of(Series((first, second)), "mean")[0])
    expected = sitk.GetArrayFromImage(first)
    expected[:-3, rows:-rows] += 50.0
    inner = np.s_[1:-4, rows + 1 : -rows - 1, 1:-1]  # a frame is interpolated at its rim
    np.testing.assert_allclose(mean[inner], expected[inner], rtol=1e-4)
    np.testing.assert_allclose(mean[-3:], expected[-3:], rtol=1e-4)
    np.testing.assert_allclose(mean[:, : rows - 1], expected[:, : rows - 1], rtol=1e-4)


def test_all_frames_are_registered_to_their_mean(series):
    series = Series(series.frames[:2])
    result = register_series(series, settings(iterations=2, fluid_iterations=0), reference="mean")
    assert [frame.state for frame in result.frames] == ["registered"] * 2
    mean = np.mean([sitk.GetArrayViewFromImage(frame) for frame in series.frames], axis=0)
    assert np.allclose(sitk.GetArrayViewFromImage(result.reference), mean, atol=1e-3)


def test_only_the_masked_part_of_the_reference_counts(series):
    series = Series(series.frames[:2])
    reference = series.frames[0]
    mask = sitk.Image(reference.GetSize(), sitk.sitkUInt8)
    mask.CopyInformation(reference)
    half = reference.GetSize()[0] // 2
    mask[:half, :, :] = sitk.Cast(reference[:half, :, :] > 0, sitk.sitkUInt8)
    result = register_series(series, settings(), mask=mask)
    assert np.array_equal(sitk.GetArrayViewFromImage(result.foreground), sitk.GetArrayViewFromImage(mask))
    marked = sitk.GetArrayViewFromImage(mask)
    points = inside(reference)
    indices = np.array([reference.TransformPhysicalPointToIndex(point) for point in points.tolist()])
    points = points[marked[tuple(indices[:, ::-1].T)] != 0][::17]
    assert error_mm(result.frames[1].transform, MOTIONS[1], points) < 0.5 * mean_error(
        result.frames[1].transform, lambda p: p, points
    )
    assert "mask" in result.record["inputs"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda mask: mask * 0, "reference mask is empty"),
        (lambda mask: mask[2:, :, :], "reference mask"),
    ],
)
def test_mask_that_is_empty_or_on_another_grid_is_refused(series, change, words):
    mask = sitk.Cast(series.frames[0] > 0, sitk.sitkUInt8)
    with pytest.raises(InputError, match=words) as error:
        register_series(series, settings(), mask=change(mask))
    assert_readable(error)


def test_slices_take_a_mask_too():
    series, shift = slice_series(np.reshape(OBLIQUE, (3, 3)))
    mask = sitk.Cast(series.frames[0] > 0, sitk.sitkUInt8)
    result = register_series(series, settings(working_spacing_mm=3.0), mask=mask)
    points = inside(series.frames[0])[::13]
    found = through(result.frames[1].transform, points) - points
    assert np.linalg.norm(found + shift, axis=1).mean() < 0.3 * np.linalg.norm(shift)


def test_cancelled_between_frames(series):
    with pytest.raises(RegistrationCancelledError):
        register_series(series, settings(), cancelled=lambda: True)


def test_progress_rises_over_all_frames(result, events):
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {event.step.split(":")[0] for event in events} == {"frame 1", "frame 2", "done"}


PLANES = {"axial": np.eye(3), "sagittal": [[0, 0, 1], [1, 0, 0], [0, -1, 0]], "mirrored": np.diag([-1.0, 1.0, 1.0])}


@pytest.mark.parametrize("plane", [*PLANES, "oblique"])
def test_a_single_slice_is_registered_in_its_plane(plane):
    direction = np.reshape(OBLIQUE if plane == "oblique" else PLANES[plane], (3, 3)).astype(float)
    series, shift = slice_series(direction)
    result = register_series(series, settings(working_spacing_mm=3.0))
    assert result.frames[1].state == "registered"
    points = inside(series.frames[0])[::13]
    found = through(result.frames[1].transform, points) - points
    assert np.linalg.norm(found + shift, axis=1).mean() < 0.3 * np.linalg.norm(shift)
    assert np.abs(found @ direction[:, 2]).max() < 1e-6
    back = through(result.frames[1].inverse, points + found)
    assert np.abs(back - points).max() < 0.2
    assert any("cannot be seen" in message for message in result.messages)
    assert result.corrected.frames[1].GetSize() == series.frames[0].GetSize()


def test_a_slice_of_another_plane_fails(series):
    axial, _ = slice_series(np.eye(3))
    turned, _ = slice_series(np.reshape(OBLIQUE, (3, 3)))
    with pytest.raises(InputError, match="plane"):
        register_series(Series((axial.frames[0], turned.frames[1])), settings())


def test_saved_and_saved_again_with_fewer_frames(result, tmp_path):
    result.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *(f"frame_0{index}" for index in range(3)),
        "overview.png",
        "report.json",
        "series.seq.nrrd",
    ]
    found = read_series(tmp_path / "series.seq.nrrd")
    assert found.times_s == TIMES_S
    report = json.loads((tmp_path / "report.json").read_text())
    assert [frame["state"] for frame in report["frames"]] == ["reference", "registered", "registered"]
    assert report["settings"]["preset"] == "dce"
    transform = sitk.ReadTransform(str(tmp_path / "frame_01" / "transform.h5"))
    assert np.allclose(
        transform.TransformPoint((1.0, 2.0, 3.0)), result.frames[1].transform.TransformPoint((1, 2, 3))
    )
    (tmp_path / "mine.txt").write_text("kept")
    corrected = dataclasses.replace(result.corrected, frames=result.corrected.frames[:2], times_s=None)
    series = dataclasses.replace(result.series, frames=result.series.frames[:2], times_s=None)
    dataclasses.replace(result, series=series, corrected=corrected, frames=result.frames[:2]).save(tmp_path)
    assert not (tmp_path / "frame_02").exists()
    assert (tmp_path / "mine.txt").read_text() == "kept"


def test_the_corrected_frames_of_an_earlier_run_do_not_stay_among_new_ones(result, tmp_path):
    frames = {"frames": result.series.frames[:2], "times_s": None}

    def save(form, names, **kept):
        corrected, series = (
            dataclasses.replace(each, form=form, names=names, **kept) for each in (result.corrected, result.series)
        )
        whole = dataclasses.replace(result, series=series, corrected=corrected)
        dataclasses.replace(whole, frames=result.frames[: len(series.frames)]).save(tmp_path)

    save("folder", ("t1.nrrd", "t2.nrrd", "t3.nrrd"))
    save("folder", ("t1.nrrd", "t2.nrrd"), **frames)
    assert read_series(tmp_path / "series", []).names == ("t1.nrrd", "t2.nrrd")
    save("meta", (), **frames)
    assert (tmp_path / "series.mha").exists() and not (tmp_path / "series").exists()
    (tmp_path / "series").mkdir()
    (tmp_path / "series" / "mine.nrrd").write_text("kept")
    save("meta", (), **frames)
    assert (tmp_path / "series" / "mine.nrrd").read_text() == "kept"


def test_a_single_slice_among_volumes_is_not_a_series_of_slices(series):
    grid = empty_grid("oblique")
    assert not Series((series.frames[0], grid[:, :, :1])).is_single_slice


def test_a_rigid_series_has_linear_transforms_and_slices_have_none(series):
    result = register_series(Series(series.frames[:2]), settings(stages="rigid", initialization="rigid"))
    assert result.frames[1].state == "registered" and result.frames[1].transform.IsLinear()
    assert result.frames[1].folded_percent == 0.0
    with pytest.raises(InputError, match="within its plane, not by a linear transform"):
        register_series(
            slice_series(np.reshape(OBLIQUE, (3, 3)))[0], settings(stages="rigid", initialization="rigid")
        )
