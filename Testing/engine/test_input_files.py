"""Files as users have them: the one that is named is read, whole or not at all, and what is doubtful is said."""

import bz2
import gzip
import json
import locale
import os
import re
import subprocess
import sys
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
from volumes import GRIDS, anatomy, empty_grid, on_grid, points_of, smooth_warp, volume

from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.io.landmark_files import read_points
from FoundationRegistrationLib.io.transforms import read_transform
from FoundationRegistrationLib.io.volumes import read_labels, read_volume

DAMAGED = "damaged or incomplete; copy it again"
UNKNOWN = "does not give the patient orientation"
# Name of the file to be read, whether it is compressed, and the names of all files that belong to it.
FORMATS = {
    "plain.nii": (False, ("plain.nii",)),
    "packed.nii.gz": (True, ("packed.nii.gz",)),
    "pair.img": (False, ("pair.img", "pair.hdr")),
    "packedpair.hdr.gz": (True, ("packedpair.img.gz", "packedpair.hdr.gz")),
    "raw.nrrd": (False, ("raw.nrrd",)),
    "packed.nrrd": (True, ("packed.nrrd",)),
    "detached.nhdr": (False, ("detached.nhdr", "detached.raw")),
    "packed.nhdr": (True, ("packed.nhdr", "packed.raw.gz")),
    "raw.mha": (False, ("raw.mha",)),
    "packed.mha": (True, ("packed.mha",)),
    "detached.mhd": (False, ("detached.mhd", "detached.raw")),
    "packed.mhd": (True, ("packed.mhd", "packed.zraw")),
    "plain.vtk": (False, ("plain.vtk",)),
    "plain.gipl": (False, ("plain.gipl",)),
    "packed.gipl.gz": (True, ("packed.gipl.gz",)),
    "plain.mrc": (False, ("plain.mrc",)),
    "packed.h5": (True, ("packed.h5",)),
    "plain.mnc": (False, ("plain.mnc",)),
}
NEEDS_NO_WORD = [name for name in FORMATS if not name.endswith((".vtk", ".gipl", ".gipl.gz", ".mrc"))]


def little(seed=0, grid="oblique", dtype=np.int16):
    """A small volume of no symmetry, each seed another."""
    rng = np.random.default_rng(seed)
    image = sitk.GetImageFromArray(rng.integers(0, 2000, (5 + seed % 3, 6, 7)).astype(dtype))
    direction, spacing = GRIDS[grid]
    image.SetDirection(direction)
    image.SetSpacing(spacing)
    image.SetOrigin(rng.uniform(-100, 100, 3).tolist())
    return image


def write(image, path, compressed=True):
    sitk.WriteImage(image, str(path), compressed)
    return path


def read(path, messages=None):
    return read_volume(path, "fixed", [] if messages is None else messages)


def assert_same(found, expected):
    """The same voxels of the same type at the same places, to a hundred thousandth of a millimetre."""
    assert found.GetPixelIDTypeAsString() == expected.GetPixelIDTypeAsString()
    assert found.GetSize() == expected.GetSize()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(expected))
    np.testing.assert_allclose(points_of(found), points_of(expected), atol=1e-5)


def refusal(path, read=read):
    with pytest.raises(InputError) as error:
        read(path)
    said = str(error.value)
    assert "\n" not in said
    assert said.endswith(".")
    assert "itk::" not in said
    return said


# ---- what is named is what is read ----


