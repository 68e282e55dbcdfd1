"""A cohort on a cluster: its workflow by Snakemake on this machine, and both ways through a real SLURM."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from cohort_stand_in import COMMAND_LINE, HERE, until
from one_slurm import folder_of, running_slurm, why_no_slurm
from test_cohort_runs import Cohort, times

from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.cohort import workers
from FoundationRegistrationLib.cohort.cluster import snakemake
from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.weights.store import CACHE_VARIABLE, WEIGHTS_VARIABLE

ROOT = Path(__file__).parents[2]


def why_no_snakemake(*plugins):
    """Why the workflow cannot be run; empty if it can."""
    if os.name == "nt":
        return "the workflow's commands are those of POSIX"
    try:
        command = snakemake.snakemake_program()
    except InputError:
        return "Snakemake is not installed; the extra `cluster` has it"
    if not plugins:
        return ""
    options = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False).stdout
    missing = [plugin for plugin in plugins if f"--{plugin}-" not in options]
    return f"Snakemake has no executor {missing[0]}; the extra `cluster` has it" if missing else ""


@pytest.fixture
def counted(tmp_path):
    """Make a cohort of six pairs that write down each time they are registered; one can wait, one fails."""

    def make(**first):
        at_end = f"count {tmp_path / 'counts.txt'}"
        fixed = {name: "\n".join([*first.get(name, ()), at_end]) for name in "abcdef"}
        return Cohort(tmp_path, fixed)

    return make


def counts(cohort):
    return Counter((cohort.folder / "counts.txt").read_text().split())


def once(*names):
    return {f"{name}_fixed.nii": 1 for name in names}


@pytest.fixture
def engine(tmp_path):
    """A program with the name of the command line, whose workers are stand-ins."""
    code = tmp_path / "engine.py"
    code.write_text(f"import sys\nsys.path[:0] = [{str(ROOT)!r}, {str(HERE.parent)!r}]\n{COMMAND_LINE}")
    program = tmp_path / "programs" / "foundation-registration"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, str(code)])} "$@"\n')
    program.chmod(0o755)
    return program


def run_workflow(cohort, engine, *where, options="", environment=None, start=False):
    """Run the packaged workflow directly: its exit code and what it said; or its process."""
    values = [f"table={cohort.table}", f"output={cohort.output}", "pairs_per_job=2", "threads=1", "mem_mb=100"]
    values += [f"command={shlex.quote(str(engine))}", f"options=--encoder mind {options}".strip()]
    command = [*snakemake.snakemake_program(), "--snakefile", str(snakemake.SNAKEFILE), "--keep-going", *where]
    process = subprocess.Popen(
        [*command, "--config", *values],
        cwd=cohort.folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if start:
        return process
    said, _ = process.communicate()
    return process.returncode, said


def sent(said):
    """How many jobs for parts Snakemake has planned."""
    found = re.search(r"^part +(\d+)$", said, re.MULTILINE)
    return int(found[1]) if found else 0


def listed(cohort, capsys, *options, size=4):
    capsys.readouterr()
    assert main(cohort.arguments("--list-parts", str(size), *options)) == 0
    return json.loads(capsys.readouterr().out)


def test_the_workflow_is_where_the_command_says(capsys):
    assert main(["workflow"]) == 0
    assert Path(capsys.readouterr().out.strip()).read_text(encoding="utf-8").startswith("# The pairs of a table")


def test_the_marker_of_a_part_changes_with_its_files_and_settings_alone(counted, capsys):
    cohort = counted()
    before = listed(cohort, capsys)
    assert [name.rsplit("-", 1)[0] for name in before] == ["1-of-2", "2-of-2"] and not cohort.output.exists()
    cohort.table.write_text(cohort.table.read_text().replace("a,A", "a,B"))  # only copied
    assert listed(cohort, capsys) == before
    (cohort.folder / "b_moving.nii").write_text("longer than before" * 9)
    after = listed(cohort, capsys)
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)
    assert not set(listed(cohort, capsys, "--iterations", "3")) & set(after)


def test_markers_without_results_are_removed(counted, capsys, monkeypatch):
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, str(HERE)))
    cohort = counted(b=["fail no tissue"])
    markers = listed(cohort, capsys, size=2)
    folder = cohort.output / ".parts"
    folder.mkdir(parents=True)

    def left(*options):
        for name in (*markers, "1-of-9-0123.done"):
            (folder / name).touch()
        listed(cohort, capsys, "--tidy-parts", *options, size=2)
        return sorted(path.name[0] for path in folder.iterdir())

    assert left() == []
    assert cohort.run() == 1
    assert left() == ["1", "2", "3"]
    assert left("--retry-failed") == ["1", "3"]
    (cohort.output / "c" / "warped.nii.gz").unlink()
    assert left() == ["1", "2"]


def test_the_summary_alone_names_what_is_not_done(counted, capfd, monkeypatch):
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, str(HERE)))
    cohort = counted(a=["fail no tissue"])
    assert cohort.run("--part", "1/2") == 1
    before = times(cohort)
    (cohort.output / "pairs.csv").unlink()
    capfd.readouterr()
    assert cohort.run("--summary-only") == 1
    assert capfd.readouterr().err.splitlines() == [
        "a: failed: no tissue",
        *(f"{name}: waiting" for name in "bdf"),
        f"4 pairs are not done. See '{cohort.output / 'pairs.csv'}'.",
    ]
    assert list(cohort.states().values()).count("done") == 2 and times(cohort) == before
    (cohort.folder / "a_fixed.nii").write_text("")
    assert cohort.run() == cohort.run("--summary-only") == 0


def test_what_does_not_go_together_is_told(counted, capfd, monkeypatch):
    cohort = counted()
    for option in ("--no-resume", "--part=1/2", "--evaluate-only"):
        assert cohort.run("--engine", "snakemake", option) == 2
        assert f"{option.split('=')[0]} does not go with --engine snakemake" in capfd.readouterr().err
    assert cohort.run("--engine", "snakemake", "--pairs-per-job", "0") == 2
    assert cohort.run("--engine", "snakemake", "--profile", "nowhere") == 2
    assert "--profile is 'nowhere'" in capfd.readouterr().err
    monkeypatch.setattr(snakemake.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(snakemake.shutil, "which", lambda name: None)
    assert cohort.run("--engine", "snakemake") == 2
    assert "pip install 'FoundationRegistration[cluster]'" in capfd.readouterr().err
    assert not cohort.output.exists()


def test_a_failed_pair_stops_no_part_and_only_what_is_left_is_sent_again(counted, engine):
    if reason := why_no_snakemake():
        pytest.skip(reason)
    cohort = counted(b=["fail no tissue"])
    code, said = run_workflow(cohort, engine, "--cores", "2")
    assert code == 1 and "b: failed: no tissue\n1 pair is not done." in said and sent(said) == 3
    assert cohort.states() == {name: "failed" if name == "b" else "done" for name in "abcdef"}
    assert "6 pairs: 5 done, 1 failed" in (cohort.output / "summary.md").read_text()
    code, said = run_workflow(cohort, engine, "--cores", "2")
    assert (code, sent(said)) == (1, 0)
    (cohort.folder / "b_fixed.nii").write_text(f"count {cohort.folder / 'counts.txt'}")
    code, said = run_workflow(cohort, engine, "--cores", "2")
    assert (code, sent(said)) == (0, 1), said
    assert counts(cohort) == once(*"abcdef")


def test_a_wrong_table_is_told_before_a_job_is_sent(counted, engine):
    if reason := why_no_snakemake():
        pytest.skip(reason)
    cohort = counted()
    (cohort.folder / "c_moving.nii").unlink()
    code, said = run_workflow(cohort, engine, "--cores", "1")
    assert code == 1 and "line 4, moving: no file" in said and "Nothing was registered" in said
    assert not cohort.output.exists()


def test_the_command_runs_the_workflow(counted, engine, monkeypatch, capfd):
    if reason := why_no_snakemake():
        pytest.skip(reason)
    cohort = counted(d=["fail no tissue"])
    monkeypatch.chdir(cohort.folder)
    monkeypatch.setattr(snakemake, "COMMAND", (str(engine),))
    assert cohort.run("--engine", "snakemake", "--pairs-per-job", "3", "--group", "site", "--iterations", "7") == 1
    said = capfd.readouterr()
    assert sent(said.out + said.err) == 2 and "d: failed: no tissue" in said.out + said.err
    assert "site: A" in (cohort.output / "summary.md").read_text()
    report = json.loads((cohort.output / "a" / "report.json").read_text())
    assert "--iterations=7" in report["arguments"]


def test_values_of_a_profile_are_kept_and_ctrl_c_ends_all(counted, engine, tmp_path):
    if reason := why_no_snakemake():
        pytest.skip(reason)
    cohort = counted(a=waiting(tmp_path))
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "config.yaml").write_text("cores: 1\nconfig:\n  pairs_per_job: 6\n  threads: 1\n")
    wrapped = COMMAND_LINE.replace(
        "from FoundationRegistrationLib.cli.main",
        "from FoundationRegistrationLib.cohort.cluster import snakemake\n"
        f"snakemake.COMMAND = ({str(engine)!r},)\nfrom FoundationRegistrationLib.cli.main",
    )
    command = [sys.executable, "-c", wrapped, *cohort.arguments("--engine=snakemake", "--profile=profile")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    until((tmp_path / "begun").exists, "the first pair")
    worker = psutil.Process(int((tmp_path / "begun").read_text()))
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate()
    assert process.returncode == 130 and "The run was stopped; give the same command again" in said, said
    assert sent(said) == 1 and said.count("localrule part") == 1
    until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, "the end of the worker")
    assert not (cohort.output / "a" / "pair.json").exists()


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if reason := why_no_slurm():
        pytest.skip(reason)
    with running_slurm(folder_of(tmp_path_factory)) as slurm:
        yield slurm


def waiting(folder):
    """What a pair does that waits until the test lets it go on."""
    return [f"begun {folder / 'begun'}", f"wait {folder / 'go'}"]


def test_an_array_of_slurm_loses_nothing_and_does_nothing_twice(slurm, counted, engine, tmp_path):
    """The script of the documentation, one of whose jobs is killed in the middle."""
    cohort = counted(b=waiting(tmp_path), f=["fail no tissue"])
    page = ROOT / "Resources" / "Documentation" / "pages" / "cluster.md"
    script = re.search(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)[1]
    script = script.replace("cohort.csv --output result", f"{cohort.table} --output {cohort.output} --encoder mind")
    (tmp_path / "cohort.sh").write_text(script)
    slurm.environment["PATH"] = os.pathsep.join((str(engine.parent), slurm.environment["PATH"]))
    submit = ("--parsable", "--array=1-3", "cohort.sh")

    array = slurm.ask("sbatch", *submit, cwd=tmp_path)
    until((tmp_path / "begun").exists, "the pair that waits")
    until(lambda: slurm.jobs() == [f"{array}_2"], "the other jobs")
    slurm.ask("scancel", "--full", "--signal=KILL", f"{array}_2")
    until(lambda: not slurm.jobs(), "the killed job")
    assert counts(cohort) == once(*"acd")
    (tmp_path / "go").touch()
    slurm.ask("sbatch", *submit, cwd=tmp_path)
    until(lambda: not slurm.jobs(), "all jobs")
    assert counts(cohort) == once(*"abcde")
    assert cohort.states() == {name: "failed" if name == "f" else "done" for name in "abcdef"}


def test_the_workflow_on_slurm_loses_nothing_and_does_nothing_twice(slurm, counted, engine, tmp_path):
    if reason := why_no_snakemake("slurm"):
        pytest.skip(reason)
    cohort = counted(b=waiting(tmp_path), f=["fail no tissue"])
    quickly = ("--slurm-init-seconds-before-status-checks", "1", "--slurm-status-command", "squeue")
    where = ("--executor", "slurm", "--jobs", "3", *quickly)

    process = run_workflow(cohort, engine, *where, environment=slurm.environment, start=True)
    until((tmp_path / "begun").exists, "the pair that waits")
    until(lambda: len(slurm.jobs()) == 1, "the other jobs")
    slurm.ask("scancel", *slurm.jobs())
    said, _ = process.communicate()
    assert process.returncode == 1, said
    assert counts(cohort) == once(*"acd")
    (tmp_path / "go").touch()
    code, said = run_workflow(cohort, engine, *where, environment=slurm.environment)
    assert code == 1 and sent(said) == 1 and "f: failed: no tissue\n1 pair is not done." in said
    assert counts(cohort) == once(*"abcde")
    (tmp_path / "f_fixed.nii").write_text("")
    code, said = run_workflow(cohort, engine, "--cores", "1")
    assert code == 0, said


def test_the_containers_copy_what_is_there_and_name_the_folders_of_weights():
    for name in ("Dockerfile", "Apptainer.def"):
        text = (ROOT / "Resources" / "Container" / name).read_text(encoding="utf-8")
        copied = set(re.findall(r"pyproject\.toml|README\.md|LICENSE|FoundationRegistrationLib(?= /source)", text))
        assert len(copied) == 4 and all((ROOT / path).exists() for path in copied), name
        assert f"{WEIGHTS_VARIABLE}=/weights" in text
        assert "FOUNDATION_REGISTRATION_CACHE" not in text or f"{CACHE_VARIABLE}=/tmp/" in text


def test_snakemake_is_not_loaded_to_register():
    assert find_spec("FoundationRegistrationLib.cohort.cluster.snakemake") is not None
    code = "import sys, FoundationRegistrationLib.cli.main; sys.exit('snakemake' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
