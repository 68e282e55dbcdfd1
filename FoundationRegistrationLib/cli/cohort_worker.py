"""`foundation-registration cohort-worker`: runs the commands that `cohort` sends it; not for people."""

from __future__ import annotations

import argparse
import contextlib
import json
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import FoundationRegistrationError, RegistrationCancelledError
from ..runtime.interruption import Interruption, OneOfMany
from ..runtime.progress import ProgressCallback

_GRACE_SECONDS = 0.5  # the caller waits a little longer

RunCommand = Callable[[argparse.Namespace, ProgressCallback, OneOfMany], None]


def worker_command(parser: argparse.ArgumentParser, run: RunCommand, interruption: Interruption) -> None:
    """Run job after job, each a line of JSON; answer with lines of JSON.

    A job has `commands`, or `pictures`: the folder of a pair to be drawn for the page of the cohort.

    Args:
        parser: of the command line.
        run: runs one of its commands.
        interruption: of this process.

    Raises:
        RegistrationCancelledError: a signal came, or the caller has ended, in the middle of a job.
    """
    interruption.grace_seconds = _GRACE_SECONDS
    jobs: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    busy = threading.Event()
    threading.Thread(target=_read, args=(jobs, busy), daemon=True, name="jobs").start()
    while (line := jobs.get()) is not None:
        job = json.loads(line)
        guard = OneOfMany(interruption)
        answer = _drawn(Path(job["pictures"])) if "pictures" in job else _done(job["commands"], parser, run, guard)
        busy.clear()
        _say(**answer)


def _read(jobs: queue.SimpleQueue[str | None], busy: threading.Event) -> None:
    """Take jobs from the caller; end this process when the caller has ended."""
    for line in sys.stdin:
        busy.set()
        jobs.put(line)
    jobs.put(None)
    if busy.is_set():
        signal.raise_signal(signal.SIGTERM)


def _done(
    commands: list[list[str]], parser: argparse.ArgumentParser, run: RunCommand, guard: OneOfMany
) -> dict[str, Any]:
    """Run the commands of a job in order, and return the answer."""
    try:
        for report, command in zip(_reports(len(commands)), commands, strict=False):
            run(parser.parse_args(command), report, guard)
    except RegistrationCancelledError:
        raise
    except FoundationRegistrationError as error:
        return _failed(" ".join(str(error).split()))
    except Exception as error:
        from ..runtime.memory import speaks_of_memory

        traceback.print_exc()
        if speaks_of_memory(error):
            return _failed("Not enough memory; give fewer --jobs or a larger --working-spacing-mm.", unsound=True)
        return _failed(f"{type(error).__name__}: {' '.join(str(error).split())}; look into its log.", unsound=True)
    except SystemExit:  # of the parser, which has said why
        return _failed("A file or setting cannot be given to the command line; look into its log.")
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
    return {"event": "done"}


def _drawn(folder: Path) -> dict[str, Any]:
    """Draw what the page of the cohort shows of a pair, and return the answer."""
    from ..cohort.page import write_pair_pictures

    try:
        write_pair_pictures(folder)
    except FoundationRegistrationError as error:
        return _failed(str(error))
    return {"event": "done"}


def _reports(count: int) -> Iterator[ProgressCallback]:
    """Yield for each of some commands a function that reports its share; all but the first take little time."""
    first = 1.0 if count == 1 else 0.9
    yield lambda event: _say(event="progress", step=event.step, fraction=first * event.fraction)
    for number in range(1, count):
        _say(event="progress", step="following", fraction=first + (1.0 - first) * (number - 1) / (count - 1))
        yield lambda event: None


def _failed(message: str, *, unsound: bool = False) -> dict[str, Any]:
    """Return the answer to a job that failed; an unsound process is replaced."""
    sys.stderr.write(f"foundation-registration: {message}\n")
    return {"event": "failed", "message": message, "unsound": unsound}


def _say(**content: Any) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()