@pytest.mark.parametrize("named", ["t1.nii", "t1.nii.gz", "t1.img", "t1.hdr", "t1.img.gz", "t1.hdr.gz"])
def test_files_that_differ_only_in_their_ending_are_not_mixed_up(named, tmp_path):
    expected = {}
    for seed, name in enumerate(["t1.nii", "t1.nii.gz", "t1.img", "t1.img.gz"]):
        (tmp_path / str(seed)).mkdir()
        write(little(seed, list(GRIDS)[seed]), tmp_path / str(seed) / name)
        expected[name] = sitk.ReadImage(str(tmp_path / str(seed) / name))
        for file in (tmp_path / str(seed)).iterdir():
            file.rename(tmp_path / file.name)
    assert_same(read(tmp_path / named), expected[named.replace("hdr", "img")])


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("a.nii.gz", "A.NII.GZ"),
        ("a.nii.gz", "gzip.nii"),
        ("a.nii", "plain.nii.gz"),
        ("a.nii.gz", "no_ending"),
        ("a.nrrd", "a_nrrd.nii.gz"),
        ("a.nrrd", "A.NRRD"),
        ("a.mha", "A.MHA"),
    ],
)
def test_what_is_in_a_file_counts_and_not_its_name(kind, named, tmp_path):
    expected = sitk.ReadImage(str(write(little(), tmp_path / kind)))
    (tmp_path / kind).rename(tmp_path / named)
    write(little(1), tmp_path / "plain.nii", False)  # another one beside it
    write(little(2), tmp_path / "gzip.nii.gz")
    assert_same(read(tmp_path / named), expected)


@pytest.mark.parametrize("name", FORMATS)
def test_sound_files_are_read_as_itk_reads_them_without_a_word(name, tmp_path):
    compressed, files = FORMATS[name]
    write(little(), tmp_path / files[0], compressed)
    messages = []
    assert_same(read(tmp_path / name, messages), sitk.ReadImage(str(tmp_path / name)))
    assert ([] if name in NEEDS_NO_WORD else [UNKNOWN]) == [UNKNOWN for message in messages if UNKNOWN in message]
    assert len(messages) <= 1


# ---- whole or not at all ----


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_anywhere_is_refused(name, tmp_path):
    """Some 200 places over all files of all formats; the last byte is one of them."""
    compressed, files = FORMATS[name]
    write(little(), tmp_path / files[0], compressed)
    read(tmp_path / name)
    rng = np.random.default_rng(len(name))
    for file in files:
        whole = (tmp_path / file).read_bytes()
        # No one needs the end of a header beside its voxels: four bytes, or the end of the line.
        end = 347 if file.endswith(".hdr") else len(whole) - (2 if file.endswith("hd") or "nhdr" in file else 1)
        for length in {0, end, *rng.integers(1, end, 8).tolist()}:
            (tmp_path / file).write_bytes(whole[:length])
            said = refusal(tmp_path / name)
            if name in NEEDS_NO_WORD and not file.endswith(("nhdr", "mhd")):
                assert DAMAGED in said, (file, length)
        (tmp_path / file).write_bytes(whole)
    read(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "file", "before"),
    [
        ("packed.nii.gz", "packed.nii.gz", b""),
        ("packedpair.hdr.gz", "packedpair.img.gz", b""),
        ("packed.nrrd", "packed.nrrd", b"\n\n"),
        ("packed.nhdr", "packed.raw.gz", b""),
        ("packed.mha", "packed.mha", b"LOCAL\n"),
        ("packed.mhd", "packed.zraw", b""),
        ("packed.gipl.gz", "packed.gipl.gz", b""),
    ],
)
def test_a_flipped_bit_of_a_compressed_file_is_refused(name, file, before, tmp_path):
    """In the stream, behind the ten bytes of gzip's header, and in its checksum and length at the end."""
    _, files = FORMATS[name]
    write(little(), tmp_path / files[0])
    whole, rng = (tmp_path / file).read_bytes(), np.random.default_rng(1)
    begin = whole.index(before) + len(before) + 10
    for place in [*rng.integers(begin, len(whole), 12), len(whole) - 1, len(whole) - 6]:
        spoiled = bytearray(whole)
        spoiled[place] ^= 1 << int(rng.integers(8))
        (tmp_path / file).write_bytes(spoiled)
        assert DAMAGED in refusal(tmp_path / name), place


