"""Inputs of a registration and their checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import slicer

from ..errors import BridgeError
from ..nodes.spaces import chain, composed, hanging_under, linear_matrix, parent_without
from ..nodes.volumes import check_scalar_volume
from ..scene.marks import is_registration
from ..scene.transforms import RECORD, moving_of
from .driving import Pair, check_driving


@dataclass(frozen=True)
class JobInputs:
    """The inputs and options of a registration.

    Attributes:
        fixed: volume node whose space the result is in.
        moving: volume node to register to it. Parent transforms of both are taken into account, except
            `output_transform`, the result of an earlier run, above the moving volume.
        fixed_mask: region to register: a segmentation node, (segmentation node, segment id) or a label map node.
        moving_mask: the same for the moving volume.
        fixed_lesion: lesions that keep their volume, given in the same way; each connected part moves rigidly.
        moving_lesion: the same for the moving volume.
        fixed_structures: segmentation or label map node whose structures drive the registration, paired by name with
            `moving_structures`; see `driving.py`.
        moving_structures: the same for the moving volume.
        fixed_points: point list node that drives the registration, paired by name with `moving_points`.
        moving_points: the same for the moving volume.
        region: ROI markups node with its own parents; only there, in the fixed volume, is anything deformed.
        initial_transform: initial transform node, in the sense of a parent of the moving volume, which may already be
            under it.
        settings: names and values of `FoundationRegistrationLib.settings.Settings`, "preset" among them.
        output_transform: transform node to overwrite: an earlier result or an empty one; a new one if None.
        output_volume: volume node to overwrite with the registered moving volume.
        create_volume: create a new node for the registered volume.
        output_name: name of a new transform node.
        feature_preview: return the features of both volumes as RGB volumes.
        maps: return the Jacobian determinant and the expected error as volumes.
    """

    fixed: Any
    moving: Any
    fixed_mask: Any = None
    moving_mask: Any = None
    fixed_lesion: Any = None
    moving_lesion: Any = None
    fixed_structures: Any = None
    moving_structures: Any = None
    fixed_points: Any = None
    moving_points: Any = None
    region: Any = None
    initial_transform: Any = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    output_transform: Any = None
    output_volume: Any = None
    create_volume: bool = False
    output_name: str = ""
    feature_preview: bool = False
    maps: bool = False

    @property
    def driving(self) -> dict[str, Pair]:
        """The fixed and moving nodes that drive the registration, by kind."""
        return {
            "structures": (self.fixed_structures, self.moving_structures),
            "points": (self.fixed_points, self.moving_points),
        }


def check_inputs(inputs: JobInputs) -> None:
    """Check that nodes and settings can be used.

    Raises:
        BridgeError: they cannot.
    """
    check_scalar_volume(inputs.fixed, "fixed")
    check_scalar_volume(inputs.moving, "moving")
    if inputs.fixed is inputs.moving:
        msg = f"'{inputs.fixed.GetName()}' is both fixed and moving; choose two different volumes."
        raise BridgeError(msg)
    for kind, pair in inputs.driving.items():
        check_driving(kind, pair)
    check_output_volume(inputs)
    check_output_transform(inputs)


def check_output_volume(inputs: JobInputs) -> None:
    """Check that the output volume can hold an image, and is not an input.

    Raises:
        BridgeError: it cannot, or it is.
    """
    output = inputs.output_volume
    if output is not None and output.GetClassName() != "vtkMRMLScalarVolumeNode":
        msg = f"The output volume '{output.GetName()}' is not a scalar volume; choose another output volume."
        raise BridgeError(msg)
    if output is not None and is_input(inputs, output):
        msg = f"The output volume '{output.GetName()}' is an input; choose another output volume."
        raise BridgeError(msg)


def is_input(inputs: JobInputs, volume_node: Any) -> bool:
    """Whether a volume or label map is read by a registration."""
    masks = [mask[0] if isinstance(mask, tuple) else mask for mask in _masks(inputs)]
    return volume_node in (inputs.fixed, inputs.moving, *masks, *inputs.driving["structures"])


def check_output_transform(inputs: JobInputs) -> None:
    """Check that the output transform can be overwritten without loss: a result of this module, or an empty one.

    Raises:
        BridgeError: it cannot.
    """
    output = inputs.output_transform
    if output is None:
        return
    name = output.GetName()
    if output in (*chain(inputs.fixed.GetParentTransformNode()), *chain(parent_without(inputs.moving, output))):
        msg = f"The output transform '{name}' moves the inputs; choose another output transform."
        raise BridgeError(msg)
    others = [node for node in hanging_under(output) if node is not inputs.moving]
    if output.GetAttribute(RECORD) is not None:
        if others and moving_of(output) not in (inputs.moving, None):
            msg = (
                f"The output transform '{name}' is the result for another moving volume, and '{others[0].GetName()}' "
                "is under it; choose another output transform, or create a new one."
            )
            raise BridgeError(msg)
        return
    kept = is_registration(output) or output.GetParentTransformNode() is not None or not _holds_nothing(output)
    if kept or others:
        msg = (
            f"The output transform '{name}' is not the result of a registration, and its content would be lost; "
            "choose another one, or create a new one."
        )
        raise BridgeError(msg)


def _masks(inputs: JobInputs) -> tuple[Any, ...]:
    return (inputs.fixed_mask, inputs.moving_mask, inputs.fixed_lesion, inputs.moving_lesion)


def _holds_nothing(transform_node: Any) -> bool:
    """Whether a transform node is empty: an identity matrix, or a grid or spline without values."""
    transform = transform_node.GetTransformToParent()
    if isinstance(transform, slicer.vtkOrientedGridTransform):
        return transform.GetDisplacementGrid() is None
    if isinstance(transform, slicer.vtkOrientedBSplineTransform):
        return transform.GetCoefficientData() is None
    matrix = linear_matrix(composed(transform))
    return matrix is not None and np.array_equal(matrix, np.eye(4))
