"""Dynamic series in and out of files: every form, its times, its place in space; what is not a series is refused."""

import gzip

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from dynamic import EVEN_S, TIMES_S, small_series
from volumes import assert_readable

from FoundationRegistrationLib import InputError, Series, read_series
from FoundationRegistrationLib.series.writing import write_series_directly


@pytest.fixture(scope="module")
def series():
    """Oblique, anisotropic, 16 bits."""
    return small_series("oblique", sitk.sitkInt16, EVEN_S)


def same(found, frames):
    assert len(found) == len(frames)
    for one, other in zip(found, frames, strict=True):
        assert one.GetSize() == other.GetSize()
        assert np.allclose(one.GetSpacing(), other.GetSpacing(), atol=1e-5)
        assert np.allclose(one.GetOrigin(), other.GetOrigin(), atol=1e-3)
        assert np.allclose(one.GetDirection(), other.GetDirection(), atol=1e-5)
        assert np.array_equal(sitk.GetArrayFromImage(one), sitk.GetArrayFromImage(other))


def nifti(series, path, unit, factor=1.0):
    """A 4D NIfTI as another program writes it."""
    sitk.WriteImage(sitk.JoinSeries(list(series.frames)), str(path))
    image = nibabel.load(path)
    image.header.set_xyzt_units("mm", unit)
    image.header["pixdim"][4], image.header["toffset"] = 30.0 * factor, 5.0 * factor
    image.dataobj  # noqa: B018 - read before the file is replaced
    nibabel.save(nibabel.Nifti1Image(np.asanyarray(image.dataobj), image.affine, image.header), path)
    return path


def nrrd(series, path, kinds, further=(), frames_first=True):
    """A 4D NRRD, its frames along the first axis or the last."""
    grid = series.frames[0]
    axes = np.reshape(grid.GetDirection(), (3, 3)) * grid.GetSpacing()
    directions = ["(" + ",".join(map(repr, axis)) + ")" for axis in axes.T.tolist()]
    sizes = list(grid.GetSize())
    array = np.stack([sitk.GetArrayFromImage(frame) for frame in series.frames])
    if frames_first:
        array = np.moveaxis(array, 0, -1)
    place = 0 if frames_first else 3
    directions.insert(place, "none")
    sizes.insert(place, len(array) if not frames_first else array.shape[-1])
    lines = ["NRRD0005", "type: short", "dimension: 4", "space: left-posterior-superior"]
    lines += [f"sizes: {' '.join(map(str, sizes))}", f"space directions: {' '.join(directions)}", f"kinds: {kinds}"]
    origin = ",".join(map(repr, grid.GetOrigin()))
    lines += ["endian: little", "encoding: gzip", f"space origin: ({origin})", *further, "", ""]
    path.write_bytes("\n".join(lines).encode() + gzip.compress(np.ascontiguousarray(array).tobytes(), 1))
    return path


@pytest.mark.parametrize(("unit", "factor"), [("sec", 1.0), ("msec", 1e3), ("usec", 1e6)])
def test_a_nifti_with_its_times(series, tmp_path, unit, factor):
    found = read_series(nifti(series, tmp_path / "a.nii.gz", unit, factor))
    same(found.frames, series.frames)
    assert found.times_s == pytest.approx(EVEN_S)
    assert found.form == "nifti"


@pytest.mark.parametrize("unit", ["unknown", "hz"])
def test_a_nifti_whose_fourth_axis_is_not_known_to_be_time_has_none(series, tmp_path, unit):
    messages = []
    assert read_series(nifti(series, tmp_path / "a.nii.gz", unit), messages).times_s is None
    assert "times" in messages[-1]


SLICERS = ('labels: "time" "" "" ""', 'units: "s" "" "" ""', "axis 0 index type:=numeric")
MULTIVOLUME = ("MultiVolume.FrameIdentifyingDICOMTagUnits:=ms", "MultiVolume.FrameLabels:=0,60000,150000")


@pytest.mark.parametrize(
    ("kinds", "further", "times", "frames_first"),
    [
        ("list domain domain domain", (*SLICERS, "axis 0 index values:=0 60 150"), TIMES_S, True),
        ("list domain domain domain", MULTIVOLUME, TIMES_S, True),
        ("list domain domain domain", ("axis 0 index values:=0 1 2",), None, True),
        ("list domain domain domain", (*SLICERS, "axis 0 index values:=pre post late"), None, True),
        ("domain domain domain list", (), None, False),
        ("domain domain domain time", (), None, False),
        ("space space space time", ('units: "" "" "" "s"', "axis 3 index values:=0 60 150"), TIMES_S, False),
    ],
)
def test_a_nrrd_with_a_list_or_a_time_axis(series, tmp_path, kinds, further, times, frames_first):
    found = read_series(nrrd(series, tmp_path / "a.seq.nrrd", kinds, further, frames_first), [])
    same(found.frames, series.frames)
    assert found.times_s == times


