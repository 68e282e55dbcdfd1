"""The results of a registration as nodes: first all of them are made, then all of them enter the scene."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vtk

from .job_inputs import JobInputs
from .lattices import lattice_of
from .nodes_to_files import RESULT
from .resampling import resample_intensities
from .scene_changes import SceneChanges, all_or_nothing
from .spaces import composed, parent_without, snapshot, to_world
from .transforms import INVERSE_ROLE, below, inverse_of, read_transform, refresh_copies, store_record
from .volumes import new_volume, overwrite_volume, read_volume

_MAPS = {"jacobian": "Jacobian determinant", "confidence": "expected error (mm)"}


@dataclass(frozen=True)
class JobOutputs:
    """What a registration made.

    Attributes:
        transform_node: see `transforms.py` for where it sits; put the moving volume under it.
        inverse_node: what is put under it goes from fixed to moving.
        volume_node: the moving volume on the voxels of the fixed one, if asked for.
        jacobian_node: determinant of the Jacobian, if asked for.
        confidence_node: the error to expect at each place in mm, 100 where it is not known, if asked for.
        feature_nodes: of the fixed and the moving volume, if asked for.
        record: everything about the run; also kept on the transform node.
        messages: what the user should know about this run.
    """

    transform_node: Any
    inverse_node: Any
    volume_node: Any | None
    jacobian_node: Any | None
    confidence_node: Any | None
    feature_nodes: tuple[Any, Any] | None
    record: dict[str, Any]
    messages: tuple[str, ...]


@dataclass(frozen=True)
class Placement:
    """Where the volumes were when the registration began; it holds for those places.

    Attributes:
        fixed_parent: transform node above the fixed volume, or None.
        moving_parent: transform node above the moving volume, the output transform left out, or None.
        fixed_to_world: from the coordinates of the fixed node to the world.
        moving_to_world: from the coordinates of the moving node to the world.
    """

    fixed_parent: Any
    moving_parent: Any
    fixed_to_world: vtk.vtkAbstractTransform
    moving_to_world: vtk.vtkAbstractTransform

    @classmethod
    def of(cls, inputs: JobInputs) -> Placement:
        """Note where the volumes of a registration are now."""
        parents = [parent_without(node, inputs.output_transform) for node in (inputs.fixed, inputs.moving)]
        return cls(*parents, *(snapshot(to_world(parent)) for parent in parents))


def take_over(inputs: JobInputs, placement: Placement, scene: Any, folder: Path) -> JobOutputs:
    """Bring the results in a folder into the scene.

    Raises:
        BridgeError: a file cannot be read; the scene is as it was before.
    """
    result = folder / RESULT
    record = json.loads((result / "report.json").read_text(encoding="utf-8"))
    forward = read_transform(result / "transform.h5")
    transform = below(placement.moving_to_world, forward)
    inverse = below(placement.fixed_to_world, read_transform(result / "inverse.h5"))
    volume = None
    if inputs.create_volume or inputs.output_volume is not None:
        volume = _registered_volume(inputs, placement, forward)
    maps = {
        name: read_volume(path, title)
        for name, title in _MAPS.items()
        if (path := result / f"{name}.nii.gz").is_file()
    }
    features = [
        read_volume(path, f"Features of {node.GetName()}", "vtkMRMLVectorVolumeNode")
        for side, node in (("fixed", inputs.fixed), ("moving", inputs.moving))
        if (path := result / f"features_{side}.nii.gz").is_file()
    ]
    with all_or_nothing(scene) as changes:
        for node in (*maps.values(), *features):
            changes.add_displayed(node, node.GetName())
        transform, inverse = _enter_transforms(changes, inputs, placement, transform, inverse)
        volume = _enter_volume(changes, inputs, placement, volume)
        store_record(transform, record, inputs.fixed, inputs.moving)
    return JobOutputs(
        transform_node=transform,
        inverse_node=inverse,
        volume_node=volume,
        jacobian_node=maps.get("jacobian"),
        confidence_node=maps.get("confidence"),
        feature_nodes=(features[0], features[1]) if len(features) == 2 else None,
        record=record,
        messages=tuple(record["messages"]),
    )


def _registered_volume(inputs: JobInputs, placement: Placement, forward: vtk.vtkAbstractTransform) -> Any:
    """Return the moving volume on the voxels of the fixed one, as a node in no scene yet."""
    moving, target = inputs.moving, lattice_of(inputs.fixed)
    fixed_to_moving = composed(placement.fixed_to_world, forward, placement.moving_to_world.GetInverse())
    cubic = inputs.settings.get("interpolation") == "bspline"
    image = resample_intensities(
        moving.GetImageData(), lattice_of(moving), target, fixed_to_moving, "cubic" if cubic else "linear"
    )
    return new_volume(image, target, moving)


def _enter_transforms(
    changes: SceneChanges, inputs: JobInputs, placement: Placement, transform: Any, inverse: Any
) -> tuple[Any, Any]:
    """Overwrite the output transform and its inverse, or add them; return the nodes in the scene."""
    name = inputs.output_name or f"{inputs.moving.GetName()} to {inputs.fixed.GetName()}"
    output = inputs.output_transform
    stored_inverse = inverse_of(output) if output is not None else None
    if output is None:
        output = changes.add(transform, name)
    else:
        output.CopyContent(transform)
    if stored_inverse is None:
        stored_inverse = changes.add(inverse, f"{output.GetName()} (inverse)")
    else:
        stored_inverse.CopyContent(inverse)
    changes.set_parent(output, placement.moving_parent)
    changes.set_parent(stored_inverse, placement.fixed_parent)
    refresh_copies(output)
    output.SetNodeReferenceID(INVERSE_ROLE, stored_inverse.GetID())
    return output, stored_inverse


def _enter_volume(changes: SceneChanges, inputs: JobInputs, placement: Placement, volume: Any) -> Any:
    if volume is None:
        return None
    output = inputs.output_volume
    if output is None:
        output = changes.add_displayed(volume, f"{inputs.moving.GetName()} registered", inputs.moving)
    else:
        overwrite_volume(output, volume)
    changes.set_parent(output, placement.fixed_parent)
    return output
