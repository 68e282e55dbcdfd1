"""DICOM folders and files: read right to the last voxel, or refused in words that name what was found."""

import re

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_reading import (
    ROUNDING,
    SYNTAXES,
    TURNED,
    add,
    change,
    copied,
    copied_below,
    elsewhere,
    read,
    refused,
    sheared,
    spoil,
    unequal,
    without,
)
from dicom_series import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    largest_error,
    oblique,
    positions,
    write_object,
    write_series,
    write_slice,
)
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import MPEG2MPML, HTJ2KLossless, ImplicitVRLittleEndian, RLELossless

from FoundationRegistrationLib.io.volumes import read_volume


def test_every_orientation_is_read_at_its_place(tmp_path):
    rng = np.random.default_rng(1)
    for k, axes in enumerate((AXIAL, SAGITTAL, CORONAL, -AXIAL, AXIAL[::-1], oblique(rng), oblique(rng))):
        places = positions(axes=axes)
        write_series(tmp_path / str(k), places[rng.permutation(len(places))], axes=axes)
        image = read_volume(tmp_path / str(k), "fixed", [])
        assert largest_error(image) < ROUNDING
        assert image.GetSize() == (9, 7, 6) and image.GetPixelID() == sitk.sitkInt16
        assert image.GetSpacing() == pytest.approx((3.0, 4.0, 5.0))


