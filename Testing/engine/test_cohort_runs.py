"""Many pairs by stand-in workers: resuming, failures, kills, parts and runs beside each other."""

import csv
import json
import os
import signal
import subprocess
import sys

import psutil
import pytest
from cohort_stand_in import COMMAND_LINE, HERE, until

from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.cohort import runner, workers
from FoundationRegistrationLib.errors import InputError

KILL = getattr(signal, "SIGKILL", 9)  # not on Windows
POSIX = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, str(HERE)))


class Cohort:
    """A table with a row for each of some fixed files, and what runs on it."""

    def __init__(self, folder, fixed):
        self.folder, self.output, self.table = folder, folder / "out", folder / "table.csv"
        lines = ["fixed,moving,name,site"]
        for number, (name, content) in enumerate(fixed.items()):
            (folder / f"{name}_fixed.nii").write_text(content)
            (folder / f"{name}_moving.nii").write_text("m" * (number + 51))
            lines.append(f"{name}_fixed.nii,{name}_moving.nii,{name},{'AB'[number % 2]}")
        self.table.write_text("\n".join(lines) + "\n")

    def arguments(self, *options):
        return ["cohort", str(self.table), "--output", str(self.output), "--encoder", "mind", *options]

    def run(self, *options, progress="none"):
        return main(self.arguments("--progress", progress, *options))

    def start(self, *options):
        """Start the command in a process of its own."""
        command = [sys.executable, "-c", COMMAND_LINE, *self.arguments("--progress", "json", *options)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def rows(self):
        with (self.output / "pairs.csv").open(newline="", encoding="utf-8") as file:
            return {row["name"]: row for row in csv.DictReader(file)}

    def states(self):
        return {name: row["state"] for name, row in self.rows().items()}


def content(folder):
    """All files of a cohort without what is told of times and of the command."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_dir():
            continue
        text = path.read_text(encoding="utf-8")
        if path.suffix in (".js", ".html"):  # of the page, which shows the times too
            text = ""
        elif path.name == "pair.json":
            text = {**json.loads(text), "seconds": 0, "made_with": []}
        elif path.name == "pairs.csv":
            text = [{**row, "seconds": ""} for row in csv.DictReader(text.splitlines())]
        elif path.name == "summary.md":
            text = [line for line in text.splitlines() if not line.startswith("| seconds")]
        elif path.name == "provenance.json":
            text = {**json.loads(text), "command": []}
        elif path.name == "report.json":
            text = {**json.loads(text), "arguments": []}
        found[str(path.relative_to(folder))] = text
    return found


def test_a_failed_pair_and_a_killed_process_stop_no_other_and_are_named(tmp_path, capfd):
    cohort = Cohort(tmp_path, {"a": "", "b": "fail no tissue in it", "c": "kill", "d": "say noise"})
    assert cohort.run() == 1
    told = capfd.readouterr().err
    assert cohort.states() == {"a": "done", "b": "failed", "c": "failed", "d": "done"}
    rows = cohort.rows()
    assert rows["b"]["error"] == "no tissue in it" and "b: failed: no tissue in it" in told
    assert ("lack of memory" if os.name != "nt" else "ended before") in rows["c"]["error"]
    assert (cohort.output / "b" / "log.txt").read_text() == "why it failed\n"
    assert not (cohort.output / "a" / "log.txt").exists()
    assert "2 pairs failed" in told and "2 registered now" in told
    record = json.loads((cohort.output / "d" / "pair.json").read_text())
    told = {"name", "line", "state", "error", "key", "made_with", "seconds", "fixed", "moving", "columns"}
    assert set(record) == told
    assert (record["line"], record["state"], record["columns"]) == (5, "done", {"site": "B"})
    assert rows["a"]["verdict"] == "good" and float(rows["a"]["mean_dice_after"]) == 0.51
    assert rows["a"]["folder"] == "a" and rows["a"]["site"] == "A"
    summary = (cohort.output / "summary.md").read_text()
    assert "4 pairs: 2 done, 2 failed, 0 waiting." in summary and "2 good" in summary


def times(cohort):
    return {path.parent.name: path.stat().st_mtime_ns for path in cohort.output.glob("*/report.json")}


def test_only_what_has_changed_is_done_again(tmp_path, capfd):
    cohort = Cohort(tmp_path, {"a": "", "b": "", "c": "fail once", "d": ""})
    assert cohort.run() == 1
    before = times(cohort)
    (tmp_path / "b_moving.nii").write_text("other")
    (cohort.output / "d" / "warped.nii.gz").unlink()
    assert cohort.run() == 1
    after = times(cohort)
    assert {name for name in after if before[name] != after[name]} == {"b", "d"}
    assert "only with --retry-failed" in capfd.readouterr().err
    (tmp_path / "c_fixed.nii").write_text("")  # repaired, so it is tried again
    assert cohort.run() == 0
    assert cohort.states()["c"] == "done" and not (cohort.output / "c" / "log.txt").exists()
    before = times(cohort)
    assert cohort.run("--iterations", "7") == 0  # another setting
    assert all(before[name] != time for name, time in times(cohort).items())
    before = times(cohort)
    assert cohort.run("--iterations", "7", "--no-resume") == 0
    assert all(before[name] != time for name, time in times(cohort).items())


def test_a_pair_that_fails_now_keeps_no_results_of_earlier_inputs(tmp_path):
    cohort = Cohort(tmp_path, {"a": ""})
    assert cohort.run() == 0
    (tmp_path / "a_fixed.nii").write_text("fail now")
    assert cohort.run() == 1
    assert {path.name for path in (cohort.output / "a").iterdir()} == {"pair.json", "log.txt", "page"}
    assert [path.name for path in (cohort.output / "a" / "page").iterdir()] == ["pair.js"]
    assert cohort.rows()["a"]["mean_dice_after"] == ""


def test_a_summary_takes_no_result_of_other_files_or_settings(tmp_path, capfd):
    cohort = Cohort(tmp_path, {"a": "", "b": "", "c": ""})
    assert cohort.run() == 0
    done = {"a": "done", "b": "done", "c": "done"}
    assert cohort.run("--summary-only") == 0 and cohort.states() == done
    assert cohort.run("--summary-only", "--iterations", "7") == 1
    assert cohort.states() == dict.fromkeys(done, "waiting")
    assert "3 pairs are not done" in capfd.readouterr().err
    copy = (tmp_path / "a_moving.nii").read_text()
    (tmp_path / "a_moving.nii").write_text("other")
    assert cohort.run("--summary-only") == 1
    assert cohort.states() == {**done, "a": "waiting"}
    assert cohort.run("--part", "2/3") == 0  # b; a is not in it
    assert cohort.states() == {**done, "a": "waiting"}
    (tmp_path / "a_moving.nii").write_text(copy)  # the same again, at another time
    assert cohort.run("--summary-only") == 0 and cohort.states() == done


def test_a_file_edited_while_its_pair_is_registered_is_not_taken_as_registered(tmp_path, monkeypatch):
    cohort = Cohort(tmp_path, {"a": ""})
    work = workers.Worker.run

    def edited_meanwhile(worker, job, report):
        if "commands" in job:
            (tmp_path / "a_moving.nii").write_text("edited")
        return work(worker, job, report)

    monkeypatch.setattr(workers.Worker, "run", edited_meanwhile)
    assert cohort.run() == 0
    assert cohort.states() == {"a": "waiting"}


def test_a_finished_pair_is_not_lost_when_its_files_cannot_be_read_for_a_moment(tmp_path, monkeypatch, capfd):
    cohort = Cohort(tmp_path, {"a": "", "b": ""})
    assert cohort.run() == 0
    before = content(cohort.output / "a")
    reachable = runner.key_of

    def share_is_lost(pair):
        if pair.name == "a":
            raise InputError("'a_fixed.nii' cannot be read.")
        return reachable(pair)

    monkeypatch.setattr(runner, "key_of", share_is_lost)
    assert cohort.run() == 1
    assert "a: failed: 'a_fixed.nii' cannot be read." in capfd.readouterr().err
    assert content(cohort.output / "a") == before


def test_failed_pairs_are_tried_again_on_request_and_the_table_is_followed(tmp_path):
    cohort = Cohort(tmp_path, {"a": "", "b": f"wait {tmp_path / 'there'}"})
    (tmp_path / "b_fixed.nii").write_text("fail")
    assert cohort.run() == 1
    cohort.table.write_text(cohort.table.read_text().replace("a,A", "a,C"))
    before = times(cohort)
    assert cohort.run("--retry-failed") == 1
    assert times(cohort) == before and cohort.rows()["a"]["site"] == "C"


def test_what_a_reader_rated_redo_is_registered_again_and_nothing_else(tmp_path, capfd):
    cohort = Cohort(tmp_path, {"a": "", "b": "", "c": ""})
    assert cohort.run() == 0
    before, ratings = times(cohort), tmp_path / "ratings.csv"
    ratings.write_text("name,rating,note\na,accept,\nb,redo,slides\nc,,\n")
    assert cohort.run("--redo", str(ratings)) == 0
    after = times(cohort)
    assert [name for name in before if after[name] != before[name]] == ["b"]
    assert list(cohort.states().values()) == ["done"] * 3
    capfd.readouterr()
    for content, words in (("a,accept,\n", "rates no pair"), ("d,redo,\n", "'d', which is not"), ("", "no columns")):
        ratings.write_text(("name,rating,note\n" if content else "pair\n") + content)
        assert cohort.run("--redo", str(ratings)) == 2
        assert words in capfd.readouterr().err


def test_each_row_is_in_one_part(tmp_path):
    cohort = Cohort(tmp_path, {f"p{number}": "" for number in range(7)})
    seen = []
    for part in range(1, 4):
        assert cohort.run("--part", f"{part}/3", "--jobs", "2") == 0
        seen.append({name for name, state in cohort.states().items() if state == "done"})
    assert len(seen[0]) == 3 and seen[0] < seen[1] < seen[2] and len(seen[2]) == 7
    assert cohort.run("--part", "9/9") == 0  # more parts than rows
    assert cohort.run("--part", "4/3") == cohort.run("--part", "0/3") == cohort.run("--part", "x") == 2


def test_progress_for_programs(tmp_path, capfd):
    cohort = Cohort(tmp_path, {"a": "", "b": "fail why"})
    assert cohort.run(progress="json") == 1
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    steps = [event for event in events if event["event"] == "progress"]
    assert [event["fraction"] for event in steps] == sorted(event["fraction"] for event in steps)
    assert {"a: work", "b: work"} <= {event["step"] for event in steps}
    ends = [(event["pair"], event["state"], event["error"]) for event in events if event["event"] == "pair"]
    assert ends == [("a", "done", ""), ("b", "failed", "why")]
    assert events[-1]["event"] == "done" and events[-1]["failed"] == 1
    assert cohort.run(progress="json") == 1
    last = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert last["failed"] == 1 and last["counts"] == {"kept": 1, "still failed": 1}


def test_progress_for_people_is_a_line_for_each_pair(tmp_path, capfd):
    cohort = Cohort(tmp_path, {"a": "", "b": "fail why"})
    assert cohort.run(progress="bar") == 1
    told = capfd.readouterr().err
    assert "a: verdict good, " in told and "b: failed: why" in told


def test_workers_share_processors_and_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    found = workers.environments(3, with_gpus=True)
    assert [each["CUDA_VISIBLE_DEVICES"] for each in found] == ["2", "5", "2"]
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    for threads, given in (("2", {}), ("1", {"OMP_NUM_THREADS": "1"})):
        monkeypatch.setattr(workers.os, "environ", {**os.environ, **given})
        for each in workers.environments(3, with_gpus=True):
            assert (each["OMP_NUM_THREADS"], each["MKL_NUM_THREADS"]) == (threads, threads)
    for one in workers.environments(3, with_gpus=False)[:1] + workers.environments(1, with_gpus=True):
        assert one["CUDA_VISIBLE_DEVICES"] == "2, 5"


def test_the_other_file_of_a_format_in_two_files_counts_too(tmp_path):
    cohort = Cohort(tmp_path, {"a": ""})
    for name in ("a_moving.hdr", "a_moving.img"):
        (tmp_path / name).write_text("then")
    cohort.table.write_text(cohort.table.read_text().replace("a_moving.nii", "a_moving.hdr"))
    assert cohort.run() == 0
    before = times(cohort)
    (tmp_path / "a_moving.img").write_text("now")
    assert cohort.run() == 0
    assert times(cohort) != before


@POSIX
def test_a_run_killed_at_any_moment_and_resumed_ends_like_one_that_was_not(tmp_path):
    fixed = {f"p{number}": "" for number in range(6)} | {"bad": "fail why"}
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = Cohort(tmp_path / "whole", fixed)
    assert whole.run() == 1
    killed = Cohort(tmp_path / "killed", fixed)
    for count in (1, 1, 3, 5):  # so many pairs have a record, and others have begun
        run = killed.start("--jobs", "2")
        until(lambda count=count: len(list(killed.output.glob("*/pair.json"))) >= count, "records")
        run.kill()
        run.communicate()
        records = {path: path.stat().st_mtime_ns for path in killed.output.glob("*/pair.json")}
        assert all(json.loads(path.read_text())["state"] in ("done", "failed") for path in records)
    assert killed.run("--jobs", "2") == 1
    assert all(path.stat().st_mtime_ns == time for path, time in records.items())  # done once
    expected = content(whole.output)
    expected = json.loads(json.dumps(expected).replace(str(whole.folder), str(killed.folder)))
    assert content(killed.output) == expected


def has_ended(process_id):
    try:
        return psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, KILL])
def test_a_signal_ends_all_processes_and_no_finished_pair_is_lost(tmp_path, number):
    go = tmp_path / "go"
    fixed = {"a": "", "b": f"begun {tmp_path / 'begun'}\nwait {go}"}
    cohort = Cohort(tmp_path, fixed)
    run = cohort.start()
    until((tmp_path / "begun").exists, "second pair")
    worker = int((tmp_path / "begun").read_text())
    run.send_signal(number)
    _, told = run.communicate(timeout=60)
    until(lambda: has_ended(worker), "end of the worker")
    assert run.returncode == (-number if number == KILL else 128 + number)
    if number != KILL:
        assert "done and kept: 1;" in told
        assert cohort.states() == {"a": "done", "b": "waiting"}
    assert not (cohort.output / "b" / "pair.json").exists()
    before = times(cohort)
    go.touch()
    assert cohort.run() == 0
    assert cohort.states() == {"a": "done", "b": "done"}
    assert times(cohort)["a"] == before["a"]


@POSIX
def test_two_runs_into_one_folder_do_each_pair_once(tmp_path):
    begun, go = tmp_path / "begun", tmp_path / "go"
    fixed = {"first": f"begun {begun}\nwait {go}", **{f"p{number}": "" for number in range(4)}}
    cohort = Cohort(tmp_path, fixed)
    one = cohort.start()
    until(begun.exists, "first pair")
    other = cohort.start()
    out, _ = other.communicate(timeout=60)
    assert other.returncode == 0
    ends = {event["pair"]: event["state"] for event in map(json.loads, out.splitlines()) if event["event"] == "pair"}
    assert ends == {"first": "held", **{f"p{number}": "done" for number in range(4)}}
    assert cohort.states()["first"] == "waiting"
    before = times(cohort)
    go.touch()
    one.communicate(timeout=60)
    assert one.returncode == 0
    assert set(cohort.states().values()) == {"done"}
    assert {name: time for name, time in times(cohort).items() if name != "first"} == before


def test_what_is_in_the_way_is_refused_and_nothing_is_written(tmp_path, capfd):
    cohort = Cohort(tmp_path, {"a": ""})
    cohort.output.write_text("a file")
    assert cohort.run() == 2
    cohort.output.unlink()
    assert cohort.run("--jobs", "0") == cohort.run("--group", "clinic") == 2
    assert main(["cohort", str(cohort.table), "--encoder", "mind", "--progress", "none"]) == 2
    assert not cohort.output.exists()
    (cohort.output / "pairs.csv").mkdir(parents=True)
    assert cohort.run() == 2
    told = capfd.readouterr().err
    for words in (
        "is a file and in the way",
        "at least 1",
        "its further columns: site",
        "is a folder and in the way",
    ):
        assert words in told
    assert [path.name for path in cohort.output.iterdir()] == ["pairs.csv"]


def test_the_figures_of_two_cohorts_are_compared_pair_by_pair(tmp_path, capfd):
    folders = []
    for name, longer in (("one", 0), ("two", 5)):
        (tmp_path / name).mkdir()
        cohort = Cohort(tmp_path / name, {f"p{number}": "" for number in range(8)})
        for number in range(8):
            (cohort.folder / f"p{number}_moving.nii").write_text("m" * (50 + number + (longer if number else -1)))
        assert cohort.run("--group", "site") == 0
        assert "## site: B" in (cohort.output / "summary.md").read_text()
        folders.append(str(cohort.output))
    capfd.readouterr()
    assert main(["compare", *folders, "--json"]) == 0
    before, after = json.loads(capfd.readouterr().out)
    assert (before["figure"], before["difference"], before["p"]) == ("mean_dice_before", 0.0, 1.0)
    assert after["pairs"] == 8 and after["difference"] == pytest.approx(7 * 0.05 / 8)
    assert after["low"] < after["difference"] < after["high"] and after["p_holm"] == pytest.approx(2 * after["p"])
    assert main(["compare", *folders, "--figure", "mean_dice_after"]) == 0
    assert "| mean_dice_after | 8 |" in capfd.readouterr().out
    assert main(["compare", *folders, "--figure", "tre_mm_after"]) == 2
    assert main(["compare", folders[0], str(tmp_path)]) == 2
