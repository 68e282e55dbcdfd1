"""Warnings about the files of volumes, which the volumes in the scene do not show."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..library import add_library_to_path
from ..scene.transforms import RECORD


def file_messages_of_pair(fixed: Any, moving: Any) -> list[str]:
    """Return warnings about the files of the volumes of a registration."""
    return [*file_messages(fixed, "fixed"), *file_messages(moving, "moving")]


def with_messages(outputs: Any, messages: Sequence[str]) -> Any:
    """Return the outputs of a run with more messages in front, also in its record and its transform node."""
    outputs.record["messages"] = [*messages, *outputs.record["messages"]]
    outputs.transform_node.SetAttribute(RECORD, json.dumps(outputs.record))
    return dataclasses.replace(outputs, messages=tuple(outputs.record["messages"]))


def file_messages(node: Any, role: str) -> list[str]:
    """Return warnings about the file of a volume, such as a missing orientation.

    There are none if it has no file or the file is gone, nor in a fresh Slicer before a registration has installed
    the packages that read headers.

    Args:
        node: any node, or None.
        role: "fixed" or "moving".
    """
    path = _stored_file(node)
    if path is None:
        return []
    add_library_to_path()
    try:
        from FoundationRegistrationLib.io.nifti import header_messages
    except ModuleNotFoundError:
        return []
    from FoundationRegistrationLib.errors import FoundationRegistrationError

    try:
        return header_messages(path, role)
    except FoundationRegistrationError as error:  # Slicer has loaded an invalid file
        return [str(error)]


def _stored_file(node: Any) -> Path | None:
    """Return the file that a node was last loaded from or saved to, if it exists."""
    is_storable = node is not None and node.IsA("vtkMRMLStorableNode")
    storage = node.GetStorageNode() if is_storable else None
    name = storage.GetFullNameFromFileName() if storage is not None and storage.GetFileName() else ""
    return Path(name) if name and Path(name).is_file() else None
