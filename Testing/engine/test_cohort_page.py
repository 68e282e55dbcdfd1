"""The page of a cohort: its files, what is shown of a pair, and that nothing is made twice."""

import json
import os
import re
import shlex
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from cohorts import HOSTILE, failed_pair, made_up_rows, real_cohort, write_record, write_table

from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.cohort.page import write_page, write_pair_pictures
from FoundationRegistrationLib.cohort.page.slices import MOST_SLICES, Slices, slices_of
from FoundationRegistrationLib.cohort.page.sprites import draw_sheets, draw_thumbnail
from FoundationRegistrationLib.errors import InputError, OutputError

PICTURES = ("fixed.webp", "registered.webp", "before.webp", "thumbnail.webp")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = real_cohort(tmp_path_factory.mktemp("cohort") / "real")
    write_page(folder)
    return folder


@pytest.fixture
def cohort(finished, tmp_path):
    """A copy of a finished cohort with its page, to change."""
    return shutil.copytree(finished, tmp_path / "real")


def data_of(path, function):
    """The argument of the function that a script calls."""
    text = path.read_text(encoding="ascii")
    return json.loads(re.search(rf"^{function}\((.*)\);$", text, re.MULTILINE)[1])


def details(folder):
    return data_of(folder / "page" / "pair.js", "COHORT_PAIR")


def table(cohort):
    return data_of(cohort / "index_files" / "data.js", "COHORT")


