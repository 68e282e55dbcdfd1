"""Breast phantoms in the Sample Data module, generated without a download."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import slicer
import slicer.util
import vtk
from FoundationRegistrationBridge.nodes.grids import image_from_array
from FoundationRegistrationBridge.nodes.pet_units import mark_as_suv
from slicer.i18n import tr as _

CATEGORY = "FoundationRegistration"
SAMPLES = {
    "longitudinal": "BreastLongitudinal",
    "cross-sequence": "BreastCrossSequence",
    "lesion": "BreastLesion",
    "pet-ct-to-mri": "BreastPetCtToMri",
}
_SPACING_MM = 2.0


def register_sample_data() -> None:
    """Add the phantoms to the Sample Data module."""
    import SampleData

    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):  # not in Slicer 5.10
        logic.registerCustomSampleDataCategory(CATEGORY, title=_("Foundation Registration"))
    icon = Path(__file__).parents[1] / "Resources" / "Icons" / "FoundationRegistration.png"
    for task, name in SAMPLES.items():
        logic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=name,
            uris=f"phantom:{task}",
            fileNames=f"{name}.nrrd",
            thumbnailFileName=str(icon),
            customDownloader=functools.partial(_download, task),
        )


def _download(task: str, source: Any) -> None:
    with slicer.util.tryWithErrorDisplay(_("The phantom could not be created."), waitCursor=True):
        add_phantom(task)


def add_phantom(task: str, seed: int = 0, spacing_mm: float = _SPACING_MM) -> dict[str, Any]:
    """Add a synthetic breast pair to the scene.

    Args:
        task: "longitudinal", "cross-sequence", "lesion" or "pet-ct-to-mri".
        seed: of the patient.
        spacing_mm: approximate voxel spacing.

    Returns:
        Nodes by role: volumes "fixed" and "moving", "pet" if there is one, segmentations "fixed_labels" and
        "moving_labels", landmarks "fixed_points" and "moving_points".
    """
    from FoundationRegistrationLib.phantom import make_phantom

    case = make_phantom(task, seed, spacing_mm=spacing_mm, difficulty="easy")
    nodes = {role: _volume(f"{task} {role}", getattr(case, role)) for role in ("fixed", "moving")}
    modality = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
    for role, node in nodes.items():
        node.SetAttribute(modality, "CT" if (task, role) == ("pet-ct-to-mri", "moving") else "MR")
    if case.pet is not None:
        nodes["pet"] = _volume(f"{task} PET", case.pet)
        mark_as_suv(nodes["pet"])
    for side in ("fixed", "moving"):
        nodes[f"{side}_labels"] = _segmentation(f"{task} {side} structures", getattr(case, f"{side}_labels"))
        points = getattr(case, f"{side}_landmarks")
        nodes[f"{side}_points"] = _points(f"{task} {side} landmarks", points)
    return nodes


def _volume(name: str, image: Any, kind: str = "vtkMRMLScalarVolumeNode") -> Any:
    """Return a volume node for a SimpleITK image."""
    import SimpleITK as sitk

    node = slicer.mrmlScene.AddNewNodeByClass(kind, name)
    node.SetAndObserveImageData(image_from_array(sitk.GetArrayViewFromImage(image)))
    node.SetIJKToRASMatrix(_ijk_to_ras(image))
    node.CreateDefaultDisplayNodes()
    return node


def _ijk_to_ras(image: Any) -> vtk.vtkMatrix4x4:
    """Return the IJK to RAS matrix of a SimpleITK image (LPS)."""
    matrix = vtk.vtkMatrix4x4()
    direction, spacing, origin = image.GetDirection(), image.GetSpacing(), image.GetOrigin()
    for row, sign in enumerate((-1.0, -1.0, 1.0)):
        for column in range(3):
            matrix.SetElement(row, column, sign * direction[3 * row + column] * spacing[column])
        matrix.SetElement(row, 3, sign * origin[row])
    return matrix


def _segmentation(name: str, masks: Any) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    for label, image in masks.items():
        if label == "body":
            continue
        labelmap = _volume(label, image, "vtkMRMLLabelMapVolumeNode")
        logic.ImportLabelmapToSegmentationNode(labelmap, node)
        slicer.mrmlScene.RemoveNode(labelmap)
        segmentation = node.GetSegmentation()
        segmentation.GetNthSegment(segmentation.GetNumberOfSegments() - 1).SetName(label)
    return node


def _points(name: str, points: Any) -> Any:
    """Return a markups node for (N, 3) LPS points."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    for index, (left, posterior, superior) in enumerate(points.tolist()):
        node.AddControlPoint(vtk.vtkVector3d(-left, -posterior, superior), f"L{index + 1}")
    node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().SetVisibility(False)
    return node
