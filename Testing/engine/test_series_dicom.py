"""A corrected series as DICOM: it is read as the time points that it was made of, by another series of the study."""

import datetime
import itertools

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_patient import CT, MR, TURNED, write_scan
from pydicom.uid import generate_uid

from FoundationRegistrationLib import read_series
from FoundationRegistrationLib.cli.main import main

TIMES = ("081000", "081130", "081300")
FAST = ("--device", "cpu", "--initialization", "none", "--working-spacing-mm", "6", "--iterations", "5")
FAST += ("--fluid-iterations", "3", "--progress", "none")


def write_dynamic(folder, storage_class=MR, clock="AcquisitionTime", **options):
    """Three oblique time points of one series, whose times are in one tag; returns the files of each."""
    uid = generate_uid()
    return [
        write_scan(
            folder,
            storage_class,
            name=f"t{index}_{{:03d}}.dcm",
            SeriesInstanceUID=uid,
            TemporalPositionIdentifier=index + 1,
            **{clock: time},
            **options,
        )
        for index, time in enumerate(TIMES)
    ]


@pytest.mark.parametrize("storage_class", [MR, CT])
def test_a_corrected_series_comes_back_as_time_points_of_the_same_study(tmp_path, storage_class):
    files = write_dynamic(tmp_path / "dce", storage_class, axes=TURNED)
    source, out = pydicom.dcmread(files[0][0]), tmp_path / "dicom"
    assert main(["series", str(tmp_path / "dce"), "--output", str(tmp_path / "out"), "--dicom", str(out), *FAST]) == 0
    images = [pydicom.dcmread(path) for path in sorted(out.iterdir())]
    assert len(images) == sum(map(len, files))
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientName", "Modality"):
        assert {str(image[keyword].value) for image in images} == {str(source[keyword].value)}
    assert len({image.SeriesInstanceUID for image in images}) == 1
    assert images[0].SeriesInstanceUID != source.SeriesInstanceUID
    assert [image.InstanceNumber for image in images] == list(range(1, len(images) + 1))
    for index, (time, those) in enumerate(zip(TIMES, files, strict=True)):
        frame = [image for image in images if image.TemporalPositionIdentifier == index + 1]
        assert {image.AcquisitionTime for image in frame} == {time}
        known = {pydicom.dcmread(path).SOPInstanceUID for path in those}
        shown = {item.ReferencedSOPInstanceUID for image in frame for item in image.SourceImageSequence}
        assert shown <= known
        assert ("Warped" in frame[0].DerivationDescription) == (index > 0), "the reference is as acquired"

    back, corrected = (read_series(path, []) for path in (out, tmp_path / "out" / "series.seq.nrrd"))
    assert back.times_s == corrected.times_s == (0.0, 90.0, 180.0)
    for found, wanted in zip(back.frames, corrected.frames, strict=True):
        assert np.allclose(found.GetOrigin(), wanted.GetOrigin(), atol=1e-3)
        values = [sitk.GetArrayFromImage(image).astype(float) for image in (found, wanted)]
        assert np.abs(values[0] - values[1]).max() <= 1.0


@pytest.mark.parametrize(("clock", "times_s"), [("ContentTime", (0.0, 90.0, 180.0)), ("StudyTime", None)])
def test_frames_keep_the_times_that_were_read_and_the_time_of_writing_is_none(tmp_path, monkeypatch, clock, times_s):
    write_dynamic(tmp_path / "dce", clock=clock)
    day = datetime.datetime(2024, 5, 1, 12)
    seconds = itertools.count()

    class Passing(datetime.datetime):
        """A clock by which each look takes a second."""

        @classmethod
        def now(cls, tz=None):
            return day + datetime.timedelta(seconds=next(seconds))

    monkeypatch.setattr(datetime, "datetime", Passing)
    out = tmp_path / "dicom"
    assert main(["series", str(tmp_path / "dce"), "--output", str(tmp_path / "out"), "--dicom", str(out), *FAST]) == 0
    assert read_series(tmp_path / "dce", []).times_s == read_series(out, []).times_s == times_s
    images = [pydicom.dcmread(path) for path in out.iterdir()]
    assert len({(image.ContentDate, image.ContentTime) for image in images}) == 1


def test_what_cannot_be_dicom_is_refused_before_anything_runs(tmp_path, capsys):
    write_dynamic(tmp_path / "dce")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "a").write_text("a file")
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(2, 6, 7, 8)).astype(np.float32))
    sitk.WriteImage(image, str(tmp_path / "dce.nii.gz"))
    for series, folder, words in (
        ("dce", "taken", "not empty"),
        ("dce", "dce/derived", "lies in the series, which is an input"),
        ("dce.nii.gz", "dicom", "is not DICOM"),
    ):
        command = ["series", tmp_path / series, "--output", tmp_path / "out", "--dicom", tmp_path / folder, *FAST]
        assert main([str(word) for word in command]) == 2
        assert words in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / folder).exists() or folder == "taken"


def test_the_headers_of_a_series_are_read_once(tmp_path, monkeypatch):
    """For the volumes, for DICOM, and for the record of the inputs."""
    from FoundationRegistrationLib.io import dicom

    write_dynamic(tmp_path / "dce")
    found, search = [], dicom.series_below
    monkeypatch.setattr(dicom, "series_below", lambda *given: found.append(given) or search(*given))
    command = ["series", tmp_path / "dce", "--output", tmp_path / "out", "--dicom", tmp_path / "dicom", *FAST]
    assert main([str(word) for word in command]) == 0
    assert len(found) == 1
    read_series(tmp_path / "dce", [])
    read_series(tmp_path / "dce", [])
    assert len(found) == 3  # another caller's files may have changed in between
