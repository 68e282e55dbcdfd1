"""The results of a registration as nodes: all are created first, then added to the scene."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer.util
import vtk

from ..errors import BridgeError
from ..nodes.resampling import resample_intensities
from ..nodes.spaces import chain, composed, to_world
from ..nodes.volumes import new_volume, overwrite_volume
from ..scene.carried import mark_carried
from ..scene.changes import SceneChanges, all_or_nothing
from ..scene.maps import (
    EXPECTED_ERROR,
    FIXED_FEATURES,
    JACOBIAN,
    MOVING_FEATURES,
    enter_maps,
    leave,
    read_maps,
    renew,
)
from ..scene.marks import renew_marks
from ..scene.outlines import Outline
from ..scene.result_folder import put_into_folder
from ..scene.transforms import (
    INVERSE_ROLE,
    below,
    fixed_of,
    inverse_of,
    moving_of,
    name_run,
    read_transform,
    store_record,
)
from .inputs import JobInputs, check_output_transform, is_input
from .placement import Placement

# From a registration to the registered volume that it added to the scene, or that it wrote into a given node.
_VOLUME_ROLE = "FoundationRegistration.RegisteredVolume"
_GIVEN_VOLUME_ROLE = "FoundationRegistration.OutputVolume"


@dataclass(frozen=True)
class JobOutputs:
    """The outputs of a registration.

    Attributes:
        transform_node: see `scene/transforms.py` for its parent; put the moving volume under it.
        inverse_node: transforms nodes under it from fixed to moving.
        volume_node: the moving volume on the voxels of the fixed one, if requested.
        jacobian_node: determinant of the Jacobian, if requested.
        expected_error_node: the expected error in mm, NaN where unknown, if requested.
        feature_nodes: of the fixed and the moving volume, if requested.
        record: the run record; also stored on the transform node.
        messages: warnings and notes about the run.
    """

    transform_node: Any
    inverse_node: Any
    volume_node: Any | None
    jacobian_node: Any | None
    expected_error_node: Any | None
    feature_nodes: tuple[Any, Any] | None
    record: dict[str, Any]
    messages: tuple[str, ...]

    @property
    def nodes(self) -> list[Any]:
        """What the registration made, without the transform itself."""
        single = (self.inverse_node, self.volume_node, self.jacobian_node, self.expected_error_node)
        return [node for node in (*single, *(self.feature_nodes or ())) if node is not None]


def registered_volume_of(transform_node: Any) -> Any | None:
    """Return the registered volume of a registration; None if it has none, or it was removed or overwritten."""
    roles = (_VOLUME_ROLE, _GIVEN_VOLUME_ROLE)
    return next((node for role in roles if (node := transform_node.GetNodeReference(role)) is not None), None)


def take_over(inputs: JobInputs, placement: Placement, scene: Any, result: Path) -> JobOutputs:
    """Add the results in the folder `result` to the scene.

    Raises:
        BridgeError: a file cannot be read; the scene is unchanged.
    """
    forward, volume = read_transform(result / "transform.h5"), None
    if inputs.create_volume or inputs.output_volume is not None:
        volume = _registered_volume(inputs, placement, forward)
    with all_or_nothing(scene) as changes:
        outputs = enter_results(changes, inputs, placement, result, volume)
    put_into_folder(outputs.transform_node, outputs.nodes)
    return outputs


def enter_results(
    changes: SceneChanges, inputs: JobInputs, placement: Placement, result: Path, volume: Any
) -> JobOutputs:
    """Add the results in a folder to the scene.

    Args:
        changes: receives the nodes.
        inputs: what was registered.
        placement: of the two volumes at the start.
        result: the folder.
        volume: the registered volume, a node in no scene yet; None if there is none.

    Raises:
        BridgeError: a file cannot be read.
    """
    record = json.loads((result / "report.json").read_text(encoding="utf-8"))
    forward, backward = (read_transform(result / name) for name in ("transform.h5", "inverse.h5"))
    transform, inverse = _transforms(placement, forward, backward)
    found = read_maps(result)
    happened, output = _what_has_changed(inputs, placement)
    if output is not None and not _can_hold(output, transform):
        happened.append(
            f"The output transform '{output.GetName()}' is a linear transform and cannot hold a deformation; it is "
            "unchanged, and the result is a new transform."
        )
        output = None
    record["messages"] = [*happened, *record["messages"]]
    transform, inverse = _enter_transforms(changes, inputs, placement, output, transform, inverse)
    lay = [Outline.of_image(side.grid) for side in (placement.fixed, placement.moving)]
    store_record(transform, record, inputs.fixed, inputs.moving, lay[1])
    name_run(inverse, inputs.moving, inputs.fixed, lay[0])
    renew_marks(transform)
    renew_marks(inverse)
    maps = enter_maps(changes, transform, found)
    volume = _enter_volume(changes, inputs, placement, transform, volume)
    return JobOutputs(
        transform_node=transform,
        inverse_node=inverse,
        volume_node=volume,
        jacobian_node=maps.get(JACOBIAN),
        expected_error_node=maps.get(EXPECTED_ERROR),
        feature_nodes=(maps[FIXED_FEATURES], maps[MOVING_FEATURES]) if FIXED_FEATURES in maps else None,
        record=record,
        messages=tuple(record["messages"]),
    )


def _what_has_changed(inputs: JobInputs, placement: Placement) -> tuple[list[str], Any]:
    """Return messages about changes of the nodes during the run, and the output transform if it can still be used."""
    output = inputs.output_transform
    words = placement.changes(output)
    try:
        check_output_transform(inputs)
        above = [*chain(placement.fixed.parent), *chain(placement.moving.parent)]
        taken = output is not None and output in above
    except BridgeError:
        taken = True
    if taken:
        words.append(
            f"The output transform '{output.GetName()}' was used otherwise during the registration; it is unchanged, "
            "and the result is a new transform."
        )
        output = None
    return words, output


def _can_hold(node: Any, transform: Any) -> bool:
    """Whether a transform node is of a class that holds another one's content: a linear one holds no deformation."""
    return transform.IsLinear() or not node.IsA("vtkMRMLLinearTransformNode")


