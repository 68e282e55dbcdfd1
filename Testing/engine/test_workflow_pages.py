"""The commands of the pages on workflows run, one after the other, and leave what the pages say."""

import re
import shlex
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_patient import CT, PET, write_scan
from volumes import body_depth, empty_grid, on_grid, points_of, volume

from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.io.landmark_files import write_points
from FoundationRegistrationLib.io.landmarks import Landmarks

PAGES = Path(__file__).parents[2] / "Resources" / "Documentation" / "pages"
FAST = ("--encoder", "mind", "--device", "cpu", "--initialization", "none", "--working-spacing-mm", "6")
FAST += ("--displacement-half-width", "2", "--iterations", "10", "--fluid-iterations", "5")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the commands of a page in a folder of their own, registrations quickly."""
    monkeypatch.chdir(tmp_path)

    def run_commands(page):
        text = (PAGES / page).read_text(encoding="utf-8")
        commands = re.findall(r"^    foundation-registration (.*)$", text, re.MULTILINE)
        for command in map(shlex.split, commands):
            assert main([*command, *(FAST if command[0] == "register" else ())]) == 0, command
        return [shlex.split(command)[0] for command in commands]

    return run_commands


def test_pet_over_mri(run, tmp_path, capsys):
    write_scan(Path("mri"), day="20240102")
    write_scan(Path("petct/ct"), CT, day="20240105", SeriesNumber=2, SeriesDescription="CT low dose")
    write_scan(Path("petct/pet"), PET, day="20240105", SeriesNumber=3, SeriesDescription="PET AC")
    assert run("pet-over-mri.md") == ["dicom", "register", "apply", "apply"]
    said = capsys.readouterr()
    assert "CT low dose" in said.out and "PET AC" in said.out
    assert Path("result/expected_error_mm.nrrd").is_file()
    derived = [pydicom.dcmread(path) for path in Path("pet_on_mri").iterdir()]
    reference = pydicom.dcmread(next(Path("mri").iterdir()))
    assert {slice_.FrameOfReferenceUID for slice_ in derived} == {reference.FrameOfReferenceUID}
    assert {slice_.Modality for slice_ in derived} == {"PT"}
    written = sitk.ReadImage("pet_on_mri.nii.gz")
    assert written.GetSize() == sitk.ReadImage(sorted(map(str, Path("mri").iterdir()))).GetSize()


def test_follow_up_of_a_lesion(run):
    for name, lesion, grid in (("today", "outline_today", "oblique"), ("last_year", "lesion", "anisotropic")):
        grid = empty_grid(grid)
        sitk.WriteImage(volume(grid), f"{name}.nii.gz")
        sitk.WriteImage(on_grid((body_depth(points_of(grid)) > 12.0).astype(np.uint8), grid), f"{lesion}.nrrd")
    write_points(Path("clips.mrk.json"), Landmarks(("clip",), np.ones((1, 3))))
    assert run("follow-up.md") == ["register", "apply", "apply", "evaluate"]
    for name in ("lesion_today.nrrd", "clips_today.mrk.json", "result/expected_error_mm.nrrd"):
        assert Path(name).is_file()
