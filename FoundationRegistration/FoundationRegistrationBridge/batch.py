"""Many registrations in sequence, of nodes or of files in a CSV table; a failure does not stop the others."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import slicer

from .batch_table import OPTIONAL, TableRow, folder_names, read_table
from .errors import BridgeError, CancelledError
from .job import JobInputs, RegistrationJob
from .nodes_to_files import settings_as_json
from .private_folder import PrivateFolder
from .stored_files import file_messages_of_pair, with_messages
from .worker import RegistrationWorker, engine_command, let_the_application_live

RESULTS = "results.csv"

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

    Args:
        pairs: (fixed, moving) volume nodes of one scene; or a CSV file with the columns fixed and moving, and
            optionally fixed_mask, moving_mask, fixed_lesion, moving_lesion, fixed_labels, moving_labels,
            fixed_landmarks, moving_landmarks, fixed_structures, moving_structures, fixed_points, moving_points,
            initial_transform and name; see `batch_table.py`. Paths in it are relative to the file.
        preset: of the engine.
        output_folder: for files, a folder with a subfolder for each pair; that of the CSV file, with "_results" added
            to its name, if None. For nodes, only the table of results is written there, if given.
        on_progress: called with the pair's name, its number from 1, the number of pairs, the step and the completed
            fraction of this pair.
        python: the Python that runs the engine; Slicer's own if None.
        **settings: single settings of the engine, which override the preset.

    Returns:
        One result per pair, in order. Their table, results.csv, is updated after each pair.

    Raises:
        BridgeError: the pairs, their files, the output folder or a setting cannot be used, which is checked before
            the first run; or the table of results cannot be written.
        CancelledError: the user cancelled it.
    """
    values = {"preset": preset, **settings}
    settings_as_json(values)  # raises before the first run, not after the last
    if isinstance(pairs, str | os.PathLike):
        table = Path(pairs).absolute()
        folder = Path(output_folder or table.with_name(f"{table.stem}_results")).absolute()
        runs = _file_runs(table, folder, values, python)
    else:
        folder = Path(output_folder).absolute() if output_folder else None
        runs = _node_runs(pairs, values, python)
    if folder is not None:
        _prepare(folder, runs)
    results: list[BatchResult] = []
    for number, run in enumerate(runs, start=1):

        def report(step: str, fraction: float, name: str = run.name, number: int = number) -> None:
            if on_progress:
                on_progress(name, number, len(runs), step, fraction)

        try:
            results.append(BatchResult(run.name, **run(report)))
        except CancelledError:
            raise
        except BridgeError as error:
            results.append(BatchResult(run.name, str(error)))
        if folder is not None:
            # An open table is no reason to stop; it may be closed before the last pair.
            with contextlib.suppress(BridgeError) if number < len(runs) else contextlib.nullcontext():
                _write_table(folder / RESULTS, results)
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


@dataclass(frozen=True)
class _FileRun:
    name: str
    row: TableRow
    folder: Path
    settings: Mapping[str, Any]
    python: Path | None

    def __call__(self, report: Callable[[str, float], None]) -> dict[str, Any]:
        private = PrivateFolder()
        try:
            file = private.path / "settings.json"
            file.write_text(settings_as_json(self.settings), encoding="utf-8")
            paths = self.row.paths
            arguments = ["register", paths["fixed"], paths["moving"]]
            arguments += ["--output", self.folder, "--settings", file, "--progress", "json"]
            for column in OPTIONAL:
                if column in paths:
                    arguments += [f"--{column.replace('_', '-')}", paths[column]]
            _run_to_the_end(RegistrationWorker(engine_command(arguments, self.python)), report)
        finally:
            private.remove()
        return {"folder": self.folder, "record": json.loads((self.folder / "report.json").read_text("utf-8"))}


