"""A registration from two volumes to a checked transform: all steps in order."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

import SimpleITK as sitk
from numpy.typing import ArrayLike

from ..convex_adam.method import described_stages
from ..convex_adam.stages import Stage
from ..encoders import Encoder
from ..errors import InputError
from ..io.arrays import VolumeLike, as_volume
from ..io.landmarks import Landmarks
from ..io.units import set_units, units_of
from ..runtime.guards import plain_torch
from ..runtime.progress import CancelledCallback, Note, Progress, ProgressCallback
from ..settings import Settings
from ..spatial.checks import check_overlap, check_slices, check_volume
from ..spatial.grids import WorkingGrid
from ..spatial.points import matrix_of
from ..spatial.warping import warp_image
from .assessment.assess import assess
from .deformable import register_deformably
from .deformation.region import limited_to
from .driving import Driving, Structures
from .focus import focus_of
from .given import GivenVolume
from .initial_alignment.given_transform import check_initial_transform
from .initial_alignment.search import initial_alignment
from .linear import align, refuse_what_deforms
from .method import Method
from .propagation.extent import outside_percent
from .propagation.outside import outside_message
from .provenance import described_volume, environment
from .record import described_images
from .result import RegistrationResult

_LOGGER = logging.getLogger(__name__)

_OUTSIDE_PERCENT = 5.0  # of the patient in the moving volume
_NOTHING_COMPARED = (
    "Nothing of the two volumes could be compared: what they show of the patient, or the masks, do not meet. Check "
    "that both show the same part of the body, and start from their centres, from landmarks or from a transform."
)


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
    region: VolumeLike | None = None,
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
        region: mask in fixed space, on any grid, of what is deformed: a label map, or a box from `box_region`. Around
            it the displacement fades smoothly to the initial alignment, which is that of the whole volumes; only the
            region is encoded, with what may be matched to it. Unlike a mask it does not say what is compared.
        initial_transform: maps fixed points to moving points, LPS mm; replaces `settings.initialization`.
        stages: deformable stages, run in sequence, instead of those of the settings.
        preview_features: also return the features as colours, which takes extra memory and time.
        keep_intermediate: also return the features, and the displacement after each stage, as numpy.
        progress: called with a `ProgressEvent` during the run.
        cancelled: checked often; the run ends when it returns True.

    Returns:
        The transform and its inverse, the warped moving volume, maps, figures, messages and the record of the run.

    Raises:
        InputError: a volume, mask, region or transform cannot be used, or has no use for the settings; or nothing of
            the two volumes could be compared.
        SettingsError: an unknown encoder or an unavailable device.
        WeightsError: the encoder's weights are missing or damaged.
        RegistrationCancelledError: `cancelled` returned True.
    """
    settings = Settings.or_preset(settings, "default")
    refuse_what_deforms(
        settings,
        {
            "fixed lesion": fixed_lesion,
            "moving lesion": moving_lesion,
            "region": region,
            "argument `encoder`": encoder,
            "argument `stages`": stages,
            "feature preview": preview_features,
            "argument `keep_intermediate`": keep_intermediate,
        },
    )
    method = Method.of(settings, encoder, stages)
    steps = Progress(method.shares(), progress, cancelled)

    steps.start("preparation")
    given = {
        "fixed": fixed,
        "moving": moving,
        "fixed_mask": fixed_mask,
        "moving_mask": moving_mask,
        "fixed_lesion": fixed_lesion,
        "moving_lesion": moving_lesion,
        "region": region,
    }
    there = {role: each for role, each in given.items() if each is not None or role in ("fixed", "moving")}
    images = {role: as_volume(each, role.replace("_", " ")) for role, each in there.items()}
    alone = not method.settings.compares_intensities
    for role in ("fixed", "moving"):
        check_volume(images[role], role, any_content=alone)
        check_slices(images[role], role)
    said: list[str] = []
    structures, points = (fixed_structures, moving_structures), (fixed_points, moving_points)
    driving = Driving.of(structures, points, (images["fixed"], images["moving"]), said, alone=alone)
    method = method.suited_to(*(images[role].GetSpacing() for role in ("fixed", "moving")))
    result = register_given(
        GivenVolume.of("fixed", images, method.settings),
        GivenVolume.of("moving", images, method.settings),
        method,
        steps,
        driving=driving,
        messages=said,
        region=images.get("region"),
        initial_transform=initial_transform,
        preview_features=preview_features,
        keep_intermediate=keep_intermediate,
    )
    if not result.metrics["in_common"]:
        raise InputError(_NOTHING_COMPARED)
    outside = result.metrics["moving_outside_percent"]
    if outside > _OUTSIDE_PERCENT:
        note = Note(outside_message(outside, "moving", "fixed volume"))
        _LOGGER.info(note)
        result = dataclasses.replace(result, messages=(*result.messages, note))
    return result


