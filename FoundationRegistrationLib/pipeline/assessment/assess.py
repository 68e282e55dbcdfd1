"""What a finished registration is worth: measures that need no truth, the verdict, maps and figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from ...evaluation.jacobian import jacobian_determinant, jacobian_summary
from ...spatial.grids import WorkingGrid
from ...spatial.warping import displacement_on_grid_of
from ..deformation.region import limited_to, outside_set_to_nan
from ..driving import Driving, measure_structures
from ..preprocessing.masks import mask_on_grid_of
from ..preprocessing.prepared_volume import PreparedVolume
from ..solution import Deformed, Solution
from .agreement import fraction_in_common, measure_agreement
from .evidence import Evidence
from .expected_error import NOT_EXPECTED, expected_error_map, expected_error_summary, predictors_of
from .fine_structure import FineStructure, measure_fine_structure
from .inverse_consistency import inverse_error
from .outlines import measure_outlines
from .overlaid import Overlaid
from .verdict import Verdict, judge


@dataclass(frozen=True)
class Assessment:
    """The verdict on a registration with all that it is based on.

    Attributes:
        verdict: whether to trust it.
        metrics: plain numbers for the report.
        displacement: transform(x) - x, a vector image in LPS mm.
        jacobian: on the grid of the displacement.
        expected_error: mm, on that grid; None if the transform is linear.
        error_predictors: see `RegistrationResult.error_predictors`; None if the transform is linear.
    """

    verdict: Verdict
    metrics: dict[str, Any]
    displacement: sitk.Image
    jacobian: sitk.Image
    expected_error: sitk.Image | None
    error_predictors: sitk.Image | None


def assess(
    fixed: PreparedVolume,
    moving: PreparedVolume,
    solution: Solution,
    driving: Driving,
    region: sitk.Image | None,
    device: torch.device,
    *,
    found_automatically: bool,
) -> Assessment:
    """Judge a registration.

    Args:
        fixed: fixed volume.
        moving: moving volume.
        solution: what was found.
        driving: structures and points that drove too.
        region: mask in fixed space of what was deformed, which alone is judged; everything if None.
        device: where tensors live.
        found_automatically: see `Evidence`.
    """
    judged = fixed if region is None else limited_to(region, fixed)
    part = None if region is None else judged.foreground
    compared = fixed.has_intensities
    overlaid = Overlaid.of(fixed, moving, solution.transform, device, part)
    structure = measure_fine_structure(overlaid) if compared else None
    deformed = solution.deformed
    predictors = expected = None
    figures: Mapping[str, float | None]
    if deformed is None:
        figures = NOT_EXPECTED
        displacement = displacement_on_grid_of(_empty(overlaid.grid), solution.transform)
    else:
        displacement = displacement_on_grid_of(deformed.field, solution.transform)
        predictors, expected = _expected_error(deformed, structure, region)
        if not compared:  # the model knows of features only
            expected = expected * np.nan
        figures = expected_error_summary(expected, mask_on_grid_of(judged.foreground, displacement))
    jacobian = jacobian_determinant(displacement)
    evidence = Evidence(
        in_common=fraction_in_common(judged, moving, solution.transform),
        agreement=measure_agreement(judged, moving, solution.initial, solution.transform) if compared else None,
        fine_structure=structure,
        outlines=measure_outlines(overlaid) if compared and region is None else None,
        expected_error=figures,
        one_modality=fixed.modality == moving.modality,
        found_automatically=found_automatically,
        deformable=deformed is not None,
        structures=measure_structures(driving.structures, solution.transform, moving.known),
        points_left_mm=driving.points_left_mm(solution.transform),
        intensities_compared=compared,
    )
    metrics = {
        **evidence.to_dict(),
        "jacobian": jacobian_summary(jacobian, mask_on_grid_of(fixed.foreground, jacobian)),
        "inverse_error_mm": inverse_error(solution.transform, solution.inverse, fixed.foreground),
        "expected_error": figures,
        **({} if deformed is None else _of_the_stages(deformed)),
    }
    return Assessment(judge(evidence), metrics, displacement, jacobian, expected, predictors)


def _expected_error(
    deformed: Deformed, structure: FineStructure | None, region: sitk.Image | None
) -> tuple[sitk.Image, sitk.Image]:
    """Return the predictors, and the expected error where the displacement is the one that was found."""
    predictors = predictors_of(deformed.found, deformed.cells, structure)
    expected = expected_error_map(predictors, deformed.field)
    return predictors, expected if region is None else outside_set_to_nan(expected, region)


def _of_the_stages(deformed: Deformed) -> dict[str, Any]:
    """Return the figures of the deformable stages."""
    found, features = deformed.found, deformed.features
    return {
        "lesion_volume_change_percent": [dataclasses.asdict(change) for change in deformed.lesions],
        "explained_variance": {name: list(pair.explained_variance) for name, pair in features.items()},
        "encoded_slices": {name: pair.encoded_slices for name, pair in features.items()},
        "features_from_cache": all(pair.from_cache for pair in features.values()),
        "gain_of_details": found.gain_of_details,
        "unfolded_percent": 100.0 * found.unfolded,
        "adam_iterations": len(found.energies),
        "energy_first_last": [found.energies[0], found.energies[-1]] if found.energies else [],
    }


def _empty(grid: WorkingGrid) -> sitk.Image:
    return grid.image(np.zeros(grid.shape, np.uint8))
