"""Whether a registration has already transformed a node, and where it maps the node in the world. RAS mm."""

from __future__ import annotations

from contextlib import suppress
from enum import Enum
from typing import Any

import slicer.util
import vtk

from ..errors import BridgeError
from ..nodes.spaces import chain, composed, to_world
from .marks import (
    Mark,
    is_registration,
    mark_made,
    mark_of,
    marks_of,
    moving_outline,
    moving_parent,
    put_back_marks,
    run_of,
)
from .outlines import Fit, Outline
from .transforms import fixed_of, moving_of, world_registration


class Carrying(Enum):
    """What a registration has done to a node."""

    NOT_YET = "nothing"
    HANGS_UNDER = "transforms it as its parent"
    LIES_THERE = "transformed it permanently: into a new node, or hardened"


def carrying(node: Any, transform_node: Any) -> Carrying:
    """Return what a registration has done to a node.

    Raises:
        BridgeError: that is unknown, the node is transformed twice, or it does not belong to the moving volume.
    """
    if node is fixed_of(transform_node):
        msg = (
            f"'{node.GetName()}' is the fixed volume of '{transform_node.GetName()}'; choose what belongs to the "
            "moving volume."
        )
        raise BridgeError(msg)
    state = _state(node, transform_node)
    if state is Carrying.NOT_YET:
        _check_not_there_by_another(node, transform_node)
    return state


def _state(node: Any, transform_node: Any) -> Carrying:
    under, mark = follows(node, transform_node), mark_of(node, transform_node)
    if mark is not None and mark.outline is None:
        return _of_made(node, transform_node, mark, under)
    if not under and any(mark_of(each, transform_node) for each in chain(node.GetParentTransformNode())):
        return Carrying.LIES_THERE
    outline = moving_outline(transform_node)
    if node is moving_of(transform_node) and outline is not None:
        return _of_moving(node, transform_node, outline, under)
    if mark is not None:
        return _of_attached(node, transform_node, mark, under)
    return Carrying.HANGS_UNDER if under else Carrying.NOT_YET


def _of_made(node: Any, transform_node: Any, mark: Mark, under: bool) -> Carrying:
    if mark.run != run_of(transform_node)[1]:
        raise BridgeError(_earlier(node, transform_node))
    if under:
        raise BridgeError(_twice(node, transform_node))
    return Carrying.LIES_THERE


def _of_moving(node: Any, transform_node: Any, outline: Outline, under: bool) -> Carrying:
    """The same for the moving volume, which must be where it was registered, or where that maps it."""
    now = Outline.of(node)
    if under:
        if now is not None and outline.fit(now, to_world(transform_node)) is Fit.MOVED:
            raise BridgeError(_twice(node, transform_node))
        return Carrying.HANGS_UNDER
    here = None if now is None else now.mapped(to_moving_space(node, transform_node))
    if outline.fit(here, composed()) is Fit.SAME:
        return Carrying.NOT_YET
    there = None if now is None else now.mapped(to_world(node.GetParentTransformNode()))
    if outline.fit(there, to_world(transform_node)) is Fit.MOVED:
        return Carrying.LIES_THERE
    msg = (
        f"'{node.GetName()}' is not where it was when it was registered, so '{transform_node.GetName()}' is not "
        "valid for it; move it back, or register again."
    )
    raise BridgeError(msg)


def _of_attached(node: Any, transform_node: Any, mark: Mark, under: bool) -> Carrying:
    fit = mark.outline.fit(Outline.of(node), to_world(mark.attached_to or transform_node))
    if under:
        if fit is Fit.MOVED:
            raise BridgeError(_twice(node, transform_node))
        return Carrying.HANGS_UNDER
    if fit is Fit.SAME:
        return Carrying.NOT_YET
    if mark.run != run_of(transform_node)[1]:
        raise BridgeError(_earlier(node, transform_node))
    if fit is Fit.MOVED:
        return Carrying.LIES_THERE
    msg = (
        f"'{node.GetName()}' was under '{transform_node.GetName()}' and has changed since, so it is not known "
        "whether it was transformed; load it again, or choose another node."
    )
    raise BridgeError(msg)


def _twice(node: Any, transform_node: Any) -> str:
    return (
        f"'{node.GetName()}' was already transformed by '{transform_node.GetName()}' and is still under it; remove "
        "it from the transform."
    )


