"""Volumes of a registration as nodes, named after it and renewed with it; maps and features in their colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..nodes.volumes import overwrite_volume, read_volume
from .changes import SceneChanges
from .map_colours import colour_expected_error, colour_jacobian
from .marks import mark_made, refer


@dataclass(frozen=True)
class _Kind:
    """A file of the engine that becomes a volume.

    Attributes:
        file: its name.
        role: of the reference from the registration to the node.
        title: what follows the name of the registration in that of the node.
        colour: sets the colours of the node; None for features, which are colours.
    """

    file: str
    role: str
    title: str
    colour: Callable[[Any], None] | None = None


JACOBIAN = _Kind("jacobian.nii.gz", "FoundationRegistration.Jacobian", "Jacobian determinant", colour_jacobian)
EXPECTED_ERROR = _Kind(
    "expected_error_mm.nrrd", "FoundationRegistration.ExpectedError", "expected error (mm)", colour_expected_error
)
FIXED_FEATURES = _Kind(
    "features_fixed.nii.gz", "FoundationRegistration.FixedFeatures", "features of the fixed volume"
)
MOVING_FEATURES = _Kind(
    "features_moving.nii.gz", "FoundationRegistration.MovingFeatures", "features of the moving volume"
)
_KINDS = (JACOBIAN, EXPECTED_ERROR, FIXED_FEATURES, MOVING_FEATURES)


def map_of(transform_node: Any, kind: _Kind) -> Any | None:
    """Return a map of a registration; None if it has none."""
    return transform_node.GetNodeReference(kind.role)


def read_maps(folder: Path) -> dict[_Kind, Any]:
    """Return the maps and features in a folder as nodes that are in no scene yet, by kind.

    Raises:
        BridgeError: a file cannot be read.
    """
    return {
        kind: read_volume(path, kind.title, "vtkMRMLScalarVolumeNode" if kind.colour else "vtkMRMLVectorVolumeNode")
        for kind in _KINDS
        if (path := folder / kind.file).is_file()
    }


def enter_maps(changes: SceneChanges, transform_node: Any, found: dict[_Kind, Any]) -> dict[_Kind, Any]:
    """Add maps to the scene, or overwrite those of an earlier run of the same registration; return them by kind."""
    entered = {}
    for kind in _KINDS:
        node = renew(changes, transform_node, kind.role, kind.title, found.get(kind))
        if node is None:
            continue
        if kind.colour is not None:
            kind.colour(node)
            mark_made(node, transform_node)
        else:
            refer(node, transform_node)
        entered[kind] = node
    return entered


def renew(
    changes: SceneChanges, transform_node: Any, role: str, title: str, volume: Any, looks_like: Any = None
) -> Any:
    """Add a volume of a registration, named after it, or overwrite that of an earlier run; return the node.

    Args:
        changes: receives a new node.
        transform_node: the registration, already under its name.
        role: of the reference from the registration to the node.
        title: what follows the name of the registration in that of a new node.
        volume: a node that is in no scene yet; None if this run has none, so that an earlier one leaves.
        looks_like: has the appearance of a new node; the default one if None.
    """
    if volume is None:
        leave(transform_node, role)
        return None
    present = transform_node.GetNodeReference(role)
    if present is None:
        present = changes.add_displayed(volume, f"{transform_node.GetName()}: {title}", looks_like)
    else:
        overwrite_volume(present, volume)
    transform_node.SetNodeReferenceID(role, present.GetID())
    return present


def leave(transform_node: Any, role: str) -> None:
    """Let any volume of an earlier run leave its registration: it keeps its voxels, and its name says so."""
    present = transform_node.GetNodeReference(role)
    if present is not None:
        present.SetName(f"{present.GetName()} (earlier run)")
    transform_node.SetNodeReferenceID(role, None)
