"""Enhanced DICOM: several frames a file, each at its own place, or refused in words."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_reading import ROUNDING, TURNED, elsewhere, read, refused
from dicom_series import AXIAL, largest_error, oblique, positions, scene, write_enhanced
from pydicom.uid import JPEGLSLossless, RLELossless


def test_enhanced_frames_are_sorted_by_their_own_positions(tmp_path):
    rng = np.random.default_rng(3)
    for k in range(6):
        axes = oblique(rng)
        places = positions(7, axes=axes)[rng.permutation(7)]
        scales = [(1 + 0.1 * i, -5.0 * i) for i in range(7)]
        path = tmp_path / str(k) / "enhanced"
        path.parent.mkdir()
        write_enhanced(path, places, axes=axes, scales=scales)
        for given in (path, path.parent):
            image, messages = read(given)
            assert largest_error(image) < ROUNDING * 1.7 and messages == []
            assert image.GetSize() == (9, 7, 7)


@pytest.mark.parametrize("compressor", [RLELossless, JPEGLSLossless, "JPEG", "JPEG2000"])
def test_compressed_frames_are_rescaled_one_by_one(tmp_path, compressor):
    """By pydicom, or by ITK where it has the compressor."""
    path, pixels = tmp_path / "enhanced.dcm", tmp_path / "pixels.dcm"
    scales = [(1 + 0.1 * k, -3000.0 - 50 * k) for k in range(6)]  # stored values without a sign
    write_enhanced(path, positions()[::-1], scales=scales)
    dataset = pydicom.dcmread(path)
    dataset.PixelRepresentation = 0
    if compressor in (RLELossless, JPEGLSLossless):
        dataset.compress(compressor)
    else:
        writer = sitk.ImageFileWriter()
        writer.SetFileName(str(pixels))
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
        writer.Execute(sitk.GetImageFromArray(dataset.pixel_array.astype(np.uint16)))
        compressed = pydicom.dcmread(pixels)
        dataset.file_meta.TransferSyntaxUID = compressed.file_meta.TransferSyntaxUID
        dataset["PixelData"] = compressed["PixelData"]
        pixels.unlink()
    assert dataset.file_meta.TransferSyntaxUID.is_compressed
    dataset.save_as(path)
    assert largest_error(read(path)[0]) < ROUNDING * 1.6


def test_enhanced_frames_that_make_no_volume(tmp_path):
    places = positions(6)
    twice = np.concatenate([places, places])
    both = [scene] * 6 + [elsewhere] * 6
    path = tmp_path / "enhanced.dcm"

    write_enhanced(path, places[[0, 1, 2, 4, 5]])
    assert "1 slice is missing, 10 mm from frame 3 of 'enhanced.dcm' to frame 4" in refused(path)
    own = [{"FrameContentSequence": {"TemporalPositionIndex": 1 + k // 6}} for k in range(12)]
    write_enhanced(path, twice, show=both, own=own)
    assert "TemporalPositionIndex (1: 6 slices, 2: 6 slices" in refused(path)
    own = [{"MRDiffusionSequence": {"DiffusionBValue": 800.0 * (k // 6)}} for k in range(12)]
    write_enhanced(path, twice, show=both, own=own)
    assert "DiffusionBValue (0: 6 slices, 800: 6 slices" in refused(path)
    write_enhanced(path, twice, show=both)
    assert "several images at 6 positions, such as frame 1 of 'enhanced.dcm'" in refused(path)
    write_enhanced(path, places, frame_axes=[AXIAL] * 5 + [TURNED])
    assert "different planes" in refused(path)
    write_enhanced(path, places, NumberOfFrames=5)
    assert "damaged or incomplete" in refused(path)
    write_enhanced(path, places)
    path.write_bytes(path.read_bytes()[:-200])
    assert "damaged or incomplete" in refused(path)


def test_several_enhanced_files(tmp_path):
    places = positions(6)
    write_enhanced(tmp_path / "a.dcm", places, SeriesInstanceUID="1.1")
    write_enhanced(tmp_path / "b.dcm", places, SeriesInstanceUID="1.2", show=elsewhere)
    assert "MR 't1', 6 slices of 9 x 7: a.dcm; MR 't1', 6 slices of 9 x 7: b.dcm" in refused(tmp_path)
    assert largest_error(read(tmp_path / "b.dcm")[0], elsewhere) < ROUNDING
    write_enhanced(tmp_path / "a.dcm", places, SeriesInstanceUID="1.2")
    assert "several images at 6 positions" in refused(tmp_path)


def test_volume_spread_over_multi_frame_files(tmp_path):
    places = positions(6)
    for k in (0, 1):
        write_enhanced(tmp_path / f"{k}.dcm", places[3 * k : 3 * k + 3], InConcatenationTotalNumber=2)
    image, _ = read(tmp_path)
    assert largest_error(image) < ROUNDING and image.GetSize() == (9, 7, 6)
    assert "1 of the 2 files" in refused(tmp_path / "1.dcm")


def test_frames_without_places_of_their_own(tmp_path):
    path = tmp_path / "old.dcm"
    first = positions(6)[0].tolist()
    write_enhanced(path, positions(6), ImagePositionPatient=first, ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    dataset = pydicom.dcmread(path)
    del dataset.PerFrameFunctionalGroupsSequence
    dataset.PixelSpacing = [4, 3]
    dataset.save_as(path)
    assert "no valid ImagePositionPatient" in refused(path)


def test_radiotherapy_dose(tmp_path):
    path = tmp_path / "dose.dcm"
    first = positions(6)[0].tolist()
    write_enhanced(path, positions(6), ImagePositionPatient=first, ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    dataset = pydicom.dcmread(path)
    del dataset.PerFrameFunctionalGroupsSequence, dataset.SharedFunctionalGroupsSequence
    dataset.SOPClassUID, dataset.PixelSpacing = "1.2.840.10008.5.1.4.1.1.481.2", [4, 3]
    dataset.GridFrameOffsetVector, dataset.DoseGridScaling = [0, 5, 10, 15, 20, 25], 0.5
    dataset.save_as(path)
    assert largest_error(read(path)[0], lambda points: scene(points) / 2) < ROUNDING
    dataset.GridFrameOffsetVector = [0, 5, 10, 15, 25, 30]
    dataset.save_as(path)
    assert "1 slice is missing" in refused(path)
