"""Transforming nodes of the moving volume: attached to the registration, or resampled to the fixed volume.

An attached node keeps its own data and is put under the registration, if needed with its own transform node that
replaces its former parents, so that it moves with the moving volume. Resampling creates a new node in the coordinates
of the fixed volume, with the same parent, which needs no further transform. Volumes and segmentations are resampled
in one step onto the voxels of the fixed volume; surfaces, models and markups are transformed point by point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import slicer
import vtk

from ..errors import BridgeError
from ..nodes.grids import array_from_image, grid_of, image_from_array
from ..nodes.resampling import resample_intensities, resample_labels
from ..nodes.spaces import chain, composed, from_world, snapshot
from ..nodes.volumes import new_volume
from ..scene.carried import (
    Carrying,
    carried_to_world,
    carrying,
    follows,
    mark_carried,
    to_moving_space,
    uncarried_to_world,
)
from ..scene.changes import SceneChanges, all_or_nothing
from ..scene.marks import is_registration, kept_marks, mark_attached, mark_made, moving_parent, new_run
from ..scene.result_folder import put_into_folder
from ..scene.undo import Undo
from .segmentations import carried_segmentation, volumes_in_words

Mode = Literal["resample", "attach"]
_Carry = Callable[[Any, Any, vtk.vtkAbstractTransform], Any]


def apply_transform(
    nodes: Iterable[Any],
    transform_node: Any,
    fixed_node: Any,
    *,
    mode: Mode,
    suffix: str = " registered",
    inverse_of: Any = None,
) -> Undo:
    """Transform nodes with the moving volume.

    Args:
        nodes: volumes, label maps, segmentations, markups and models in the space of the moving volume, each with its
            own parent transforms.
        transform_node: the registration.
        fixed_node: the fixed volume.
        mode: "attach" to the registration, or "resample" into new nodes.
        suffix: added to the names of new nodes.
        inverse_of: the registration whose inverse `transform_node` is, if it is one. Then "fixed" and "moving" change
            their roles: nodes of the fixed volume get the coordinates of the moving one, wherever that lies now.

    Returns:
        The undo step: `undo()`. Its `created` are the new nodes, its `notes` the volumes of resampled segments.

    Raises:
        BridgeError: a node cannot be transformed; then nothing is changed.
    """
    nodes = list(nodes)
    _check(nodes, transform_node, fixed_node, mode)
    if not is_registration(transform_node):
        new_run(transform_node, None)
    undo = Undo(transform_node.GetScene())
    with all_or_nothing(transform_node.GetScene()) as changes:
        if mode == "attach":
            for node in nodes:
                _attach(node, transform_node, changes, undo)
        else:
            from_world_to_fixed = from_world(fixed_node.GetParentTransformNode())
            if inverse_of is not None:
                from_world_to_fixed = uncarried_to_world(fixed_node, inverse_of).GetInverse()
            made = [(node, _carried(node, transform_node, fixed_node, from_world_to_fixed)) for node in nodes]
            for node, copy in made:
                changes.add_displayed(copy, f"{node.GetName()}{suffix}", node)
                changes.set_parent(copy, fixed_node.GetParentTransformNode())
                mark_carried(copy, node, transform_node)
                undo.made(copy)
                if node.IsA("vtkMRMLSegmentationNode"):
                    undo.notes += volumes_in_words(node, copy)
    put_into_folder(inverse_of or transform_node, undo.created)
    return undo


def _check(nodes: Iterable[Any], transform_node: Any, fixed_node: Any, mode: Mode) -> None:
    """Check that the registration can transform the nodes, and has not already done so.

    Raises:
        BridgeError: it cannot, or it has.
    """
    if transform_node is None:
        msg = "Choose the registration to apply to the nodes."
        raise BridgeError(msg)
    if fixed_node is None and mode == "resample":
        msg = f"The fixed volume of '{transform_node.GetName()}' was removed; load it, or attach the nodes instead."
        raise BridgeError(msg)
    for node in nodes:
        if not node.IsA("vtkMRMLTransformableNode"):
            msg = f"'{node.GetName()}' is of a type that can neither be resampled nor put under a transform."
            raise BridgeError(msg)
        if mode == "attach" and node in chain(transform_node):
            msg = f"'{node.GetName()}' cannot be put under '{transform_node.GetName()}'; remove it from the list."
            raise BridgeError(msg)
        if carrying(node, transform_node) is Carrying.LIES_THERE:
            msg = (
                f"'{node.GetName()}' was already transformed by '{transform_node.GetName()}' and is in the right "
                "place; remove it from the list."
            )
            raise BridgeError(msg)


def can_follow(node: Any) -> bool:
    """Whether `apply_transform` can resample a node."""
    return _carrier(node) is not None


def _attach(node: Any, transform_node: Any, changes: SceneChanges, undo: Undo) -> None:
    """Put a node under the registration.

    A node with the parent of the moving volume goes under the registration itself. One with another parent gets its
    own transform node in between, which maps it to the input space of the registration.
    """
    if follows(node, transform_node):
        return
    before, marks, attached_to, own = node.GetParentTransformNode(), kept_marks(node), transform_node, None
    if before is not moving_parent(transform_node):
        own = slicer.vtkMRMLTransformNode()
        own.SetAndObserveTransformToParent(snapshot(to_moving_space(node, transform_node)))
        changes.add(own, f"Position of {node.GetName()}")
        changes.set_parent(own, transform_node)
        for earlier in chain(before):
            if is_registration(earlier) and not follows(own, earlier):
                mark_made(own, earlier)
        attached_to = own
    changes.set_parent(node, attached_to)
    mark_attached(node, transform_node, attached_to)
    undo.attached(node, before, marks, own)


def _carried(node: Any, transform_node: Any, fixed_node: Any, from_world_to_fixed: vtk.vtkAbstractTransform) -> Any:
    """Return a node, in no scene yet, with another one transformed to the coordinates of the fixed volume.

    Raises:
        BridgeError: this type of node cannot be resampled.
    """
    carry = _carrier(node)
    if carry is None:
        msg = f"'{node.GetName()}' is of a type that cannot be resampled; attach it to the transform instead."
        raise BridgeError(msg)
    return carry(node, fixed_node, composed(carried_to_world(node, transform_node), from_world_to_fixed))


def _carrier(node: Any) -> _Carry | None:
    if node.GetClassName() in ("vtkMRMLScalarVolumeNode", "vtkMRMLVectorVolumeNode"):
        return _carried_volume if node.GetImageData() is not None else None
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        return _carried_labelmap if node.GetImageData() is not None else None
    if node.IsA("vtkMRMLSegmentationNode"):
        return carried_segmentation
    if node.IsA("vtkMRMLModelNode") or node.IsA("vtkMRMLMarkupsNode"):
        return _moved_copy
    return None


def _carried_volume(node: Any, fixed_node: Any, to_fixed: vtk.vtkAbstractTransform) -> Any:
    target = grid_of(fixed_node)
    image = resample_intensities(node.GetImageData(), grid_of(node), target, to_fixed.GetInverse())
    return new_volume(image, target, node)


def _carried_labelmap(node: Any, fixed_node: Any, to_fixed: vtk.vtkAbstractTransform) -> Any:
    target = grid_of(fixed_node)
    labels = resample_labels(array_from_image(node.GetImageData()), grid_of(node), target, to_fixed.GetInverse())
    return new_volume(image_from_array(labels), target, node)


def _moved_copy(node: Any, _fixed_node: Any, to_fixed: vtk.vtkAbstractTransform) -> Any:
    """Return a copy of a model or markups node with every point moved; normals and measurements follow."""
    copy = getattr(slicer, node.GetClassName())()
    copy.CopyContent(node)
    copy.ApplyTransform(to_fixed)
    return copy