def test_a_folder_of_volumes_in_the_order_of_their_numbers(series, tmp_path):
    for name, frame in zip(("t2.nrrd", "t9.nrrd", "t10.nrrd"), series.frames, strict=True):
        sitk.WriteImage(frame, str(tmp_path / name))
    found = read_series(tmp_path)
    same(found.frames, series.frames)
    assert found.names == ("t2.nrrd", "t9.nrrd", "t10.nrrd")


@pytest.mark.parametrize(
    "names",
    [
        ("pre.nrrd", "post1.nrrd", "post2.nrrd"),
        ("frame.nrrd", "frame1.nrrd", "frame2.nrrd"),
        ("1.nrrd", "1.mha", "2.nrrd"),
        ("t1.nrrd", "t2.nrrd", "mask.seg.nrrd"),
    ],
)
def test_names_without_a_number_that_orders_them_are_refused(series, tmp_path, names):
    for name, frame in zip(names, series.frames, strict=True):
        sitk.WriteImage(frame, str(tmp_path / name))
    with pytest.raises(InputError, match="number the frames in the order of time"):
        read_series(tmp_path, [])


def test_frames_in_two_files_count_once_and_a_link_to_nothing_is_a_missing_frame(series, tmp_path):
    for number, frame in enumerate(series.frames):
        sitk.WriteImage(frame, str(tmp_path / f"t{number}.hdr"))
    same(read_series(tmp_path, []).frames, series.frames)
    (tmp_path / "t3.nrrd").symlink_to(tmp_path / "not fetched.nrrd")
    with pytest.raises(InputError, match=r"t3\.nrrd' does not exist"):
        read_series(tmp_path, [])


@pytest.mark.parametrize(
    ("form", "times", "name"),
    [
        ("nifti", EVEN_S, "series.nii.gz"),
        ("nifti", None, "series.nii.gz"),
        ("nifti", TIMES_S, "series.seq.nrrd"),
        ("sequence", TIMES_S, "series.seq.nrrd"),
        ("sequence", None, "series.seq.nrrd"),
        ("meta", None, "series.mha"),
    ],
)
def test_a_written_series_is_read_as_it_was(series, tmp_path, form, times, name):
    assert write_series_directly(Series(series.frames, times, form), tmp_path) == name
    found = read_series(tmp_path / name, [])
    same(found.frames, series.frames)
    assert found.times_s is times or found.times_s == pytest.approx(times)


def test_a_folder_is_written_with_its_names(series, tmp_path):
    names = ("1.nii.gz", "2.mhd", "3.nrrd")
    assert write_series_directly(Series(series.frames, None, "folder", names), tmp_path) == "series"
    assert sorted(path.name for path in (tmp_path / "series").iterdir()) == ["1.nii.gz", "2.mha", "3.nrrd"]
    same(read_series(tmp_path / "series", []).frames, series.frames)


def test_frames_of_different_pixel_types_keep_all_values(series, tmp_path):
    frames = (series.frames[0], sitk.Cast(series.frames[1], sitk.sitkFloat32) + 0.25, series.frames[2])
    write_series_directly(Series(frames), tmp_path)
    found = read_series(tmp_path / "series.seq.nrrd", []).frames
    assert all(np.array_equal(*map(sitk.GetArrayFromImage, pair)) for pair in zip(found, frames, strict=True))


def single(folder, series):
    sitk.WriteImage(series.frames[0], str(folder / "a.nii.gz"))
    return folder / "a.nii.gz"


def folder_of_one(folder, series):
    single(folder, series)
    return folder


def colours(folder, series):
    return nrrd(series, folder / "a.nrrd", "RGB-color domain domain domain")


def time_axis_cut_off(folder, series):
    path = nrrd(series, folder / "a.nrrd", "domain domain domain time", frames_first=False)
    path.write_bytes(path.read_bytes()[:-2000])
    return path


def cut_off(folder, series):
    path = nrrd(series, folder / "a.nrrd", "list domain domain domain")
    path.write_bytes(path.read_bytes()[:-2000])
    return path


def five_dimensions(folder, series):
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4, 2, 2), np.float32), np.eye(4)), folder / "a.nii.gz")
    return folder / "a.nii.gz"


def nothing(folder, series):
    return folder / "missing.nii.gz"


def empty_folder(folder, series):
    return folder


@pytest.mark.parametrize(
    "make",
    [single, folder_of_one, colours, cut_off, time_axis_cut_off, five_dimensions, nothing, empty_folder],
    ids=lambda make: make.__name__,
)
def test_what_is_not_a_series_is_refused_in_a_sentence(series, tmp_path, make):
    with pytest.raises(InputError) as error:
        read_series(make(tmp_path, series), [])
    message = str(error.value)
    assert str(tmp_path) in message
    assert message.endswith(".")
    assert "\n" not in message


@pytest.mark.parametrize("times", [(0.0, 1.0), (0.0, 2.0, 1.0), (0.0, 1.0, float("nan"))])
def test_times_that_do_not_fit_the_frames_are_refused(series, times):
    with pytest.raises(InputError) as error:
        Series(series.frames, times)
    assert_readable(error)


def test_a_series_needs_two_frames(series):
    with pytest.raises(InputError) as error:
        Series(series.frames[:1])
    assert_readable(error)
