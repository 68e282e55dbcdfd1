"""The documentation says what is: examples run, addresses agree, what the README links to is there."""

import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_patient import write_scan
from dicom_series import SAGITTAL
from finished import finish, finish_niftis
from volumes import body_depth, empty_grid, on_grid, points_of, smooth_warp, volume

from FoundationRegistrationLib import read_volume
from FoundationRegistrationLib.cli.main import main

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "Resources" / "Documentation" / "pages"
ADDRESS = re.search(r'set\(EXTENSION_HOMEPAGE "(.*)"\)', (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))[1]


def examples(path):
    return re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """Two files of one body, as the examples name them; the names are what the examples take as given."""
    fixed, moving = empty_grid("oblique"), empty_grid("anisotropic")
    sitk.WriteImage(volume(fixed, smooth_warp), str(tmp_path / "fixed.nii.gz"))
    sitk.WriteImage(volume(moving), str(tmp_path / "moving.nii.gz"))
    sitk.WriteImage(volume(moving), str(tmp_path / "pet.nii.gz"))
    monkeypatch.chdir(tmp_path)
    inner = (body_depth(points_of(moving)) > 12.0).astype(np.uint8)
    return {"pet": volume(moving), "labels": on_grid(inner, moving), "x": 3.0, "y": -4.0, "z": 5.0}


def test_the_examples_of_the_readme_and_of_the_page_from_python_run(pair, tmp_path):
    names = dict(pair)
    for path in (ROOT / "README.md", PAGES / "python.md"):
        for example in examples(path):
            exec(compile(example, path.name, "exec"), names)
    result, fixed = names["result"], names["fixed"]
    assert names["on_fixed"].GetSize() == names["labels_on_fixed"].GetSize() == fixed.GetSize()
    there = result.transform.TransformPoint(names["in_fixed_space"])
    assert np.linalg.norm(np.subtract(there, (3.0, -4.0, 5.0))) < 0.5
    written = sitk.ReadTransform(str(tmp_path / "transform.h5"))
    assert np.allclose(written.TransformPoint((1.0, 2.0, 3.0)), result.transform.TransformPoint((1.0, 2.0, 3.0)))


def test_the_commands_of_the_hand_over_run(tmp_path, monkeypatch):
    """Those of other programs on a registration of NIfTI files, those of DICOM on one of two series."""
    pytest.importorskip("highdicom", reason="highdicom writes DICOM segmentations")
    volumes, series = tmp_path / "niftis", tmp_path / "series"
    finish_niftis(volumes, "oblique", "anisotropic")
    write_scan(series / "fixed_dicom", day="20240102")
    write_scan(series / "moving_dicom", day="20230101", axes=SAGITTAL)
    images = {side: read_volume(series / f"{side}_dicom") for side in ("fixed", "moving")}
    finish(series / "result", *images.values(), inputs={s: {"path": str(series / f"{s}_dicom")} for s in images})
    sitk.WriteImage(images["moving"] > 600, str(series / "lesion.seg.nrrd"))
    text = "".join((PAGES / name).read_text(encoding="utf-8") for name in ("hand-over.md", "command-line.md"))
    commands = re.findall(r"^    foundation-registration (export .*|apply .* --dicom .*)$", text, re.MULTILINE)
    assert len(commands) > 8
    for command in dict.fromkeys(commands):  # some stand on both pages
        monkeypatch.chdir(series if "dicom" in command else volumes)
        assert main(command.split()) == 0, command


def test_the_projects_address_is_the_same_everywhere():
    for name in ("README.md", "pyproject.toml", "CITATION.cff", "Resources/Documentation/mkdocs.yml"):
        text = (ROOT / name).read_text(encoding="utf-8")
        found = set(re.findall(r"https://github\.com/[\w-]+/SlicerFoundationRegistration", text))
        assert found == {ADDRESS}, name


def test_what_the_readme_links_to_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]*)\)", text)
    assert len(links) > 10
    for link in links:
        assert link.startswith("https://"), link  # the page of the wheel has no files beside it
        if link.startswith(ADDRESS):
            path = re.fullmatch(r"/(?:raw|blob)/main/(.*)", link.removeprefix(ADDRESS))[1]
            assert (ROOT / path).is_file(), link


def rows_after(heading, path):
    """Rows of the first table below a heading, as lists of cells, header left out."""
    table = path.read_text(encoding="utf-8").split(f"{heading}\n")[1]
    lines = re.search(r"(?:^\|.*\n)+", table, re.MULTILINE)[0].splitlines()[2:]
    return [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]


def test_the_figures_of_the_readme_are_those_measured():
    columns = {"breast": 3, "fibroglandular": 5, "change of lesion volume, %": 9}
    methods = (
        "affine (start of all)",
        "NiftyReg F3D",
        "ANTs SyN",
        "Greedy",
        "elastix, Par0032",
        "ConvexAdam, paper's MIND",
        "ours, preset",
        "true displacement (ceiling)",
    )
    hard = rows_after("### Programs on the hard phantoms", PAGES / "measured.md")
    measured = {(row[0], row[1]): row for row in hard}
    rows, task = rows_after("## Results", ROOT / "README.md"), ""
    assert len(rows) == 7
    for name, measure, *figures in rows:
        task = name or task
        expected = [measured[task, method][columns[measure]].split(" (")[0] for method in methods]
        assert figures == expected, (task, measure)


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