def _earlier(node: Any, transform_node: Any) -> str:
    return (
        f"'{node.GetName()}' was transformed by an earlier run of '{transform_node.GetName()}'; choose the node it "
        "was made from, and transform that again."
    )


def _check_not_there_by_another(node: Any, transform_node: Any) -> None:
    """Check that no other registration has mapped a node to the fixed volume of this one.

    If that one was also applied to the moving volume first, as in a refinement, the node follows both.

    Raises:
        BridgeError: one has.
    """
    fixed, moving = fixed_of(transform_node), moving_of(transform_node)
    start = chain(moving_parent(transform_node))
    for other in _registrations_of(node):
        if other is transform_node or fixed is None or fixed_of(other) is not fixed or other in start:
            continue
        if _state(node, other) is Carrying.NOT_YET:
            continue
        if moving is None or _state(moving, other) is Carrying.NOT_YET:
            msg = (
                f"'{node.GetName()}' was already registered to '{fixed.GetName()}' by '{other.GetName()}'; choose "
                "the node it was made from, or remove it from that transform."
            )
            raise BridgeError(msg)


def _registrations_of(node: Any) -> list[Any]:
    """Return the registrations that may have transformed a node."""
    above = [each for each in chain(node.GetParentTransformNode()) if is_registration(each)]
    marked = {mark.identity for mark in marks_of(node)}
    if node.GetScene() is None or not marked:
        return above
    all_nodes = slicer.util.getNodesByClass("vtkMRMLTransformNode", node.GetScene())
    return above + [each for each in all_nodes if is_registration(each) and run_of(each)[0] in marked]


def mark_carried(made: Any, source: Any, transform_node: Any) -> None:
    """Mark a node made by a registration from another one, with that one's earlier registrations."""
    carriers = [transform_node]
    for other in _registrations_of(source):
        with suppress(BridgeError):  # unknown facts about the source are not recorded for the new node
            carriers += [other] if _state(source, other) is not Carrying.NOT_YET else []
    put_back_marks(made, ({}, {}))
    for each in carriers:
        mark_made(made, each)


def follows(node: Any, transform_node: Any) -> bool:
    """Whether a node is under a transform node."""
    return transform_node in chain(node.GetParentTransformNode())


def uncarried_to_world(node: Any, transform_node: Any) -> vtk.vtkGeneralTransform:
    """Return the map from the coordinates of a node to the world without a registration.

    Raises:
        BridgeError: see `carrying`.
    """
    parent, state = node.GetParentTransformNode(), carrying(node, transform_node)
    if state is Carrying.HANGS_UNDER:
        above = chain(parent)
        below = [each.GetTransformToParent() for each in above[: above.index(transform_node)]]
        return composed(*below, to_world(moving_parent(transform_node)))
    if state is Carrying.LIES_THERE:
        return composed(to_world(parent), world_registration(transform_node))
    return to_world(parent)


def carried_to_world(node: Any, transform_node: Any) -> vtk.vtkGeneralTransform:
    """Return the map from the coordinates of a node to the world with a registration.

    Args:
        node: any transformable node that belongs to the moving volume. Its own parents act first. The registration is
            not applied twice to what it has already transformed, or transforms as a parent.
        transform_node: a registration as `transforms.py` places it: between the moving volume and its parent.

    Raises:
        BridgeError: see `carrying`.
    """
    if carrying(node, transform_node) is not Carrying.NOT_YET:
        return to_world(node.GetParentTransformNode())
    return composed(
        to_moving_space(node, transform_node),
        transform_node.GetTransformToParent(),
        to_world(transform_node.GetParentTransformNode()),
    )


def to_moving_space(node: Any, transform_node: Any) -> vtk.vtkGeneralTransform:
    """Return the map from the coordinates of a node to the input coordinates of a registration.

    These are the coordinates below the parent that the moving volume had. If an earlier registration is above that,
    as for a refined result, it is applied to a node as well, unless it already was.
    """
    parent, start = node.GetParentTransformNode(), moving_parent(transform_node)
    if parent is start:
        return composed()
    ahead = [each for each in chain(start) if is_registration(each) and _state(node, each) is not Carrying.LIES_THERE]
    up = [each.GetTransformToParent() for each in chain(parent) if each not in ahead]
    down = [each.GetTransformFromParent() for each in reversed(chain(start)) if each not in ahead]
    return composed(*up, *down)