def state_of(folder):
    """Content and time of every file."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def block(shape=(24, 40, 50), spacing=(2.0, 1.5, 3.0)):
    """A body with a bright lesion in its left, anterior, superior part, in LPS."""
    array = np.zeros(shape, np.float32)
    array[2:-2, 5:-5, 5:-5] = 100.0 + np.arange(shape[2] - 10, dtype=np.float32)
    array[15:20, 7:15, 34:42] = 400.0
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin((-70.0, 20.0, 300.0))
    return image


def test_the_page_has_all_it_needs_in_the_folder(finished):
    page = (finished / "index.html").read_text(encoding="utf-8")
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(addresses) > 5
    for address in addresses:
        if not address.startswith("data:"):
            assert (finished / address.partition("?")[0]).is_file(), address
    assert "For research, not a medical device." in page
    assert "<title>real: registrations</title>" in page
    for path in (finished / "index_files").iterdir():
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|//cdn|@import|url\(", path.read_text("utf-8")), path
    assert not list(finished.rglob("*.part"))


def test_the_pictures_of_a_pair_are_small_and_all_there(finished):
    for name in ("first", "second"):
        sizes = {file: (finished / name / "page" / file).stat().st_size for file in PICTURES}
        assert min(sizes.values()) > 500
        assert sum(sizes.values()) < 400_000


def test_what_is_said_of_a_pair_comes_from_its_record(finished):
    first, third = details(finished / "first"), details(finished / "third")
    report = json.loads((finished / "first" / "report.json").read_text(encoding="utf-8"))
    assert first["settings"] == report["settings"]
    assert first["messages"] == report["messages"]
    assert len(first["labels"]) == len(report["evaluation"]["labels"]["labels"]) > 0
    assert first["slices"]["layers"] == ["fixed", "registered", "before"]
    assert "overview.png" in first["files"]
    assert third["log"].endswith("give another file.\n")
    assert third["slices"] is None
    assert third["command"] == ""


def test_the_command_repeats_the_registration(finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    program, *words = shlex.split(details(finished / "first")["command"])
    assert program == "foundation-registration"
    assert main([*words, "--progress", "none"]) == 0
    before, after = (
        json.loads((folder / "report.json").read_text(encoding="utf-8"))
        for folder in (finished / "first", tmp_path / "repeated" / "first")
    )
    assert after["evaluation"] == before["evaluation"]
    assert after["messages"] == before["messages"]


def test_what_files_say_stays_text(cohort, tmp_path):
    odd = '</script><script>alert(1)</script> & "quoted" \u2028 \U0001f9b4'
    write_table(cohort, [{"name": odd, "state": "failed", "error": odd, "folder": "third", "a<b": HOSTILE}], ["a<b"])
    write_page(cohort)
    text = (cohort / "index_files" / "data.js").read_text(encoding="ascii")
    assert "<" not in text
    assert table(cohort)["words"]["name"] == [odd]
    assert table(cohort)["further"] == [["a<b", [HOSTILE]]]
    folder = write_table(tmp_path / "Müller & 'Co'", [])
    page = write_page(folder).read_text(encoding="utf-8")
    assert "<title>Müller &amp; &#x27;Co&#x27;: registrations</title>" in page


def test_figures_are_numbers_or_nothing(tmp_path):
    row = {"name": "a", "state": "done", "seconds": "12.345678", "tre_mm_after": "nan", "folded_percent": "oops"}
    write_page(write_table(tmp_path / "cohort", [row]))
    figures = table(tmp_path / "cohort")["figures"]
    assert figures["seconds"] == [12.346]
    assert figures["tre_mm_after"] == figures["folded_percent"] == figures["mean_dice_after"] == [None]


def test_a_copied_column_may_have_the_name_of_a_figure(tmp_path):
    (tmp_path / "pairs.csv").write_text("name,state,folder,seconds,seconds,__proto__\na,done,,5,six,x\n", "utf-8")
    write_page(tmp_path)
    assert table(tmp_path)["figures"]["seconds"] == [5.0]
    assert table(tmp_path)["further"] == [["seconds", ["six"]], ["__proto__", ["x"]]]


def test_a_second_call_changes_nothing(cohort):
    before = state_of(cohort)
    write_page(cohort)
    assert state_of(cohort) == before


def test_only_the_pair_that_was_registered_again_is_drawn_again(cohort):
    first, second = state_of(cohort / "first" / "page"), state_of(cohort / "second" / "page")
    shutil.copy(cohort / "first" / "warped.nii.gz", cohort / "second" / "warped.nii.gz")
    report = json.loads((cohort / "second" / "report.json").read_text(encoding="utf-8"))
    write_record(cohort / "second", {"name": "second", "state": "done", **pair_of(cohort, "second"), "key": "1"})
    (cohort / "second" / "report.json").write_text(json.dumps({**report, "messages": ["again"]}), "utf-8")
    write_page(cohort)
    assert state_of(cohort / "first" / "page") == first
    assert details(cohort / "second")["messages"] == ["again"]
    changed = {
        path.name for path, state in state_of(cohort / "second" / "page").items() if state[0] != second[path][0]
    }
    assert {"registered.webp", "thumbnail.webp", "pair.js"} <= changed


def pair_of(cohort, name):
    return json.loads((cohort / name / "pair.json").read_text(encoding="utf-8"))


def test_records_that_were_only_copied_do_not_draw_again(cohort):
    before = state_of(cohort / "first" / "page")
    later = (cohort / "first" / "page" / "pair.js").stat().st_mtime_ns + 10**9
    os.utime(cohort / "first" / "report.json", ns=(later, later))
    write_page(cohort)
    assert state_of(cohort / "first" / "page") == before


def test_pictures_outlive_the_volumes_that_they_show(cohort):
    before = state_of(cohort / "first" / "page")
    write_record(cohort / "first", pair_of(cohort, "first"))  # a later time, the same content
    for side in ("fixed", "moving"):
        assert str(cohort) not in pair_of(cohort, "first")[side]
    moved = {**pair_of(cohort, "second"), "fixed": str(cohort / "gone.nii.gz")}
    write_record(cohort / "second", moved)
    write_page(cohort)
    assert state_of(cohort / "first" / "page") == before
    assert "gone.nii.gz" in details(cohort / "second")["missing"]
    assert table(cohort)["drawn"] == [True, False, False]


def test_a_volume_that_comes_back_is_drawn(cohort):
    moving, back = pair_of(cohort, "first")["moving"], cohort / "back.nii.gz"
    write_record(cohort / "first", {**pair_of(cohort, "first"), "moving": str(back)})
    write_page(cohort)
    known = details(cohort / "first")
    assert known["slices"]["layers"] == ["fixed", "registered"]
    assert "back.nii.gz" in known["missing"]
    unchanged = state_of(cohort / "first" / "page")
    write_page(cohort)
    assert state_of(cohort / "first" / "page") == unchanged
    shutil.copy(moving, back)
    write_page(cohort)
    assert details(cohort / "first")["slices"]["layers"] == ["fixed", "registered", "before"]


def test_a_damaged_record_stops_neither_page_nor_others(cohort):
    odd = {"verdict": {"reasons": 3}, "messages": "x", "evaluation": {"labels": {"labels": [1, {"dice_after": "y"}]}}}
    (cohort / "first" / "report.json").write_text(
        json.dumps({**odd, "inputs": [], "made": 1, "settings": None}), "utf-8"
    )
    (cohort / "third" / "report.json").write_text('{"verdict": 3, "inputs": [', "utf-8")
    (cohort / "second" / "warped.nii.gz").write_bytes(b"not a volume")
    write_record(cohort / "second", {**pair_of(cohort, "second"), "key": "2"})
    write_page(cohort)
    assert table(cohort)["drawn"] == [True, False, False]
    assert details(cohort / "first")["reasons"] == details(cohort / "first")["messages"] == []
    assert details(cohort / "first")["labels"][0]["dice_after"] is None
    assert "registered volume" in details(cohort / "second")["missing"]


def test_folders_elsewhere_are_left_alone(tmp_path):
    outside = failed_pair(tmp_path, "outside")
    rows = [{**outside, "folder": folder} for folder in ("../outside", str(tmp_path / "outside"), "", ".")]
    write_page(write_table(tmp_path / "cohort", rows[:3]))
    assert table(tmp_path / "cohort")["words"]["folder"] == ["", "", ""]
    assert not (tmp_path / "outside" / "page").exists()


def test_ratings_in_the_folder_are_shown(tmp_path):
    cohort = write_table(tmp_path / "cohort", made_up_rows(3), ["site"])
    (cohort / "ratings.csv").write_text('\ufeffname,rating,note\nDUKE_0001,redo,"a, ""b"""\nx,<b>,\n', "utf-8")
    write_page(cohort)
    assert table(cohort)["ratings"] == [["DUKE_0001", "redo", 'a, "b"'], ["x", "", ""]]


