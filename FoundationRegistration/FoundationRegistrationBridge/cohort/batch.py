"""Many registrations: of nodes in sequence, or of files in a table by the engine's `cohort`."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slicer

from ..errors import BridgeError, CancelledError
from ..library import add_library_to_path
from ..run.job import JobInputs, RegistrationJob
from ..run.nodes_to_files import settings_as_json
from ..run.stored_files import file_messages_of_pair, with_messages
from .job import CohortJob, PairNews, full_path, results_folder
from .results import PAIRS, PairRow

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
        table = Path(pairs)
        folder = Path(output_folder or results_folder(table))

        def pass_on(news: PairNews) -> None:
            tell(news.name, news.number, news.count, news.step, news.fraction)

        job = CohortJob(table, folder, preset, settings, pass_on, python=python)
        return [_result(row) for row in job.wait()]
    runs = _node_runs(pairs, {"preset": preset, **settings}, python)
    folder = full_path(output_folder) if output_folder else None
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


def _result(row: PairRow) -> BatchResult:
    if row.state != "done":
        return BatchResult(row.name, row.message or "Another run works on it; wait for that one.")
    record = json.loads((row.folder / "report.json").read_text(encoding="utf-8"))
    return BatchResult(row.name, folder=row.folder, record=record)


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
