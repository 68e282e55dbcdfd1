"""What a registration returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import SimpleITK as sitk

from .intermediate import Intermediate


@dataclass(frozen=True)
class RegistrationResult:
    """What a registration returns.

    Attributes:
        transform: maps fixed points to moving points, LPS mm; resamples the moving volume onto the fixed one.
        inverse: maps moving points to fixed points, LPS mm.
        initial_transform: the part of `transform` found or given before the deformable stages.
        warped: the moving volume on the grid of the fixed one, resampled once, in its own pixel type.
        displacement: transform(x) - x of the whole transform, a vector image in LPS mm on the grid of the cells;
            around it the transform is `initial_transform` alone.
        jacobian: determinant of the spatial Jacobian of `transform`, on that grid: local volume, moving over fixed.
        deformation: u of the deformable part alone, on that grid; transform(x) = initial_transform(x + u(x)).
        confidence: the expected mean error of `transform`, mm, on that grid; `NOT_KNOWN_MM` (100)
            where nothing was compared: in air and outside either field of view. A model fitted on synthetic pairs.
        confidence_measures: what it was found from, one component for each of `MEASURES`, on the grid of the cells;
            NaN where nothing was compared.
        metrics: agreement, folding, inverse error, explained variance and energies, as plain numbers.
        timings: seconds of each step.
        peak_memory: bytes, of this process since it began ("host") and of the accelerator ("device").
        feature_preview: where it was asked for, the first three components of the features of the fixed and of the
            moving volume as colours, both in fixed space before the deformable stages; one colour means one feature.
        intermediate: where it was asked for, the features, and the displacement after each stage.
        messages: what the user should know about this run, the most alarming first.
        record: settings, versions, device, weights and inputs: all it takes to repeat the run.
    """

    transform: sitk.CompositeTransform
    inverse: sitk.CompositeTransform
    initial_transform: sitk.Transform
    warped: sitk.Image
    displacement: sitk.Image
    jacobian: sitk.Image
    deformation: sitk.Image
    confidence: sitk.Image
    confidence_measures: sitk.Image
    metrics: Mapping[str, Any]
    timings: Mapping[str, float]
    peak_memory: Mapping[str, int]
    feature_preview: tuple[sitk.Image, sitk.Image] | None
    intermediate: Intermediate | None
    messages: tuple[str, ...]
    record: Mapping[str, Any]
