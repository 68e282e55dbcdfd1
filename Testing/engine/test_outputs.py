"""What is written appears whole or not at all, whatever ends the run; JSON is strict."""

import contextlib
import errno
import json
import math
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from faults import largest_file

from FoundationRegistrationLib.errors import InputError, OutputError, RegistrationCancelledError
from FoundationRegistrationLib.files.commit import settle
from FoundationRegistrationLib.files.outputs import complete_or_absent, staged_folder, write_json

ENDS = pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, InputError, ValueError])


def on_disk(folder):
    """Everything below a folder: relative path -> text, None for a folder."""
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_text() for path in folder.rglob("*")
    }


def fill(folder, **texts):
    for name, text in texts.items():
        (folder / name).write_text(text)


def fail_to_move(monkeypatch, name, error):
    """Make the move to a file of this name fail, once the private folder is emptied into the target."""
    move = Path.replace

    def replace(self, target):
        if Path(target).name == name and "replaced" not in str(self):
            raise error
        return move(self, target)

    monkeypatch.setattr(Path, "replace", replace)


# ---- a folder ----


@pytest.mark.parametrize("target", ["out", "a/b/out", "."])
def test_files_appear_only_when_the_block_ends(tmp_path, target):
    target = tmp_path / target
    with staged_folder(target) as staging:
        fill(staging, a="1", b="2")
        (staging / "sub").mkdir()
        fill(staging / "sub", c="3")
        private = staging.parent
        assert private.name.startswith(".foundation-registration-")
        assert set(tmp_path.iterdir()) == {private, private.with_name(f"{private.name}.lock")}
    assert on_disk(target) == {"a": "1", "b": "2", "sub": None, "sub/c": "3"}
    assert {path.name for path in tmp_path.iterdir()} <= {"a", "b", "sub", "out"}


def test_a_relative_target_lies_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with staged_folder("out") as staging:
        fill(staging, a="1")
        monkeypatch.chdir("/")
    assert on_disk(tmp_path) == {"out": None, "out/a": "1"}


def test_older_files_are_replaced_and_others_kept(tmp_path):
    fill(tmp_path, a="old", other="kept")
    with staged_folder(tmp_path) as staging:
        fill(staging, a="new", b="2")
    assert on_disk(tmp_path) == {"a": "new", "b": "2", "other": "kept"}


@ENDS
@pytest.mark.parametrize("target", [".", "new/b/out"])
def test_any_error_leaves_the_disk_as_it_was(tmp_path, end, target):
    fill(tmp_path, a="old")
    with pytest.raises(end), staged_folder(tmp_path / target) as staging:
        fill(staging, a="new", b="2")
        raise end
    assert on_disk(tmp_path) == {"a": "old"}


@pytest.mark.parametrize("target", ["file", "file/out", "file/a/b", "link", "x" * 300, "new/" + "x" * 300])
def test_a_target_that_cannot_be_made_is_refused_before_the_block(tmp_path, target):
    fill(tmp_path, file="text")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.iterdir())
    with (
        pytest.raises(OutputError, match="choose another folder") as caught,
        staged_folder(tmp_path / target),
    ):
        pytest.fail("the block must not run")
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_one_may_not_write_to_is_refused_before_the_block(tmp_path, monkeypatch):
    def refuse(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with (
        pytest.raises(OutputError, match=r"Read-only file system\); choose another folder"),
        staged_folder(tmp_path / "out"),
    ):
        pytest.fail("the block must not run")
    assert on_disk(tmp_path) == {}


def test_a_full_disk_while_writing_is_named(tmp_path):
    message = r"out is full .*No space left.*free some space"
    with pytest.raises(OutputError, match=message) as caught, staged_folder(tmp_path / "out") as staging:
        fill(staging, a="1")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "\n" not in str(caught.value)
    assert on_disk(tmp_path) == {}


def test_a_full_disk_is_named_by_the_folder_that_was_asked_for_whatever_writes_into_it(tmp_path):
    message = r"out is full .*No space left.*free some space"
    with pytest.raises(OutputError, match=message) as caught, contextlib.ExitStack() as stack:
        staging = stack.enter_context(staged_folder(tmp_path / "out"))
        unfinished = stack.enter_context(complete_or_absent(staging / "report.json"))
        unfinished.write_text("{")
        raise OSError(errno.ENOSPC, "No space left on device", str(unfinished))
    assert "report.json" not in str(caught.value)
    assert on_disk(tmp_path) == {}


def test_an_error_about_another_file_is_not_called_a_full_disk(tmp_path):
    with pytest.raises(FileNotFoundError, match="input"), staged_folder(tmp_path / "out"):
        (tmp_path / "input").read_text()
    assert on_disk(tmp_path) == {}


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), OutputError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
@pytest.mark.parametrize("existing", [{}, {"a": "old a", "c": "old c", "other": "kept"}])
def test_a_move_that_fails_half_way_is_undone(tmp_path, monkeypatch, error, raised, existing):
    target = tmp_path / "new" / "out"
    if existing:
        target.mkdir(parents=True)
        fill(target, **existing)
    before = on_disk(tmp_path)
    fail_to_move(monkeypatch, "c", error)
    with pytest.raises(raised), staged_folder(target) as staging:
        fill(staging, a="1", b="2", c="3")
    assert on_disk(tmp_path) == before