def _node_runs(pairs: Any, settings: Mapping[str, Any], python: Path | None) -> list[_NodeRun]:
    """Return a run for each pair of nodes; None instead of a node fails only that pair.

    Raises:
        BridgeError: something else was given.
    """
    given = list(pairs) if isinstance(pairs, Iterable) else []
    if not given or not all(_is_pair(pair) for pair in given):
        msg = "Give pairs of volume nodes, [(fixed, moving), ...], or a CSV file with the columns fixed and moving."
        raise BridgeError(msg)
    return [_NodeRun(JobInputs(*pair, settings=settings), python) for pair in given]


def _is_pair(pair: Any) -> bool:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        return False
    return all(node is None or isinstance(node, slicer.vtkMRMLNode) for node in pair)


def _file_runs(table: Path, folder: Path, settings: Mapping[str, Any], python: Path | None) -> list[_FileRun]:
    rows = read_table(table)
    names = folder_names([row.name or row.paths["moving"].name.split(".")[0] for row in rows], reserved=RESULTS)
    return [_FileRun(name, row, folder / name, settings, python) for name, row in zip(names, rows, strict=True)]


def _prepare(folder: Path, runs: Sequence[_NodeRun | _FileRun]) -> None:
    """Create the results folder, and check that each result can be written.

    Raises:
        BridgeError: something is in the way, or it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        words = "there is a file of that name" if folder.is_file() else error.strerror
        msg = f"The results folder '{folder}' cannot be created ({words}); choose another output folder."
        raise BridgeError(msg) from error
    files = [run.folder for run in runs if isinstance(run, _FileRun) and run.folder.is_file()]
    for path, kind in [*((path, "file") for path in files), (folder / RESULTS, "folder")]:
        if kind == "file" or path.is_dir():
            msg = f"'{path}' is a {kind} and in the way of the results; remove it, or choose another output folder."
            raise BridgeError(msg)


def _run_to_the_end(worker: RegistrationWorker, report: Callable[[str, float], None]) -> None:
    try:
        while worker.running():
            report(worker.progress.step, worker.progress.fraction)
            let_the_application_live()
    except BaseException:
        worker.cancel()
        while worker.running():
            let_the_application_live()
        raise
    failure = worker.failure()
    if failure is not None:
        raise BridgeError(failure)
    report("done", 1.0)


def _write_table(path: Path, results: Sequence[BatchResult]) -> None:
    """Write the table of results, one line each; it is written completely or left unchanged.

    Raises:
        BridgeError: it cannot be written.
    """
    rows = [dict(_summary(result)) for result in results]
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        unfinished.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        msg = f"The results cannot be written to '{path}' ({error.strerror}); close it elsewhere, or free some space."
        raise BridgeError(msg) from error


def _summary(result: BatchResult) -> Iterator[tuple[str, Any]]:
    metrics, evaluation = result.record.get("metrics", {}), result.record.get("evaluation", {})
    labels, landmarks = evaluation.get("labels", {}), evaluation.get("landmarks", {})
    yield "name", result.name
    yield "error", result.error
    yield "verdict", result.record.get("verdict", {}).get("level", "")
    yield "reasons", " ".join(result.record.get("verdict", {}).get("reasons", ()))
    yield "messages", " ".join(result.record.get("messages", ()))
    yield "folded_percent", metrics.get("jacobian", {}).get("folded_percent", "")
    yield "inverse_error_mm", metrics.get("inverse_error_mm", {}).get("mean", "")
    for stage in ("before", "after"):
        yield f"mean_dice_{stage}", labels.get(f"mean_dice_{stage}", "")
        yield f"mean_hd95_mm_{stage}", labels.get(f"mean_hausdorff95_mm_{stage}", "")
        yield f"tre_mm_{stage}", landmarks.get(f"tre_mm_{stage}", {}).get("mean", "")
    yield "seconds", round(sum(result.record.get("timings_seconds", {}).values()), 1) if result.record else ""
    yield "folder", result.folder or ""
