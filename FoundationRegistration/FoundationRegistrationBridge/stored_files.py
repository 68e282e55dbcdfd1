"""What the files that volumes were loaded from say of themselves, which the volumes in the scene do not show."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .library import add_library_to_path
from .transforms import RECORD


def file_messages_of_pair(fixed: Any, moving: Any) -> list[str]:
    """Return what must be known of the files that the volumes of a registration come from."""
    return [*file_messages(fixed, "fixed"), *file_messages(moving, "moving")]


def with_messages(outputs: Any, messages: Sequence[str]) -> Any:
    """Return the outputs of a run with more messages in front, which its record and its transform node keep too."""
    outputs.record["messages"] = [*messages, *outputs.record["messages"]]
    outputs.transform_node.SetAttribute(RECORD, json.dumps(outputs.record))
    return dataclasses.replace(outputs, messages=tuple(outputs.record["messages"]))


def file_messages(node: Any, role: str) -> list[str]:
    """Return what must be known of the file of a volume, such as an orientation that nobody stated.

    Where it was loaded from no file, or that is gone, there is nothing to say. Nor is there in a fresh Slicer, before
    the packages that read headers are installed; a registration installs them, and then says it.

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
    except FoundationRegistrationError as error:  # Slicer has loaded what cannot be right
        return [str(error)]


def _stored_file(node: Any) -> Path | None:
    """Return the file that a node was loaded from or saved to last, if it is there."""
    is_storable = node is not None and node.IsA("vtkMRMLStorableNode")
    storage = node.GetStorageNode() if is_storable else None
    name = storage.GetFullNameFromFileName() if storage is not None and storage.GetFileName() else ""
    return Path(name) if name and Path(name).is_file() else None