def test_what_cannot_be_put_back_is_kept_and_the_next_use_puts_all_in_order(tmp_path, monkeypatch):
    fill(tmp_path, a="old", b="old")
    move = Path.replace

    def replace(self, target):
        if Path(target) == tmp_path / "b" or (Path(target) == tmp_path / "a" and "old" in self.parts):
            raise OSError(errno.EIO, "Input/output error")
        return move(self, target)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", replace)
        with (
            pytest.raises(OutputError, match=r"nor the earlier ones restored.*Input/output"),
            staged_folder(tmp_path) as new,
        ):
            fill(new, a="new", b="new")
    assert on_disk(tmp_path) != {"a": "new", "b": "new"}
    settle(tmp_path)
    assert on_disk(tmp_path) == {"a": "new", "b": "new"}


def test_a_folder_in_the_place_of_a_file_is_not_removed(tmp_path):
    (tmp_path / "b").mkdir()
    fill(tmp_path / "b", inside="kept")
    with pytest.raises(OutputError, match="a folder has this name"), staged_folder(tmp_path) as staging:
        fill(staging, a="1", b="2")
    assert on_disk(tmp_path) == {"b": None, "b/inside": "kept"}


@pytest.mark.parametrize("goes_on", ["ends", "writes", "interrupted"])
def test_another_thread_may_remove_the_folder(tmp_path, goes_on):
    fill(tmp_path, a="old")
    expected = KeyboardInterrupt if goes_on == "interrupted" else RegistrationCancelledError
    with pytest.raises(expected), staged_folder(tmp_path / "out") as staging:
        fill(staging, a="1")
        watcher = threading.Thread(target=shutil.rmtree, args=(staging,), kwargs={"ignore_errors": True})
        watcher.start()
        watcher.join()
        if goes_on == "writes":
            fill(staging, b="2")
        if goes_on == "interrupted":
            raise KeyboardInterrupt
    assert on_disk(tmp_path) == {"a": "old"}


# ---- a file ----


@ENDS
def test_an_interrupted_write_keeps_the_old_file(tmp_path, end):
    path = tmp_path / "p.csv"
    path.write_text("old")
    with pytest.raises(end), complete_or_absent(path) as unfinished:
        unfinished.write_text("half")
        raise end
    assert on_disk(tmp_path) == {"p.csv": "old"}


@pytest.mark.parametrize("name", ["taken", "missing/file"])
def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path, name):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match=r"cannot be written .*choose an existing folder"):
        write_json(tmp_path / name, {})
    assert on_disk(tmp_path) == {"taken": None}


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
def test_a_full_disk_keeps_the_old_file(tmp_path):
    path = tmp_path / "r.json"
    write_json(path, {"run": 1})
    before = on_disk(tmp_path)
    with largest_file(1000), pytest.raises(OutputError, match="too large"):
        write_json(path, {"run": "2" * 10_000})
    assert on_disk(tmp_path) == before


# ---- JSON ----


def test_json_takes_what_a_run_produces(tmp_path):
    @dataclass
    class Part:
        name: str
        path: Path

    path = tmp_path / "record.json"
    write_json(
        path,
        {
            "float32": np.float32(0.5),
            "int": np.int64(3),
            "bool": np.bool_(True),
            "array": np.array([[1.0, np.nan], [np.inf, 2.0]]),
            "bad": [math.nan, -math.inf, np.float64("nan")],
            "path": Path("a") / "b.nii.gz",
            "part": Part("größe", Path("c")),
            3: (1, 2),
            "set": {2, 1},
            "none": None,
        },
    )
    text = path.read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "größe" in text
    assert len(text.splitlines()) > 10
    content = json.loads(text)
    assert content["array"] == [[1.0, None], [None, 2.0]]
    assert content["bad"] == [None, None, None]
    assert (content["float32"], content["int"], content["bool"]) == (0.5, 3, True)
    assert content["path"] == str(Path("a") / "b.nii.gz")
    assert content["part"] == {"name": "größe", "path": "c"}
    assert (content["3"], content["set"], content["none"]) == ([1, 2], [1, 2], None)


def test_json_names_what_it_cannot_hold(tmp_path):
    with pytest.raises(InputError, match=r"content\.run\.images\[1\] is a object"):
        write_json(tmp_path / "r.json", {"run": {"images": [1, object()]}})
    assert list(tmp_path.iterdir()) == []
