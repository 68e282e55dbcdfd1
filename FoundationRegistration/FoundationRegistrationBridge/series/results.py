"""The results of the registration of a sequence as nodes: two sequences, their browser, and what it shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer

from ..library import add_library_to_path
from ..nodes.volumes import new_volume, read_volume
from ..scene.changes import SceneChanges, all_or_nothing
from ..scene.transforms import RECORD, below, read_transform
from .sequences import SequenceState

# From a registered sequence to the one that was registered, and to the volume that showed that, if any.
ORIGINAL_ROLE = "FoundationRegistration.OriginalSeries"
ORIGINAL_SHOWN_ROLE = "FoundationRegistration.OriginalSeriesShown"
# To the volume that shows it.
SHOWN_ROLE = "FoundationRegistration.SeriesShown"
# To the transform nodes above both, if any; an attribute of the same name has the name of the node.
PARENT_ROLE = "FoundationRegistration.SeriesParent"
ORIGINAL_PARENT_ROLE = "FoundationRegistration.OriginalSeriesParent"


@dataclass(frozen=True)
class SequenceOutputs:
    """The outputs of the registration of a sequence; its nodes have the index values of the original.

    Attributes:
        sequence_node: the time points on the voxels of the reference.
        transforms_node: sequence of transforms: put a time point of the original under its one to see it registered.
        browser_node: sequence browser of both.
        record: settings, versions, and state, verdict and motion of each time point; also stored on `sequence_node`.
        messages: warnings and notes about the run, first the time points that could not be registered.
    """

    sequence_node: Any
    transforms_node: Any
    browser_node: Any
    record: dict[str, Any]
    messages: tuple[str, ...]


def take_over_sequence(
    state: SequenceState, reference: int, scene: Any, result: Path, exported: Path
) -> SequenceOutputs:
    """Add the results in a folder to the scene.

    Args:
        state: the sequence at the start.
        reference: number of the frame on whose voxels the results are.
        scene: of the sequence.
        result: what the engine wrote.
        exported: the folder with the frames that it read.

    Raises:
        BridgeError: a file cannot be read; the scene is unchanged.
    """
    record = json.loads((result / "report.json").read_text(encoding="utf-8"))
    name = state.browsed.sequence.GetName()
    grid, parent = state.place_of_results(reference)
    files = sorted((result / record["series"]["corrected"]).iterdir())
    volumes = []
    for frame, file in zip(state.frames, files, strict=True):
        read = read_volume(file, frame.GetName())
        volume = new_volume(read.GetImageData(), grid, frame)
        volume.SetName(frame.GetName())
        volumes.append(volume)
    maps = [read_transform(result / frame["folder"] / "transform.h5") for frame in record["frames"]]
    transforms = _of_one_class([below(state.to_world, transform) for transform in maps])
    record["messages"] = _messages(state, record, exported)
    with all_or_nothing(scene) as changes:
        sequence = _enter_sequence(changes, state, volumes, f"{name} registered sequence")
        sequence.SetAttribute(RECORD, json.dumps(record))
        for role, node in ((ORIGINAL_ROLE, state.browsed.sequence), (ORIGINAL_SHOWN_ROLE, state.browsed.proxy)):
            sequence.SetNodeReferenceID(role, node.GetID() if node is not None else None)
        for role, node in ((PARENT_ROLE, parent), (ORIGINAL_PARENT_ROLE, state.parent)):
            sequence.SetNodeReferenceID(role, node.GetID() if node is not None else None)
            sequence.SetAttribute(role, node.GetName() if node is not None else None)
        moves = _enter_sequence(changes, state, transforms, f"{name} transforms sequence")
        browser = _enter_browser(changes, state, sequence, moves, parent)
        sequence.SetNodeReferenceID(SHOWN_ROLE, browser.GetProxyNode(sequence).GetID())
    return SequenceOutputs(sequence, moves, browser, record, tuple(record["messages"]))


def _messages(state: SequenceState, record: Mapping[str, Any], exported: Path) -> list[str]:
    """Return the messages about a run, without those on the files that were written for it."""
    add_library_to_path()
    from FoundationRegistrationLib.io.paths import called

    name = state.browsed.sequence.GetName()
    failed = [
        f"{state.title(index)} of '{name}' could not be registered; it is left as it was."
        for index, frame in enumerate(record["frames"])
        if frame["state"] == "failed"
    ]
    about_files = called("series", exported)
    own = [message for message in record["messages"] if not message.startswith(about_files)]
    return [*failed, *state.changes(), *own]


def _of_one_class(transforms: list[Any]) -> list[Any]:
    """Return transform nodes of one class, as a sequence holds: linear ones only if all are."""
    if all(node.IsA("vtkMRMLLinearTransformNode") for node in transforms):
        return transforms
    nodes = []
    for transform in transforms:
        node = slicer.vtkMRMLTransformNode()
        node.SetAndObserveTransformFromParent(transform.GetTransformFromParent())
        nodes.append(node)
    return nodes


def _enter_sequence(changes: SceneChanges, state: SequenceState, nodes: list[Any], name: str) -> Any:
    """Add a sequence of nodes with the index of the original."""
    original = state.browsed.sequence
    sequence = changes.add(slicer.vtkMRMLSequenceNode(), name)
    sequence.SetIndexName(original.GetIndexName())
    sequence.SetIndexUnit(original.GetIndexUnit())
    sequence.SetIndexType(original.GetIndexType())
    sequence.SetNumericIndexValueTolerance(original.GetNumericIndexValueTolerance())
    for node, value in zip(nodes, state.index_values, strict=True):
        sequence.SetDataNodeAtValue(node, value)
    return sequence


def _enter_browser(changes: SceneChanges, state: SequenceState, sequence: Any, moves: Any, parent: Any) -> Any:
    """Add a browser of the new sequences, at the time of the original's browser, which then moves both too.

    Args:
        changes: receives the nodes.
        state: the original sequence.
        sequence: of registered volumes, to be shown under `parent`.
        moves: of transforms.
        parent: transform node or None.
    """
    name, original = state.browsed.sequence.GetName(), state.browsed.browser
    browser = changes.add(slicer.vtkMRMLSequenceBrowserNode(), f"{name} registered browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.AddSynchronizedSequenceNodeID(moves.GetID())
    is_there = original is not None and original.GetScene() is not None  # or it was removed during the run
    browser.SetSelectedItemNumber(_selected(original, sequence) if is_there else 0)
    shown = changes.add_displayed(_item(sequence, browser), f"{name} registered", state.browsed.proxy)
    changes.set_parent(shown, parent)
    moving = changes.add(_item(moves, browser), f"{name} transform")
    changes.set_parent(moving, state.parent)
    for new, node in ((sequence, shown), (moves, moving)):
        browser.AddProxyNode(node, new, False)
    if is_there:  # last, since it changes a node of the user
        for new, node in ((sequence, shown), (moves, moving)):
            original.AddSynchronizedSequenceNodeID(new.GetID())
            original.AddProxyNode(node, new, False)
    return browser


def _selected(browser: Any, sequence: Any) -> int:
    """Return the number of the item of a sequence at the index value that a browser of other sequences selects."""
    value = browser.GetMasterSequenceNode().GetNthIndexValue(max(browser.GetSelectedItemNumber(), 0))
    return max(sequence.GetItemNumberFromIndexValue(value, False), 0)


def _item(sequence: Any, browser: Any) -> Any:
    """Return a copy, in no scene yet, of the item of a sequence that a browser selects."""
    item = sequence.GetNthDataNode(browser.GetSelectedItemNumber())
    node = getattr(slicer, item.GetClassName())()
    node.CopyContent(item)
    return node
