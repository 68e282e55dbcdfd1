"""A BIDS dataset as a cohort, by stand-in workers: which pairs it has, and the derivative that comes of them."""

import csv
import json
import os
import shutil
import subprocess
import sys

import pytest
from cohort_stand_in import HERE

from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.cohort import workers
from FoundationRegistrationLib.cohort.bids.dataset import BidsDataset
from FoundationRegistrationLib.cohort.bids.names import expression, file_name
from FoundationRegistrationLib.errors import InputError

SIDES = ("--fixed", "ses-01_T1w", "--moving", "ses-02_T1w")


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, str(HERE)))


@pytest.fixture
def root(tmp_path):
    """Two whole subjects, one with hyphens, runs and a single-file session; one without its second session."""
    root = tmp_path / "data"
    for name in (
        "sub-01/ses-01/anat/sub-01_ses-01_T1w.nii.gz",
        "sub-01/ses-01/anat/sub-01_ses-01_FLAIR.nii.gz",
        "sub-01/ses-02/anat/sub-01_ses-02_acq-mprage_T1w.nii.gz",
        "sub-01/ses-02/anat/sub-01_ses-02_acq-mprage_T1w.json",
        "sub-01/ses-02/anat/sub-02_ses-02_T1w.nii.gz",  # a stray file
        "sub-02/ses-01/anat/sub-02_ses-02_T1w.nii.gz",  # another
        "sub-02/ses-01/anat/sub-02_ses-01_T1w.nii.gz",
        "sub-CON-3/ses-01/anat/sub-CON-3_ses-01_T1w.nii",
        "sub-CON-3/ses-02/anat/sub-CON-3_ses-02_run-01_T1w.nii",
        "sub-CON-3/ses-02/anat/odd name (copy).nii",
        "derivatives/other/sub-01/ses-01/anat/sub-01_ses-01_T1w.nii.gz",
    ):
        write(root, name)
    (root / "participants.tsv").write_text(
        "\ufeffparticipant_id\tage\tName\tsite\nsub-01\t54\tn/a\tOslo\nCON-3\tn/a\tx\tBern\n", encoding="utf-8"
    )
    return root


def write(root, name, text=""):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def run(root, *options, sides=SIDES):
    output = root / "derivatives" / "fr"
    given = ["cohort", "--bids", str(root), *sides, "--encoder", "mind", "--progress", "none", *options]
    return main([*given, *(() if "--output" in options else ("--output", str(output)))])


def files(output):
    return {path.relative_to(output).as_posix() for path in output.glob("sub-*/**/*") if path.is_file()}


def rows(output):
    with (output / "pairs.csv").open(newline="", encoding="utf-8") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def test_each_subject_with_both_files_is_a_pair_and_the_others_are_named(root, capfd):
    assert run(root, "--validate") == 0
    told = capfd.readouterr().err
    assert "2 pairs" in told and "left out: sub-02: no ses-02_T1w" in told
    assert not (root / "derivatives" / "fr").exists()
    assert run(root, "--group", "site") == 0
    output = root / "derivatives" / "fr"
    found = rows(output)
    assert {name: row["folder"] for name, row in found.items()} == {
        "sub-01": "pairs/sub-01",
        "sub-CON-3": "pairs/sub-CON-3",
    }
    assert [found["sub-01"][title] for title in ("age", "participants_Name", "site")] == ["54", "", "Oslo"]
    assert (found["sub-CON-3"]["age"], found["sub-CON-3"]["site"]) == ("", "Bern")
    assert "## site: Bern" in (output / "summary.md").read_text()
    assert "pairs/sub-CON-3" in (output / "index_files" / "data.js").read_text()
    provenance = json.loads((output / "provenance.json").read_text())
    assert provenance["table"]["left_out"] == ["sub-02: no ses-02_T1w"]


