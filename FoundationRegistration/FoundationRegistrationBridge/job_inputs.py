"""What a registration is asked to do, and whether it can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import BridgeError
from .spaces import chain, parent_without
from .volumes import check_scalar_volume


@dataclass(frozen=True)
class JobInputs:
    """What to register, and how.

    Attributes:
        fixed: volume node whose space the result is in.
        moving: volume node that is carried onto it. Both count where their parent transforms put them in the
            world. If the moving volume hangs under `output_transform`, the result of an earlier run, that one
            transform is left out.
        fixed_mask: region that counts: a segmentation node, (segmentation node, segment id) or a label map node.
        moving_mask: the same for the moving volume.
        fixed_lesion: lesions that keep their volume, in one of the same forms; each connected part moves rigidly.
        moving_lesion: the same for the moving volume.
        initial_transform: node that the moving volume would be put under to begin with. If the volume is under
            it already, the run starts from there.
        settings: names and values of `FoundationRegistrationLib.settings.Settings`, "preset" among them.
        output_transform: transform node to overwrite; a new one if None.
        output_volume: volume node to overwrite with the registered moving volume.
        create_volume: make a new node for the registered volume.
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
    initial_transform: Any = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    output_transform: Any = None
    output_volume: Any = None
    create_volume: bool = False
    output_name: str = ""
    feature_preview: bool = False
    maps: bool = False


def check_inputs(inputs: JobInputs) -> None:
    """Check that nodes and settings can be used.

    Raises:
        BridgeError: they cannot; the message says what to do.
    """
    check_scalar_volume(inputs.fixed, "fixed")
    check_scalar_volume(inputs.moving, "moving")
    if inputs.fixed is inputs.moving:
        msg = f"'{inputs.fixed.GetName()}' is both fixed and moving; choose two different volumes."
        raise BridgeError(msg)
    if inputs.output_volume is not None and inputs.output_volume in (inputs.fixed, inputs.moving):
        msg = f"The output volume '{inputs.output_volume.GetName()}' is an input; choose another output volume."
        raise BridgeError(msg)
    output = inputs.output_transform
    parents = [
        *chain(inputs.fixed.GetParentTransformNode()),
        *chain(parent_without(inputs.moving, output)),
    ]
    if output is not None and output in parents:
        msg = f"The output transform '{output.GetName()}' moves the inputs; choose another output transform."
        raise BridgeError(msg)
