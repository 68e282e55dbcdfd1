"""What is still missing before a registration can start."""

from __future__ import annotations

from typing import Any

import slicer
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.nodes.masks import marks_nothing
from FoundationRegistrationBridge.run.inputs import JobInputs, check_inputs
from FoundationRegistrationBridge.series.sequences import Browsed, checked_time_points
from slicer.i18n import tr as _

from FoundationRegistrationLib.errors import SettingsError

from ..parameters import LESIONS, chosen_settings, mask_of, masks_of_task
from ..tasks import NO_TASK, SERIES
from ..wording.messages import in_panel_words


def what_is_missing(parameters: Any) -> str:
    """Return one sentence that says what to do before registering; empty if nothing is missing."""
    of_series = parameters.task == SERIES
    checks = (_series, _masks, _settings) if of_series else (_volumes, _nodes, _masks, _task, _settings)
    return next((in_panel_words(problem) for check in checks if (problem := check(parameters))), "")


def _volumes(parameters: Any) -> str:
    fixed, moving = parameters.fixedVolume, parameters.movingVolume
    if fixed is None and moving is None and slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0:
        return _("Load two images, or a phantom from Sample Data.")
    if fixed is None:
        return _("Choose the fixed image: the reference, which does not move.")
    if moving is None:
        return _("Choose the moving image: the one to register to the fixed image.")
    for volume in (fixed, moving):
        image = volume.GetImageData()
        if image is not None and min(image.GetDimensions()) == 1:
            return _("'{name}' is a single slice; choose an image with several.").format(name=volume.GetName())
    return ""


def _task(parameters: Any) -> str:
    return _("Choose the task: what the registration is for.") if parameters.task == NO_TASK else ""


def _series(parameters: Any) -> str:
    if parameters.series is None:
        return _("Choose the moving image: the sequence of a contrast series.")
    try:
        checked_time_points(Browsed.of(parameters.series))
    except BridgeError as error:
        return str(error)
    return ""


def _masks(parameters: Any) -> str:
    for name in masks_of_task(parameters):
        mask = mask_of(parameters, name)
        if mask is not None and (problem := _of_mask(mask)):
            return problem.format(name=parameters.getValue(name).GetName())
    return ""


def _of_mask(mask: Any) -> str:
    """Return what is wrong with a mask in the form of the bridge, with a place for its name; empty if nothing."""
    node, segment = mask if isinstance(mask, tuple) else (mask, "")
    if node.IsA("vtkMRMLSegmentationNode"):
        if node.GetSegmentation().GetNumberOfSegments() == 0:
            return _("The mask '{name}' has no segments; draw one or choose no mask.")
        if segment and node.GetSegmentation().GetSegment(segment) is None:
            return _("The mask '{name}' no longer has the chosen segment; choose another.")
    return _("The mask '{name}' marks nothing; draw in it, or choose no mask.") if marks_nothing(mask) else ""


def _nodes(parameters: Any) -> str:
    inputs = JobInputs(
        parameters.fixedVolume,
        parameters.movingVolume,
        fixed_structures=parameters.fixedStructures,
        moving_structures=parameters.movingStructures,
        fixed_points=parameters.fixedDrivingPoints,
        moving_points=parameters.movingDrivingPoints,
        output_transform=parameters.outputTransform,
        output_volume=parameters.outputVolume if parameters.createVolume else None,
    )
    try:
        check_inputs(inputs)
    except BridgeError as error:
        return str(error)
    return ""


def _settings(parameters: Any) -> str:
    try:
        settings = chosen_settings(parameters)
    except SettingsError as error:
        return _("Advanced: {problem}").format(problem=error)
    of_pair = parameters.task != SERIES
    if (
        of_pair
        and settings.is_linear
        and any(parameters.getValue(name) for name in (*LESIONS, "region", "featurePreview"))
    ):
        return _(
            "Lesions, a region and the feature preview need the last stage to be deformable; choose none of them."
        )
    return ""
