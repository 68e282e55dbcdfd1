"""Many registrations: of nodes in sequence, or of files in a table by the engine's `cohort`."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import queue
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slicer

from .errors import BridgeError, CancelledError
from .job import JobInputs, RegistrationJob
from .library import add_library_to_path
from .nodes_to_files import settings_as_json
from .private_folder import PrivateFolder
from .stored_files import file_messages_of_pair, with_messages
from .worker import RegistrationWorker, engine_command, let_the_application_live

PAIRS = "pairs.csv"

BatchProgress = Callable[[str, int, int, str, float], None]


@dataclass(frozen=True)
class BatchResult:
    """The outcome of a pair.

    Attributes:
        name: of the pair.
        error: error message; empty on success.
        transform_node: the result, if nodes were given.
        folder: of the result, if files were given.
        record: the run record.
    """

    name: str
    error: str = ""
    transform_node: Any = None
    folder: Path | None = None
    record: Mapping[str, Any] = field(default_factory=dict)


def register_batch(
    pairs: Sequence[tuple[Any, Any]] | str | os.PathLike[str],
    preset: str = "default",
    *,
    output_folder: str | os.PathLike[str] | None = None,
    on_progress: BatchProgress | None = None,
    python: Path | None = None,
    **settings: Any,
) -> list[BatchResult]:
    """Register many pairs; the application stays responsive.

    A table is the work of the engine's `cohort`: what an earlier call has done is kept if nothing has changed, and
    what failed is tried again.

    Args:
        pairs: (fixed, moving) volume nodes of one scene; or a table, as `cohort` takes it, with at least the columns
            fixed and moving.
        preset: of the engine.
        output_folder: for a table, a folder with a subfolder for each pair; that of the table, with "_results" added
            to its name, if None. For nodes, only the table of results is written there, if given.
        on_progress: called with the pair's name, its number from 1, the number of pairs, the step and the completed
            fraction of this pair.
        python: the Python that runs the engine; Slicer's own if None.
        **settings: single settings of the engine, which override the preset; a row of the table overrides both.

    Returns:
        One result per pair, in order. Their table, pairs.csv, is kept up to date.

    Raises:
        BridgeError: the pairs, their files, the output folder or a setting cannot be used, which is checked before
            the first run; or the table of results cannot be written.
        CancelledError: the user cancelled it.
    """
    settings_as_json({"preset": preset, **settings})  # raises before the first run, not after the last
    tell = on_progress or (lambda *_: None)
    if isinstance(pairs, str | os.PathLike):
        table = Path(pairs).absolute()
        folder = Path(output_folder or table.with_name(f"{table.stem}_results")).absolute()
        _register_table(table, folder, preset, settings, tell, python)
        return _results_in(folder)
    runs = _node_runs(pairs, {"preset": preset, **settings}, python)
    folder = Path(output_folder).absolute() if output_folder else None
    if folder is not None:
        _prepare(folder)
    results: list[BatchResult] = []
    for number, run in enumerate(runs, start=1):

        def report(step: str, fraction: float, name: str = run.name, number: int = number) -> None:
            tell(name, number, len(runs), step, fraction)

        try:
            results.append(BatchResult(run.name, **run(report)))
        except CancelledError:
            raise
        except BridgeError as error:
            results.append(BatchResult(run.name, str(error)))
        if folder is not None:
            # An open table is no reason to stop; it may be closed before the last pair.
            with contextlib.suppress(BridgeError) if number < len(runs) else contextlib.nullcontext():
                _write_table(folder / PAIRS, results)
    return results


@dataclass(frozen=True)
class _NodeRun:
    inputs: JobInputs
    python: Path | None

    @property
    def name(self) -> str:
        return " to ".join(node.GetName() if node else "nothing" for node in (self.inputs.moving, self.inputs.fixed))

    def __call__(self, report: Callable[[str, float], None]) -> dict[str, Any]:
        job = RegistrationJob(
            self.inputs,
            self.inputs.fixed.GetScene() if self.inputs.fixed else None,
            on_progress=lambda step, fraction, _: report(step, fraction),
            python=self.python,
        )
        cautions = file_messages_of_pair(self.inputs.fixed, self.inputs.moving)
        outputs = with_messages(job.wait(), cautions)
        return {"transform_node": outputs.transform_node, "record": outputs.record}


def _node_runs(pairs: Any, settings: Mapping[str, Any], python: Path | None) -> list[_NodeRun]:
    """Return a run for each pair of nodes; None instead of a node fails only that pair.

    Raises:
        BridgeError: something else was given.
    """
    given = list(pairs) if isinstance(pairs, Iterable) else []
    if not given or not all(_is_pair(pair) for pair in given):
        msg = "Give pairs of volume nodes, [(fixed, moving), ...], or a table with the columns fixed and moving."
        raise BridgeError(msg)
    return [_NodeRun(JobInputs(*pair, settings=settings), python) for pair in given]


def _is_pair(pair: Any) -> bool:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        return False
    return all(node is None or isinstance(node, slicer.vtkMRMLNode) for node in pair)


class _CohortWorker(RegistrationWorker):
    """The engine's `cohort`; keeps its news of each pair."""

    def __init__(self, command: Sequence[str]) -> None:
        self.news: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        super().__init__(command)

    def _hear(self, line: str) -> None:
        super()._hear(line)
        with contextlib.suppress(ValueError):
            news = json.loads(line)
            if isinstance(news, dict):
                self.news.put(news)


