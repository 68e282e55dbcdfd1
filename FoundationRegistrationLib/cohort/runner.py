"""Runs the pairs of a cohort that are not done, on several workers."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..errors import FoundationRegistrationError, InputError, OutputError, RegistrationCancelledError
from ..files.locks import release, try_to_hold
from ..files.private_folders import NO_LOCKS
from .names import SUMMARY_FILES
from .plan import Pair
from .record import (
    MEASURED,
    is_registered,
    is_whole,
    keep_current,
    keep_evaluation,
    key_of,
    made_with,
    read_record,
    write_record,
)
from .summary import Rows, write_summaries
from .workers import Worker, stop_all

_LOCK = ".pair.lock"
_POLL_SECONDS = 0.1
_LEAST_SECONDS = 3.0  # between two summaries
_SHARE = 20.0  # a summary takes at most this part of the time
_GRACE_SECONDS = 0.6  # a process that listens for signals has a second in all; a worker takes half of one


@dataclass(frozen=True)
class News:
    """What happened to a pair.

    Attributes:
        pair: the pair.
        kind: "progress"; or, once for each pair, "done", "failed", "kept" (done earlier), "still failed" (failed
            earlier, with the same inputs), "held" (by another run), "not registered" (so not to be evaluated).
        step: of the registration, if it is progress.
        fraction: of the pair's work that is completed.
        seconds: that it took.
        error: why it failed.
    """

    pair: Pair
    kind: str
    step: str = ""
    fraction: float = 1.0
    seconds: float = 0.0
    error: str = ""


class Cohort:
    """A run over pairs, all or a part of a table.

    Args:
        output: folder of the cohort.
        pairs: those to work on.
        rows: all rows, for the summary.
        resume: leave out what is done.
        retry_failed: do again what failed earlier, even if nothing has changed.
        evaluate_only: measure again what is registered, with the labels and landmarks of now; register nothing.
    """

    def __init__(
        self,
        output: Path,
        pairs: Sequence[Pair],
        rows: Rows,
        *,
        resume: bool = True,
        retry_failed: bool = False,
        evaluate_only: bool = False,
    ) -> None:
        self._output = output
        self._rows = rows
        self._resume = resume
        self._retry_failed = retry_failed
        self._evaluate_only = evaluate_only
        self._waiting: queue.SimpleQueue[Pair] = queue.SimpleQueue()
        for pair in pairs:
            self._waiting.put(pair)
        self._news: queue.SimpleQueue[News | Exception | None] = queue.SimpleQueue()
        self.counts: Counter[str] = Counter()

    def run(
        self,
        workers: Sequence[Worker],
        provenance: Mapping[str, Any],
        group: str,
        tell: Callable[[News], None],
        cancelled: Callable[[], bool],
    ) -> None:
        """Work until no pair is left, and keep the summary up to date.

        Args:
            workers: processes to share the work out to.
            provenance: of the run, for the summary.
            group: see `write_summaries`.
            tell: called with the news, in this thread.
            cancelled: checked often; the run ends when it returns True.

        Raises:
            RegistrationCancelledError: `cancelled` returned True; what is finished is kept.
            OutputError: a result cannot be written.
        """

        def summarise(*, draw: bool = False) -> None:
            write_summaries(self._output, self._rows, provenance, group, draw=draw)

        threads = [threading.Thread(target=self._serve, args=(worker,), daemon=True) for worker in workers]
        try:
            summarise()
            for thread in threads:
                thread.start()
            self._listen(len(threads), summarise, tell, cancelled)
        except RegistrationCancelledError:
            for worker in workers:
                worker.stop()
            summarise()
            raise
        finally:
            stop_all(workers, _GRACE_SECONDS)
            for thread in threads:
                if thread.is_alive():
                    thread.join(_POLL_SECONDS)
        summarise(draw=True)

    def _listen(
        self,
        open_ends: int,
        summarise: Callable[[], None],
        tell: Callable[[News], None],
        cancelled: Callable[[], bool],
    ) -> None:
        due, changed = time.monotonic() + _LEAST_SECONDS, False
        while open_ends:
            with contextlib.suppress(queue.Empty):
                news = self._news.get(timeout=_POLL_SECONDS)
                if isinstance(news, Exception):
                    raise news
                if news is None:
                    open_ends -= 1
                    continue
                if news.kind != "progress":
                    self.counts[news.kind] += 1
                    changed = True
                tell(news)
            if cancelled():
                kept = self.counts["done"] + self.counts["kept"]
                msg = f"The run was stopped. Pairs done and kept: {kept}; give the same command again to go on."
                raise RegistrationCancelledError(msg)
            began = time.monotonic()
            if changed and began > due:
                summarise()
                changed = False
                took = time.monotonic() - began
                due = began + max(_LEAST_SECONDS, _SHARE * took)

    def _serve(self, worker: Worker) -> None:
        """Work on pairs until none is left, in a thread of its own."""
        try:
            with contextlib.suppress(queue.Empty):
                while True:
                    pair = self._waiting.get_nowait()
                    self._news.put(self._work(pair, worker))
            self._news.put(None)
        except RegistrationCancelledError:
            self._news.put(None)
        except Exception as error:
            self._news.put(error)

    def _work(self, pair: Pair, worker: Worker) -> News:
        folder = self._output / pair.folder
        with _held(folder) as is_ours:
            if not is_ours:
                return News(pair, "held")
            made = made_with(pair)
            try:
                key = key_of(pair)
            except FoundationRegistrationError as error:
                earlier = read_record(folder)
                if not (self._evaluate_only or (earlier is not None and earlier["state"] == "done")):
                    write_record(pair, folder, key="", made=made, error=str(error), seconds=0.0)
                return News(pair, "failed", error=str(error))
            if self._evaluate_only:
                return self._evaluate(pair, folder, key, worker)
            record = read_record(folder) if self._resume else None
            if record is not None and record["key"] == key:
                if record["state"] == "done" and is_whole(pair, folder):
                    keep_current(pair, folder, record)
                    return News(pair, "kept", seconds=record["seconds"])
                if record["state"] == "failed" and not self._retry_failed:
                    keep_current(pair, folder, record)
                    return News(pair, "still failed", error=record["error"])
            return self._register(pair, folder, key, made, worker)

    def _evaluate(self, pair: Pair, folder: Path, key: str, worker: Worker) -> News:
        record = read_record(folder)
        if record is None or not is_registered(record, key) or not is_whole(pair, folder):
            return News(pair, "not registered")
        measured = folder / MEASURED
        measured.unlink(missing_ok=True)
        commands = pair.evaluation(folder, measured)
        outcome = worker.run({"commands": commands}, lambda *_: None) if commands else None
        if outcome is not None and outcome.error:
            return News(pair, "failed", seconds=outcome.seconds, error=outcome.error)
        keep_evaluation(pair, folder, record, key, measured)
        return News(pair, "done", seconds=outcome.seconds if outcome is not None else 0.0)

    def _register(self, pair: Pair, folder: Path, key: str, made: list[str], worker: Worker) -> News:
        def report(step: str, fraction: float) -> None:
            self._news.put(News(pair, "progress", step, fraction))

        report("starting", 0.0)
        outcome = worker.run({"commands": pair.commands(folder)}, report)
        write_record(pair, folder, key=key, made=made, error=outcome.error, seconds=outcome.seconds, log=outcome.log)
        if not outcome.error:
            worker.run({"pictures": str(folder)}, lambda *_: None)  # those that fail are tried again at the end
        kind = "failed" if outcome.error else "done"
        return News(pair, kind, seconds=outcome.seconds, error=outcome.error)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Hold the folder of a pair in the block; yields False, at once, if another run holds it.

    Raises:
        OutputError: it cannot be created or written.
    """
    path = folder / _LOCK
    held: IO[bytes] | None = None
    try:
        held = _try_to_hold(path)
        is_ours = held is not None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            msg = f"'{folder}' cannot be written ({error.strerror or error}); choose another --output."
            raise OutputError(msg) from error
        path.unlink(missing_ok=True)
        is_ours = True
    try:
        if is_ours:
            for unfinished in folder.glob(".*.part"):  # of a killed run
                unfinished.unlink(missing_ok=True)
        yield is_ours
    finally:
        if held is not None:
            with contextlib.suppress(OSError):
                release(held, path)
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if it is empty


def _try_to_hold(path: Path) -> IO[bytes] | None:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another run may just remove the folder, because nothing came of its pair.
        with contextlib.suppress(FileNotFoundError):
            return try_to_hold(path)


def prepare_folder(output: Path, pairs: Sequence[Pair]) -> None:
    """Refuse a folder that cannot hold the results, before the first pair runs; nothing is written.

    Raises:
        InputError: a file or folder is in the way.
    """
    parent = next((folder for folder in (output, *output.parents) if folder.exists()), output)
    files = [folder for folder in (parent, *(output / pair.folder for pair in pairs)) if folder.is_file()]
    folders = [path for path in (output / name for name in SUMMARY_FILES) if path.is_dir()]
    for path, kind in [*((path, "file") for path in files), *((path, "folder") for path in folders)]:
        msg = f"'{path}' is a {kind} and in the way of the results; remove it, or choose another --output."
        raise InputError(msg)