def _transforms(
    placement: Placement, forward: vtk.vtkAbstractTransform, backward: vtk.vtkAbstractTransform
) -> tuple[Any, Any]:
    """Return nodes, in no scene yet, of the registration under the moving parent and its inverse under the fixed one.

    The result in the world at the start is adapted to parent transforms that moved since.
    """
    fixed, moving = placement.fixed, placement.moving
    fixed_moved, moving_moved = fixed.since_then(), moving.since_then()
    return (
        below(to_world(moving.parent), composed(fixed_moved.GetInverse(), forward, moving_moved)),
        below(to_world(fixed.parent), composed(moving_moved.GetInverse(), backward, fixed_moved)),
    )


def _registered_volume(inputs: JobInputs, placement: Placement, forward: vtk.vtkAbstractTransform) -> Any:
    """Return the moving volume as it was on the voxels of the fixed one as they were, as a node in no scene yet."""
    fixed, moving = placement.fixed, placement.moving
    fixed_to_moving = composed(fixed.to_world, forward, moving.to_world.GetInverse())
    interpolation = "cubic" if inputs.settings.get("interpolation") == "bspline" else "linear"
    image = resample_intensities(moving.voxels, moving.grid, fixed.grid, fixed_to_moving, interpolation)
    return new_volume(image, fixed.grid, inputs.moving)


def _enter_transforms(
    changes: SceneChanges, inputs: JobInputs, placement: Placement, output: Any, transform: Any, inverse: Any
) -> tuple[Any, Any]:
    """Overwrite the output transform and its inverse, or add them; return the nodes in the scene."""
    name = inputs.output_name or f"{inputs.moving.GetName()} to {inputs.fixed.GetName()}"
    stored_inverse = None if output is None else _own_inverse(output, placement)
    output = _enter(changes, output, transform, name)
    stored_inverse = _enter(changes, stored_inverse, inverse, f"{output.GetName()} (inverse)")
    changes.set_parent(output, placement.moving.parent)
    changes.set_parent(stored_inverse, placement.fixed.parent)
    output.SetNodeReferenceID(INVERSE_ROLE, stored_inverse.GetID())
    return output, stored_inverse


def _enter(changes: SceneChanges, present: Any, transform: Any, name: str) -> Any:
    """Copy a transform into an existing node, or add its node; return the node in the scene."""
    if present is None:
        return changes.add(transform, name)
    present.SetAndObserveTransformFromParent(transform.GetTransformFromParent())
    return present


def _own_inverse(output: Any, placement: Placement) -> Any | None:
    """Return the inverse node of an earlier result, if no other result uses it and it moves neither volume."""
    inverse = inverse_of(output)
    if inverse is None or inverse in (*chain(placement.fixed.parent), *chain(placement.moving.parent)):
        return None
    others = slicer.util.getNodesByClass("vtkMRMLTransformNode", output.GetScene())
    return None if any(node is not output and inverse_of(node) is inverse for node in others) else inverse


def _serves_another(volume: Any, transform: Any) -> bool:
    """Whether a volume is the fixed or moving one of another registration."""
    others = slicer.util.getNodesByClass("vtkMRMLTransformNode", transform.GetScene())
    return any(volume in (fixed_of(node), moving_of(node)) for node in others if node is not transform)


def _enter_volume(changes: SceneChanges, inputs: JobInputs, placement: Placement, transform: Any, volume: Any) -> Any:
    """Overwrite the output volume, or that of an earlier run of this registration, or add it; return the node."""
    given, own = inputs.output_volume, transform.GetNodeReference(_VOLUME_ROLE)
    if given not in (None, own) or (own is not None and (is_input(inputs, own) or _serves_another(own, transform))):
        leave(transform, _VOLUME_ROLE)
    if given is None:
        output = renew(changes, transform, _VOLUME_ROLE, "registered volume", volume, inputs.moving)
    else:
        output = given
        overwrite_volume(output, volume)
        _let_go(output, transform)
    transform.SetNodeReferenceID(_GIVEN_VOLUME_ROLE, None if given in (None, own) else given.GetID())
    if output is not None:
        changes.set_parent(output, placement.fixed.parent)
        mark_carried(output, inputs.moving, transform)
    return output


def _let_go(volume: Any, transform: Any) -> None:
    """Let no other registration name a volume as its own, since it was overwritten by this one."""
    for other in slicer.util.getNodesByClass("vtkMRMLTransformNode", volume.GetScene()):
        for role in (_VOLUME_ROLE, _GIVEN_VOLUME_ROLE):
            if other is not transform and other.GetNodeReference(role) is volume:
                other.SetNodeReferenceID(role, None)
