"""What earlier runs on the machine say of the next one: time of each step, memory, and only for runs of its kind."""

import json
import subprocess
import sys

import pytest

from FoundationRegistrationLib.pipeline.estimate import history
from FoundationRegistrationLib.pipeline.estimate.history import PastRun, expected_run, kind_of, remember, voxels_of
from FoundationRegistrationLib.pipeline.method import Method
from FoundationRegistrationLib.settings import Settings

SETTINGS = Settings(encoder="mind", working_spacing_mm=2.0, slice_gap=6)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FOUNDATION_REGISTRATION_CACHE", str(tmp_path))
    return tmp_path


def run(voxels=1e6, seconds=40.0, starting=4.0, settings=SETTINGS, memory=3e9, grid=0):
    steps = {"reading": starting, "encoding": seconds - starting}
    return PastRun(kind_of(settings), grid, voxels, memory, steps)


@pytest.mark.parametrize(
    "changes",
    [
        {"encoder": "litemedsam"},
        {"detail_encoder": "litemedsam"},
        {"device": "cuda"},
        {"slice_gap": 1},
        {"stages": "rigid"},
    ],
)
def test_only_runs_of_the_same_kind_tell(changes):
    assert expected_run(SETTINGS, 1e6) is None
    remember(run(settings=Settings(**{"encoder": "mind", "working_spacing_mm": 2.0, "slice_gap": 6, **changes})))
    assert expected_run(SETTINGS, 1e6) is None
    remember(run())
    assert expected_run(SETTINGS, 1e6).runs == 1


def test_another_number_of_threads_is_another_kind(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    remember(run())
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert expected_run(SETTINGS, 1e6) is None


def test_runs_of_one_size_are_scaled_by_the_voxels():
    for seconds in (40.0, 60.0, 50.0):
        remember(run(seconds=seconds))
    expected = expected_run(SETTINGS, 3e6)
    assert (expected.seconds, expected.memory_bytes, expected.runs) == pytest.approx((142.0, 9e9, 3)), (
        "loading libraries takes as long as ever"
    )
    assert expected_run(SETTINGS, 1e5).memory_bytes == 3e9, "libraries and models do not shrink"


def test_runs_of_several_sizes_tell_what_does_not_depend_on_the_voxels():
    for voxels, seconds in ((1e6, 40.0), (3e6, 60.0)):
        remember(run(voxels, seconds))
    expected = expected_run(SETTINGS, 5e6)
    assert expected.seconds == pytest.approx(80.0)
    assert expected.steps == pytest.approx({"reading": 4.0, "encoding": 76.0})


def test_runs_of_much_the_same_size_do_not_tell_what_larger_ones_take():
    """A line through these two would have encoding take 36 - 200 s."""
    for voxels, seconds in ((1e6, 40.0), (0.95e6, 50.0)):
        remember(run(voxels, seconds))
    assert expected_run(SETTINGS, 2e6).steps["encoding"] == pytest.approx((72.0 + 46.0 / 0.475) / 2)


def test_the_working_grid_tells_more_than_the_field_of_view():
    remember(run(voxels=1e6, grid=1000))
    assert expected_run(SETTINGS, 1e6, 2000).seconds == pytest.approx(76.0)


def test_an_empty_volume_is_not_estimated():
    remember(run())
    assert expected_run(SETTINGS, voxels_of((0, 0, 0), (1.0, 1.0, 1.0), SETTINGS)) is None
    assert voxels_of((200, 100, 20), (1.0, 1.0, 2.0), SETTINGS) == pytest.approx(100 * 50 * 20)


def test_the_last_runs_of_each_kind_are_kept_and_damage_is_survived(folder):
    other = Settings(encoder="litemedsam", working_spacing_mm=2.0, slice_gap=6)
    remember(run(settings=other))
    for number in range(30):
        remember(run(seconds=10.0 + number))
    assert (expected_run(SETTINGS, 1e6).runs, expected_run(other, 1e6).runs) == (20, 1)
    (file,) = folder.iterdir()
    seconds = [sum(each["steps"].values()) for each in json.loads(file.read_text())]
    assert seconds == [40.0, *(20.0 + number for number in range(20))]
    file.write_text("{")
    assert expected_run(SETTINGS, 1e6) is None
    remember(run())
    assert expected_run(SETTINGS, 1e6).runs == 1


def test_steps_with_a_constant_part_are_steps_that_a_run_reports():
    steps = {history.READING, *Method.of(SETTINGS).shares(), history.WRITING}
    assert set(history._CONSTANT) <= steps


def test_a_panel_can_ask_without_torch():
    absent = "import sys; sys.modules.update(dict.fromkeys(['torch', 'SimpleITK', 'scipy', 'sklearn']));"
    subprocess.run([sys.executable, "-c", f"{absent} import {history.__name__}"], check=True)