def test_the_output_is_a_derivative_with_its_sources(root):
    assert run(root) == 0
    output = root / "derivatives" / "fr"
    ses = "sub-01/ses-02/anat/sub-01_ses-02_acq-mprage"
    warped = f"{ses}_space-ses01T1w_desc-registered_T1w"
    transform = f"{ses}_from-ses02T1w_to-ses01T1w_mode-image_xfm"
    inverse = f"{ses}_from-ses01T1w_to-ses02T1w_mode-image_xfm"
    of_first = {name for name in files(output) if name.startswith("sub-01/")}
    assert of_first == {
        *(f"{stem}.{end}" for stem in (transform, inverse) for end in ("h5", "json")),
        f"{warped}.nii.gz",
        f"{warped}.json",
    }
    assert "sub-CON-3/ses-02/anat/sub-CON-3_ses-02_run-01_space-ses01T1w_desc-registered_T1w.nii.gz" in files(output)
    for name, source in ((transform, "transform.h5"), (inverse, "inverse.h5")):
        assert (output / f"{name}.h5").read_bytes() == (output / "pairs" / "sub-01" / source).read_bytes()
    sidecar = json.loads((output / f"{warped}.json").read_text())
    assert sidecar["SpatialReference"] == "bids:raw:sub-01/ses-01/anat/sub-01_ses-01_T1w.nii.gz"
    assert sidecar["Sources"][0] == "bids:raw:sub-01/ses-02/anat/sub-01_ses-02_acq-mprage_T1w.nii.gz"
    described = json.loads((output / "dataset_description.json").read_text())
    assert (
        described["DatasetType"] == "derivative" and described["GeneratedBy"][0]["Name"] == "FoundationRegistration"
    )
    link = described["DatasetLinks"]["raw"]
    assert (output / link).resolve() == root.resolve() and described["SourceDatasets"] == [{"URL": link}]


def test_what_is_done_is_kept_and_the_derivative_follows_what_has_changed(root):
    output = root / "derivatives" / "fr"
    assert run(root) == 0
    before = {name: (output / name).stat().st_mtime_ns for name in files(output)}
    reports = {path: path.stat().st_mtime_ns for path in output.glob("pairs/*/report.json")}
    assert len(reports) == 2
    assert run(root) == 0
    assert {name: (output / name).stat().st_mtime_ns for name in files(output)} == before
    assert {path: path.stat().st_mtime_ns for path in reports} == reports
    write(root, "sub-01/ses-02/anat/sub-01_ses-02_acq-mprage_T1w.nii.gz", "another scan")
    write(root, "sub-CON-3/ses-01/anat/sub-CON-3_ses-01_T1w.nii", "fail no tissue")
    assert run(root) == 1
    assert not {name for name in files(output) if "CON" in name}, "a pair that failed keeps no earlier files"
    (volume,) = output.glob("sub-01/**/*.nii.gz")
    assert volume.read_bytes().endswith(b"another scan")
    volume.unlink()
    (volume.parent / f".{volume.name}.7.part").write_text("of a killed run")
    assert run(root, "--summary-only") == 1  # one pair failed
    assert volume.is_file() and not list(volume.parent.glob(".*"))
    (volume.parent / "notes.txt").write_text("of the user")
    moving = root / "sub-01" / "ses-02" / "anat" / "sub-01_ses-02_acq-mprage_T1w.nii.gz"
    moving.rename(moving.with_name("sub-01_ses-02_acq-1.5T_T1w.nii.gz"))
    assert run(root) == 1
    kept = {name for name in files(output) if "sub-01" in name}
    assert len(kept) == 7 and not [name for name in kept if "mprage" in name], "no result under the former name"
    assert "sub-01/ses-02/anat/sub-01_ses-02_acq-1.5T_space-ses01T1w_desc-registered_T1w.json" in kept


def test_where_there_are_no_links_files_are_copied_once(root, monkeypatch):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    output = root / "derivatives" / "fr"
    assert run(root) == 0
    (volume,) = output.glob("sub-01/**/*.nii.gz")
    before = volume.stat()
    assert volume.read_bytes() == (output / "pairs" / "sub-01" / "warped.nii.gz").read_bytes()
    assert run(root) == 0 and volume.stat().st_ino == before.st_ino


