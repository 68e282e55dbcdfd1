"""What the stages of a run found, before it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import SimpleITK as sitk

from ..convex_adam import ConvexAdamResult
from ..features import FeaturePair
from ..spatial.grids import WorkingGrid
from .deformation.intermediate import Intermediate
from .lesions import LesionVolume


@dataclass(frozen=True)
class Deformed:
    """The deformable part of a solution.

    Attributes:
        field: u of the deformable part alone, a vector image in LPS mm: transform(x) = initial(x + u(x)).
        found: displacement and measures of ConvexAdam.
        cells: the grid of that displacement.
        features: of each encoder, by name.
        preview: see `RegistrationResult.feature_preview`.
        intermediate: see `RegistrationResult.intermediate`.
        lesions: volumes of the lesions before and after.
    """

    field: sitk.Image
    found: ConvexAdamResult
    cells: WorkingGrid
    features: Mapping[str, FeaturePair]
    preview: tuple[sitk.Image, sitk.Image] | None
    intermediate: Intermediate | None
    lesions: tuple[LesionVolume, ...]


@dataclass(frozen=True)
class Solution:
    """A transform and its inverse. Transforms map points in LPS mm.

    Attributes:
        initial: before the last stages; the transform itself if it is linear and its start was searched for.
        transform: from fixed to moving points.
        inverse: from moving to fixed points.
        deformed: None if the transform is linear.
        messages: for the user, the most serious first.
        record: what the record of the run says of the stages, as plain values.
    """

    initial: sitk.Transform
    transform: sitk.Transform
    inverse: sitk.Transform
    deformed: Deformed | None = None
    messages: tuple[str, ...] = ()
    record: Mapping[str, Any] = field(default_factory=dict)
