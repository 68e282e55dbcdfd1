"""All choices of the user, in a node of the scene: typed, with ranges, saved and restored with it.

The settings of the engine are taken from its `Settings` class, so that each is declared only there.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Union, get_args, get_type_hints

from FoundationRegistrationBridge.follow.apply import Mode
from FoundationRegistrationBridge.follow.directions import Direction
from slicer import (
    vtkMRMLLabelMapVolumeNode,
    vtkMRMLMarkupsFiducialNode,
    vtkMRMLMarkupsROINode,
    vtkMRMLScalarVolumeNode,
    vtkMRMLSegmentationNode,
    vtkMRMLSequenceNode,
    vtkMRMLTransformNode,
)
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from FoundationRegistrationLib.encoders import encoders
from FoundationRegistrationLib.settings import PRESETS, Settings, setting_choices

from .tasks import NO_TASK, SERIES, TASKS

TO_FIXED, TO_MOVING = get_args(Direction)
LESIONS = ("fixedLesion", "movingLesion")
MASKS_OF_A_PAIR = ("movingMask", *LESIONS)
MASKS = ("fixedMask", *MASKS_OF_A_PAIR)
SIDES = ("fixed", "moving")
OF_A_SIDE = ("Mask", "Lesion", "Structures", "DrivingPoints", "Labels", "Points")
"""What is drawn on or marked in an image: "fixedMask", "movingMask" and so on."""
_SEGMENTS_OF_A_SIDE = ("MaskSegment", "LesionSegment")
_OF_THESE_SIDES = ("initialTransform", "region")  # which hold for no others
_OF_A_RESULT = ("outputTransform", "outputVolume", "resultTransform", "resultVolume", "petVolume")
# A Union, since Slicer's wrapper supports only that form in a node selector.
LabelsNode = Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007
SeriesNode = Union[vtkMRMLSequenceNode, vtkMRMLScalarVolumeNode, None]  # noqa: UP007
# What depends on this machine rather than on the task.
_OF_THIS_MACHINE = ("device", "weights", "feature_cache_gb", "memory_budget_gb")


def setting_fields() -> dict[str, dataclasses.Field[Any]]:
    """Return the fields of the engine's settings by name, in order of declaration."""
    return {field.name: field for field in dataclasses.fields(Settings)}


def setting_words(name: str, hint: Any) -> tuple[str, ...] | None:
    """Return the choices of a setting; None if it is not a choice."""
    named = {"preset": PRESETS, "encoder": encoders(), "detail_encoder": ("", *encoders())}
    return tuple(named[name]) if name in named else setting_choices(hint)


def _annotation(field: dataclasses.Field[Any], hint: Any) -> Any:
    """Return the type of a setting with its limits, as Slicer's parameter nodes declare them."""
    words = setting_words(field.name, hint)
    if words is not None:
        return Annotated[str, Choice(list(words))]
    if hint in (int, float):
        return Annotated[hint, WithinRange(field.metadata["minimum"], field.metadata["maximum"])]
    return hint


def _settings_base() -> type:
    """Return a class that declares each setting of the engine with its default."""
    hints = get_type_hints(Settings)
    fields = setting_fields()
    annotations = {name: _annotation(field, hints[name]) for name, field in fields.items()}
    defaults = {name: field.default for name, field in fields.items()}
    return type("SettingParameters", (), {"__annotations__": annotations, **defaults})


@parameterNodeWrapper
class FoundationRegistrationParameterNode(_settings_base()):
    """The parameters of the panel.

    task: one of `tasks.TASKS`. fixedVolume, movingVolume: the second is registered to the first. series: for a
    contrast series, the sequence or the volume that its browser shows, and referenceTimePoint the number of the time
    point that does not move, from 0, or "mean". fixedMask, movingMask: region to register, the first also of the
    reference of a series; the foreground is segmented if there is none. fixedLesion, movingLesion: lesions that keep
    their volume. fixedMaskSegment and its like: ID of one segment, empty for all. fixedStructures, movingStructures,
    fixedDrivingPoints, movingDrivingPoints: corresponding structures and points that drive the registration. region:
    the box in the fixed volume in which tissue is deformed; everything if there is none. initialTransform: replaces
    the initial alignment; in the sense of a parent of the moving volume. outputTransform, outputVolume: nodes to
    overwrite; new ones are created if empty. createVolume: whether the moving volume is also resampled onto the fixed
    one. featurePreview: whether the features are also shown as colour volumes. followMode: whether transformed nodes
    are resampled or put under the transform, followDirection which side they are of. resultTransform, resultVolume:
    the registration shown in the Result section; resultSeries: the registered series shown there if the task is a
    contrast series, and curveLabels the structures of its curves. petVolume, petLower, petUpper, petOpacity: the PET
    overlay, SUV and percent. fixedLabels, movingLabels, fixedPoints, movingPoints: corresponding structures of both
    sides, for evaluation.
    """

    task: Annotated[str, Choice(list(TASKS))] = NO_TASK
    fixedVolume: vtkMRMLScalarVolumeNode
    movingVolume: vtkMRMLScalarVolumeNode
    series: SeriesNode
    referenceTimePoint: str = "0"
    fixedMask: LabelsNode
    movingMask: LabelsNode
    fixedMaskSegment: str = ""
    movingMaskSegment: str = ""
    fixedLesion: LabelsNode
    movingLesion: LabelsNode
    fixedLesionSegment: str = ""
    movingLesionSegment: str = ""
    fixedStructures: LabelsNode
    movingStructures: LabelsNode
    fixedDrivingPoints: vtkMRMLMarkupsFiducialNode
    movingDrivingPoints: vtkMRMLMarkupsFiducialNode
    region: vtkMRMLMarkupsROINode
    initialTransform: vtkMRMLTransformNode
    outputTransform: vtkMRMLTransformNode
    outputVolume: vtkMRMLScalarVolumeNode
    createVolume: bool = True
    featurePreview: bool = False
    followMode: Annotated[str, Choice(list(get_args(Mode)))] = "resample"
    followDirection: Annotated[str, Choice([TO_FIXED, TO_MOVING])] = TO_FIXED
    resultTransform: vtkMRMLTransformNode
    resultVolume: vtkMRMLScalarVolumeNode
    resultSeries: vtkMRMLSequenceNode
    curveLabels: LabelsNode
    curveLabelsSegment: str = ""
    petVolume: vtkMRMLScalarVolumeNode
    petLower: Annotated[float, WithinRange(0.0, 1000.0)] = 2.5
    petUpper: Annotated[float, WithinRange(0.0, 1000.0)] = 10.0
    petOpacity: Annotated[int, WithinRange(0, 100)] = 50
    fixedLabels: LabelsNode
    movingLabels: LabelsNode
    fixedPoints: vtkMRMLMarkupsFiducialNode
    movingPoints: vtkMRMLMarkupsFiducialNode


