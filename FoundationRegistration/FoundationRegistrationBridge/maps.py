"""Maps and features of a registration as nodes: named after it, renewed with it, in the colours of their kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .field_display import colour_expected_error, colour_jacobian
from .marks import mark_made, refer
from .scene_changes import SceneChanges
from .volumes import overwrite_volume, read_volume


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
    """Add maps to the scene, or overwrite those of an earlier run of the same registration; return them by kind.

    A map that this run does not have keeps its voxels, but leaves the registration, and its name says so.
    """
    entered = {}
    for kind in _KINDS:
        present, volume = map_of(transform_node, kind), found.get(kind)
        if volume is None:
            if present is not None:
                present.SetName(f"{present.GetName()} (earlier run)")
            transform_node.SetNodeReferenceID(kind.role, None)
            continue
        if present is None:
            present = changes.add_displayed(volume, f"{transform_node.GetName()}: {kind.title}")
        else:
            overwrite_volume(present, volume)
        transform_node.SetNodeReferenceID(kind.role, present.GetID())
        if kind.colour is not None:
            kind.colour(present)
            mark_made(present, transform_node)
        else:
            refer(present, transform_node)
        entered[kind] = present
    return entered