def test_several_gzip_members_and_padding_behind_them_are_harmless(tmp_path):
    image = little()
    raw = write(image, tmp_path / "a.nii", False).read_bytes()
    parts = gzip.compress(raw[:100]) + gzip.compress(raw[100:900]) + gzip.compress(raw[900:])
    for number, padding in enumerate((b"", bytes(700), b"made by somebody")):
        (tmp_path / f"{number}.nii.gz").write_bytes(parts + padding)
        messages = []
        assert_same(read(tmp_path / f"{number}.nii.gz", messages), sitk.ReadImage(str(tmp_path / "a.nii")))
        assert messages == []
    (tmp_path / "lost.nii.gz").write_bytes(gzip.compress(raw[:700]))
    assert DAMAGED in refusal(tmp_path / "lost.nii.gz")


def test_voxels_that_the_header_does_not_know_of_are_said_or_refused(tmp_path):
    raw = write(little(), tmp_path / "a.nii", False).read_bytes()
    messages = []
    (tmp_path / "few.nii").write_bytes(raw + bytes(84))
    read(tmp_path / "few.nii", messages)
    assert "84 bytes" in messages[0]
    (tmp_path / "many.nii.gz").write_bytes(gzip.compress(raw + bytes(5000)))
    assert "5000 bytes more" in refusal(tmp_path / "many.nii.gz")


def test_a_small_file_that_claims_to_be_huge_is_refused_at_once(tmp_path):
    raw = bytearray(write(little(), tmp_path / "a.nii", False).read_bytes())
    raw[42:48] = b"\xff\x7f" * 3  # 32767 voxels along each axis: 70 TB
    for name, content in (
        ("a.nii", raw),
        ("a.nii.gz", gzip.compress(raw)),
        ("b.nii.gz", gzip.compress(bytes(10**7))),
    ):
        (tmp_path / name).write_bytes(content)
        assert DAMAGED in refusal(tmp_path / name)


def test_voxels_spread_over_files_as_numbers_or_in_an_unknown_packing(tmp_path):
    image = little(grid="LPS")
    array = sitk.GetArrayFromImage(image)
    place = f"space origin: ({','.join(str(value) for value in image.GetOrigin())})\n"
    head = "NRRD0004\ntype: short\ndimension: 3\nspace: LPS\nspace directions: (2,0,0) (0,2,0) (0,0,2)\n" + place
    head += f"sizes: {' '.join(str(size) for size in image.GetSize())}\nendian: {sys.byteorder}\nencoding: "
    for number, part in enumerate(array):
        (tmp_path / f"part{number}.raw").write_bytes(part.tobytes())
    names = "\n".join(f"part{number}.raw" for number in range(len(array)))
    (tmp_path / "list.nhdr").write_text(f"{head}raw\ndata file: LIST\n{names}\n")
    (tmp_path / "pattern.nhdr").write_text(f"{head}raw\ndata file: part%d.raw 0 {len(array) - 1} 1\n")
    (tmp_path / "text.nrrd").write_text(f"{head}text\n\n{' '.join(str(value) for value in array.ravel())}\n")
    (tmp_path / "hex.nrrd").write_text(f"{head}hex\n\n{array.tobytes().hex()}\n")
    for name in ("list.nhdr", "pattern.nhdr", "text.nrrd", "hex.nrrd"):
        messages = []
        np.testing.assert_array_equal(sitk.GetArrayFromImage(read(tmp_path / name, messages)), array)
        assert messages == []
    (tmp_path / "text.nrrd").write_text((tmp_path / "text.nrrd").read_text()[:-2])
    (tmp_path / "hex.nrrd").write_text((tmp_path / "hex.nrrd").read_text()[:-3])
    (tmp_path / "part3.raw").write_bytes(array[3].tobytes()[:-1])
    for name in ("list.nhdr", "pattern.nhdr", "text.nrrd", "hex.nrrd"):
        assert DAMAGED in refusal(tmp_path / name)
    (tmp_path / "part3.raw").unlink()
    assert "part3.raw" in refusal(tmp_path / "list.nhdr")
    (tmp_path / "bzip2.nrrd").write_bytes(f"{head}bzip2\n\n".encode() + bz2.compress(array.tobytes()))
    assert "gzip" in refusal(tmp_path / "bzip2.nrrd")


