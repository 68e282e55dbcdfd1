"""What kind of image a volume holds and whose it is, as far as DICOM, names, units or values tell."""

from __future__ import annotations

import re
from typing import Any

import slicer
import slicer.util

from .pet_units import says_suv

MR, CT, PET = "MR", "CT", "PET"
_OF_DICOM = {"MR": MR, "CT": CT, "PT": PET, "PET": PET}
_WORDS = {
    MR: {"mr", "mri", "t1", "t2", "t1w", "t2w", "pd", "stir", "flair", "dwi", "adc", "dce", "tse", "gre", "spgr"},
    CT: {"ct", "cbct", "ldct", "cect"},
    PET: {"pet", "suv", "fdg", "psma", "fes"},
}
_SEQUENCES = {"t1": "T1", "t1w": "T1", "t2": "T2", "t2w": "T2", "pd": "PD", "stir": "STIR", "flair": "FLAIR"}
_SEQUENCES |= {"dwi": "DWI", "adc": "ADC", "dce": "DCE"}
# Hounsfield units of air, and more than any air: MR and PET have no such values.
_AIR_HU = (-2100.0, -900.0)


def modality_of(volume: Any) -> str:
    """Return "MR", "CT" or "PET"; empty if nothing tells.

    In this order: DICOM's modality on the node or its item of the subject hierarchy, its units, the words of its name
    (Slicer names a DICOM volume by its series description), and for CT the range of its values.
    """
    constants = slicer.vtkMRMLSubjectHierarchyConstants
    if modality := _OF_DICOM.get(_attribute(volume, constants.GetDICOMSeriesModalityAttributeName()).upper(), ""):
        return modality
    if says_suv(volume):
        return PET
    named = [modality for modality, words in _WORDS.items() if words & _words(volume)]
    if len(named) == 1:
        return named[0]
    image = volume.GetImageData()
    lowest = image.GetScalarRange()[0] if image is not None and image.GetPointData().GetScalars() else 0.0
    return CT if _AIR_HU[0] <= lowest <= _AIR_HU[1] else ""


def mr_sequences(volume: Any) -> set[str]:
    """Return the contrasts that the name of a volume states, such as {"T1"}; empty if none."""
    return {_SEQUENCES[word] for word in _words(volume) if word in _SEQUENCES}


def patient_of(volume: Any) -> int:
    """Return the item of the patient in the subject hierarchy; 0 if unknown."""
    return _above(volume, slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelPatient())


def study_of(volume: Any) -> int:
    """Return the item of the study in the subject hierarchy; 0 if unknown."""
    return _above(volume, slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelStudy())


def study_date_of(volume: Any) -> str:
    """Return the date of the study as DICOM writes it, such as "20240131"; empty if unknown."""
    study = study_of(volume)
    name = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMStudyDateAttributeName()
    return _hierarchy(volume).GetItemAttribute(study, name) if study else ""


def _attribute(volume: Any, name: str) -> str:
    """Return an attribute of the node, or else of its item in the subject hierarchy; empty if there is none."""
    hierarchy = _hierarchy(volume)
    item = hierarchy.GetItemByDataNode(volume) if hierarchy is not None else 0
    return volume.GetAttribute(name) or (hierarchy.GetItemAttribute(item, name) if item else "")


def _above(volume: Any, level: str) -> int:
    hierarchy = _hierarchy(volume)
    item = hierarchy.GetItemByDataNode(volume) if hierarchy is not None else 0
    return int(hierarchy.GetItemAncestorAtLevel(item, level)) if item else 0


def _hierarchy(node: Any) -> Any:
    scene = node.GetScene()
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene) if scene is not None else None


def _words(volume: Any) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", (volume.GetName() or "").lower()))