@pytest.mark.parametrize("content", [None, b"", b"name,state\na,done\n", b'name,state,folder\n"a,done\n'])
def test_a_table_that_cannot_be_used_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "pairs.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"pairs\.csv"):
        write_page(tmp_path)
    assert not (tmp_path / "index.html").exists()


@pytest.mark.parametrize("name", ["index_files", "third/page"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, name):
    cohort = write_table(tmp_path, [failed_pair(tmp_path, "third")])
    (cohort / name).write_text("a file", "utf-8")
    with pytest.raises(OutputError, match=name.split("/")[-1]):
        write_page(cohort)


def test_pictures_of_one_pair_can_be_made_before_the_page(cohort):
    before = state_of(cohort / "first" / "page")
    shutil.rmtree(cohort / "first" / "page")
    assert write_pair_pictures(cohort / "first").drawn
    after = state_of(cohort / "first" / "page")
    assert after.keys() == before.keys()
    assert all(after[path][0] == before[path][0] for path in after if path.suffix == ".webp")


@pytest.mark.parametrize("order", ["LPS", "RAS", "PIR", "SAL", "IPL"])
def test_slices_are_shown_as_radiologists_do_whatever_the_grid(order):
    image = sitk.DICOMOrient(block(), order)
    shown = slices_of(image, image, image)
    reference = slices_of(block(), block(), None)
    fixed = shown.layers["fixed"]
    assert np.array_equal(fixed, reference.layers["fixed"])
    assert shown.pixel_mm == (1.5, 2.0)
    assert np.allclose(np.diff(shown.positions_mm), 3.0)
    assert len(shown.positions_mm) == len(fixed)
    lesion = np.argwhere(fixed == fixed.max()).mean(0) / fixed.shape
    assert lesion[0] > 0.6  # superior: later
    assert lesion[1] < 0.4  # anterior: up
    assert lesion[2] > 0.6  # patient's left: on the right
    assert shown.positions_mm[round(lesion[0] * len(fixed))] == pytest.approx(300 + 17 * 3, abs=3.1)


def test_moving_volumes_are_shown_in_fixed_space_from_any_grid():
    fixed = block()
    wider = sitk.ConstantPad(fixed, [6, 3, 4], [2, 9, 5], 0.0)
    oblique = sitk.Image(wider)
    shown = slices_of(fixed, wider, oblique)
    assert np.abs(shown.layers["fixed"].astype(int) - shown.layers["registered"].astype(int)).max() <= 1
    moved = sitk.Image(fixed)
    moved.SetOrigin((-62.0, 20.0, 300.0))  # 8 mm to the left: four columns to the right
    before = slices_of(fixed, wider, moved).layers["before"]
    assert np.abs(before[:, :, 4:].astype(int) - shown.layers["fixed"][:, :, :-4].astype(int)).max() <= 1


def test_thick_thin_flat_and_unknown_volumes_have_slices():
    many = block((150, 40, 50))
    assert len(slices_of(many, many, None).positions_mm) <= MOST_SLICES
    for shape in ((24, 40, 50),):
        array = sitk.GetArrayFromImage(block(shape))
        array[:, :6] = np.nan
        image = sitk.GetImageFromArray(array)
        assert slices_of(image, image, image).layers["fixed"].max() == 255
    flat = sitk.Image([9, 7, 1], sitk.sitkFloat32)
    shown = slices_of(flat, flat, None)
    assert shown.middle == 0
    assert draw_thumbnail(shown)
    assert draw_sheets(shown).files.keys() == {"fixed", "registered"}


def test_colours_cannot_be_shown():
    colour = sitk.Compose([block()] * 3)
    with pytest.raises(InputError, match="several values"):
        slices_of(colour, block(), None)


def test_sheets_take_no_more_than_they_may():
    noise = np.random.default_rng(0).integers(0, 256, (12, 90, 120), np.uint8)
    slices = Slices({"fixed": noise, "registered": noise[::-1].copy()}, (1.0, 1.0), list(range(12)), 6)
    large = draw_sheets(slices)
    assert (large.width, large.height) == (120, 90)
    for most in (60_000, 6_000):
        small = draw_sheets(slices, most)
        assert sum(map(len, small.files.values())) <= most
        assert small.width <= large.width