def test_what_a_metaimage_does_not_say_is_said(tmp_path):
    text = (write(little(grid="LPS"), tmp_path / "a.mhd", False)).read_text()
    for key, word in (
        ("TransformMatrix", UNKNOWN),
        ("Offset", UNKNOWN),
        ("ElementSpacing", "voxel spacing"),
    ):
        (tmp_path / "less.mhd").write_text(
            "".join(line for line in text.splitlines(True) if not line.startswith(key))
        )
        messages = []
        read(tmp_path / "less.mhd", messages)
        assert len(messages) == 1
        assert word in messages[0]
    for sizes in ("2 2 nan", "2 2 0", "2 2 -2", "2 2", "2 2 x"):
        (tmp_path / "odd.mhd").write_text(re.sub("ElementSpacing = .*", f"ElementSpacing = {sizes}", text))
        assert "ElementSpacing" in refusal(tmp_path / "odd.mhd")


def test_a_nrrd_without_a_space_of_the_patient_is_said(tmp_path):
    raw = write(little(grid="LPS"), tmp_path / "a.nrrd", False).read_bytes()
    (tmp_path / "b.nrrd").write_bytes(raw.replace(b"space: left-posterior-superior", b"space dimension: 3"))
    messages = []
    read(tmp_path / "b.nrrd", messages)
    assert UNKNOWN in messages[0]


def test_a_metaimage_whose_compressed_length_is_missing_or_wrong_is_refused(tmp_path):
    whole = write(little(), tmp_path / "a.mha").read_bytes()
    head, voxels = whole.split(b"ElementDataFile = LOCAL\n")
    assert len(zlib.decompress(voxels)) == 2 * 5 * 6 * 7
    length = re.search(rb"CompressedDataSize = (\d+)\n", head)
    for instead in (b"", b"CompressedDataSize = %d\n" % (int(length[1]) - 9)):
        (tmp_path / "b.mha").write_bytes(head.replace(length[0], instead) + b"ElementDataFile = LOCAL\n" + voxels)
        refusal(tmp_path / "b.mha")


# ---- names that cannot be read ----


def every_argument(path, pair, folder):
    """A command line for each place where a file can be named."""
    fixed, moving = str(pair / "fixed.nrrd"), str(pair / "moving.nrrd")
    register = ["register", fixed, moving, "--output", str(folder / "out"), "--progress", "none"]
    yield ["register", str(path), moving, *register[3:]]
    yield ["register", fixed, str(path), *register[3:]]
    for option in ("fixed-mask", "moving-mask", "fixed-lesion", "moving-lesion", "initial-transform"):
        yield [*register, f"--{option}={path}"]
    for kind in ("labels", "landmarks"):
        yield [*register, f"--fixed-{kind}={path}", f"--moving-{kind}={path}"]
        yield ["evaluate", str(pair), f"--fixed-{kind}={path}", f"--moving-{kind}={path}"]
    for kind in ("image", "labels"):
        yield ["apply", str(pair), f"--{kind}={path}", "--reference", fixed, "--output", str(folder / "o.nrrd")]
    yield ["apply", str(pair), "--image", moving, f"--reference={path}", "--output", str(folder / "o.nrrd")]
    yield ["apply", str(pair), f"--points={path}", "--output", str(folder / "o.csv")]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    write(volume(empty_grid("LPS"), smooth_warp), folder / "fixed.nrrd")
    write(volume(empty_grid("RAS")), folder / "moving.nrrd")
    for name in ("transform.h5", "inverse.h5"):
        sitk.WriteTransform(sitk.TranslationTransform(3, (1.0, 2.0, 3.0)), str(folder / name))
    return folder


