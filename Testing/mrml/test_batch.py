"""Many pairs with one call, of files and of nodes, by the real engine."""

import csv
import json
import unicodedata

import numpy as np
import pytest
import SimpleITK as sitk
from FoundationRegistrationBridge.batch import register_batch
from FoundationRegistrationBridge.batch_table import OPTIONAL, TableRow, folder_names, read_table
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.transforms import RECORD
from nodes import volume_node
from volumes import body_depth, empty_grid, on_grid, points_of, smooth_warp, volume

QUICK = {"encoder": "mind", "working_spacing_mm": 4.0, "initialization": "none", "iterations": 20}


@pytest.fixture
def folder(tmp_path):
    """Volumes and labels of one good pair."""
    fixed, moving = empty_grid("oblique"), empty_grid("anisotropic")
    images = {
        "today": volume(fixed, smooth_warp),
        "before": volume(moving),
        "today_labels": on_grid((body_depth(smooth_warp(points_of(fixed))) > 0).astype(np.uint8), fixed),
        "before_labels": on_grid((body_depth(points_of(moving)) > 0).astype(np.uint8), moving),
    }
    for name, image in images.items():
        sitk.WriteImage(image, str(tmp_path / f"{name}.nrrd"))
    return tmp_path


def write_table(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_files_of_a_table_one_of_them_damaged(folder):
    (folder / "damaged.nrrd").write_bytes(b"NRRD0004\ntype: float\n")
    table = write_table(
        folder / "cohort.csv",
        "fixed,moving,fixed_labels,moving_labels,name\n"
        "today.nrrd,damaged.nrrd,,,lost\n"
        "today.nrrd,before.nrrd,today_labels.nrrd,before_labels.nrrd,Ada/1\n",
    )
    events = []
    results = register_batch(table, "longitudinal", on_progress=lambda *event: events.append(event), **QUICK)
    assert [result.name for result in results] == ["lost", "Ada_1"]
    assert "damaged.nrrd" in results[0].error
    assert not results[1].error
    output = folder / "cohort_results"
    assert (output / "Ada_1" / "transform.h5").is_file()
    assert (output / "Ada_1" / "overview.png").is_file()
    with (output / "results.csv").open(newline="") as file:
        lost, found = csv.DictReader(file)
    assert lost["error"] == results[0].error
    assert found["messages"] == " ".join(results[1].record["messages"])
    assert float(found["mean_dice_before"]) < float(found["mean_dice_after"])
    assert float(found["inverse_error_mm"]) < 0.5
    assert sorted(path.name for path in output.iterdir()) == ["Ada_1", "results.csv"]
    assert [event[1:3] for event in events][-1] == (2, 2)
    assert events[-1][3:] == ("done", 1.0)


def test_nodes_one_pair_of_them_unsuitable(scene, folder):
    fixed = volume_node(scene, sitk.ReadImage(str(folder / "today.nrrd")), "today")
    moving = volume_node(scene, sitk.ReadImage(str(folder / "before.nrrd")), "before")
    results = register_batch([(fixed, fixed), (fixed, moving)], "longitudinal", output_folder=folder / "out", **QUICK)
    assert "both fixed and moving" in results[0].error
    assert results[1].transform_node.GetName() == "before to today"
    assert results[1].record["settings"]["preset"] == "longitudinal"
    assert len((folder / "out" / "results.csv").read_text().splitlines()) == 3


def test_what_the_files_of_nodes_say_of_themselves_stands_first(scene, folder):
    path = folder / "before.nii"
    sitk.WriteImage(sitk.ReadImage(str(folder / "before.nrrd")), str(path))
    content = bytearray(path.read_bytes())
    content[252:256] = bytes(4)  # the codes of the orientation: none
    path.write_bytes(content)
    fixed = volume_node(scene, sitk.ReadImage(str(folder / "today.nrrd")), "today")
    moving = volume_node(scene, sitk.ReadImage(str(folder / "before.nrrd")), "before")
    moving.AddDefaultStorageNode()
    moving.GetStorageNode().SetFileName(str(path))
    result = register_batch([(fixed, moving)], output_folder=folder / "out", **QUICK)[0]
    assert "orientation" in result.record["messages"][0]
    assert "moving" in result.record["messages"][0]
    assert json.loads(result.transform_node.GetAttribute(RECORD)) == result.record
    with (folder / "out" / "results.csv").open(newline="", encoding="utf-8") as file:
        assert next(csv.DictReader(file))["messages"].startswith(result.record["messages"][0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fixed,moved\na,b\n", "unknown column 'moved'"),
        ("patient;fixed;moving\n7;a;b\n", "unknown column 'patient'"),
        ("fixed\na\n", "lacks the column"),
        ("fixed,moving,Fixed\na,b,c\n", "column 'fixed' twice"),
        ("fixed,moving\na.nii,\n", "Line 2"),
        ("fixed,moving\n\n,,\n  ,\n;a.nii;\n", "Line 5 .* has no fixed"),
        ('fixed,moving,name\nx,y,"two\n\nlines"\n,,\nx,\n', "Line 6"),
        ("fixed,moving\na.nii,b.nii,oops\n", r"Line 2 .* more cells .*'oops'"),
        ('fixed,moving\n"a.nii,b.nii\n', "Line 2 .* quotation marks"),
        ("", "is empty; give the column names"),
        ("\n,,\n", "is empty; give the column names"),
        ("fixed,moving\n,,\n\n", "has no pair"),
    ],
)
def test_unsuitable_table_is_refused_before_anything_runs(folder, text, words):
    with pytest.raises(BridgeError, match=words) as error:
        register_batch(write_table(folder / "cohort.csv", text))
    assert "\n" not in str(error.value)
    assert not (folder / "cohort_results").exists()


@pytest.mark.parametrize(
    "content", ["fixed,moving\nM\u00fcller,b\n".encode("latin-1"), b"PK\x03\x04\x00", b"f\0i\0x\0"]
)
def test_what_is_no_text_in_unicode_is_refused(folder, content):
    (folder / "cohort.csv").write_bytes(content)
    with pytest.raises(BridgeError, match="save it as 'CSV UTF-8'"):
        register_batch(folder / "cohort.csv")


def test_all_missing_files_are_named_before_the_first_run(folder):
    table = write_table(
        folder / "cohort.csv",
        "fixed,moving,moving_labels,name\ntoday.nrrd,before.nrrd,,one\n\n"
        'today.nrrd,"gone\n.nrrd",,two\nlost.nrrd,before.nrrd,~nobody-here/labels.nrrd,three\n',
    )
    events = []
    with pytest.raises(BridgeError) as error:
        register_batch(table, on_progress=lambda *event: events.append(event))
    words = str(error.value)
    assert "3 files that do not exist" in words and "\n" not in words and not events
    for part in ("line 4, moving: ", "line 6, fixed: ", "lost.nrrd", "line 6, moving_labels: ", "labels.nrrd"):
        assert part in words
    assert not (folder / "cohort_results").exists()


def spelled(rng, title):
    """A title as people write it: capitals, blanks or hyphens for underscores, blanks around."""
    title = "".join(letter.upper() if rng.random() < 0.3 else letter for letter in title)
    title = "".join(rng.choice(["_", " ", "-"]) if letter == "_" else letter for letter in title)
    return " " * int(rng.integers(3)) + title + " " * int(rng.integers(3))


@pytest.mark.parametrize("seed", range(60))
def test_a_table_is_read_alike_however_it_is_written(tmp_path, seed):
    rng = np.random.default_rng(seed)
    columns = ["fixed", "moving", *rng.choice(OPTIONAL, int(rng.integers(4)), replace=False).tolist(), "name"]
    columns = [str(column) for column in rng.permutation(columns)]
    expected = []
    separator = str(rng.choice([",", ";", "\t"]))
    newline = str(rng.choice(["\n", "\r\n"]))
    lines = [separator.join(spelled(rng, column) for column in columns)]
    if rng.random() < 0.3:
        lines = [*[""] * int(rng.integers(3)), *lines]
    elif rng.random() < 0.3:
        lines = [f"sep={separator}", *lines]
    for number in range(int(rng.integers(1, 6))):
        while rng.random() < 0.4:  # rows without anything in them
            lines.append(str(rng.choice(["", " ", separator * (len(columns) - 1)])))
        cells, paths = {}, {}
        for column in columns:
            if column == "name":
                cells[column] = rng.choice(["", f"Ada; {number}", f"B,{number}", f"line {newline}break {number}"])
            elif column in ("fixed", "moving") or rng.random() < 0.5:
                cells[column] = f"{column}  {rng.choice(['a', 'ä', 'a,b', 'c;d'])} {number}.nrrd"
                paths[column] = tmp_path / cells[column]
                paths[column].write_bytes(b"")
        begin = sum(line.count(newline) for line in lines) + len(lines) + 1
        row = [str(cells.get(column, "")) for column in columns]
        lines.append(separator.join(f'"{cell}"' if set(cell) & set(",;\t\n") else f" {cell} " for cell in row))
        expected.append(TableRow(begin, paths, str(cells["name"])))
    text = newline.join(lines) + newline * int(rng.integers(3))
    encoding = str(rng.choice(["utf-8", "utf-8-sig", "utf-16"]))
    (tmp_path / "cohort.csv").write_bytes(text.encode(encoding))
    assert read_table(tmp_path / "cohort.csv") == expected


@pytest.mark.parametrize("seed", range(100))
def test_each_pair_gets_a_folder_of_its_own_on_every_file_system(seed):
    rng = np.random.default_rng(seed)
    pieces = [
        "P1",
        "p1",
        "P1_2",
        "results.csv",
        "RESULTS.CSV",
        "../up",
        "up",
        "/etc",
        "CON",
        "con.txt",
        "nul",
        ".",
        "..",
    ]
    pieces += [
        "",
        "ä",
        "a\u0308",
        "straße",
        "strasse",
        "ŀ" * 300,
        "x" * 300,
        "x" * 299 + "y",
        "a/b",
        "a\\b",
        "a:b",
        "a ",
    ]
    names = [str(name) for name in rng.choice(pieces, int(rng.integers(1, 15)))]
    folders = folder_names(names, "results.csv")
    assert len(folders) == len(names)
    alike = {unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold()) for name in folders}
    assert len(alike) == len(names) and "results.csv" not in alike
    for name in folders:
        assert not set(name) & set('/\\:*?"<>|') and name[0] not in "._" and name[-1] not in ". "
        assert len(name.encode()) < 200 and name.split(".")[0].lower() not in ("con", "nul")
    for name in ("P1", "up", "ä"):  # a sound name that no other row has stays
        if names.count(name) == 1 and not {"p1", "../up", "a\u0308"} & set(names):
            assert name in folders


