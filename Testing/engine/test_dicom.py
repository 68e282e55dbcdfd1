"""DICOM folders and files: read right to the last voxel, or refused in words that name what was found."""

import random
import re
import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_series import (
    AXIAL,
    CORONAL,
    SAGITTAL,
    largest_error,
    oblique,
    positions,
    scene,
    write_enhanced,
    write_object,
    write_series,
    write_slice,
)
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.io.volumes import read_volume

ROUNDING = 0.51  # of values to whole numbers
SYNTAXES = (
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless,
)  # fmt: skip


def read(path):
    """The volume and what was said of it."""
    from FoundationRegistrationLib.io.dicom import read_dicom

    messages = []
    return read_dicom(path, f"The fixed volume '{path}'", messages), messages


def elsewhere(points):
    """What another volume shows."""
    return 0.8 * scene(points + np.array([7.0, -5.0, 9.0])) + 40


def refused(path):
    """The words with which a file or folder is refused."""
    with pytest.raises(InputError) as error:
        read_volume(path, "fixed", [])
    message = str(error.value)
    assert message.startswith("The fixed volume '") and message.endswith(".") and "\n" not in message
    return message.replace(str(path), "")


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
    assert "'s000.dcm', which is damaged or not to be decompressed here (RLE Lossless)" in refused(tmp_path)


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


def change(index, **tags):
    """Write one slice again, with other tags."""
    return lambda folder, places: write_slice(folder / f"s{index:03d}.dcm", places[index], **tags)


def add(places=None, name="x{:03d}.dcm", **options):
    """Add slices, by default another volume at the same places."""
    return lambda folder, there: write_series(
        folder, there if places is None else places, name, **{"show": elsewhere, **options}
    )


def spoil(index, make):
    """Replace the bytes of one file."""

    def spoiled(folder, _):
        path = folder / f"s{index:03d}.dcm"
        path.write_bytes(make(path.read_bytes()))

    return spoiled


def without(*indices):
    """Take slices away."""
    return lambda folder, _: [(folder / f"s{k:03d}.dcm").unlink() for k in indices]


def sheared(folder, places):
    for k, place in enumerate(places):
        write_slice(folder / f"s{k:03d}.dcm", place + np.array([0, 0.8 * k, 0]), InstanceNumber=k + 1)


def unequal(folder, places):
    for k, place in enumerate(places):
        write_slice(folder / f"s{k:03d}.dcm", place + np.array([0, 0, max(0, k - 3) * 2.5]))


def copied(folder, _):
    shutil.copy(folder / "s002.dcm", folder / "s002 copy.dcm")