def odd_names(folder):
    """Names that hung, ate the memory, aborted the process or gave a traceback; with a word of what is said."""
    yield folder / ("n" * 300 + ".csv"), "cannot be accessed"
    yield folder / "absent.csv", "does not exist"
    if sys.platform != "win32":
        os.mkfifo(folder / "pipe.csv")
        yield folder / "pipe.csv", "pipe or a device"
        (folder / "zero.csv").symlink_to("/dev/zero")
        yield folder / "zero.csv", "pipe or a device"
    if sys.platform == "linux":
        name = folder / os.fsdecode(b"volume\xff\xfe.csv")
        name.write_bytes(b"")
        yield name, "not UTF-8"


def test_pipes_devices_and_impossible_names_are_refused_wherever_they_are_given(pair, tmp_path, capsys):
    for path, word in odd_names(tmp_path):
        for command in every_argument(path, pair, tmp_path):
            assert main(command) == 2, command
            lines = capsys.readouterr().err.splitlines()
            assert len(lines) == 1
            assert word in lines[0]


def test_a_folder_is_no_transform_and_no_landmarks(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "folder.h5").mkdir()
    assert "is a folder" in refusal(tmp_path / "folder.csv", read_points)
    assert "is a folder" in refusal(tmp_path / "folder.h5", read_transform)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_a_file_without_permission_says_so(tmp_path):
    path = write(little(), tmp_path / "a.nii")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert "permission" in refusal(path)


def test_reading_leaves_the_locale_as_it_was(tmp_path):
    before = locale.setlocale(locale.LC_ALL)
    read(write(little(), tmp_path / "a.vtk"))
    assert locale.setlocale(locale.LC_ALL) == before


# ---- what is said, and where ----


def test_words_for_what_is_no_image_say_what_to_do(tmp_path):
    for name in ("a.nii.gz", "a.nrrd", "a.txt", "a.mha"):
        (tmp_path / name).write_text("Dear colleague, please find the volume enclosed.\n" * 30)
        assert re.search("give NIfTI|copy it again", refusal(tmp_path / name))


