"""The tasks a person chooses from: each sets the method, proposes itself where the images tell, and warns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from FoundationRegistrationBridge.nodes.bounds import gap_mm, world_bounds
from FoundationRegistrationBridge.nodes.modality import (
    CT,
    MR,
    PET,
    modality_of,
    mr_sequences,
    patient_of,
    study_date_of,
)
from FoundationRegistrationBridge.series.sequences import sequence_shown_in
from slicer.i18n import tr as _

NO_TASK = ""
LONGITUDINAL, CROSS_SEQUENCE, LESION, BETWEEN = "longitudinal", "cross-sequence", "lesion", "between-patients"
PET_CT, SERIES, OTHER = "pet-ct-to-mri", "contrast-series", "other"
_FOR_MR = (LONGITUDINAL, CROSS_SEQUENCE, LESION)


@dataclass(frozen=True)
class Task:
    """What a registration is for.

    Attributes:
        title: in the panel, in English.
        preset: of the engine, which it sets.
        hint: one sentence about what else it needs or does, in English; empty if nothing.
    """

    title: str
    preset: str
    hint: str = ""


TASKS = {
    NO_TASK: Task("Choose a task", ""),
    LONGITUDINAL: Task("Longitudinal MRI", "longitudinal"),
    CROSS_SEQUENCE: Task("Different sequences", "cross-sequence"),
    LESION: Task("Lesion follow-up", "lesion", "Lesions marked under Masks and lesions keep their size and shape."),
    PET_CT: Task("PET/CT to MRI", "pet-ct-to-mri", "The CT is registered; check its PET under What moves along."),
    SERIES: Task("Contrast series", "dce", "All time points are registered to one of them."),
    BETWEEN: Task("Between patients", "between-patients"),
    OTHER: Task("Other", "cross-sequence"),
}
"""The tasks by their value in the parameter node, in display order."""


def proposed_task(fixed: Any, moving: Any) -> str:
    """Return the task that the images suggest; `NO_TASK` if they do not tell.

    Args:
        fixed: volume node, or None.
        moving: the same.
    """
    if any(volume is not None and sequence_shown_in(volume) is not None for volume in (fixed, moving)):
        return SERIES
    if fixed is None or moving is None or fixed is moving:
        return NO_TASK
    modalities = {modality_of(fixed), modality_of(moving)}
    if patient_of(fixed) and patient_of(moving) and patient_of(fixed) != patient_of(moving):
        return BETWEEN
    if MR in modalities and modalities & {CT, PET}:
        return PET_CT
    return _proposed_for_mr(fixed, moving) if modalities == {MR} else NO_TASK


def _proposed_for_mr(fixed: Any, moving: Any) -> str:
    """Return the task for two MR volumes of one patient."""
    sequences = [mr_sequences(volume) for volume in (fixed, moving)]
    if all(sequences) and sequences[0] != sequences[1]:
        return CROSS_SEQUENCE
    dates = [study_date_of(volume) for volume in (fixed, moving)]
    return LONGITUDINAL if all(dates) and dates[0] != dates[1] else NO_TASK


def are_swapped(task: str, fixed: Any, moving: Any) -> bool:
    """Whether the fixed and the moving volume of a PET/CT to MRI registration are likely in each other's place."""
    if task != PET_CT or fixed is None or moving is None:
        return False
    return modality_of(fixed) in (CT, PET) and modality_of(moving) not in (CT, PET)


def contradiction(task: str, fixed: Any, moving: Any) -> str:
    """Return in one sentence how the volumes contradict the task; empty if they do not."""
    if fixed is None or moving is None or task in (NO_TASK, SERIES, OTHER):
        return ""
    patients = [patient_of(volume) for volume in (fixed, moving)]
    if all(patients) and (patients[0] == patients[1]) is (task == BETWEEN):
        same = _("'{fixed}' and '{moving}' are of the same patient, but the task is Between patients.")
        other = _("'{fixed}' and '{moving}' are of different patients; if that is meant, choose Between patients.")
        return (same if task == BETWEEN else other).format(fixed=fixed.GetName(), moving=moving.GetName())
    modalities = [modality_of(volume) for volume in (fixed, moving)]
    if task in _FOR_MR:
        for volume, modality in zip((fixed, moving), modalities, strict=True):
            if modality in (CT, PET):
                return _("{task} is for two MR images, but '{name}' is a {modality}.").format(
                    task=_(TASKS[task].title), name=volume.GetName(), modality=modality
                )
    return _of_pet_ct(moving, *modalities) if task == PET_CT else ""


def _of_pet_ct(moving: Any, of_fixed: str, of_moving: str) -> str:
    """Return how modalities contradict PET/CT to MRI, other than by being swapped."""
    if of_moving == PET:
        return _(
            "'{name}' is the PET; take the CT of the PET/CT as the moving image and let the PET move along."
        ).format(name=moving.GetName())
    if of_fixed == of_moving and of_fixed:
        return _("PET/CT to MRI is for a CT and an MR image, but both images are {modality}.").format(
            modality=of_fixed
        )
    return ""


def cautions(task: str, fixed: Any, moving: Any, *, has_start: bool) -> list[str]:
    """Return what is doubtful about the images of a task, each in one sentence.

    Args:
        task: one of `TASKS`.
        fixed: volume node, or None.
        moving: the same.
        has_start: whether a transform, or points of both images, say where the registration starts.
    """
    if fixed is None or moving is None or fixed is moving or task == SERIES:
        return []
    if are_swapped(task, fixed, moving):
        doubt = _("'{fixed}' is a {modality} and fixed; for PET/CT to MRI the MRI stays fixed: swap them.").format(
            fixed=fixed.GetName(), modality=modality_of(fixed)
        )
    else:
        doubt = contradiction(task, fixed, moving)
    return [line for line in (doubt, "" if has_start else _why_apart(fixed, moving)) if line]


def _why_apart(fixed: Any, moving: Any) -> str:
    """Return that the boxes of the volumes do not overlap in the world; empty if they do."""
    gap = gap_mm(world_bounds(fixed), world_bounds(moving))
    if gap == 0.0:
        return ""
    return _(
        "'{fixed}' and '{moving}' lie {gap:.0f} mm apart: check that both show the same region, or set a Start."
    ).format(fixed=fixed.GetName(), moving=moving.GetName(), gap=max(gap, 1.0))