def _register_table(
    table: Path,
    folder: Path,
    preset: str,
    settings: Mapping[str, Any],
    tell: BatchProgress,
    python: Path | None,
) -> None:
    """Run the engine's `cohort` to its end.

    Raises:
        BridgeError: it did not reach its end; that pairs failed is no error.
    """
    private = PrivateFolder()
    try:
        file = private.path / "settings.json"
        file.write_text(json.dumps(settings), encoding="utf-8")
        arguments = ["cohort", table, "--output", folder, "--preset", preset, "--settings", file, "--retry-failed"]
        worker = _CohortWorker(engine_command([*arguments, "--progress", "json"], python))
        all_done = False
        try:
            while worker.running():
                all_done = _pass_on(worker, tell) or all_done
                let_the_application_live()
            all_done = _pass_on(worker, tell) or all_done
        except BaseException:
            worker.cancel()
            while worker.running():
                let_the_application_live()
            raise
    finally:
        private.remove()
    if not all_done:
        raise BridgeError(worker.failure() or "The engine ended before all pairs were done; run it again.")


def _pass_on(worker: _CohortWorker, tell: BatchProgress) -> bool:
    """Tell what is new; return whether the engine has said that all is done."""
    with contextlib.suppress(queue.Empty):
        while True:
            news = worker.news.get_nowait()
            kind = news.get("event")
            if kind == "progress":
                tell(news["pair"], news["number"], news["pairs"], news["pair_step"], news["pair_fraction"])
            elif kind == "pair":
                tell(news["pair"], news["number"], news["pairs"], "done", 1.0)
            elif kind == "done":
                return True
    return False


def _results_in(folder: Path) -> list[BatchResult]:
    """Return the outcome of each pair of a cohort, in the order of its table."""
    try:
        with (folder / PAIRS).open(newline="", encoding="utf-8") as file:
            return [_result(row, folder / row["folder"]) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError) as error:
        msg = f"The results in '{folder}' cannot be read ({error}); register the table again."
        raise BridgeError(msg) from error


def _result(row: Mapping[str, str], folder: Path) -> BatchResult:
    if row["state"] != "done":
        return BatchResult(row["name"], row["error"] or "Another run works on it; wait for that one.")
    return BatchResult(row["name"], folder=folder, record=json.loads((folder / "report.json").read_text("utf-8")))


def _prepare(folder: Path) -> None:
    """Create the folder for the table of results.

    Raises:
        BridgeError: something is in the way, or it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        words = "there is a file of that name" if folder.is_file() else error.strerror
        msg = f"The results folder '{folder}' cannot be created ({words}); choose another output folder."
        raise BridgeError(msg) from error
    if (folder / PAIRS).is_dir():
        msg = f"'{folder / PAIRS}' is a folder and in the way of the results; remove it, or choose another folder."
        raise BridgeError(msg)


def _write_table(path: Path, results: Sequence[BatchResult]) -> None:
    """Write the table of results, one line each; it is written completely or left unchanged.

    Raises:
        BridgeError: it cannot be written.
    """
    add_library_to_path()
    from FoundationRegistrationLib.cohort.figures import told_by, write_table
    from FoundationRegistrationLib.errors import OutputError

    rows = []
    for result in results:
        seconds = round(sum(result.record.get("timings_seconds", {}).values()), 1) if result.record else ""
        ended = {"name": result.name, "state": "failed" if result.error else "done", "error": result.error}
        rows.append({**ended, **told_by(result.record), "seconds": seconds})
    try:
        write_table(path, rows)
    except OutputError as error:
        raise BridgeError(str(error)) from error