def test_itks_own_words_never_reach_the_terminal(tmp_path, capfd):
    raw = bytearray(write(little(), tmp_path / "a.nii", False).read_bytes())
    raw[88:92] = np.float32(9.0).tobytes()  # a voxel size that its matrix does not have
    (tmp_path / "a.nii").write_bytes(raw)
    write(little(), tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:1000])
    write(little(), tmp_path / "a.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:3000])
    (tmp_path / "a.hdf5").write_text("no such thing")
    alone = [sys.executable, "-c", "import sys, SimpleITK as s; s.ReadImage(sys.argv[1])", str(tmp_path / "a.nii")]
    assert b"WARNING" in subprocess.run(alone, capture_output=True, check=True).stderr
    for name in ("a.nii", "a.tif", "a.h5", "a.hdf5"):
        try:
            read(tmp_path / name)
        except InputError as error:
            assert "\n" not in str(error)
    (tmp_path / "a.tfm").write_text("#Insight Transform File V1.0\nTransform: Strange_double_3_3\nParameters: 1\n")
    refusal(tmp_path / "a.tfm", read_transform)
    assert capfd.readouterr() == ("", "")


def without_orientation(path, grid, motion=None):
    """A NIfTI file whose orientation codes are 0."""
    image = volume(empty_grid(grid), motion) if motion else volume(empty_grid(grid))
    raw = bytearray(gzip.decompress(write(image, path).read_bytes()))
    raw[252:256] = bytes(4)
    path.write_bytes(gzip.compress(raw))
    return path


FAST = ("--encoder", "mind", "--working-spacing-mm", "6", "--iterations", "5", "--progress", "none")


def test_an_unknown_orientation_stands_first_in_report_terminal_and_on_the_page(pair, tmp_path, capsys, monkeypatch):
    path = without_orientation(tmp_path / "fixed.nii.gz", "LPS", smooth_warp)
    pages = []
    from FoundationRegistrationLib.evaluation import report

    save = report.save_overview
    monkeypatch.setattr(
        report,
        "save_overview",
        lambda *given, warnings, **named: (pages.append(warnings), save(*given, warnings=warnings, **named)),
    )
    command = ["register", str(path), str(pair / "moving.nrrd"), "--output", str(tmp_path / "out"), *FAST]
    assert main([*command, "--initialization", "center"]) == 0
    said = capsys.readouterr().err.splitlines()
    report_messages = json.loads((tmp_path / "out" / "report.json").read_text())["messages"]
    for lines in (said, report_messages, pages[0]):
        assert UNKNOWN in lines[0]
        assert "fixed.nii.gz" in lines[0]
        assert sum(UNKNOWN in line for line in lines) == 1


def test_what_is_no_caution_is_drawn_among_the_figures(pair, tmp_path, monkeypatch):
    from FoundationRegistrationLib.evaluation import report

    drawn = {}
    monkeypatch.setattr(report, "save_overview", lambda path, *images, **texts: (path.touch(), drawn.update(texts)))
    command = ["register", str(pair / "fixed.nrrd"), str(pair / "moving.nrrd"), "--output", str(tmp_path / "out")]
    options = [*FAST, "--memory-budget-gb", "0.1", "--feature-cache-gb", "0.000001"]
    assert main([*command, *options]) == 0
    messages = json.loads((tmp_path / "out" / "report.json").read_text())["messages"]
    notes = [message for message in messages if message.startswith("The features were not cached")]
    assert len(notes) == 1
    assert any("of memory" in message for message in messages)
    assert drawn["warnings"] == [message for message in messages if message not in notes]
    assert drawn["lines"][-1:] == notes
    assert drawn["title"] == "moving.nrrd registered to fixed.nrrd, preset default, encoder mind"


def test_apply_and_evaluate_say_it_too(pair, tmp_path, capsys):
    path = without_orientation(tmp_path / "image.nii.gz", "LPS")
    apply = ["apply", str(pair), "--image", str(path), "--reference", str(path), "--output", str(tmp_path / "o.nrrd")]
    assert main(apply) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [UNKNOWN in line for line in lines] == [True, True]
    labels = on_grid(np.where(anatomy(points_of(empty_grid("LPS"))) > 0.5, 1.0, 0.0), empty_grid("LPS"))
    write(sitk.Cast(labels, sitk.sitkUInt8), tmp_path / "labels.mrc")
    evaluate = [
        "evaluate",
        str(pair),
        *(f"--{side}-labels={tmp_path / 'labels.mrc'}" for side in ("fixed", "moving")),
    ]
    assert main(evaluate) == 0
    captured = capsys.readouterr()
    assert [UNKNOWN in line for line in captured.err.splitlines()] == [True, True]
    assert captured.out.startswith("structure")


def test_a_displacement_field_of_unknown_place_is_refused(tmp_path):
    field = sitk.Image([5, 5, 5], sitk.sitkVectorFloat32, 3)
    raw = bytearray(write(field, tmp_path / "field.nii", False).read_bytes())
    read_transform(tmp_path / "field.nii")
    raw[252:256] = bytes(4)
    (tmp_path / "field.nii").write_bytes(raw)
    assert UNKNOWN in refusal(tmp_path / "field.nii", read_transform)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.5, 1e30])
def test_labels_that_are_no_whole_numbers_are_refused(value, tmp_path):
    array = np.ones((3, 4, 5), np.float32)
    write(sitk.GetImageFromArray(array), tmp_path / "labels.nii")
    assert read_labels(tmp_path / "labels.nii", "fixed mask", []).GetPixelID() == sitk.sitkInt32
    array[1, 2, 3] = value
    write(sitk.GetImageFromArray(array), tmp_path / "labels.nii")
    assert "fixed mask" in refusal(tmp_path / "labels.nii", lambda path: read_labels(path, "fixed mask", []))
