"""Processes that register one pair after another, so that libraries and networks are loaded once."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import RegistrationCancelledError

COMMAND = (sys.executable, "-m", "FoundationRegistrationLib", "cohort-worker")
_MOST_LOG_BYTES = 1_000_000
_GRACE_SECONDS = 1.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
_ASKED_TO_END = {*(128 + number for number in _SIGNALS), *(-number for number in _SIGNALS)}
_KILLED = "was killed, most likely for lack of memory; give fewer --jobs or a larger --working-spacing-mm"
_CRASHED = "crashed; try --device cpu, or look into its log"


@dataclass(frozen=True)
class Outcome:
    """How the work on a pair ended: why it failed, empty if it did not, seconds, and what the process said."""

    error: str
    seconds: float
    log: bytes


class Worker:
    """One process, started when there is work and replaced when it has ended.

    It gets a job as a line of JSON on its standard input and answers with lines of JSON: `progress` any number of
    times, then `done` or `failed`. The end of its input tells it to stop, also when this process is killed.

    Args:
        command: program and arguments.
        environment: of the process.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - as long as this object
        self._changing = threading.Lock()
        self._stopped = threading.Event()

    def run(self, job: Mapping[str, Any], report: Callable[[str, float], None]) -> Outcome:
        """Do one job to its end.

        Args:
            job: for the process.
            report: called with the name of a step and the completed fraction of the job.

        Raises:
            RegistrationCancelledError: `stop` was called.
        """
        began = time.monotonic()
        try:
            process = self._given(job)
        except (OSError, ValueError) as error:
            self._check_wanted()
            reason = f"Its process could not be started ({error}); free some memory and try again."
            return Outcome(reason, time.monotonic() - began, b"")
        answer = self._answer(process, report)
        if answer is None and process.wait() in _ASKED_TO_END:
            self._stopped.wait(_GRACE_SECONDS)  # a terminal asks all processes at once, and this one is told next
        self._check_wanted()
        if answer is None:
            reason = _reason(process.returncode)
        else:
            reason = (
                "" if answer["event"] == "done" else str(answer.get("message") or "It failed; look into its log.")
            )
        outcome = Outcome(reason, time.monotonic() - began, self._said())
        if answer is None or answer.get("unsound"):
            self._end()
        return outcome

    def stop(self) -> None:
        """Tell the process to end, which takes it a second at most; from another thread."""
        with self._changing:
            self._stopped.set()
            process = self._process
        if process is not None and process.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                process.stdin.close()

    def wait(self, seconds: float) -> None:
        """Wait for the end of the process, and end it by force if it takes longer."""
        process = self._process
        if process is None:
            return
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._log.close()

    def _check_wanted(self) -> None:
        if self._stopped.is_set():
            msg = "The run was stopped."
            raise RegistrationCancelledError(msg)

    def _given(self, job: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        """Return the process after giving it a job; if it has just ended, another one."""
        line = json.dumps(job).encode() + b"\n"
        with contextlib.suppress(OSError, ValueError):
            return _write(self._running(), line)
        self._check_wanted()
        self._end()
        return _write(self._running(), line)

    def _running(self) -> subprocess.Popen[bytes]:
        self._log.seek(0)
        self._log.truncate()
        with self._changing:
            self._check_wanted()
            if self._process is None or self._process.poll() is not None:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._log,
                    env=self._environment,
                )
            return self._process

    def _answer(
        self, process: subprocess.Popen[bytes], report: Callable[[str, float], None]
    ) -> dict[str, Any] | None:
        """Return the last answer to a job, None if the process ended without one."""
        assert process.stdout is not None
        for line in process.stdout:
            try:
                answer = json.loads(line)
                event = answer["event"]
                if event == "progress":
                    report(str(answer["step"]), float(answer["fraction"]))
            except (ValueError, KeyError, TypeError):
                continue  # a library wrote there
            if event in ("done", "failed"):
                return dict(answer)
        return None

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _said(self) -> bytes:
        length = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, length - _MOST_LOG_BYTES))
        return self._log.read()


def environments(count: int, with_gpus: bool) -> list[dict[str, str]]:
    """Return the environment of each of several workers, which share processors and GPUs.

    Args:
        count: of workers.
        with_gpus: whether to share the GPUs out as well.
    """
    # MKL must not take more than OpenMP: its threads would wait for each other on busy processors.
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, _processors() // count))
    shared = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": os.environ.get("MKL_NUM_THREADS", threads)}
    shared["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = threads
    path = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    shared |= {"PYTHONPATH": os.pathsep.join(path), "PYTHONUTF8": "1"}  # the same engine as here
    devices = _gpus() if with_gpus and count > 1 else []
    return [
        {
            **os.environ,
            **shared,
            **({"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} if devices else {}),
        }
        for number in range(count)
    ]


def stop_all(workers: Iterable[Worker], seconds: float) -> None:
    """End the processes of all workers within some seconds."""
    workers = list(workers)
    until = time.monotonic() + seconds
    for worker in workers:
        worker.stop()
    for worker in workers:
        worker.wait(max(0.0, until - time.monotonic()))


def _write(process: subprocess.Popen[bytes], line: bytes) -> subprocess.Popen[bytes]:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()
    return process


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpus() -> list[str]:
    """Return the NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    listed = subprocess.run([program, "--list-gpus"], capture_output=True, text=True, check=False).stdout
    count = sum(line.startswith("GPU ") for line in listed.splitlines())
    return [str(number) for number in range(count)]


def _reason(code: int) -> str:
    """Say how a process ended that did not answer."""
    if os.name != "nt" and code == -signal.SIGKILL:
        return f"Its process {_KILLED}."
    if code in (-signal.SIGSEGV, -signal.SIGABRT, 0xC0000005):
        return f"Its process {_CRASHED}."
    if code in _ASKED_TO_END:
        return "Its process was ended by another program; try it again with --retry-failed."
    return f"Its process ended before it was done (code {code}); look into its log."
