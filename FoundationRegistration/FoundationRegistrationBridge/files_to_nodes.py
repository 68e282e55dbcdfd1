"""The results of a registration as nodes: all are created first, then added to the scene."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer.util
import vtk

from .carried import mark_carried
from .errors import BridgeError
from .job_inputs import JobInputs, check_output_transform
from .maps import EXPECTED_ERROR, FIXED_FEATURES, JACOBIAN, MOVING_FEATURES, enter_maps, read_maps
from .marks import renew_marks
from .outlines import Outline
from .placement import Placement
from .resampling import resample_intensities
from .result_folder import put_into_folder
from .scene_changes import SceneChanges, all_or_nothing
from .spaces import chain, composed, to_world
from .transforms import INVERSE_ROLE, below, inverse_of, name_run, read_transform, store_record
from .volumes import new_volume, overwrite_volume


@dataclass(frozen=True)
class JobOutputs:
    """The outputs of a registration.

    Attributes:
        transform_node: see `transforms.py` for its parent; put the moving volume under it.
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


def take_over(inputs: JobInputs, placement: Placement, scene: Any, result: Path) -> JobOutputs:
    """Add the results in the folder `result` to the scene.

    Raises:
        BridgeError: a file cannot be read; the scene is unchanged.
    """
    record = json.loads((result / "report.json").read_text(encoding="utf-8"))
    forward = read_transform(result / "transform.h5")
    transform, inverse = _transforms(placement, forward, read_transform(result / "inverse.h5"))
    happened, output = _what_has_changed(inputs, placement)
    record["messages"] = [*happened, *record["messages"]]
    volume = None
    if inputs.create_volume or inputs.output_volume is not None:
        volume = _registered_volume(inputs, placement, forward)
    found = read_maps(result)
    with all_or_nothing(scene) as changes:
        transform, inverse = _enter_transforms(changes, inputs, placement, output, transform, inverse)
        volume = _enter_volume(changes, inputs, placement, volume)
        lay = [Outline.of_image(side.grid) for side in (placement.fixed, placement.moving)]
        store_record(transform, record, inputs.fixed, inputs.moving, lay[1])
        name_run(inverse, inputs.moving, inputs.fixed, lay[0])
        renew_marks(transform)
        renew_marks(inverse)
        maps = enter_maps(changes, transform, found)
        if volume is not None:
            mark_carried(volume, inputs.moving, transform)
    put_into_folder(transform, (inverse, volume, *maps.values()))
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


def _enter_volume(changes: SceneChanges, inputs: JobInputs, placement: Placement, volume: Any) -> Any:
    if volume is None:
        return None
    output = inputs.output_volume
    if output is None:
        output = changes.add_displayed(volume, f"{inputs.moving.GetName()} registered", inputs.moving)
    else:
        overwrite_volume(output, volume)
    changes.set_parent(output, placement.fixed.parent)
    return output
