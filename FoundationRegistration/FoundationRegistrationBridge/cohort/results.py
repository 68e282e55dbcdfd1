"""The results of the engine's `cohort`: its pairs, and one of them as nodes, as if it had been registered here."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer

from ..errors import BridgeError
from ..library import add_library_to_path
from ..nodes.grids import RAS_TO_LPS, grid_of
from ..nodes.volumes import read_volume
from ..run.files_to_nodes import JobOutputs, enter_results
from ..run.inputs import JobInputs
from ..run.placement import Placement
from ..scene.changes import all_or_nothing
from ..scene.result_folder import put_into_folder

PAIRS = "pairs.csv"
_NEEDED = {"name", "state", "error", "verdict", "reasons", "folder"}
_SEGMENTATION = ".seg.nrrd"
_SAME_MM = 1e-2


@dataclass(frozen=True)
class PairRow:
    """A pair of a cohort.

    Attributes:
        name: of the pair.
        state: "done", "failed" or "waiting".
        verdict: "good", "check" or "failed" if it is done.
        message: why it failed, or the reasons of the verdict.
        folder: of its results.
    """

    name: str
    state: str
    verdict: str
    message: str
    folder: Path


@dataclass(frozen=True)
class LoadedPair:
    """A pair of a cohort in the scene.

    Attributes:
        fixed: fixed volume.
        moving: moving volume, where it was; put it under the transform to move it.
        outputs: as of a registration: transform, its inverse, registered volume, record.
        fixed_labels: labels of the fixed volume, if the cohort had any.
        moving_labels: those of the moving volume.
    """

    fixed: Any
    moving: Any
    outputs: JobOutputs
    fixed_labels: Any | None
    moving_labels: Any | None


def is_cohort_table(path: Path) -> bool:
    """Whether a file is the table of the pairs of a cohort; only one of that name is opened to see."""
    if path.name.lower() != PAIRS:
        return False
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return set(next(csv.reader(file), ())) >= _NEEDED
    except (OSError, ValueError, csv.Error):
        return False


def pairs_in(folder: Path) -> list[PairRow]:
    """Return the pairs of a cohort, in the order of its table.

    Raises:
        BridgeError: there are no results that can be read.
    """
    try:
        with (folder / PAIRS).open(newline="", encoding="utf-8") as file:
            return [
                PairRow(
                    row["name"],
                    row["state"],
                    row["verdict"],
                    row["error"] or row["reasons"],
                    folder / row["folder"],
                )
                for row in csv.DictReader(file)
            ]
    except (OSError, KeyError, ValueError, csv.Error) as error:
        msg = f"'{folder}' holds no results of a cohort that can be read; choose the folder with its {PAIRS}."
        raise BridgeError(msg) from error


def load_pair(folder: Path, name: str, scene: Any = None) -> LoadedPair:
    """Add a pair of a cohort to the scene, all of it or nothing.

    Args:
        folder: of the cohort.
        name: of the pair.
        scene: `slicer.mrmlScene` if None.

    Raises:
        BridgeError: there is no such pair, it is not done, or its files are gone, have changed, or are read by Slicer
            at another place than by the registration.
    """
    row = next((row for row in pairs_in(folder) if row.name == name), None)
    if row is None:
        msg = f"The cohort in '{folder}' has no pair '{name}'; choose one of its {PAIRS}."
        raise BridgeError(msg)
    if row.state != "done":
        msg = f"'{name}' is not registered ({row.message or row.state}); choose a pair that is done."
        raise BridgeError(msg)
    scene = scene or slicer.mrmlScene
    record, paths = _record_of(row)
    volumes = {side: _volume(paths[side], record[side], side) for side in ("fixed", "moving")}
    labels = {role: _labels(paths[role]) for role in ("fixed_labels", "moving_labels") if role in paths}
    warped = read_volume(row.folder / "warped.nii.gz", "warped")
    with all_or_nothing(scene) as changes:
        fixed, moving = (changes.add_displayed(volumes[side], f"{name} {side}") for side in ("fixed", "moving"))
        for role, node in labels.items():
            changes.add_displayed(node, f"{name} {role.replace('_', ' ')}")
        inputs = JobInputs(fixed, moving, settings=record["settings"], output_name=f"{name} registration")
        outputs = enter_results(changes, inputs, Placement.of(inputs), row.folder, warped)
    put_into_folder(outputs.transform_node, outputs.nodes)
    return LoadedPair(fixed, moving, outputs, labels.get("fixed_labels"), labels.get("moving_labels"))


def _record_of(row: PairRow) -> tuple[dict[str, Any], dict[str, Path]]:
    """Return the record of a pair, and its input files by role, after checking that they are still the same.

    Raises:
        BridgeError: the record cannot be read, or a file is gone or another one.
    """
    add_library_to_path()
    from FoundationRegistrationLib.files.digest import file_sha256

    try:
        record = json.loads((row.folder / "report.json").read_text(encoding="utf-8"))
        given = {role: (Path(told["path"]), told["sha256"]) for role, told in record["inputs"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"The record of '{row.name}' cannot be read ({error}); register the pair again."
        raise BridgeError(msg) from error
    paths = {}
    for role in ("fixed", "moving", "fixed_labels", "moving_labels"):
        if role in given:
            path, digest = given[role]
            if path.is_dir():
                msg = f"'{path}' is a folder of DICOM files, which the DICOM module loads; then use the transform.h5."
                raise BridgeError(msg)
            if not path.is_file() or file_sha256(path) != digest:
                msg = f"'{path}' is gone or has changed since '{row.name}' was registered; run the cohort again."
                raise BridgeError(msg)
            paths[role] = path
    return record, paths


def _volume(path: Path, told: Mapping[str, Any], side: str) -> Any:
    """Return a volume of a pair as a node in no scene yet, where its registration had it.

    Raises:
        BridgeError: it cannot be read, or lies elsewhere.
    """
    node = read_volume(path, side)
    grid = grid_of(node)
    spacing, direction = np.array(told["spacing"]), np.reshape(told["direction"], (3, 3))
    last = np.array(told["size"]) - 1
    here = RAS_TO_LPS * grid.ras(np.array([[0, 0, 0], last], dtype=float))
    there = np.array(told["origin"]) + np.stack([np.zeros(3), direction @ (spacing * last)])
    if list(grid.dimensions) != list(told["size"]) or np.abs(here - there).max() > _SAME_MM:
        msg = f"Slicer reads '{path}' at another place than the registration did; convert it to NRRD and register it."
        raise BridgeError(msg)
    return node


def _labels(path: Path) -> Any:
    """Return labels as a node in no scene yet: a segmentation or a label map.

    Raises:
        BridgeError: they cannot be read.
    """
    if not path.name.lower().endswith(_SEGMENTATION):
        return read_volume(path, path.name, "vtkMRMLLabelMapVolumeNode")
    node, storage = slicer.vtkMRMLSegmentationNode(), slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(path))
    if not storage.ReadData(node):
        msg = f"The segmentation '{path}' cannot be read; open it in Slicer to see why."
        raise BridgeError(msg)
    return node