def test_what_is_in_the_way_of_the_results_is_said_before_the_first_run(folder):
    table = write_table(folder / "cohort.csv", "fixed,moving,name\ntoday.nrrd,before.nrrd,one\n")
    in_the_way = folder / "cohort_results"
    events = []

    def refused(words):
        with pytest.raises(BridgeError, match=words):
            register_batch(table, on_progress=lambda *event: events.append(event))
        assert not events

    in_the_way.write_text("a file")
    refused("there is a file of that name")
    in_the_way.unlink()
    (in_the_way / "results.csv").mkdir(parents=True)
    refused("is a folder and in the way")
    (in_the_way / "results.csv").rmdir()
    (in_the_way / "one").write_text("a file")
    refused("is a file and in the way")


@pytest.mark.parametrize("pairs", [[], [("a.nrrd", "b.nrrd")], "three", "one", 7])
def test_what_is_no_list_of_pairs_is_refused_in_words(scene, folder, pairs):
    node = volume_node(scene, sitk.ReadImage(str(folder / "today.nrrd")), "today")
    given = {"three": [(node, node, node)], "one": node}.get(pairs, pairs) if isinstance(pairs, str) else pairs
    with pytest.raises(BridgeError, match=r"Give pairs of volume nodes"):
        register_batch(given, **QUICK)


def test_wrong_setting_is_refused_before_anything_runs(folder):
    with pytest.raises(BridgeError, match="regularisation"):
        register_batch(write_table(folder / "cohort.csv", "fixed,moving\na,b\n"), regularisation=2.0)
    with pytest.raises(BridgeError, match="cannot be read"):
        register_batch(folder / "nowhere.csv")