def apply_preset(parameters: Any, preset: str) -> None:
    """Set all settings to those of a preset, except what depends on this machine."""
    _set_to_preset(parameters, preset, {name: parameters.getValue(name) for name in _OF_THIS_MACHINE})


def reset_settings(parameters: Any) -> None:
    """Set all settings to those of the chosen preset."""
    _set_to_preset(parameters, parameters.preset, {})


def _set_to_preset(parameters: Any, preset: str, kept: dict[str, Any]) -> None:
    set_together(parameters, {**preset_values(preset), **kept})


def set_together(parameters: Any, values: Mapping[str, Any]) -> None:
    """Set several parameters by name, which is one change to all who watch them."""
    modifying = parameters.StartModify()
    try:
        for name, value in values.items():
            parameters.setValue(name, value)
    finally:
        parameters.EndModify(modifying)


def swap_sides(parameters: Any) -> list[str]:
    """Exchange the images, with all that is chosen for each.

    Returns:
        The names of the nodes that are no longer chosen, since they hold for no other sides: start and region.
    """
    gone = [node.GetName() for name in _OF_THESE_SIDES if (node := parameters.getValue(name)) is not None]
    of_nodes = _of_other_side(parameters, ("Volume", *OF_A_SIDE, "_modality"))
    of_segments = _of_other_side(parameters, _SEGMENTS_OF_A_SIDE)
    set_together(parameters, {**of_nodes, **dict.fromkeys(_OF_THESE_SIDES)})
    set_together(parameters, of_segments)  # after their masks, since another mask takes back the choice of a segment
    return gone


def show_pair(parameters: Any, **chosen: Any) -> None:
    """Choose the nodes of another pair, and nothing that was chosen for the one before.

    Args:
        parameters: the parameter node.
        **chosen: the nodes, by name; the method and how nodes are transformed stay as they are.
    """
    nodes = [f"{side}{kind}" for side in SIDES for kind in ("Volume", *OF_A_SIDE)]
    segments = [f"{side}{kind}" for side in SIDES for kind in _SEGMENTS_OF_A_SIDE]
    nothing = {**dict.fromkeys([*nodes, *_OF_THESE_SIDES, *_OF_A_RESULT]), **dict.fromkeys(segments, "")}
    set_together(parameters, {**nothing, **chosen})


def _of_other_side(parameters: Any, kinds: Sequence[str]) -> dict[str, Any]:
    """Return the value that each parameter of these kinds has on the other side, by name."""
    fixed, moving = SIDES
    return {
        f"{side}{kind}": parameters.getValue(f"{other}{kind}")
        for side, other in ((fixed, moving), (moving, fixed))
        for kind in kinds
    }


@functools.cache
def preset_values(preset: str) -> Mapping[str, Any]:
    """Return the values of all settings by a preset, by name."""
    return MappingProxyType(Settings.from_preset(preset).to_dict())


def changed_settings(parameters: Any) -> dict[str, Any]:
    """Return the settings that differ from the chosen preset's, by name."""
    of_preset = preset_values(parameters.preset)
    chosen = {name: parameters.getValue(name) for name in of_preset}
    return {name: value for name, value in chosen.items() if value != of_preset[name]}


def chosen_settings(parameters: Any) -> Settings:
    """Return the engine's settings as chosen.

    Raises:
        SettingsError: inconsistent values.
    """
    return Settings.from_preset(parameters.preset, **changed_settings(parameters))


def chosen_encoders(parameters: Any) -> tuple[str, ...]:
    """Return the names of the encoders in use: the main one and any detail encoder; none if the result is linear."""
    return Settings(
        encoder=parameters.encoder, detail_encoder=parameters.detail_encoder, stages=parameters.stages
    ).encoders


def masks_of_task(parameters: Any) -> tuple[str, ...]:
    """Return the masks that a registration takes: a series has only that of its reference, the fixed image."""
    return ("fixedMask",) if parameters.task == SERIES else MASKS


def mask_of(parameters: Any, name: str) -> Any:
    """Return a mask, or the labels of curves, in the form of the bridge: None, a node, or a node and a segment ID."""
    node = parameters.getValue(name)
    segment = parameters.getValue(f"{name}Segment")
    return (node, segment) if isinstance(node, vtkMRMLSegmentationNode) and segment else node
