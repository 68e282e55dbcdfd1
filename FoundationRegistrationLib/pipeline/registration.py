"""A registration from two volumes to a checked transform: all steps in order."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike

from ..convex_adam.discrete_search import searches_of
from ..convex_adam.method import described_stages, search_spacing, stages_of
from ..convex_adam.stages import Stage
from ..encoders import Encoder
from ..evaluation.jacobian import jacobian_determinant, jacobian_summary
from ..features import EncoderSource
from ..io.arrays import VolumeLike, as_volume
from ..io.landmarks import Landmarks
from ..runtime.device import Runtime
from ..runtime.guards import plain_torch
from ..runtime.memory import check_limits
from ..runtime.progress import CancelledCallback, Progress, ProgressCallback
from ..settings import Settings
from ..spatial.checks import check_overlap, check_volume
from ..spatial.displacement import displacement_image
from ..spatial.inversion import invert
from ..spatial.points import matrix_of
from ..spatial.warping import compose_transform, displacement_on_grid_of, warp_image
from .agreement import fraction_in_common, measure_agreement
from .deformation import Side, deform
from .driving import Driving, Structures, measure_structures
from .evidence import Evidence
from .expected_error import expected_error_map, expected_error_summary, predictors_of
from .figures import inverse_error, mask_on_grid_of
from .fine_structure import measure_fine_structure
from .initial_alignment import initial_alignment
from .initial_transform import check_initial_transform
from .lesions import Lesion, LesionVolume, find_lesions, keep_lesions, lesion_volumes
from .outlines import measure_outlines
from .overlaid import Overlaid
from .plan import encoders_of, step_shares
from .preprocessing import prepare, without_intensities
from .provenance import described_volume, environment
from .record import described_images
from .result import RegistrationResult
from .verdict import judge
from .working_region import choose_grid

_LOGGER = logging.getLogger(__name__)

_LESION_TOLERANCE_PERCENT = 5.0


@plain_torch()
def register(
    fixed: VolumeLike,
    moving: VolumeLike,
    settings: Settings | None = None,
    *,
    encoder: Encoder | str | None = None,
    fixed_mask: VolumeLike | None = None,
    moving_mask: VolumeLike | None = None,
    fixed_lesion: VolumeLike | None = None,
    moving_lesion: VolumeLike | None = None,
    fixed_structures: Structures | None = None,
    moving_structures: Structures | None = None,
    fixed_points: Landmarks | ArrayLike | None = None,
    moving_points: Landmarks | ArrayLike | None = None,
    initial_transform: sitk.Transform | None = None,
    stages: Sequence[Stage] | None = None,
    preview_features: bool = False,
    keep_intermediate: bool = False,
    progress: ProgressCallback | None = None,
    cancelled: CancelledCallback | None = None,
) -> RegistrationResult:
    """Register a moving volume to a fixed one (paper section 2.1).

    Args:
        fixed: 3D scalar volume of any size, spacing, orientation and pixel type: a SimpleITK or nibabel image, or a
            MONAI `MetaTensor`. `volume_from_array` converts an array, `read_volume` reads a file.
        moving: the same, on any grid.
        settings: all parameters; the defaults if None.
        encoder: overrides those of the settings: a name, A+B for two, or your own object with the methods of
            `Encoder`, on the device of the run.
        fixed_mask: region to register, on the grid of the fixed volume; the foreground is segmented if None.
        moving_mask: the same on the grid of the moving volume.
        fixed_lesion: lesions on the grid of the fixed volume, one or more labels. They are excluded from matching,
            and each connected region moves rigidly, which preserves its volume.
        moving_lesion: the same on the grid of the moving volume.
        fixed_structures: structures to match beside the features: a label map on the grid of the fixed volume, or
            masks on it by name, which may overlap. The encoder "structures" matches these and the points alone.
        moving_structures: the same structures in the moving volume, with the same labels or names.
        fixed_points: points to match as well, (N, 3) in LPS mm or `Landmarks`. Those that contradict the others are
            left out, with a message.
        moving_points: the corresponding points in the moving volume: those of the same name, else in the same order.
        initial_transform: maps fixed points to moving points, LPS mm; replaces `settings.initialization`.
        stages: deformable stages, run in sequence; those of the settings if None.
        preview_features: also return the features as colours, which takes extra memory and time.
        keep_intermediate: also return the features, and the displacement after each stage, as numpy.
        progress: called with a `ProgressEvent` during the run.
        cancelled: checked often; the run ends when it returns True.

    Returns:
        The transform and its inverse, the warped moving volume, maps, figures, messages and the record of the run.

    Raises:
        InputError: a volume, mask or transform cannot be used.
        SettingsError: an unknown encoder or an unavailable device.
        WeightsError: the encoder's weights are missing or damaged.
        RegistrationCancelledError: `cancelled` returned True.
    """
    settings = settings or Settings()
    runtime = Runtime.start(settings.device)
    device = runtime.device
    check_limits()
    settings, infos = encoders_of(settings, encoder, device)
    usual = stages_of(settings)
    stages = usual if stages is None else list(stages)
    settings = dataclasses.replace(settings, grid_spacing=search_spacing(stages, settings))
    steps = Progress(step_shares(stages, len(infos)), progress, cancelled)

    steps.start("preparation")
    given = {
        "fixed": fixed,
        "moving": moving,
        "fixed_mask": fixed_mask,
        "moving_mask": moving_mask,
        "fixed_lesion": fixed_lesion,
        "moving_lesion": moving_lesion,
    }
    images = {role: as_volume(each, role.replace("_", " ")) for role, each in given.items() if each is not None}
    fixed, moving, fixed_mask, moving_mask, fixed_lesion, moving_lesion = map(images.get, given)
    check_volume(fixed, "fixed", any_content=not infos)
    check_volume(moving, "moving", any_content=not infos)
    messages = list(runtime.messages)
    structures, points = (fixed_structures, moving_structures), (fixed_points, moving_points)
    driving = Driving.of(structures, points, (fixed, moving), messages, alone=not infos)
    settings = settings.suited_to(*(images[role].GetSpacing() for role in ("fixed", "moving")))
    parts = [dataclasses.replace(settings, encoder=info.name, detail_encoder="") for info in infos]
    sources = [EncoderSource.from_settings(part, info, device) for part, info in zip(parts, infos, strict=True)]
    lesions = _lesions(fixed_lesion, fixed, "fixed", settings) + _lesions(moving_lesion, moving, "moving", settings)
    if infos:
        prepared_fixed = prepare(fixed, settings.fixed_modality, "fixed", fixed_mask)
        prepared_moving = prepare(moving, settings.moving_modality, "moving", moving_mask)
    else:
        prepared_fixed = without_intensities(fixed, "fixed", fixed_mask)
        prepared_moving = without_intensities(moving, "moving", moving_mask)

    steps.start("initial alignment")
    messages += [*prepared_fixed.messages, *prepared_moving.messages]
    if initial_transform is not None:
        initial = initial_transform
        messages += check_initial_transform(initial, fixed)
    else:
        prepared = prepared_fixed, prepared_moving
        initial, more = initial_alignment(*prepared, settings.initialization, device, steps, driving)
        messages += more
    if driving.points:
        initial = driving.points.start_through(initial, fixed)
    check_overlap(fixed, moving, initial)

    count = len(driving.structures)
    grid, more = choose_grid(prepared_fixed, prepared_moving, initial, settings, infos, stages, device, count)
    messages += more
    identity = sitk.TranslationTransform(3)
    deformation = deform(
        Side("fixed", prepared_fixed, identity, fixed_mask is not None, fixed_lesion),
        Side("moving", prepared_moving, initial, moving_mask is not None, moving_lesion),
        grid,
        settings,
        sources,
        parts,
        stages,
        runtime,
        steps,
        driving=driving,
        preview_features=preview_features,
        keep_intermediate=keep_intermediate,
    )
    found, features = deformation.found, deformation.features
    messages += [message for pair in features.values() for message in pair.messages]
    if found.led_by_details:
        messages.append(
            f"{settings.encoder} failed on this pair: registration with {settings.detail_encoder} alone agrees far "
            "better and was used instead. Check the result with care, or try another encoder."
        )

    steps.start("inverse and warp")
    field = displacement_image(found.displacement, grid.pooled(settings.adam_grid_spacing))
    if lesions:
        field = keep_lesions(field, initial, lesions)
    transform = compose_transform(initial, field)
    lesion_changes = lesion_volumes(field, initial, lesions)
    messages += [
        _lesion_message(change) for change in lesion_changes if abs(change.percent) > _LESION_TOLERANCE_PERCENT
    ]
    inverse = invert(initial, field, grid, device)
    steps.advance(0.5)
    warped = warp_image(moving, fixed, transform, settings.interpolation)
    steps.advance(0.8)
    displacement = displacement_on_grid_of(field, transform)
    jacobian = jacobian_determinant(displacement)
    cells = grid.pooled(settings.adam_grid_spacing)
    overlaid = Overlaid.of(prepared_fixed, prepared_moving, transform, device) if infos else None
    structure = measure_fine_structure(overlaid) if overlaid else None
    predictors = predictors_of(found, cells, structure)
    expected = expected_error_map(predictors, field)
    if not infos:  # the model knows of features only
        expected = expected * np.nan
    anatomy = mask_on_grid_of(prepared_fixed.foreground, field)
    expected_figures = expected_error_summary(expected, anatomy)
    evidence = Evidence(
        in_common=fraction_in_common(prepared_fixed, prepared_moving, transform),
        agreement=measure_agreement(prepared_fixed, prepared_moving, initial, transform) if infos else None,
        fine_structure=structure,
        outlines=measure_outlines(overlaid) if overlaid else None,
        expected_error=expected_figures,
        one_modality=prepared_fixed.modality == prepared_moving.modality,
        found_automatically=initial_transform is None and settings.initialization in ("rigid", "affine"),
        structures=measure_structures(driving.structures, transform, prepared_moving.known),
        points_left_mm=driving.points_left_mm(transform),
        intensities_compared=bool(infos),
    )
    verdict = judge(evidence)
    metrics = {
        **evidence.to_dict(),
        "jacobian": jacobian_summary(jacobian, anatomy),
        "inverse_error_mm": inverse_error(transform, inverse, prepared_fixed.foreground),
        "expected_error": expected_figures,
        "lesion_volume_change_percent": [dataclasses.asdict(change) for change in lesion_changes],
        "explained_variance": {name: list(pair.explained_variance) for name, pair in features.items()},
        "encoded_slices": {name: pair.encoded_slices for name, pair in features.items()},
        "features_from_cache": all(pair.from_cache for pair in features.values()),
        "gain_of_details": found.gain_of_details,
        "unfolded_percent": 100.0 * found.unfolded,
        "adam_iterations": len(found.energies),
        "energy_first_last": [found.energies[0], found.energies[-1]] if found.energies else [],
    }
    steps.finish()
    start = "given transform" if initial_transform is not None else settings.initialization
    record = {
        **environment(settings, device, features),
        "fixed": described_volume(fixed, prepared_fixed),
        "moving": described_volume(moving, prepared_moving),
        "inputs": described_images(images),
        "driving": driving.to_dict(transform),
        "initialization": start,
        "start": {"kind": start, "matrix": matrix_of(initial)},
        "working_grid": {"origin": grid.origin, "spacing": grid.spacing, "shape_zyx": grid.shape},
        "search_cells_mm": [
            factor * grid.spacing for search in searches_of(stages) for factor in search.factors(grid.spacing)
        ],
        "stages": described_stages(stages),
        "own_stages": described_stages(stages) != described_stages(usual),
    }
    for message in (str(verdict), *messages):
        _LOGGER.info(message)
    return RegistrationResult(
        fixed=fixed,
        moving=moving,
        transform=transform,
        inverse=inverse,
        initial_transform=initial,
        warped=warped,
        displacement=displacement,
        jacobian=jacobian,
        deformation=field,
        expected_error=expected,
        error_predictors=predictors,
        verdict=verdict,
        metrics=metrics,
        timings=dict(steps.timings),
        peak_memory=runtime.peak_bytes(),
        feature_preview=deformation.preview,
        intermediate=deformation.intermediate,
        messages=tuple(messages),
        record=record,
    )


def _lesions(mask: sitk.Image | None, volume: sitk.Image, side: str, settings: Settings) -> list[Lesion]:
    """Return the lesions of a mask, in boxes no larger than the cells of the finest displacement field."""
    return [] if mask is None else find_lesions(mask, volume, side, settings.working_spacing_mm)


def _lesion_message(change: LesionVolume) -> str:
    return (
        f"The {change.side} lesion {change.label}.{change.number} changes its volume by {change.percent:+.0f} %: it "
        "is at the edge of the registered region, or too close to another lesion."
    )
