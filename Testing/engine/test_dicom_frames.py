"""Series with several volumes at one place: split in time order, each right to the last voxel, or refused."""

import numpy as np
import pytest
from dicom_reading import ROUNDING, elsewhere
from dicom_series import largest_error, oblique, positions, scene, write_enhanced, write_series, write_slice

from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.io.dicom import read_dicom_frames
from FoundationRegistrationLib.series.reading import read_series

AXES = oblique(np.random.default_rng(7))
PLACES = positions(axes=AXES)


def moment(number):
    """What the volume of a time point shows."""
    return lambda points: scene(points) + 40 * number


def write_moments(folder, tags, order=(0, 1, 2)):
    """Write three volumes at one place; `tags` gives those of a volume and slice. The files' order says nothing."""
    for number in order:
        for k, place in enumerate(PLACES):
            path = folder / f"{(7 * (len(PLACES) * number + k)) % 18:03d}.dcm"
            folder.mkdir(exist_ok=True)
            own = {"InstanceNumber": 1 + k + number * len(PLACES), **tags(number, k)}
            write_slice(path, place, axes=AXES, show=moment(number), **own)


def frames(path, **options):
    messages = []
    return read_dicom_frames(path, "The series", messages, **options), messages


def refused(path):
    with pytest.raises(InputError) as error:
        frames(path)
    assert str(error.value).startswith("The series ")
    return str(error.value)