def register_given(
    given_fixed: GivenVolume,
    given_moving: GivenVolume,
    method: Method,
    steps: Progress,
    *,
    driving: Driving | None = None,
    messages: Sequence[str] = (),
    region: sitk.Image | None = None,
    initial_transform: sitk.Transform | None = None,
    working: WorkingGrid | None = None,
    preview_features: bool = False,
    keep_intermediate: bool = False,
) -> RegistrationResult:
    """Register a prepared moving volume to a prepared fixed one; see `register`.

    Args:
        given_fixed: the fixed volume, which may be used again for another moving one.
        given_moving: the moving volume.
        method: suited to the voxel sizes of both.
        steps: receives the steps of `Method.shares`, of which the preparation has been started.
        driving: structures and points that drive too.
        messages: what is to be said of them.
        region: mask in fixed space of what is deformed, see `register`.
        initial_transform: maps fixed points to moving points, LPS mm; replaces `settings.initialization`.
        working: the working grid, to share it between pairs; chosen for this pair if None.
        preview_features: also return the features as colours.
        keep_intermediate: also return the features, and the displacement after each stage.

    Raises:
        InputError: the volumes do not overlap, or nothing of them is left on the working grid.
        WeightsError: weights are missing or damaged.
        RegistrationCancelledError: the caller cancelled the run.
    """
    settings, runtime, stages = method.settings, method.runtime, method.stages
    device = runtime.device
    fixed, moving = given_fixed.image, given_moving.image
    prepared_fixed, prepared_moving = given_fixed.prepared, given_moving.prepared
    if region is not None:
        limited_to(region, prepared_fixed)  # raises early

    steps.start("initial alignment")
    driving = driving or Driving()
    messages = [*runtime.messages, *messages, *prepared_fixed.messages, *prepared_moving.messages]
    if initial_transform is not None:
        messages += check_initial_transform(initial_transform, fixed)
    if settings.is_linear:
        solution = align(prepared_fixed, prepared_moving, settings, initial_transform, driving, device, steps)
        check_overlap(fixed, moving, solution.transform)
        steps.start("inverse and warp")
    else:
        initial = initial_transform
        if initial is None:
            prepared = prepared_fixed, prepared_moving
            initial, more = initial_alignment(*prepared, settings.initialization, device, steps, driving=driving)
            messages += more
        if driving.points:
            initial = driving.points.start_through(initial, fixed)
        check_overlap(fixed, moving, initial)
        solution = register_deformably(
            given_fixed,
            given_moving,
            initial,
            method,
            driving,
            region,
            working,
            steps,
            preview_features=preview_features,
            keep_intermediate=keep_intermediate,
        )
    messages += solution.messages
    deformed = solution.deformed
    steps.advance(0.15)  # of this step; the assessment takes most of it
    warped = warp_image(moving, fixed, solution.transform, settings.interpolation)
    set_units(warped, units_of(moving))
    steps.advance(0.2)
    automatic = initial_transform is None and settings.initialization in ("rigid", "affine")
    assessment = assess(
        prepared_fixed, prepared_moving, solution, driving, region, device, found_automatically=automatic
    )
    outside = outside_percent(prepared_moving.foreground, fixed, solution.inverse)
    steps.finish()
    start = "given transform" if initial_transform is not None else settings.initialization
    record = {
        **environment(settings, device, {} if deformed is None else deformed.features),
        "fixed": described_volume(fixed, prepared_fixed),
        "moving": described_volume(moving, prepared_moving),
        "inputs": described_images(
            {**given_fixed.images(), **given_moving.images(), **({} if region is None else {"region": region})}
        ),
        "driving": driving.to_dict(solution.transform),
        "initialization": start,
        "start": {"kind": start, "matrix": matrix_of(solution.initial)},
        **solution.record,
        "stages": described_stages(stages),
        "own_stages": described_stages(stages) != described_stages(method.usual_stages),
    }
    for message in (str(assessment.verdict), *messages):
        _LOGGER.info(message)
    return RegistrationResult(
        fixed=fixed,
        moving=moving,
        transform=solution.transform,
        inverse=solution.inverse,
        initial_transform=solution.initial,
        warped=warped,
        displacement=assessment.displacement,
        jacobian=assessment.jacobian,
        deformation=None if deformed is None else deformed.field,
        expected_error=assessment.expected_error,
        error_predictors=assessment.error_predictors,
        focus=focus_of(given_fixed, given_moving, driving, solution.transform),
        verdict=assessment.verdict,
        metrics={**assessment.metrics, "moving_outside_percent": outside},
        timings=dict(steps.timings),
        peak_memory=runtime.peak_bytes(),
        feature_preview=None if deformed is None else deformed.preview,
        intermediate=None if deformed is None else deformed.intermediate,
        messages=tuple(messages),
        record=record,
    )
