"""Rigid and affine registration: the result is a linear transform; no features are computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from ..errors import InputError
from ..runtime.progress import Note, Progress
from ..settings import Settings
from ..spatial.points import linear_parts
from .driving import Driving
from .initial_alignment.search import initial_alignment
from .preprocessing.prepared_volume import PreparedVolume
from .solution import Solution


def refuse_what_deforms(settings: Settings, given: Mapping[str, Any]) -> None:
    """Check that a run that ends with a linear transform was given nothing that needs the deformable stages.

    Args:
        settings: of the run.
        given: what the caller gave, by its name in a sentence; absent if None or False.

    Raises:
        InputError: it was.
    """
    names = [name for name, value in given.items() if value is not None and value is not False]
    if settings.is_linear and names:
        msg = (
            f"The {names[0]} acts on the deformable stages, which a run with stages = {settings.stages} does not "
            "have; leave out one of them."
        )
        raise InputError(msg)


def align(
    fixed: PreparedVolume,
    moving: PreparedVolume,
    settings: Settings,
    start: sitk.Transform | None,
    driving: Driving,
    device: torch.device,
    progress: Progress,
) -> Solution:
    """Find the rigid or affine transform of two volumes.

    Args:
        fixed: prepared fixed volume.
        moving: prepared moving volume.
        settings: `stages` is rigid or affine; `initialization` says where to start.
        start: a given linear transform to start from instead, fixed to moving points, LPS mm.
        driving: structures and points that drive too.
        device: where tensors live.
        progress: receives the progress of the current step.

    Raises:
        InputError: the given start is not linear, or mirrors.
    """
    if start is not None:
        _check_start(start, settings)
    elif settings.initialization not in ("rigid", "affine"):
        start, _ = initial_alignment(fixed, moving, settings.initialization, device, progress)
    transform, messages = initial_alignment(fixed, moving, settings.stages, device, progress, start, driving)
    messages.append(
        Note(
            f"This is {'a rigid' if settings.stages == 'rigid' else 'an affine'} registration: tissue that changed "
            "its shape is not matched, and the expected error is not known, as its model is fitted on deformable "
            "registrations."
        )
    )
    return Solution(start or transform, transform, transform.GetInverse(), messages=tuple(messages))


def _check_start(start: sitk.Transform, settings: Settings) -> None:
    problem = ""
    if not start.IsLinear():
        problem = "is not linear"
    elif np.linalg.det(linear_parts(start, np.zeros((1, 3)))[0]) < 0.0:
        problem = "mirrors the volume"
    if problem:
        msg = (
            f"The initial transform {problem}, so a run with stages = {settings.stages} cannot start from it; give a "
            "rotation and a translation, or use stages = deformable."
        )
        raise InputError(msg)