def test_order_and_names_of_files_do_not_matter(tmp_path):
    axes = oblique(np.random.default_rng(2))
    places = positions(axes=axes)
    write_series(tmp_path / "a", places, axes=axes)
    write_series(tmp_path / "b", places[::-1], axes=axes, name="IM{:05d}", SpacingBetweenSlices=-5.0, start=0)
    first, second = read(tmp_path / "a")[0], read(tmp_path / "b")[0]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(first), sitk.GetArrayFromImage(second))
    for place in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(first, place)(), getattr(second, place)(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
def test_stored_values_of_every_kind(tmp_path, syntax):
    kinds = (
        {"signed": True},
        {"signed": False, "intercept": -1000},
        {"signed": False, "bits": 8, "intercept": -900, "slope": 10.5},
        {"signed": True, "bits": 32, "slope": 1e-5},
    )
    for k, options in enumerate(kinds[:3] if syntax == RLELossless else kinds):
        write_series(tmp_path / str(k), syntax=syntax, size=(8, 7), **options)
        assert largest_error(read(tmp_path / str(k))[0]) < ROUNDING * max(1.0, options.get("slope", 1.0)) + 1e-3


@pytest.mark.parametrize("syntax", [HTJ2KLossless, MPEG2MPML], ids=lambda syntax: syntax.keyword)
def test_compression_that_is_not_supported_is_named(tmp_path, syntax):
    for path in write_series(tmp_path):
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([bytes(8)])
        dataset.save_as(path)
    assert f"has an unsupported compression ({syntax.name}); export the original" in refused(tmp_path)


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_lossless_compression_of_images(tmp_path, compressor):
    """Compressed by ITK; the rescaling stands in tags of which its own reader would take the first for all."""
    for k, place in enumerate(positions()):
        path, pixels = tmp_path / f"s{k}.dcm", tmp_path / "pixels.dcm"
        write_slice(path, place, slope=1 + 0.1 * k, intercept=-1000, signed=False)
        dataset = pydicom.dcmread(path)
        writer = sitk.ImageFileWriter()
        writer.SetFileName(str(pixels))
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
        writer.Execute(sitk.GetImageFromArray(dataset.pixel_array))
        compressed = pydicom.dcmread(pixels)
        assert compressed.file_meta.TransferSyntaxUID.is_compressed
        dataset.file_meta.TransferSyntaxUID = compressed.file_meta.TransferSyntaxUID
        dataset["PixelData"] = compressed["PixelData"]
        dataset.save_as(path)
        pixels.unlink()
    assert largest_error(read(tmp_path)[0]) < ROUNDING * 1.5 + 1e-3


def test_damage_in_run_lengths_is_noticed(tmp_path):
    for path in write_series(tmp_path, syntax=RLELossless)[:1]:
        dataset = pydicom.dcmread(path)
        frame = bytearray(next(generate_frames(dataset.PixelData, number_of_frames=1)))
        assert frame[64] > 2, "the first run is of more values than it will be"
        frame[64] = 2
        dataset.PixelData = encapsulate([bytes(frame)])
        dataset.save_as(path)
    assert "'s000.dcm', which is damaged or has an unsupported compression (RLE Lossless)" in refused(tmp_path)


def test_rescaling_of_each_slice_counts(tmp_path):
    places = positions()
    for k, place in enumerate(places):
        write_slice(tmp_path / f"{k}", place, slope=1.0 if k == 0 else 0.1 + 0.05 * k, intercept=3.5 * k)
    image, messages = read(tmp_path)
    assert largest_error(image) < ROUNDING and image.GetPixelID() == sitk.sitkFloat32 and not messages
    assert np.abs(sitk.GetArrayFromImage(image)[1] % 1).max() > 0.1


def test_bits_beside_the_stored_ones_do_not_count(tmp_path):
    for k, path in enumerate(write_series(tmp_path, signed=False, intercept=-1000)):
        dataset = pydicom.dcmread(path)
        stored = np.frombuffer(dataset.PixelData, np.uint16)
        dataset.BitsStored, dataset.HighBit = 12, 11
        dataset.PixelData = (stored | np.uint16((k % 8 + 1) << 12)).tobytes()
        dataset.save_as(path)
    assert largest_error(read(tmp_path)[0]) < ROUNDING


@pytest.mark.parametrize("decimals", [2, 3])
def test_positions_rounded_by_the_scanner_are_taken(tmp_path, decimals):
    rng = np.random.default_rng(decimals)
    for k in range(10):
        axes, step = oblique(rng), float(rng.uniform(0.4, 3.0))
        places = positions(12, step, axes, rng.uniform(-9, 9, 3))
        write_series(tmp_path / str(k), places, axes=axes, spacing=(0.5, 0.6), decimals=decimals)
        assert largest_error(read(tmp_path / str(k))[0]) < ROUNDING + 0.3


def test_what_is_no_image_is_no_second_volume(tmp_path):
    write_series(tmp_path, name="IM{:05d}")
    for k, storage in enumerate(("88.11", "481.3", "66.4", "11.1", "104.1")):  # report, structures, segmentation, ...
        tags = {"Rows": 7, "Columns": 9, "NumberOfFrames": 6} if storage == "66.4" else {}
        write_object(tmp_path / f"object{k}.dcm", f"1.2.840.10008.5.1.4.1.1.{storage}", **tags)
    write_object(tmp_path / "DICOMDIR", "1.2.840.10008.1.3.10")
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / "._IM00001").write_bytes(b"of macOS")
    image, messages = read(tmp_path)
    assert largest_error(image) < ROUNDING and messages == []


def test_folder_above_the_series_is_read(tmp_path):
    write_series(tmp_path / "study" / "föö bär 乳")
    assert largest_error(read(tmp_path)[0]) < ROUNDING


def test_several_series_are_listed_and_one_can_be_named(tmp_path):
    write_series(tmp_path, name="b{:03d}", SeriesInstanceUID="1.2.2", SeriesDescription="t1\nwanted")
    write_series(tmp_path, positions(4), name="a{:03d}", SeriesInstanceUID="1.2.1", show=elsewhere)
    message = refused(tmp_path)
    assert "2 series" in message
    assert "MR 't1', 4 slices of 9 x 7: a000" in message and "MR 't1 wanted', 6 slices of 9 x 7: b000" in message
    wanted, messages = read(tmp_path / "b003")
    assert largest_error(wanted) < ROUNDING and wanted.GetSize() == (9, 7, 6)
    assert len(messages) == 1 and "all 6 slices" in messages[0]
    other, _ = read(tmp_path / "a000")
    assert largest_error(other, elsewhere) < ROUNDING and other.GetSize() == (9, 7, 4)


