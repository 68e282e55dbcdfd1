"""What belongs to the moving volume follows it: attached to the registration, or carried onto the fixed volume.

Attached, a node keeps its own data and hangs under the registration; parents it had before still act. Resampled,
a new node holds the result in the coordinates of the fixed volume and shares its parent, so it needs no
transform any more. Volumes and segmentations are then resampled once from their own voxels onto those of the
fixed volume; surfaces, models and markups are moved point by point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import slicer
import vtk

from .errors import BridgeError
from .follow_segmentation import carried_segmentation
from .lattices import array_from_image, image_from_array, lattice_of
from .resampling import resample_intensities, resample_labels
from .scene_changes import SceneChanges, all_or_nothing
from .spaces import COPY_ROLE, carried_to_world, chain, composed, follows, from_world
from .transforms import copy_below
from .volumes import new_volume

Mode = Literal["resample", "attach"]
Undo = SceneChanges
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
    with all_or_nothing(transform_node.GetScene()) as changes:
        if mode == "attach":
            for node in nodes:
                _attach(node, transform_node, changes)
        else:
            made = [(node, _carried(node, transform_node, fixed_node)) for node in nodes]
            for node, copy in made:
                changes.add_displayed(copy, f"{node.GetName()}{suffix}", node)
                changes.set_parent(copy, fixed_node.GetParentTransformNode())
    return changes


def can_follow(node: Any) -> bool:
    """Tell whether `apply_transform` can resample a node."""
    return _carrier(node) is not None


def _attach(node: Any, transform_node: Any, changes: SceneChanges) -> None:
    """Hang a node under the registration.

    A node with the parent of the moving volume goes under the registration itself. One with another parent
    gets a transform node of its own, which does below that parent what the registration does in the world.
    """
    parent = node.GetParentTransformNode()
    if follows(node, transform_node):
        return
    if node in chain(transform_node) or not node.IsA("vtkMRMLTransformableNode"):
        msg = f"'{node.GetName()}' cannot hang under '{transform_node.GetName()}'; take it off the list."
        raise BridgeError(msg)
    if parent is transform_node.GetParentTransformNode():
        changes.set_parent(node, transform_node)
        return
    own = changes.add(copy_below(transform_node, parent), f"{transform_node.GetName()} for {node.GetName()}")
    own.SetNodeReferenceID(COPY_ROLE, transform_node.GetID())
    changes.set_parent(own, parent)
    changes.set_parent(node, own)


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
    target = lattice_of(fixed_node)
    image = resample_intensities(node.GetImageData(), lattice_of(node), target, to_fixed.GetInverse())
    return new_volume(image, target, node)


def _carried_labelmap(node: Any, fixed_node: Any, to_fixed: vtk.vtkAbstractTransform) -> Any:
    target = lattice_of(fixed_node)
    labels = resample_labels(array_from_image(node.GetImageData()), lattice_of(node), target, to_fixed.GetInverse())
    return new_volume(image_from_array(labels), target, node)


def _moved_copy(node: Any, _fixed_node: Any, to_fixed: vtk.vtkAbstractTransform) -> Any:
    """Return a copy of a model or markups node with every point moved; normals and measurements follow."""
    copy = getattr(slicer, node.GetClassName())()
    copy.CopyContent(node)
    copy.ApplyTransform(to_fixed)
    return copy
