"""Marks that link nodes to registrations: run numbers on transform nodes, and applied registrations on other nodes.

A mark is an attribute, which scene files and copies of a node keep, and a node reference.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

import slicer.util

from ..nodes.spaces import chain
from .outlines import Outline

# On a registration: "identity.number of its run".
RUN = "FoundationRegistration.Run"
# From a registration to the former parent of the moving volume, if any.
MOVING_PARENT_ROLE = "FoundationRegistration.MovingParent"
# From a node that a registration made or transformed to the registration.
REGISTRATION_ROLE = "FoundationRegistration.Registration"
# From an attached node to the transform node it was put under.
ATTACHED_ROLE = "FoundationRegistration.AttachedTo"
_CARRIED_BY = "FoundationRegistration.CarriedBy."
_OUTLINE = "FoundationRegistration.MovingOutline"


@dataclass(frozen=True)
class Mark:
    """How a node was transformed.

    Attributes:
        identity: of the registration.
        run: run number of the registration that transformed the node.
        outline: of the node's own data when it was attached; None for a node created in the fixed space.
        attached_to: the transform node it was put under; None if that was removed.
    """

    identity: str
    run: str
    outline: Outline | None = None
    attached_to: Any = None

    @property
    def attached(self) -> bool:
        """Whether the node was attached: put under the registration, with its own data."""
        return self.outline is not None


def is_registration(node: Any) -> bool:
    """Whether a transform node is a registration, or the inverse of one."""
    return node.GetAttribute(RUN) is not None


def new_run(transform_node: Any, outline: Outline | None) -> None:
    """Record a new run on a transform node, with its current parent and the outline of its moving volume."""
    identity, run = run_of(transform_node) if is_registration(transform_node) else (uuid.uuid4().hex, "0")
    transform_node.SetAttribute(RUN, f"{identity}.{int(run) + 1}")
    transform_node.SetNodeReferenceID(MOVING_PARENT_ROLE, transform_node.GetTransformNodeID())
    transform_node.SetAttribute(_OUTLINE, outline.as_text() if outline is not None else None)


def run_of(transform_node: Any) -> tuple[str, str]:
    """Return identity and run number of a registration."""
    identity, run = transform_node.GetAttribute(RUN).split(".")
    return identity, run


def moving_parent(transform_node: Any) -> Any:
    """Return the transform node whose child coordinates are the input of a registration; None for the world."""
    if is_registration(transform_node):
        return transform_node.GetNodeReference(MOVING_PARENT_ROLE)
    return transform_node.GetParentTransformNode()


def mark_made(node: Any, transform_node: Any) -> None:
    """Mark a node as resampled to the fixed volume by a registration."""
    _write(node, transform_node, None)


def mark_attached(node: Any, transform_node: Any, attached_to: Any) -> None:
    """Mark a node as attached to a registration, with the outline of its data."""
    outline = Outline.of(node)
    if outline is not None:
        _write(node, transform_node, outline)
        node.SetNodeReferenceID(ATTACHED_ROLE, attached_to.GetID())


def refer(node: Any, transform_node: Any) -> None:
    """Add a reference from a node to its registration."""
    if transform_node.GetID() not in _references(node, REGISTRATION_ROLE):
        node.AddNodeReferenceID(REGISTRATION_ROLE, transform_node.GetID())


def kept_marks(node: Any) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return all marks on a node, for `put_back_marks`."""
    names = [name for name in node.GetAttributeNames() if name.startswith(_CARRIED_BY)]
    roles = {role: _references(node, role) for role in (REGISTRATION_ROLE, ATTACHED_ROLE)}
    return {name: node.GetAttribute(name) for name in names}, roles


def put_back_marks(node: Any, kept: tuple[dict[str, str], dict[str, list[str]]]) -> None:
    """Replace the marks of a node by earlier ones, or those of another node."""
    attributes, roles = kept
    for name in kept_marks(node)[0]:
        node.RemoveAttribute(name)
    for name, value in attributes.items():
        node.SetAttribute(name, value)
    for role in (REGISTRATION_ROLE, ATTACHED_ROLE):
        node.RemoveNodeReferenceIDs(role)
        for node_id in roles.get(role, []):
            node.AddNodeReferenceID(role, node_id)


def marks_of(node: Any) -> list[Mark]:
    """Return the marks of all registrations on a node."""
    return [_read(node, name) for name in kept_marks(node)[0]]


def mark_of(node: Any, transform_node: Any) -> Mark | None:
    """Return the mark of one registration on a node, None if it has none."""
    if not is_registration(transform_node):
        return None
    name = _attribute(run_of(transform_node)[0])
    return _read(node, name) if node.GetAttribute(name) is not None else None


def moving_outline(transform_node: Any) -> Outline | None:
    """Return the outline of the moving volume of a registration, under its former parent; None if not stored."""
    text = transform_node.GetAttribute(_OUTLINE)
    return Outline.from_text(text) if text is not None else None


def renew_marks(transform_node: Any) -> None:
    """Update the marks of nodes under a registration after a new run."""
    identity, run = run_of(transform_node)
    for node in slicer.util.getNodesByClass("vtkMRMLTransformableNode", transform_node.GetScene()):
        text = node.GetAttribute(_attribute(identity))
        if text is not None and transform_node in chain(node.GetParentTransformNode()):
            node.SetAttribute(_attribute(identity), json.dumps({**json.loads(text), "run": run}))


def _references(node: Any, role: str) -> list[str]:
    return [node.GetNthNodeReferenceID(role, number) for number in range(node.GetNumberOfNodeReferences(role))]


def _attribute(identity: str) -> str:
    return f"{_CARRIED_BY}{identity}"


def _write(node: Any, transform_node: Any, outline: Outline | None) -> None:
    identity, run = run_of(transform_node)
    kept = {"run": run, "outline": outline.as_text() if outline is not None else None}
    node.SetAttribute(_attribute(identity), json.dumps(kept))
    refer(node, transform_node)


def _read(node: Any, name: str) -> Mark:
    kept = json.loads(node.GetAttribute(name))
    outline = Outline.from_text(kept["outline"]) if kept["outline"] is not None else None
    return Mark(name.removeprefix(_CARRIED_BY), kept["run"], outline, node.GetNodeReference(ATTACHED_ROLE))