SEPARATED = {
    "time points": (
        lambda n, k: {"TemporalPositionIdentifier": n + 1, "AcquisitionTime": f"10{5 * n:02d}00"},
        [0, 300, 600],
    ),
    "past midnight": (
        lambda n, k: {"AcquisitionNumber": n, "AcquisitionTime": ("235900", "000100.5", "000300")[n]},
        [0, 120 + 0.5, 240],
    ),
    "past midnight with dates": (
        lambda n, k: {
            "AcquisitionDate": ("20240229", "20240301", "20240301")[n],
            "AcquisitionTime": ("235900", "000100", "000300")[n],
        },
        [0, 120, 240],
    ),
    "at the end of summer time": (
        lambda n, k: {
            "AcquisitionDateTime": ("20241027025900+0200", "20241027020100+0100", "20241027020300+0100")[n],
        },
        [0, 120, 240],
    ),
    "at the end of summer time, by the header": (
        lambda n, k: {
            "AcquisitionTime": ("025900", "020100", "020300")[n],
            "TimezoneOffsetFromUTC": ("+0200", "+0100", "+0100")[n],
        },
        [0, 120, 240],
    ),
    "each slice past midnight": (
        lambda n, k: {"AcquisitionTime": ("2359{:02d}", "0000{:02d}", "0001{:02d}")[n].format(k)},
        [0, 60, 120],
    ),
    "reconstructed from the last to the first": (
        lambda n, k: {"TemporalPositionIdentifier": n + 1, "ContentTime": f"10{20 - n}00"},
        [None] * 3,
    ),
    "reconstructed in order": (
        lambda n, k: {"TemporalPositionIdentifier": n + 1, "ContentTime": f"10{20 + n}00"},
        [0, 60, 120],
    ),
    "one start and trigger delays": (
        lambda n, k: {"AcquisitionTime": "101500", "TriggerTime": 1500.0 * n},
        [0, 1.5, 3],
    ),
    "frames of a PET": (lambda n, k: {"FrameReferenceTime": 5000.0 + 10000 * n}, [0, 10, 20]),
    "each slice at its time": (lambda n, k: {"AcquisitionDateTime": f"20240101{10 + n}00{k:02d}"}, [0, 3600, 7200]),
    "echoes": (lambda n, k: {"EchoTime": 2.5 + 10 * n, "AcquisitionTime": "101500"}, [None] * 3),
    "phases of breathing": (lambda n, k: {"NominalPercentageOfRespiratoryPhase": 30.0 * n}, [None] * 3),
    "directions of diffusion": (
        lambda n, k: {"DiffusionBValue": 800.0, "DiffusionGradientOrientation": np.eye(3)[::-1][n].tolist()},
        [None] * 3,
    ),
    "Dixon images": (
        lambda n, k: {"ImageType": ["DERIVED", "PRIMARY", "ABC"[n]], "ContentTime": f"10150{n}"},
        [None] * 3,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SEPARATED)
def test_volumes_at_one_place_are_separated_in_time_order(tmp_path, name):
    tags, seconds = SEPARATED[name]
    write_moments(tmp_path, tags)
    found, messages = frames(tmp_path)
    assert [time for _, time in found] == (seconds if None in seconds else pytest.approx(seconds))
    assert messages == []
    for number, (image, _) in enumerate(found):
        assert largest_error(image, moment(number)) < ROUNDING


MIDNIGHT = ("235900", "000000", "000100")
ONE_DATE = {
    "AcquisitionTime": lambda n, k: {"AcquisitionDate": "20240101", "AcquisitionTime": MIDNIGHT[n]},
    "AcquisitionDateTime": lambda n, k: {"AcquisitionDateTime": f"20240101{MIDNIGHT[n]}"},
    "ContentTime": lambda n, k: {"ContentDate": "20240101", "ContentTime": MIDNIGHT[n]},
    "each slice": lambda n, k: {
        "AcquisitionDate": "20240101",
        "AcquisitionTime": f"{int(MIDNIGHT[n]) + 10 * k:06d}",
    },
}


@pytest.mark.parametrize("clock", ONE_DATE)
@pytest.mark.parametrize(
    "number",
    [
        lambda n, k: {"TemporalPositionIdentifier": n + 1, "InstanceNumber": 18 - n},
        lambda n, k: {"InstanceNumber": 1 + k + 6 * n},
        lambda n, k: {"InstanceNumber": 1 + n + 3 * k},
    ],
    ids=["time points", "frame by frame", "place by place"],
)
def test_midnight_under_one_and_the_same_date_is_passed_in_the_order_of_the_numbers(tmp_path, clock, number):
    write_moments(tmp_path, lambda n, k: {**ONE_DATE[clock](n, k), **number(n, k)})
    found, messages = frames(tmp_path)
    assert [seconds for _, seconds in found] == [0, 60, 120]
    assert all(largest_error(image, moment(n)) < ROUNDING for n, (image, _) in enumerate(found))
    assert len(messages) == 1 and "two days under one date" in messages[0]


def test_times_at_both_ends_of_one_date_are_not_guessed(tmp_path):
    write_moments(tmp_path, lambda n, k: {**ONE_DATE["AcquisitionTime"](n, k), "InstanceNumber": 1})
    found, messages = frames(tmp_path)
    assert [seconds for _, seconds in found] == [None] * 3
    assert len(messages) == 1 and "(AcquisitionTime), not used: nothing tells which are first" in messages[0]


def test_times_at_both_ends_of_one_date_may_be_those_of_a_long_day(tmp_path):
    write_moments(tmp_path, lambda n, k: {"AcquisitionDateTime": f"20240101{(8, 14, 23)[n]:02d}0000"})
    found, messages = frames(tmp_path)
    assert [seconds for _, seconds in found] == [0, 6 * 3600, 15 * 3600] and messages == []


def test_acquisition_time_goes_before_the_number_of_the_time_point(tmp_path):
    write_moments(tmp_path, lambda n, k: {"TemporalPositionIdentifier": 3 - n, "AcquisitionTime": f"10{n:02d}00"})
    found, _ = frames(tmp_path)
    for number, (image, seconds) in enumerate(found):
        assert largest_error(image, moment(number)) < ROUNDING and seconds == 60 * number


def test_enhanced_time_points_in_any_order(tmp_path):
    order = np.random.default_rng(4).permutation(18)
    own = [{"FrameContentSequence": {"TemporalPositionIndex": int(1 + k // 6)}} for k in order]
    for k, content in zip(order, own, strict=True):
        content["TemporalPositionSequence"] = {"TemporalPositionTimeOffset": 2.25 * (k // 6)}
    show = [moment(k // 6) for k in order]
    path = tmp_path / "enhanced.dcm"
    write_enhanced(path, PLACES[order % 6], axes=AXES, show=show, own=own)
    for given in (path, tmp_path):
        found, _ = frames(given)
        assert [seconds for _, seconds in found] == [0, 2.25, 4.5]
        assert all(largest_error(image, moment(number)) < ROUNDING for number, (image, _) in enumerate(found))


def test_one_volume_is_one_frame(tmp_path):
    write_series(tmp_path, PLACES, axes=AXES)
    [(image, seconds)], _ = frames(tmp_path)
    assert largest_error(image) < ROUNDING and seconds is None


def test_all_frames_have_one_pixel_type(tmp_path):
    for n in range(2):
        write_series(tmp_path, name=f"{n}{{}}", TemporalPositionIdentifier=n + 1, slope=1 + n / 2)
    found, _ = frames(tmp_path)
    assert {image.GetPixelIDTypeAsString() for image, _ in found} == {"32-bit float"}


def of_time_points(number, k):
    return {"TemporalPositionIdentifier": number + 1}


def lose(folder, number, k):
    (folder / f"{(7 * (len(PLACES) * number + k)) % 18:03d}.dcm").unlink()


@pytest.mark.parametrize(
    ("k", "words"),
    [
        (2, "has gaps: 1 slice is missing, 10 mm from"),
        (0, "has 5 slices in frame 2 (TemporalPositionIdentifier 2) and 6 in another"),
    ],
)
def test_a_missing_slice_is_named_with_its_frame(tmp_path, k, words):
    write_moments(tmp_path, of_time_points)
    lose(tmp_path, 1, k)
    message = refused(tmp_path)
    assert words in message and "frame 2 (TemporalPositionIdentifier 2)" in message


def test_a_missing_slice_where_every_slice_has_its_own_time(tmp_path):
    write_moments(tmp_path, lambda n, k: {"AcquisitionTime": f"{10 + n}00{k:02d}"})
    lose(tmp_path, 1, 2)
    assert "has 3 images at most positions, but 2 at that of" in refused(tmp_path)


@pytest.mark.parametrize("other", [{"first": (-9, -8, -13)}, {"step": 5.5}])
def test_frames_at_different_places_are_refused(tmp_path, other):
    write_series(tmp_path, positions(), name="a{}", TemporalPositionIdentifier=1)
    write_series(tmp_path, positions(**other), name="b{}", TemporalPositionIdentifier=2)
    assert "frame 2 (TemporalPositionIdentifier 2) lies elsewhere" in refused(tmp_path)


def test_positions_rounded_differently_give_one_grid(tmp_path):
    rng = np.random.default_rng(1)
    for n in range(3):
        places = PLACES + rng.uniform(-0.004, 0.004, PLACES.shape)
        write_series(tmp_path, places, axes=AXES, name=f"{n}{{}}", show=moment(n), TemporalPositionIdentifier=n + 1)
    found, _ = frames(tmp_path)
    assert len({(*image.GetOrigin(), *image.GetSpacing(), *image.GetDirection()) for image, _ in found}) == 1
    assert all(largest_error(image, moment(n)) < ROUNDING + 0.2 for n, (image, _) in enumerate(found))


def test_volumes_that_no_single_tag_separates_are_refused(tmp_path):
    for n in range(4):
        tags = {"EchoTime": 2.5 * (n % 2), "InversionTime": 100.0 * (n // 2)}
        write_series(tmp_path, name=f"{n}{{}}", **tags)
    assert "no single tag (EchoTime, InversionTime) tells them apart" in refused(tmp_path)


def test_volumes_that_nothing_separates_are_refused(tmp_path):
    write_series(tmp_path)
    write_series(tmp_path, name="x{}", show=elsewhere)
    assert "nothing tells them apart" in refused(tmp_path)


def test_slices_whose_times_interleave_are_not_guessed(tmp_path):
    write_moments(tmp_path, lambda n, k: {"AcquisitionTime": f"10{n + 2 * k:02d}00"})
    assert "AcquisitionTime" in refused(tmp_path)


def test_a_doubled_file_is_no_time_point(tmp_path):
    paths = write_series(tmp_path)
    (tmp_path / "copy.dcm").write_bytes(paths[2].read_bytes())
    assert "holds a slice twice, 'copy.dcm' and 's002.dcm'" in refused(tmp_path)


def test_one_series_of_several_is_split(tmp_path):
    write_moments(tmp_path, lambda n, k: {**of_time_points(n, k), "SeriesNumber": 4})
    write_series(tmp_path, name="x{}", SeriesInstanceUID="1.7", SeriesNumber=5)
    assert len(frames(tmp_path, series="4")[0]) == 3
    assert len(frames(tmp_path, series="1.7")[0]) == 1


def test_a_dynamic_series_is_read_with_its_times(tmp_path):
    folder = tmp_path / "dce"
    write_moments(folder, SEPARATED["time points"][0])
    messages = []
    series = read_series(folder, messages)
    assert series.times_s == (0.0, 300.0, 600.0)
    assert not messages
    for number, frame in enumerate(series.frames):
        assert largest_error(frame, moment(number)) <= ROUNDING
    assert read_series(next(folder.iterdir())).times_s == series.times_s  # one file of it will do


def test_of_a_study_one_dynamic_series_is_chosen(tmp_path):
    write_moments(tmp_path / "dce", SEPARATED["time points"][0])
    write_series(tmp_path / "t2", axes=AXES, SeriesInstanceUID="1.2.3.4.5.6", SeriesNumber=9)
    with pytest.raises(InputError, match="series"):
        read_series(tmp_path)
    with pytest.raises(InputError, match="holds a single volume"):
        read_series(tmp_path, [], "9")
