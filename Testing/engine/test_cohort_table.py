"""The table of a cohort as people write it, and what is said before the first pair runs."""

import unicodedata

import numpy as np
import pytest

from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.cohort.names import folder_names
from FoundationRegistrationLib.cohort.plan import plan_cohort
from FoundationRegistrationLib.cohort.table import FILES, TableRow, read_table
from FoundationRegistrationLib.errors import FoundationRegistrationError, InputError, SettingsError

OPTIONAL = tuple(column for column in FILES if column not in ("fixed", "moving"))
MIND = {"encoder": "mind"}


@pytest.fixture
def folder(tmp_path):
    for name in ("today", "before", "labels"):
        (tmp_path / f"{name}.nrrd").write_bytes(b"")
    return tmp_path


def write_table(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fixed,moved\na,b\n", "lacks the column"),
        ("fixed\na\n", "lacks the column"),
        ("fixed,moving,Fixed\na,b,c\n", "column 'fixed' twice"),
        ("fixed,moving,Site,site\na,b,c,d\n", "column 'site' twice"),
        ("fixed,moving,Fixed Maks\na,b,c\n", "column 'Fixed Maks', which would not be used; call it fixed_mask"),
        ("fixed,moving,iteration\na,b,9\n", "call it iterations"),
        ("fixed,moving,Verdict\na,b,c\n", "column 'Verdict', as the summary has"),
        ("fixed,moving\na.nii,\n", "line 2: no fixed"),
        ("fixed,moving\n\n,,\n  ,\n;a.nii;\n", "line 5: no fixed"),
        ('fixed,moving,name\nx,y,"two\n\nlines"\n,,\nx,\n', "line 6: no fixed"),
        ("fixed,moving\na.nii,b.nii,oops\n", r"line 2: more cells .*'oops'"),
        ('fixed,moving\n"a.nii,b.nii\n', "Line 2 .* quotation marks"),
        ("", "is empty; give the column names"),
        ("\n,,\n", "is empty; give the column names"),
        ("fixed,moving\n,,\n\n", "has no pair"),
    ],
)
def test_unsuitable_table_is_refused_before_anything_runs(folder, text, words):
    table = write_table(folder / "cohort.csv", text)
    with pytest.raises(InputError, match=words) as error:
        plan_cohort(read_table(table, ("verdict",)), MIND, {})
    assert "\n" not in str(error.value)
    assert main(["cohort", str(table), "--encoder", "mind", "--output", str(folder / "out")]) == 2
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    "content", ["fixed,moving\nM\u00fcller,b\n".encode("latin-1"), b"PK\x03\x04\x00", b"f\0i\0x\0"]
)
def test_what_is_no_text_in_unicode_is_refused(folder, content):
    (folder / "cohort.csv").write_bytes(content)
    with pytest.raises(InputError, match="save it as 'CSV UTF-8'"):
        read_table(folder / "cohort.csv")


def test_all_that_is_wrong_with_rows_is_said_at_once_with_true_lines(folder):
    text = (
        "fixed,moving,moving_labels,name,iterations,encoder,initialization,follow_points\n"
        "today.nrrd,before.nrrd,,one,,,,\n\n"
        'today.nrrd,"gone\n.nrrd",,two,,,,\n'
        "lost.nrrd,before.nrrd,~nobody-here/labels.nrrd,three,,,,\n"
        "today.nrrd,before.nrrd,,ONE,many,,,\n"
        "today.nrrd,before.nrrd,,,2.5,,,here|there\n"
        "today.nrrd,before.nrrd,,,,nonesuch,,\n"
        "today.nrrd,before.nrrd,,,,,landmarks,\n"
        "today.nrrd,before.nrrd,labels.nrrd,,,,,\n"
        "today.nrrd,./today.nrrd,,,,,,\n"
    )
    with pytest.raises(InputError) as error:
        plan_cohort(read_table(write_table(folder / "cohort.csv", text)), MIND, {})
    words = str(error.value)
    assert "\n" not in words
    for part in (
        "lines 2, 7: the same name 'one'",
        "line 4, moving: no file ",
        "line 6, fixed: no file ",
        "line 6, moving_labels: no file ",
        "line 7: iterations is 'many'",
        "line 8: iterations is 2.5",
        "line 8, follow_points: no file ",
        "line 9: Unknown encoder 'nonesuch'",
        "line 10: alignment by landmarks needs",
        "line 11: moving_labels without",
        "line 12: fixed and moving are the same file",
    ):
        assert part in words
    lines = "".join(f"today.nrrd,gone{number}.nrrd\n" for number in range(50))
    with pytest.raises(InputError, match=r"has 50 problems .*; and 30 more"):
        plan_cohort(read_table(write_table(folder / "cohort.csv", "fixed,moving\n" + lines)), MIND, {})


