"""What belongs to the moving volume follows it: attached to the registration, or carried onto the fixed volume.

Attached, a node keeps its own data and hangs under the registration, in a transform node of its own that does what
its parents did, unless these are those of the moving volume. So it goes where the moving volume goes. Resampled,
a new node holds the result in the coordinates of the fixed volume and shares its parent, so it needs no
transform any more. Volumes and segmentations are then resampled once from their own voxels onto those of the
fixed volume; surfaces, models and markups are moved point by point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import slicer
import vtk

from .carried import Carrying, carried_to_world, carrying, follows, mark_carried, to_moving_space
from .errors import BridgeError
from .follow_segmentation import carried_segmentation
from .grids import array_from_image, grid_of, image_from_array
from .marks import is_registration, kept_marks, mark_attached, mark_made, moving_parent, new_run
from .resampling import resample_intensities, resample_labels
from .scene_changes import SceneChanges, all_or_nothing
from .spaces import chain, composed, from_world, snapshot
from .undo import Undo
from .volumes import new_volume

Mode = Literal["resample", "attach"]
_Carry = Callable[[Any, Any, vtk.vtkAbstractTransform], Any]


def apply_transform(
    nodes: Iterable[Any], transform_node: Any, fixed_node: Any, *, mode: Mode, suffix: str = " registered"
) -> Undo:
    """Let nodes follow the moving volume.

    Args:
        nodes: volumes, label maps, segmentations, markups and models in the space of the moving volume; each
            counts where its own parents put it in the world.
        transform_node: the registration.
        fixed_node: the fixed volume.
        mode: "attach" to the registration, or "resample" into new nodes.
        suffix: added to the names of new nodes.

    Returns:
        What takes it all back: `undo()`. Its `created` are the new nodes.

    Raises:
        BridgeError: a node cannot follow; then nothing is changed.
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
            made = [(node, _carried(node, transform_node, fixed_node)) for node in nodes]
            for node, copy in made:
                changes.add_displayed(copy, f"{node.GetName()}{suffix}", node)
                changes.set_parent(copy, fixed_node.GetParentTransformNode())
                mark_carried(copy, node, transform_node)
                undo.made(copy)
    return undo


def _check(nodes: Iterable[Any], transform_node: Any, fixed_node: Any, mode: Mode) -> None:
    """Check that the registration can carry, and that it has not carried the nodes already.

    Raises:
        BridgeError: it cannot, or it has.
    """
    if transform_node is None:
        msg = "Choose the registration that the nodes shall follow."
        raise BridgeError(msg)
    if fixed_node is None and mode == "resample":
        msg = f"The fixed volume of '{transform_node.GetName()}' is gone; load it, or attach the nodes instead."
        raise BridgeError(msg)
    for node in nodes:
        if not node.IsA("vtkMRMLTransformableNode"):
            msg = f"'{node.GetName()}' is of a kind that cannot be resampled and cannot hang under a transform."
            raise BridgeError(msg)
        if mode == "attach" and node in chain(transform_node):
            msg = f"'{node.GetName()}' cannot hang under '{transform_node.GetName()}'; take it off the list."
            raise BridgeError(msg)
        if carrying(node, transform_node) is Carrying.LIES_THERE:
            msg = (
                f"'{node.GetName()}' has been carried by '{transform_node.GetName()}' already and lies where it "
                "belongs; take it off the list."
            )
            raise BridgeError(msg)


def can_follow(node: Any) -> bool:
    """Tell whether `apply_transform` can resample a node."""
    return _carrier(node) is not None


def _attach(node: Any, transform_node: Any, changes: SceneChanges, undo: Undo) -> None:
    """Hang a node under the registration.

    A node with the parent of the moving volume goes under the registration itself. One with another parent
    gets a transform node of its own between the two, which brings it to where the registration takes its points.
    """
    if follows(node, transform_node):
        return
    before, marks, attached_to, own = node.GetParentTransformNode(), kept_marks(node), transform_node, None
    if before is not moving_parent(transform_node):
        own = slicer.vtkMRMLTransformNode()
        own.SetAndObserveTransformToParent(snapshot(to_moving_space(node, transform_node)))
        changes.add(own, f"Place of {node.GetName()}")
        changes.set_parent(own, transform_node)
        for earlier in chain(before):
            if is_registration(earlier) and not follows(own, earlier):
                mark_made(own, earlier)
        attached_to = own
    changes.set_parent(node, attached_to)
    mark_attached(node, transform_node, attached_to)
    undo.attached(node, before, marks, own)


def _carried(node: Any, transform_node: Any, fixed_node: Any) -> Any:
    """Return a node, in no scene yet, that holds another one carried to the coordinates of the fixed volume.

    Raises:
        BridgeError: this kind of node cannot be carried.
    """
    carry = _carrier(node)
    if carry is None:
        msg = f"'{node.GetName()}' is of a kind that cannot be resampled; attach it to the transform instead."
        raise BridgeError(msg)
    fixed_from_world = from_world(fixed_node.GetParentTransformNode())
    return carry(node, fixed_node, composed(carried_to_world(node, transform_node), fixed_from_world))


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
