"""Many pairs of files by the engine's `cohort`, in its own process: news of each pair, cancel, the same folder."""

from __future__ import annotations

import contextlib
import json
import os
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..library import add_library_to_path
from ..process.engine_job import EngineJob
from ..process.worker import RegistrationWorker
from ..run.nodes_to_files import settings_as_json
from .results import PairRow, pairs_in


@dataclass(frozen=True)
class PairNews:
    """What happened to a pair.

    Attributes:
        name: of the pair.
        number: of the pair, from 1, in the order in which the pairs were begun.
        count: of pairs.
        step: of its registration; "done" at its end.
        fraction: of its registration, 0 to 1.
        verdict: at its end: "good", "check" or "failed", also if it could not be registered.
        message: why it could not.
    """

    name: str
    number: int
    count: int
    step: str
    fraction: float
    verdict: str = ""
    message: str = ""


def full_path(given: str | os.PathLike[str]) -> Path:
    """Return a path from the root, its `~` as the home folder; that of an unknown user is left as it is."""
    add_library_to_path()
    from FoundationRegistrationLib.files.home_folder import expanded

    return (expanded(os.fspath(given)) or Path(given)).absolute()


def results_folder(table: Path) -> Path:
    """Return where the results of a table go unless another folder is chosen: beside it."""
    return full_path(table).with_name(f"{table.stem}_results")


class CohortJob(EngineJob[list[PairRow]]):
    """Registers the pairs of a table; that pairs failed is no error. The outputs are the rows of its results.

    What an earlier run into the folder has done is kept if nothing has changed; what failed is tried again.

    Args:
        table: of files, as `cohort` takes it.
        folder: for the results.
        preset: of the engine.
        settings: single settings, which override the preset; a row of the table overrides both.
        on_pair: called with news of a pair.
        **options: of `EngineJob`.
    """

    def __init__(
        self,
        table: Path,
        folder: Path,
        preset: str,
        settings: Mapping[str, Any],
        on_pair: Callable[[PairNews], None] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._table, self._results = full_path(table), full_path(folder)
        self._preset, self._settings = preset, dict(settings)
        self._on_pair = on_pair or (lambda _: None)

    def poll(self) -> bool:
        """Handle new events, from a timer or a loop; return whether the job is still running."""
        self._tell_pairs()
        return super().poll()

    def _prepare(self) -> None:
        settings_as_json({"preset": self._preset, **self._settings})  # raises if they cannot be used

    def _needed_nodes(self) -> list[tuple[str, Any]]:
        return []

    def _export(self, folder: Path) -> list[str | Path]:
        file = folder / "settings.json"
        file.write_text(json.dumps(self._settings), encoding="utf-8")
        options: list[str | Path] = ["--preset", self._preset, "--settings", file, "--retry-failed"]
        return ["cohort", self._table, "--output", self._results, *options, "--progress", "json"]

    def _start_worker(self, command: Sequence[str]) -> RegistrationWorker:
        return _CohortWorker(command)

    def _take_over(self, folder: Path) -> list[PairRow]:
        self._tell_pairs()  # the last ones
        return pairs_in(self._results)

    def _tell_pairs(self) -> None:
        if isinstance(self._worker, _CohortWorker):
            for news in self._worker.new_pairs():
                self._on_pair(news)


class _CohortWorker(RegistrationWorker):
    """The engine's `cohort`; keeps its news of the pairs."""

    def __init__(self, command: Sequence[str]) -> None:
        self._pairs: queue.SimpleQueue[PairNews] = queue.SimpleQueue()
        self._all_done = False
        super().__init__(command)

    def new_pairs(self) -> Iterator[PairNews]:
        """Yield the news since the last call."""
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._pairs.get_nowait()

    def failure(self) -> str | None:
        """Return why the ended engine did not reach the end of its pairs; None if it did."""
        if self._all_done:
            return None
        return super().failure() or "The engine ended before all pairs were done; run it again."

    def _hear(self, line: str) -> None:
        super()._hear(line)
        with contextlib.suppress(ValueError, KeyError, TypeError):
            news = json.loads(line)
            kind = news["event"]
            self._all_done = self._all_done or kind == "done"
            if kind in ("progress", "pair"):
                told = (news["pair"], news["number"], news["pairs"])
                if kind == "progress":
                    self._pairs.put(PairNews(*told, news["pair_step"], news["pair_fraction"]))
                else:
                    verdict = "failed" if news["error"] else news["verdict"]
                    self._pairs.put(PairNews(*told, "done", 1.0, verdict, news["error"]))