def test_several_files_of_a_side_are_listed_and_nothing_is_run(root, capfd):
    for name in ("sub-01_ses-01_run-1_T1w.nii", "sub-01_ses-01_run-2_T1w.nii"):
        write(root, f"sub-01/ses-01/anat/{name}")
    assert run(root) == 2
    told = capfd.readouterr().err
    assert "sub-01: 3 files match --fixed" in told and "sub-01_ses-01_run-2_T1w.nii" in told and "run-1" in told
    assert not (root / "derivatives" / "fr").exists()
    assert run(root, sides=("--fixed", "ses-01_run-_T1w", "--moving", "ses-02_T1w")) == 0  # without a run
    found = rows(root / "derivatives" / "fr")
    assert set(found) == {"sub-01", "sub-CON-3"}
    assert run(root, sides=("--fixed", "ses-01_run-02_T1w", "--moving", "ses-02_T1w")) == 0  # 02 is 2
    assert set(rows(root / "derivatives" / "fr")) == {"sub-01"}


def test_masks_labels_and_what_moves_along_are_found_beside_the_volumes_or_in_derivatives(root, capfd):
    for name in (
        "derivatives/masks/sub-01/ses-01/anat/sub-01_ses-01_desc-breast_mask.nii.gz",
        "derivatives/masks/sub-CON-3/ses-01/anat/sub-CON-3_ses-01_desc-breast_mask.nii.gz",
        "derivatives/labels/sub-01/anat/sub-01_ses-01_dseg.nii.gz",
        "derivatives/labels/sub-01/anat/sub-01_ses-02_dseg.nii.gz",
        "sub-01/ses-02/pet/sub-01_ses-02_trc-FDG_pet.nii.gz",
        "sub-01/ses-02/pet/sub-01_ses-02_trc-FES_pet.nii.gz",
    ):
        write(root, name)
    asked = {
        "fixed_mask": "ses-01_desc-breast_mask",
        "fixed_labels": "ses-01_dseg",
        "moving_labels": "ses-02_dseg",
        "follow_image": "ses-02_pet",
    }
    options = [f"--with={column}={name}" for column, name in asked.items()]
    assert run(root, "--validate", *options) == 0
    told = capfd.readouterr().err
    for column, count in {"fixed_mask": 2, "fixed_labels": 1, "moving_labels": 1, "follow_image": 1}.items():
        assert f"{column}: {count} of 2" in told
    assert run(root, *options) == 0
    dataset = BidsDataset.given(root, SIDES[1], SIDES[3], [f"{column}={name}" for column, name in asked.items()])
    row, _ = dataset.table().rows
    assert row.paths["moving_labels"] == root / "derivatives/labels/sub-01/anat/sub-01_ses-02_dseg.nii.gz"
    assert [path.name for path in row.followed["follow_image"]] == [
        "sub-01_ses-02_trc-FDG_pet.nii.gz",
        "sub-01_ses-02_trc-FES_pet.nii.gz",
    ]
    assert run(root, "--validate", "--with=fixed_mask=ses-01_desc-registered_T1w") == 2
    assert "has ses-01_desc-registered_T1w, which --with asks for" in capfd.readouterr().err
    assert run(root, "--validate", "--with=moving_mask=ses-02_desc-registered_T1w") == 2, "nothing of an earlier run"
    assert "has ses-02_desc-registered_T1w, which --with asks for" in capfd.readouterr().err
    write(root, "derivatives/other/sub-01/ses-01/anat/sub-01_ses-01_desc-breast_mask.nii.gz")
    assert run(root, "--validate", *options) == 2
    assert "sub-01: 2 files match --with fixed_mask" in capfd.readouterr().err
    assert run(root, "--validate", "--with=fixed_labels=ses-01_dseg") == 2
    assert "sub-01: fixed_labels without that of the other volume" in capfd.readouterr().err


