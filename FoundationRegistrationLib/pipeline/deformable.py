"""Deformable registration: from the initial alignment to the transform, its inverse, and what the stages say."""

from __future__ import annotations

import SimpleITK as sitk

from ..convex_adam.discrete_search import searches_of
from ..runtime.progress import Note, Progress
from ..spatial.displacement import displacement_image, rounded
from ..spatial.grids import WorkingGrid
from ..spatial.inversion import invert
from ..spatial.warping import compose_transform
from .deformation.region import cells_in, faded_displacement
from .deformation.stages import deform
from .deformation.working_grid import choose_grid
from .driving import Driving
from .given import GivenVolume
from .lesions import LesionVolume, keep_lesions, lesion_volumes
from .method import Method
from .solution import Deformed, Solution

_LESION_TOLERANCE_PERCENT = 5.0


def register_deformably(
    fixed: GivenVolume,
    moving: GivenVolume,
    initial: sitk.Transform,
    method: Method,
    driving: Driving,
    region: sitk.Image | None,
    working: WorkingGrid | None,
    steps: Progress,
    *,
    preview_features: bool,
    keep_intermediate: bool,
) -> Solution:
    """Register two aligned volumes.

    Args:
        fixed: the fixed volume.
        moving: the moving volume.
        initial: the initial alignment, fixed to moving points, LPS mm.
        method: suited to the voxel sizes of both.
        driving: structures and points that drive too.
        region: mask in fixed space of what is deformed, on any grid; everything if None.
        working: the working grid; chosen for this pair if None.
        steps: receives each step.
        preview_features: see `deform`.
        keep_intermediate: see `deform`.

    Raises:
        InputError: nothing is left on the working grid, or there is not enough memory.
        WeightsError: weights are missing or damaged.
        RegistrationCancelledError: the caller cancelled the run.
    """
    settings, device = method.settings, method.runtime.device
    grid, messages = (
        (working, [])
        if working is not None
        else choose_grid(
            fixed.prepared,
            moving.prepared,
            initial,
            settings,
            method.infos,
            method.stages,
            device,
            region,
            len(driving.structures),
        )
    )
    cells = grid.pooled(settings.adam_grid_spacing)
    inside = None
    if region is not None:
        inside = cells_in(region, cells)
        messages.append(Note("Tissue is deformed in the region only; beyond its border the initial alignment holds."))
    deformation = deform(
        fixed.side(sitk.TranslationTransform(3)),
        moving.side(initial),
        grid,
        settings,
        method.sources,
        method.parts,
        method.stages,
        method.runtime,
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
    if inside is None:
        field = displacement_image(found.displacement, cells)
    else:
        field = faded_displacement(found.displacement, cells, inside)
    lesions = [*fixed.lesions, *moving.lesions]
    if lesions:
        field = keep_lesions(field, initial, lesions)
    field = rounded(field)
    volumes = lesion_volumes(field, initial, lesions)
    messages += [_lesion_message(change) for change in volumes if abs(change.percent) > _LESION_TOLERANCE_PERCENT]
    record = {
        "working_grid": {"origin": grid.origin, "spacing": grid.spacing, "shape_zyx": grid.shape},
        "search_cells_mm": [
            factor * grid.spacing for search in searches_of(method.stages) for factor in search.factors(grid.spacing)
        ],
    }
    return Solution(
        initial=initial,
        transform=compose_transform(initial, field),
        inverse=invert(initial, field, grid, device),
        deformed=Deformed(
            field, found, cells, features, deformation.preview, deformation.intermediate, tuple(volumes)
        ),
        messages=tuple(messages),
        record=record,
    )


def _lesion_message(change: LesionVolume) -> str:
    return (
        f"The {change.side} lesion {change.label}.{change.number} changes its volume by {change.percent:+.0f} %: it "
        "is at the edge of the registered region, or too close to another lesion."
    )
