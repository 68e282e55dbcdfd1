"""One method in a process of its own: reads a folder that `runner.py` wrote, leaves a transform and figures there.

python -m comparison.single METHOD FOLDER
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import SimpleITK as sitk

from .methods import Task, chosen_methods

TASK_FILE, OUTCOME_FILE, TRANSFORM_FILE = "task.json", "outcome.json", "transform.h5"


def main(name: str, folder: Path) -> None:
    """Run a method on the task in a folder; the time counts from the volumes in memory to the transform."""
    told = json.loads((folder / TASK_FILE).read_text(encoding="utf-8"))
    lesion = folder / "lesion.mha"
    method = chosen_methods([name])[0]
    with tempfile.TemporaryDirectory(dir=folder) as own:
        os.environ["FOUNDATION_REGISTRATION_CACHE"] = f"{own}/features"  # no run profits from one before it
        task = Task(
            fixed=sitk.ReadImage(str(folder / "fixed.mha")),
            moving=sitk.ReadImage(str(folder / "moving.mha")),
            start=sitk.AffineTransform(sitk.ReadTransform(str(folder / "start.tfm"))),
            preset=told["preset"],
            spacing_mm=told["spacing_mm"],
            lesion=sitk.ReadImage(str(lesion)) if lesion.is_file() else None,
            folder=Path(own),
            peers=Path(told["peers"]),
            threads=told["threads"],
            fixed_mask=sitk.ReadImage(str(folder / "fixed_mask.mha")),
        )
        began, cpu_began = time.perf_counter(), _cpu_seconds()
        found = method.run(task)
        seconds, cpu_seconds = time.perf_counter() - began, _cpu_seconds() - cpu_began
    sitk.WriteTransform(found.transform, str(folder / TRANSFORM_FILE))
    outcome = {"seconds": seconds, "cpu_seconds": cpu_seconds, "messages": found.messages, "figures": found.figures}
    (folder / OUTCOME_FILE).write_text(json.dumps(outcome), encoding="utf-8")


def _cpu_seconds() -> float:
    """Return the processor time of this process, all its threads, and of the programs it started that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