def test_data_without_sessions_and_of_two_kinds(tmp_path):
    for name in ("anat/sub-1_T1w.nii.gz", "pet/sub-1_trc-FDG_rec-acdyn_pet.nii.gz"):
        write(tmp_path / "data", f"sub-1/{name}")
    output = tmp_path / "out"
    assert run(tmp_path / "data", "--output", str(output), sides=("--fixed", "T1w", "--moving", "pet")) == 0
    assert "sub-1/pet/sub-1_trc-FDG_rec-acdyn_space-T1w_desc-registered_pet.nii.gz" in files(output)
    described = json.loads((output / "dataset_description.json").read_text())
    assert described["DatasetLinks"]["raw"] == (tmp_path / "data").as_uri()


def test_what_cannot_be_used_is_refused_in_words(root, tmp_path, capfd):
    def refused(words, *options, sides=SIDES, data=root):
        assert run(data, *options, sides=sides) == 2
        told = capfd.readouterr().err
        assert words in told and len(told.strip().splitlines()) == 1

    refused("such as ses-01_T1w", sides=("--fixed", "ses-01", "--moving", "T1w"))
    refused("without the subject", sides=("--fixed", "sub-01_T1w", "--moving", "T1w"))
    refused("either a table, or --bids, --fixed and --moving", sides=SIDES[:2])
    refused("has both ses-07_T1w and ses-02_T1w", sides=("--fixed", "ses-07_T1w", *SIDES[2:]))
    refused("both ask for ses-01_T1w", sides=("--fixed", "ses-01_T1w", "--moving", "ses-01_T1w"))
    refused("sub-01_ses-01_FLAIR.nii.gz matches both", sides=("--fixed", "FLAIR", "--moving", "ses-01_FLAIR"))
    refused("no folder of a subject", data=tmp_path)
    refused("give one of fixed_mask", "--with", "T1w")
    refused("such as ses-01_T1w", "--with", "fixed_mask=sub-01_mask")
    refused("gives follow_image twice", *("--with=follow_image=T2w",) * 2)
    refused("among the subjects", "--output", str(root / "sub-01" / "out"))
    refused("is an input", "--output", str(root))
    other = root / "derivatives" / "other"
    (other / "dataset_description.json").write_text('{"Name": "other", "GeneratedBy": [{"Name": "fMRIPrep"}]}')
    refused("holds another BIDS dataset", "--output", str(other))
    (root / "participants.tsv").write_text("subject\tage\nsub-01\t54\n")
    refused("has no column participant_id")
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t54\n01\t45\n")
    refused("has sub-01 a second time in line 3")


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("sub-01_ses-02_T1w.nii.gz", "sub-01_ses-02_T1w"),
        ("sub-01_run-1_acq-x_bold.nii", "sub-01_acq-x_run-1_bold"),
        ("sub-01_desc-a_space-b_new-c_T1w.nii", "sub-01_new-c_space-b_desc-a_T1w"),
        ("sub-01_T1w.json", None),
        ("sub-01_sub-02_T1w.nii", None),
        ("notes_T1w.nii", None),
        ("sub-01.nii", None),
    ],
)
def test_names_are_read_and_put_in_their_order(name, known):
    found = file_name(name)
    assert (None if found is None else str(found)) == known


def test_an_expression_asks_for_entities_or_for_none():
    wanted = expression("ses-01_acq-_T1w", "--fixed")
    assert wanted.label == "ses01T1w"
    accepted = [wanted.accepts(file_name(f"sub-1_{rest}.nii")) for rest in ("ses-01_T1w", "ses-01_acq-a_T1w", "T1w")]
    assert accepted == [True, False, False]
    assert not wanted.accepts(file_name("sub-1_ses-1_T1w.nii")), "labels are text: 1 is not 01"
    with pytest.raises(InputError, match="--fixed"):
        expression("ses-01_", "--fixed")


def test_the_validator_of_bids_finds_no_error_in_the_derivative(root):
    program = shutil.which("bids-validator-deno")
    if program is None:
        pytest.skip("bids-validator-deno is not installed")
    (root / "sub-CON-3").rename(root.parent / "elsewhere")  # a name that BIDS does not allow
    assert run(root) == 0
    command = [program, str(root / "derivatives" / "fr"), "--ignoreNiftiHeaders", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["issues"]["issues"]
    assert not [each for each in found if each.get("severity") == "error"]
