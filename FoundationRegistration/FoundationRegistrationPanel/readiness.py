"""What is still missing before a registration can start."""

from __future__ import annotations

from typing import Any

import slicer
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.job_inputs import JobInputs, check_inputs
from slicer.i18n import tr as _

from FoundationRegistrationLib.errors import SettingsError

from .parameters import LESIONS, MASKS, chosen_settings


def what_is_missing(parameters: Any) -> str:
    """Return one sentence that says what to do before registering; empty if nothing is missing."""
    checks = (_volumes, _nodes, _masks, _settings)
    return next((problem for check in checks if (problem := check(parameters))), "")


def _volumes(parameters: Any) -> str:
    fixed, moving = parameters.fixedVolume, parameters.movingVolume
    if fixed is None and moving is None and slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0:
        return _("Load two volumes, or a breast phantom from the Sample Data module.")
    if fixed is None:
        return _("Choose the fixed volume: the reference, which does not move.")
    if moving is None:
        return _("Choose the moving volume: the one to register to the fixed volume.")
    for volume in (fixed, moving):
        image = volume.GetImageData()
        if image is not None and min(image.GetDimensions()) == 1:
            return _("'{name}' is a single slice; choose a volume with several.").format(name=volume.GetName())
    return ""


def _masks(parameters: Any) -> str:
    for name in MASKS:
        mask = parameters.getValue(name)
        if mask is None or not mask.IsA("vtkMRMLSegmentationNode"):
            continue
        segmentation = mask.GetSegmentation()
        if segmentation.GetNumberOfSegments() == 0:
            return _("The mask '{name}' has no segments; draw one or choose no mask.").format(name=mask.GetName())
        segment = parameters.getValue(f"{name}Segment")
        if segment and segmentation.GetSegment(segment) is None:
            return _("The mask '{name}' no longer has the chosen segment; choose another.").format(
                name=mask.GetName()
            )
    return ""


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
    if settings.is_linear and any(parameters.getValue(name) for name in (*LESIONS, "region", "featurePreview")):
        return _(
            "Lesions, a region and the feature preview need the last stage to be deformable; choose none of them."
        )
    return ""
