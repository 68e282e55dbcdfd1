"""The calibration of the phantoms against the paper: what has a record is not made again, and tables are right."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import calibration


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Run the command line with its output in a folder of its own."""

    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["calibration", "--output", str(tmp_path), *arguments])
        calibration.main()

    return run


def write(folder: Path, seed: int, stage: str, **content: float | str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"longitudinal-{seed}-2mm__{stage}.json").write_text(json.dumps(content))


def test_records_that_are_there_make_the_table_and_no_phantom(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(calibration, "make_phantom", pytest.fail)
    for seed, value in ((100, 40.0), (101, 60.0)):
        for stage in calibration.STAGES:
            write(tmp_path / "calibration", seed, stage, breast=value, fibroglandular=20.0, organ=30.0)
    command("--tasks", "longitudinal", "--seeds", "100", "101", "--peers")
    lines = capsys.readouterr().out.splitlines()
    assert "| longitudinal | raw | 2 | 50.0 (10.0) | 49.0 (20.6) | 20.0 (0.0) | 21.2 (16.6) |" in lines[2]
    assert lines[4].startswith("| longitudinal | ceiling | 2 | 50.0 (10.0) | - |")


def test_what_lies_too_far_from_the_paper_is_named():
    near = {"breast": 70.0, "fibroglandular": 30.0, "organ": 55.0}
    peers = {
        "niftyreg-f3d": near | {"breast": 81.0, "fibroglandular": 44.0},
        "ants-syn": near | {"breast": 80.0, "fibroglandular": 45.0, "organ": 57.0},
    }
    lines = calibration.misses({"lesion": [{"affine": near, **peers}, {"affine": near | {"organ": 20.0}, **peers}]})
    assert "- lesion, organ, affine: mean 37.5, paper 53.8" in lines
    assert "- lesion, breast, affine: SD 0.0, paper 15.6" in lines
    assert "- lesion, fibroglandular: order ants-syn, niftyreg-f3d, paper niftyreg-f3d, ants-syn" in lines
    assert len(lines) == 4  # and the affine's SD of fibroglandular tissue


def test_a_method_that_failed_is_not_counted():
    good = {"breast": 80.0, "fibroglandular": 50.0, "organ": 60.0}
    lines = calibration.table({"lesion": [{"ants-syn": good}, {"ants-syn": {"failed": "stopped after 900 s"}}]})
    assert lines[2].startswith("| lesion | ants-syn | 1 | 80.0 (0.0) | 80.5 (10.1) |")


def test_raw_and_ceiling_of_a_pair_need_no_other_program():
    pair = calibration.make_phantom("lesion", 210, spacing_mm=8.0)
    start = calibration.sitk.AffineTransform(3)
    arguments = calibration.argparse.Namespace(spacing_mm=8.0)
    raw, ceiling = (calibration._run(stage, pair, start, arguments) for stage in ("raw", "ceiling"))
    assert 0.0 <= raw["breast"] < ceiling["breast"] <= 100.0
    assert ceiling[calibration.LESION] < 5.0


def test_an_absent_program_is_named_with_the_way_to_get_it(tmp_path):
    pair = calibration.make_phantom("longitudinal", 210, spacing_mm=10.0)
    with pytest.raises(SystemExit, match="reg_aladin is absent; run `make calibration`"):
        calibration.aladin(pair, tmp_path, 1)
