"""Run a method on a case in a process of its own, with a time limit, and tell how it went."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import SimpleITK as sitk

from FoundationRegistrationLib.errors import RegistrationCancelledError

from .case import Case
from .methods import Method
from .single import OUTCOME_FILE, TASK_FILE, TRANSFORM_FILE

_SAMPLE_SECONDS = 0.05
_PACKAGE_PARENT = Path(__file__).resolve().parents[1]
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


@dataclass(frozen=True)
class Limits:
    """What a run may take: seconds on the clock, and threads."""

    seconds: float = 900.0
    threads: int = 2


@dataclass(frozen=True)
class Outcome:
    """How a run went.

    Attributes:
        transform: fixed to moving points, LPS mm; None if the run failed.
        reason: why it failed; empty if it did not.
        seconds: of the method itself, or until it was stopped.
        peak_memory_bytes: largest sum over the process and all it started, resident.
        messages: the method's words for the user.
        figures: the method's own figures.
        cpu_seconds: processor time of the method itself, all threads and programs; None if it did not end well.
    """

    transform: sitk.Transform | None
    reason: str
    seconds: float
    peak_memory_bytes: int
    messages: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    cpu_seconds: float | None = None


def run_method(
    method: Method,
    case: Case,
    start: sitk.AffineTransform,
    peers: Path,
    limits: Limits,
    cancelled: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Run a method; whatever it does, an outcome comes back, and none of its processes is left.

    The truth stays here: no process of a method can find it.

    Raises:
        RegistrationCancelledError: `cancelled`, which is checked often, returned True.
    """
    if method.is_truth:
        return Outcome(case.true_transform, "", 0.0, 0, cpu_seconds=0.0)
    with tempfile.TemporaryDirectory(prefix="comparison-") as name:
        folder = Path(name)
        _write_task(case, start, peers, limits, folder)
        reason, seconds, peak = _watched(method.name, folder, limits, cancelled)
        if reason:
            return Outcome(None, reason, seconds, peak)
        told = json.loads((folder / OUTCOME_FILE).read_text(encoding="utf-8"))
        transform = sitk.ReadTransform(str(folder / TRANSFORM_FILE))
        return Outcome(transform, "", told["seconds"], peak, told["messages"], told["figures"], told["cpu_seconds"])


def _write_task(case: Case, start: sitk.AffineTransform, peers: Path, limits: Limits, folder: Path) -> None:
    volumes = {
        "fixed": case.fixed,
        "moving": case.moving,
        "fixed_mask": case.fixed_mask,
        "lesion": case.moving_lesion,
    }
    for name, volume in volumes.items():
        if volume is not None:
            sitk.WriteImage(bare(volume), str(folder / f"{name}.mha"))
    sitk.WriteTransform(start, str(folder / "start.tfm"))
    task = {
        "preset": case.preset,
        "spacing_mm": case.spacing_mm,
        "peers": str(peers.resolve()),
        "threads": limits.threads,
    }
    (folder / TASK_FILE).write_text(json.dumps(task), encoding="utf-8")


def bare(volume: sitk.Image) -> sitk.Image:
    """Return a volume without other formats' header entries, which MetaImage cannot hold."""
    copy = sitk.Image(volume)
    for key in copy.GetMetaDataKeys():
        copy.EraseMetaData(key)
    return copy


def _watched(name: str, folder: Path, limits: Limits, cancelled: Callable[[], bool]) -> tuple[str, float, int]:
    """Return why a run failed ("" if it did not), its seconds and its peak memory in bytes."""
    environment = os.environ | {variable: str(limits.threads) for variable in _THREAD_VARIABLES}
    path = filter(None, (str(_PACKAGE_PARENT), os.environ.get("PYTHONPATH")))
    environment["PYTHONPATH"] = os.pathsep.join(path)
    log = folder / "log.txt"
    began = time.monotonic()
    peak = 0
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", f"{Path(__file__).parent.name}.single", name, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            while process.poll() is None and time.monotonic() - began < limits.seconds:
                if cancelled():
                    msg = "The run was stopped."
                    raise RegistrationCancelledError(msg)
                peak = max(peak, _resident_bytes(process.pid))
                time.sleep(_SAMPLE_SECONDS)
            in_time = process.poll() is not None
        finally:
            _end(process)
    seconds = time.monotonic() - began
    if not in_time:
        return f"stopped after {limits.seconds:g} s", seconds, peak
    if process.returncode != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no word"]
        return f"ended with {process.returncode}: {lines[-1][:300]}", seconds, peak
    return "", seconds, peak


def _resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and all below it; what has just ended counts nothing."""
    total = 0
    try:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.Error:
        pass
    return total


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a run, with all it started."""
    if process.poll() is None:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
