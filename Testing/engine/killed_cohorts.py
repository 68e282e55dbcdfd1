"""Twelve small phantom pairs, one of them broken, by the real engine: killed with SIGKILL and resumed until done.

    python Testing/engine/killed_cohorts.py FOLDER --kills 10

prints what differs from a run that was not killed, apart from what `_content` leaves out: times, memory, whether
features came from the cache, and pictures and pages that show such. The tests do it with fewer kills.
"""

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import SimpleITK as sitk

from FoundationRegistrationLib.cli.main import main

BROKEN = "p07"
QUICK = (
    *("--encoder", "mind", "--device", "cpu", "--initialization", "none", "--working-spacing-mm", "12"),
    *("--fluid-iterations", "0", "--jobs", "2", "--progress", "json"),
)
_MOST_LINES = 40  # of progress until a kill; all pairs together tell about 120
_TIMED = ("made", "timings_seconds", "peak_memory_bytes", "start")  # of a report; a start is told by its file's hash
_SHOWING_TIMES = ("overview.png", "pair.js", "data.js", "index.html")


def make_table(folder):
    """Write three phantoms and a table with four rows for each, unlike in a setting; one has a broken volume."""
    lines = ["fixed,moving,name,iterations,site"]
    for seed in range(3):
        phantom = ("phantom", "longitudinal", "--seed", str(seed), "--output", str(folder / f"s{seed}"))
        assert main((*phantom, "--spacing-mm", "12", "--difficulty", "easy")) == 0
        lines += [
            f"s{seed}/fixed.nii.gz,s{seed}/moving.nii.gz,p{4 * seed + row:02},{row + 1},{'AB'[row % 2]}"
            for row in range(4)
        ]
    (folder / "broken.nii.gz").write_bytes((folder / "s0" / "fixed.nii.gz").read_bytes()[:500])
    lines = [line.replace("s1/fixed", "broken") if BROKEN in line else line for line in lines]
    (folder / "cohort.csv").write_text("\n".join(lines) + "\n")
    return folder / "cohort.csv"


def start(table, output):
    command = [
        sys.executable,
        "-m",
        "FoundationRegistrationLib",
        "cohort",
        str(table),
        "--output",
        str(output),
        *QUICK,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def run_killed(table, output, kills, seed):
    """Run a cohort to its end, killed on the way; returns its exit code and after which lines it was killed.

    Each kill comes after a random number of lines of progress, and ends the command alone, whose workers then end
    themselves, or its workers with it.
    """
    draw = random.Random(seed)
    moments = []
    while True:
        process = start(table, output)
        lines = draw.randrange(_MOST_LINES) if len(moments) < kills else None
        with process:
            for number, _ in enumerate(process.stdout):
                if number == lines:
                    alone = draw.random() < 0.5
                    (os.kill if alone else os.killpg)(process.pid, signal.SIGKILL)
                    moments.append((number, "alone" if alone else "with workers"))
        if lines is None or process.returncode >= 0:
            return process.returncode, moments


def end_state(output):
    """Return all files of a cohort by name, without times and what follows from them."""
    return {
        path.relative_to(output).as_posix(): _content(path) for path in sorted(output.rglob("*")) if path.is_file()
    }


def _content(path):
    if path.name in _SHOWING_TIMES:
        return ""
    if path.suffix == ".h5":  # HDF5 keeps the time of each part
        transform = sitk.ReadTransform(str(path))
        return transform.GetName(), transform.GetParameters(), transform.GetFixedParameters()
    if path.name == "pair.json":
        return {**json.loads(path.read_text()), "seconds": 0}
    if path.name == "report.json":
        report = json.loads(path.read_text())
        report["metrics"].pop("features_from_cache")
        return {name: value for name, value in report.items() if name not in _TIMED}
    if path.name == "pairs.csv":
        return [{**row, "seconds": ""} for row in csv.DictReader(path.read_text().splitlines())]
    if path.name == "summary.md":
        return [line for line in path.read_text().splitlines() if not line.startswith("| seconds")]
    if path.name == "provenance.json":
        return {**json.loads(path.read_text()), "command": []}
    return path.read_bytes()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="an empty folder")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    given = make_table(arguments.folder)
    states = {}
    for name, kills in (("whole", 0), ("killed", arguments.kills)):
        told = run_killed(given, arguments.folder / name, kills, arguments.seed)
        sys.stdout.write(f"{name}: exit code {told[0]}, killed after lines of progress: {told[1]}\n")
        states[name] = end_state(arguments.folder / name)
    whole, killed = states.values()
    differing = sorted(name for name in whole.keys() | killed.keys() if whole.get(name) != killed.get(name))
    sys.stdout.write(f"{len(whole)} files, of which differ: {', '.join(differing) or 'none'}\n")