def test_series_told_apart_by_the_end_of_their_long_names_only(tmp_path):
    for k in (1, 2):
        uid = "1." + "2" * 61 + str(k)
        write_series(tmp_path, positions(3, first=(0, 0, 15 * k)), name=f"{k}_{{}}", SeriesInstanceUID=uid)
    assert "2 series" in refused(tmp_path)


def test_localiser_in_a_series_of_its_own(tmp_path):
    write_series(tmp_path / "t1")
    write_slice(tmp_path / "scout", (0, -9, 9), axes=SAGITTAL, SeriesInstanceUID="1.1", SeriesDescription="scout")
    message = refused(tmp_path)
    assert "1 slice of 9 x 7: scout" in message and "6 slices of 9 x 7: t1/s000.dcm" in message


SPOILERS = {
    "a slice is missing": (without(2), "1 slice is missing, 10 mm from 's001.dcm' to 's003.dcm'"),
    "slices are missing": (without(2, 3), "2 slices are missing"),
    "one of three gaps": (without(2, 4, 5), "1 slice is missing, 10 mm from 's001.dcm' to 's003.dcm'"),
    "unequal distances": (unequal, "unequally spaced slices, 5 to 7.5 mm"),
    "tilt": (sheared, "sheared"),
    "localiser inside": (
        add([(0, -9, 9)], axes=SAGITTAL, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        "localiser",
    ),
    "a slice turned by 1 degree": (change(2, axes=TURNED), "different planes: 1 of 6 (such as 's002.dcm')"),
    "two echoes": (add(EchoTime=25.0), "EchoTime (none: 6 slices, 25: 6 slices"),
    "one slice of another echo": (change(2, EchoTime=25.0, show=elsewhere), "EchoTime (none: 5 slices, 25: 1 slices"),
    "two times": (add(AcquisitionTime="100130"), "AcquisitionTime (none and 100130)"),
    "two time points": (add(TemporalPositionIdentifier=2), "TemporalPositionIdentifier"),
    "two b-values": (add(DiffusionBValue=800.0), "DiffusionBValue"),
    "two volumes without a word": (add(), "several images at 6 positions"),
    "two beside one another": (add(positions() + np.array([40.0, 0, 0])), "several images at 6 positions"),
    "a slice in two folders": (copied_below, "' and 's002.dcm' in 'below'; remove the duplicates"),
    "a slice twice": (copied, "a slice twice, 's002 copy.dcm' and 's002.dcm'"),
    "no position": (change(2, lacks=["ImagePositionPatient"]), "'s002.dcm' has no valid ImagePositionPatient"),
    "no orientation": (change(2, lacks=["ImageOrientationPatient"]), "no valid ImageOrientationPatient"),
    "no pixel spacing": (change(2, lacks=["PixelSpacing"]), "no valid PixelSpacing"),
    "axes of no length": (change(2, ImageOrientationPatient=[0] * 6), "no valid ImageOrientationPatient"),
    "position that is no number": (
        change(2, ImagePositionPatient=["0", "0", "NaN"]),
        "no valid ImagePositionPatient",
    ),
    "other size": (change(2, size=(8, 7)), "9 x 7 and of 8 x 7 pixels ('s002.dcm')"),
    "other pixel spacing": (change(2, spacing=(3.0, 4.1)), "3 x 4 mm and of 3 x 4.1 mm ('s002.dcm')"),
    "colour": (change(2, PhotometricInterpretation="RGB", SamplesPerPixel=3), "in colour ('s002.dcm')"),
    "inverted and not": (change(2, PhotometricInterpretation="MONOCHROME1"), "PhotometricInterpretation"),
    "another patient": (change(5, PatientID="1"), "PatientID (2 values; such as 's005.dcm')"),
    "another frame of reference": (change(5, FrameOfReferenceUID="1.9"), "FrameOfReferenceUID"),
    "another series among them": (change(2, SeriesInstanceUID="1.9"), "2 series"),
    "slope of zero": (change(2, RescaleSlope="0"), "no valid RescaleSlope in 's002.dcm' (0)"),
    "lookup table": (change(2, ModalityLUTSequence=[pydicom.Dataset()]), "lookup table"),
    "cut in the pixels": (spoil(5, lambda data: data[:-1]), "'s005.dcm', which is damaged or incomplete; copy it"),
    "cut in the header": (spoil(5, lambda data: data[:700]), "'s005.dcm', which is damaged or incomplete; copy it"),
    "cut at the start": (spoil(5, lambda data: data[:100]), "'s005.dcm', which is damaged or incomplete; copy it"),
    "empty": (spoil(0, lambda data: b""), "'s000.dcm', which is damaged or incomplete; copy it"),
    "one slice": (without(0, 1, 2, 4, 5), "a single slice"),
}


@pytest.mark.parametrize("name", SPOILERS)
def test_what_is_no_regular_volume_is_refused(tmp_path, name):
    make, words = SPOILERS[name]
    write_series(tmp_path)
    make(tmp_path, positions())
    message = refused(tmp_path)
    assert words in message
    assert len(message) < 260
    assert re.search(r"; (choose|give|remove|copy|export|complete|resample)", message)


def test_one_slice_shifted_sideways_is_named(tmp_path):
    places = positions()
    places[3] += [0.5, 0, 0]
    write_series(tmp_path, places)
    assert "shifted sideways: 's003.dcm' is 0.5 mm" in refused(tmp_path)


@pytest.mark.parametrize("direction", [0, 1, 2])
def test_a_slice_may_be_off_by_two_hundredths_of_a_voxel(tmp_path, direction):
    for share in (0.015, 0.03):
        places = positions()
        places[3, direction] += share * (3.0, 4.0, 5.0)[direction]
        write_series(tmp_path / str(share), places)
    assert read(tmp_path / "0.015")[0].GetSize() == (9, 7, 6)
    assert "'s003.dcm'" in refused(tmp_path / "0.03")


def test_mosaic_is_named(tmp_path):
    write_series(tmp_path, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    assert "mosaic" in refused(tmp_path)


def test_folder_and_file_without_an_image(tmp_path):
    assert "holds no DICOM images" in refused(tmp_path)
    path = tmp_path / "report"
    write_object(path, "1.2.840.10008.5.1.4.1.1.88.11")
    assert "not a volume but a DICOM 'Basic Text SR Storage'" in refused(path)
    write_object(tmp_path / "DICOMDIR", "1.2.840.10008.1.3.10")
    assert "is the table of contents of a DICOM disc, not a volume; give the folder" in refused(tmp_path / "DICOMDIR")
    assert "holds no DICOM images" in refused(tmp_path)


def test_slices_lost_at_the_ends_are_suspected(tmp_path):
    places = positions(8)
    for k, (kept, options, words) in enumerate(
        (
            ([1, 2, 3, 4, 5, 6, 7], {}, "numbers begin at 2"),
            ([0, 2, 4, 6], {}, "3 of slice numbers 1 to 7"),
            (range(7), {"ImagesInAcquisition": 8}, "it has 7, but ImagesInAcquisition is 8"),
            (range(8), {"AcquisitionNumber": lambda k: k // 4}, "comes from 2 acquisitions"),
            (range(8), {"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME1"),
            (range(8), {"LossyImageCompression": "01"}, "compressed with loss"),
        )
    ):
        (tmp_path / str(k)).mkdir()
        for i in kept:
            tags = {keyword: value(i) if callable(value) else value for keyword, value in options.items()}
            write_slice(tmp_path / str(k) / f"{i}.dcm", places[i], InstanceNumber=i + 1, **tags)
        image, messages = read(tmp_path / str(k))
        assert largest_error(image) < ROUNDING
        assert len(messages) == 1 and words in messages[0]
        assert messages[0].startswith("The fixed volume '")


def test_file_without_preamble_and_without_extension(tmp_path):
    for path in write_series(tmp_path, name="{}", syntax=ImplicitVRLittleEndian):
        data = path.read_bytes()
        path.write_bytes(data[data.index(b"\x08\x00\x16\x00") :])
    assert largest_error(read_volume(tmp_path, "fixed", [])) < ROUNDING
    assert largest_error(read_volume(tmp_path / "3", "fixed", [])) < ROUNDING