TURNED = np.array([[np.cos(0.02), np.sin(0.02), 0], [-np.sin(0.02), np.cos(0.02), 0]])
SPOILERS = {
    "a slice is missing": (without(2), "1 slice is missing, 10 mm from 's001.dcm' to 's003.dcm'"),
    "slices are missing": (without(2, 3), "2 slices are missing"),
    "unequal distances": (unequal, "unequal distances, 5 to 7.5 mm"),
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
    "two volumes without a word": (add(), "more than one image at 6 places"),
    "two beside one another": (add(positions() + np.array([40.0, 0, 0])), "more than one image at 6 places"),
    "a slice twice": (copied, "a slice twice, 's002 copy.dcm' and 's002.dcm'"),
    "no position": (change(2, lacks=["ImagePositionPatient"]), "'s002.dcm' has no sound ImagePositionPatient"),
    "no orientation": (change(2, lacks=["ImageOrientationPatient"]), "no sound ImageOrientationPatient"),
    "no pixel spacing": (change(2, lacks=["PixelSpacing"]), "no sound PixelSpacing"),
    "axes of no length": (change(2, ImageOrientationPatient=[0] * 6), "no sound ImageOrientationPatient"),
    "position that is no number": (
        change(2, ImagePositionPatient=["0", "0", "NaN"]),
        "no sound ImagePositionPatient",
    ),
    "other size": (change(2, size=(8, 7)), "9 x 7 and of 8 x 7 pixels ('s002.dcm')"),
    "other pixel spacing": (change(2, spacing=(3.0, 4.1)), "3 x 4 mm and of 3 x 4.1 mm ('s002.dcm')"),
    "colour": (change(2, PhotometricInterpretation="RGB", SamplesPerPixel=3), "in colour ('s002.dcm')"),
    "inverted and not": (change(2, PhotometricInterpretation="MONOCHROME1"), "PhotometricInterpretation"),
    "another patient": (change(5, PatientID="1"), "PatientID (2 values; such as 's005.dcm')"),
    "another frame of reference": (change(5, FrameOfReferenceUID="1.9"), "FrameOfReferenceUID"),
    "another series among them": (change(2, SeriesInstanceUID="1.9"), "2 series"),
    "slope of zero": (change(2, RescaleSlope="0"), "no sound RescaleSlope in 's002.dcm' (0)"),
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
    assert re.search(r"; (give|take|copy|export|complete|bring)", message)


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
    assert "no volume but DICOM 'Basic Text SR Storage'" in refused(path)
    assert "holds no DICOM images" in refused(tmp_path)


def test_slices_lost_at_the_ends_are_suspected(tmp_path):
    places = positions(8)
    for k, (kept, options, words) in enumerate(
        (
            ([1, 2, 3, 4, 5, 6, 7], {}, "numbers begin at 2"),
            ([0, 2, 4, 6], {}, "3 of the numbers 1 to 7"),
            (range(7), {"ImagesInAcquisition": 8}, "it has 7, but ImagesInAcquisition is 8"),
            (range(8), {"AcquisitionNumber": lambda k: k // 4}, "comes from 2 acquisitions"),
            (range(8), {"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME1"),
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
    assert "more than one image at 6 places, such as frame 1 of 'enhanced.dcm'" in refused(path)
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
    assert "more than one image at 6 places" in refused(tmp_path)


def test_volume_spread_over_multi_frame_files(tmp_path):
    places = positions(6)
    for k in (0, 1):
        write_enhanced(tmp_path / f"{k}.dcm", places[3 * k : 3 * k + 3], InConcatenationTotalNumber=2)
    image, _ = read(tmp_path)
    assert largest_error(image) < ROUNDING and image.GetSize() == (9, 7, 6)
    assert "1 of 2 files" in refused(tmp_path / "1.dcm")


def test_frames_without_places_of_their_own(tmp_path):
    path = tmp_path / "old.dcm"
    first = positions(6)[0].tolist()
    write_enhanced(path, positions(6), ImagePositionPatient=first, ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    dataset = pydicom.dcmread(path)
    del dataset.PerFrameFunctionalGroupsSequence
    dataset.PixelSpacing = [4, 3]
    dataset.save_as(path)
    assert "no sound ImagePositionPatient" in refused(path)


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


def add_objects(rng, folder):
    """Add what is no image; a folder stays what it was."""
    if rng.random() < 0.3:
        write_object(folder / "report.dcm", "1.2.840.10008.5.1.4.1.1.88.11", SeriesInstanceUID="1.9")
    if rng.random() < 0.3:
        (folder / "notes.txt").write_bytes(rng.randbytes(300))
    if rng.random() < 0.3:
        (folder / "._s000.dcm").write_bytes(rng.randbytes(300))


def random_series(rng, folder):
    """Write a sound series of random make; returns its positions in the order of names, and how it was written."""
    numbers = np.random.default_rng(rng.getrandbits(32))
    axes = rng.choice([AXIAL, SAGITTAL, CORONAL, -AXIAL, oblique(numbers), oblique(numbers)])
    options = {
        "axes": axes,
        "size": (2 * rng.randint(2, 6), rng.randint(4, 11)),
        "spacing": (rng.uniform(0.5, 4), rng.uniform(0.5, 4)),
        "syntax": rng.choice(SYNTAXES),
        **rng.choice([{}, {"signed": False, "intercept": -1500}, {"slope": 0.25, "intercept": 3.5}]),
    }
    places = positions(rng.randint(6, 9), rng.uniform(0.7, 6), axes, numbers.uniform(-15, 15, 3))
    order = rng.choice([1, -1]) * np.arange(len(places)) if rng.random() < 0.7 else numbers.permutation(len(places))
    write_series(folder, places[order], **options)
    return places[order], options


def random_spoiler(rng, folder, places, options):
    """Do one thing to a series after which it is no volume any more; returns what."""
    inner = [
        k
        for k in range(len(places))
        if 0 < np.argsort(np.argsort(places @ np.cross(*options["axes"])))[k] < len(places) - 1
    ]
    k, axes = rng.choice(inner), options["axes"]
    path = folder / f"s{k:03d}.dcm"

    def again(place=places[k], name=path, **changed):
        write_slice(name, place, **{"InstanceNumber": k + 1, **options, **changed})

    turn = np.array([[np.cos(0.1), np.sin(0.1)], [-np.sin(0.1), np.cos(0.1)]])
    step = float(np.abs(np.diff(np.sort(places @ np.cross(*axes)))).min())
    return rng.choice(
        [
            ("lost", path.unlink),
            ("cut", lambda: path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])),
            ("moved along", lambda: again(places[k] + rng.uniform(0.2, 0.8) * step * np.cross(*axes))),
            ("moved sideways", lambda: again(places[k] + rng.uniform(0.6, 9) * rng.choice([axes[0], axes[1]]))),
            ("turned", lambda: again(axes=turn @ axes)),
            ("mirrored", lambda: again(axes=axes * [[-1], [1]])),
            ("coarser", lambda: again(spacing=(options["spacing"][0] * 1.2, options["spacing"][1]))),
            ("smaller", lambda: again(size=(options["size"][0] - 2, options["size"][1]))),
            ("other echo", lambda: again(show=elsewhere, EchoTime=25.0)),
            (
                "other moment at one place",
                lambda: again(show=elsewhere, name=folder / "x.dcm", AcquisitionTime="101010"),
            ),
            ("other series", lambda: again(show=elsewhere, name=folder / "x.dcm", SeriesInstanceUID="1.7")),
            (
                "other series all over",
                lambda: write_series(folder, places, "x{}", show=elsewhere, SeriesInstanceUID="1.7", **options),
            ),
            ("second time", lambda: write_series(folder, places, "x{}", show=elsewhere, **options)),
            ("colour", lambda: again(PhotometricInterpretation="RGB")),
            (
                "no place",
                lambda: again(
                    lacks=[rng.choice(["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])]
                ),
            ),
            ("place that is none", lambda: again(ImagePositionPatient=["1", "nan", "2"])),
            ("other patient", lambda: again(PatientID="9")),
        ]
    )


def test_folders_put_together_at_random(tmp_path):
    """120 folders, half of them spoiled: the sound ones are read to the last voxel, the others are refused."""
    for seed in range(120):
        rng = random.Random(seed)
        folder = tmp_path / str(seed)
        places, options = random_series(rng, folder)
        add_objects(rng, folder)
        if seed % 2:
            what, spoil_it = random_spoiler(rng, folder, places, options)
            spoil_it()
            with pytest.raises(InputError) as error:
                read(folder)
                pytest.fail(f"{seed}: {what} was read")
            assert "\n" not in str(error.value)
        else:
            image, _ = read(folder)
            assert image.GetSize() == (*options["size"], len(places)), seed
            assert largest_error(image) < ROUNDING, seed


def test_enhanced_files_put_together_at_random(tmp_path):
    """60 files with frames in random order, of which some were lost, doubled, moved or turned in every other file."""
    for seed in range(60):
        rng, numbers = random.Random(seed), np.random.default_rng(seed)
        axes, step, count = oblique(numbers), rng.uniform(0.7, 6), rng.randint(5, 9)
        places = positions(count, step, axes, numbers.uniform(-15, 15, 3))
        frame_axes = [axes] * count
        order = numbers.permutation(count)
        if seed % 2:
            k = rng.randrange(1, count - 1)
            spoiler = rng.choice(["lost", "doubled", "moved", "turned"])
            if spoiler == "lost":
                order = order[order != k]
            elif spoiler == "doubled":
                order = np.append(order, k)
            elif spoiler == "moved":
                places[k] += rng.uniform(0.3, 0.8) * step * rng.choice([axes[0], axes[1], np.cross(*axes)])
            else:
                frame_axes[k] = axes[::-1]
        path = tmp_path / "enhanced"
        write_enhanced(path, places[order], axes=axes, frame_axes=[frame_axes[k] for k in order])
        if seed % 2:
            with pytest.raises(InputError):
                read(path)
                pytest.fail(f"{seed}: {spoiler} was read")
        else:
            assert largest_error(read(path)[0]) < ROUNDING, seed


def test_damaged_headers_never_move_a_slice_and_never_end_in_a_traceback(tmp_path):
    """300 series with one to four random bytes of one slice's header changed; 100 enhanced files likewise."""
    rng = random.Random(5)
    (tmp_path / "enhanced").mkdir()
    enhanced = tmp_path / "enhanced" / "e.dcm"
    write_enhanced(enhanced, positions(4))
    paths = write_series(tmp_path / "series", positions(4))
    for path in [*(paths * 75), *([enhanced] * 100)]:
        sound = path.read_bytes()
        damaged = bytearray(sound)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(128, sound.rindex(b"\xe0\x7f\x10\x00") + 12)] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            image, _ = read(path.parent)
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert path == enhanced or whereabouts(image) == pytest.approx(TRUE_PLACE, abs=0.1)
        path.write_bytes(sound)


TRUE_PLACE = (9, 7, 4, -11, -8, -13, 3, 4, 5, 1, 0, 0, 0, 1, 0, 0, 0, 1)


def whereabouts(image):
    return (*image.GetSize(), *image.GetOrigin(), *image.GetSpacing(), *image.GetDirection())