def test_a_row_overrides_the_settings_of_all_rows_which_override_those_of_a_file(folder):
    text = "Fixed;Moving;Working Spacing mm;Preset;Iterations;Visit;follow image;initial_transform\n"
    text += "today.nrrd;before.nrrd;3;lesion;30.0;1;before.nrrd | labels.nrrd;labels.nrrd\n"
    text += 'today.nrrd;before.nrrd;;;;"2; late";labels.nrrd;\n'
    table = write_table(folder / "cohort.csv", text, "utf-16")
    plan = plan_cohort(read_table(table), {**MIND, "iterations": 5, "working_spacing_mm": 4.0}, {"slice_gap": 3})
    first, second = plan.pairs
    assert (first.name, second.name) == ("before", "before_2")
    for name, values in (
        ("working_spacing_mm", (3.0, 4.0)),
        ("preset", ("lesion", "default")),
        ("iterations", (30, 5)),
        ("slice_gap", (3, 3)),
        ("compressibility", (0.1, 1.0)),
    ):
        assert (first.settings[name], second.settings[name]) == values
    assert [name for *_, name in first.followed] == ["before.nii.gz", "labels.nii.gz"]
    assert first.copied == {"Visit": "1"} and second.copied == {"Visit": "2; late"}
    register, *applied = first.commands(folder / "out")
    assert "--iterations=30" in register and f"--initial-transform={folder / 'labels.nrrd'}" in register
    assert len(applied) == 2 and f"--image={folder / 'labels.nrrd'}" in applied[1]
    with pytest.raises(InputError, match="line 2: The settings file uses another preset"):
        plan_cohort(read_table(table), MIND, {"preset": "dce"})
    with pytest.raises(SettingsError, match="regularisation"):
        plan_cohort(read_table(table), {"regularisation": 2.0}, {})


def test_weights_that_are_missing_are_said_once_before_all_rows(folder, monkeypatch):
    monkeypatch.setenv("FOUNDATION_REGISTRATION_CACHE", str(folder / "cache"))
    monkeypatch.delenv("FOUNDATION_REGISTRATION_WEIGHTS", raising=False)
    table = write_table(folder / "cohort.csv", "fixed,moving\n" + "today.nrrd,before.nrrd\n" * 3)
    with pytest.raises(FoundationRegistrationError, match="weights download"):
        plan_cohort(read_table(table), {"encoder": "sam"}, {})


def test_validation_says_what_it_found_and_writes_nothing(folder, capfd):
    text = "fixed,moving,visit,follow_labels\ntoday.nrrd,before.nrrd,1,labels.nrrd\ntoday.nrrd,before.nrrd,2,\n"
    table = write_table(folder / "cohort.csv", text)
    before = sorted(folder.iterdir())
    assert main(["cohort", str(table), "--validate", "--encoder", "mind"]) == 0
    told = capfd.readouterr().err
    for words in ("2 pairs, and all", "follow_labels: 1 of 2", "copied to the summary only: visit"):
        assert words in told
    assert sorted(folder.iterdir()) == before


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
    assert list(read_table(tmp_path / "cohort.csv").rows) == expected


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
    folders = folder_names(names, ["results.csv"])
    assert len(folders) == len(names)
    alike = {unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold()) for name in folders}
    assert len(alike) == len(names) and "results.csv" not in alike
    for name in folders:
        assert not set(name) & set('/\\:*?"<>|') and name[0] not in "._" and name[-1] not in ". "
        assert len(name.encode()) < 200 and name.split(".")[0].lower() not in ("con", "nul")
    for name in ("P1", "up", "ä"):  # a sound name that no other row has stays
        if names.count(name) == 1 and not {"p1", "../up", "a\u0308"} & set(names):
            assert name in folders
