"""The deformable stages of a pair: features of both volumes on the working grid, weights, ConvexAdam."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch

from ...convex_adam import ConvexAdamResult, convex_adam
from ...convex_adam.stages import Found, Stage, Volumes
from ...errors import InputError
from ...features import EncoderSource, FeatureCache, FeaturePair, extract_features, feature_preview, pool
from ...runtime.device import Runtime
from ...runtime.progress import Progress
from ...settings import Settings
from ...spatial.grids import WorkingGrid, resample_to_grid, size_mm, size_words
from ...spatial.points import linear_parts
from ...spatial.windows import max_around
from ..driving import Driving, StructurePair
from ..driving.structures import occupancy
from ..preprocessing.prepared_volume import PreparedVolume
from .intermediate import Intermediate
from .working_grid import intensity_spacing


@dataclass(frozen=True)
class Side:
    """The fixed or the moving volume as input to the deformable stages.

    Attributes:
        role: "fixed" or "moving".
        volume: prepared intensities and foreground.
        transform: fixed points to points of this volume, LPS mm; applied after the deformable part.
        masked: whether the foreground is a mask from the user.
        lesion: nonzero in lesions, on the original grid of the volume; None without.
    """

    role: str
    volume: PreparedVolume
    transform: sitk.Transform
    masked: bool
    lesion: sitk.Image | None

    def on(self, grid: WorkingGrid, image: sitk.Image, device: torch.device, *, label: bool = False) -> torch.Tensor:
        """Return an image of this side on the working grid, (z, y, x)."""
        return torch.from_numpy(resample_to_grid(image, grid, self.transform, label=label)).to(device)


@dataclass(frozen=True)
class Deformation:
    """The result of the deformable stages.

    Attributes:
        found: displacement and measures of ConvexAdam.
        features: of each encoder, by name.
        preview: features of the first encoder as colours, None if not requested.
        intermediate: features, and the displacement after each stage; None if not requested.
    """

    found: ConvexAdamResult
    features: dict[str, FeaturePair]
    preview: tuple[sitk.Image, sitk.Image] | None
    intermediate: Intermediate | None


def deform(
    fixed: Side,
    moving: Side,
    grid: WorkingGrid,
    settings: Settings,
    sources: Sequence[EncoderSource],
    parts: Sequence[Settings],
    stages: Sequence[Stage],
    runtime: Runtime,
    steps: Progress,
    *,
    driving: Driving,
    preview_features: bool,
    keep_intermediate: bool,
) -> Deformation:
    """Encode both volumes on the working grid with each encoder and run the stages.

    Args:
        fixed: the fixed volume.
        moving: the moving volume.
        grid: working grid in fixed space.
        settings: of the run.
        sources: the encoders, the main one first; none if only structures and points are compared.
        parts: for each encoder the settings with only that one.
        stages: deformable stages.
        runtime: device to compute on.
        steps: receives each step.
        driving: structures and points that drive too.
        preview_features: whether to make `Deformation.preview`.
        keep_intermediate: whether to make `Deformation.intermediate`.

    Raises:
        InputError: nothing is left on the working grid, or there is not enough memory.
        WeightsError: weights are missing or damaged.
        RegistrationCancelledError: the caller cancelled the run.
    """
    sides, device = (fixed, moving), runtime.device
    fixed_image, moving_image = (side.on(grid, side.volume.image, device) for side in sides)
    fixed_mask, moving_mask = (side.on(grid, side.volume.foreground, device, label=True) for side in sides)
    for side, mask in zip(sides, (fixed_mask, moving_mask), strict=True):
        if not mask.any():
            raise InputError(_why_nothing_is_left(side, grid))
    cache = FeatureCache.from_settings(settings)
    features = {}
    for step, source, part in zip(("encoding", "encoding details"), sources, parts, strict=False):
        steps.start(step)
        features[part.encoder] = extract_features(
            source, fixed_image, moving_image, fixed_mask, moving_mask, part, steps, cache, runtime
        )
    preview = None
    if preview_features and features:
        inside = [pool(mask[None], settings.adam_grid_spacing)[0] for mask in (fixed_mask, moving_mask)]
        lead = features[settings.encoder]
        preview = feature_preview((lead.fixed, lead.moving), inside, grid.pooled(settings.adam_grid_spacing))
    weights = [
        _weight(side, mask, grid, settings, device)
        for side, mask in zip(sides, (fixed_mask, moving_mask), strict=True)
    ]
    averaged = intensity_spacing(grid, settings)
    structures = _structure_maps(driving.structures, sides, grid, settings, device)
    compared = [(pair.fixed, pair.moving) for pair in features.values()]
    if structures is not None:
        compared = [
            (torch.cat([one, structures[0]]), torch.cat([other, structures[1]])) for one, other in compared
        ] or [structures]
    if not compared:  # points alone
        nothing = torch.zeros_like(weights[0])[None]
        compared = [(nothing, nothing)]
    cells = grid.pooled(settings.adam_grid_spacing)
    volumes = Volumes(
        tuple(compared),
        grid.spacing,
        settings.adam_grid_spacing,
        (weights[0], weights[1]),
        (pool(fixed_image[None], averaged)[0], pool(moving_image[None], averaged)[0]) if features else None,
        averaged,
        kept_volume=1.0 / _scaling(moving.transform, grid),
        structures=structures,
        points=None
        if driving.points is None
        else driving.points.on_cells(cells, moving.transform, settings.points_weight, device),
    )
    del fixed_mask, moving_mask, fixed_image, moving_image  # each as large as the working grid
    intermediate = Intermediate.of(features, grid.pooled(volumes.spacing)) if keep_intermediate else None

    def observe(stage: Stage, found: Found) -> None:
        if intermediate is not None:
            intermediate.add(type(stage).__name__, found.displacement, grid.pooled(volumes.spacing))

    found = convex_adam(volumes, stages, steps, observe)
    return Deformation(found, features, preview, intermediate)


def _structure_maps(
    pairs: Sequence[StructurePair], sides: Sequence[Side], grid: WorkingGrid, settings: Settings, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return the weighted maps (K, z, y, x) of the structures of both sides on the cells; None without any."""
    if not pairs:
        return None
    strength, spacing = math.sqrt(settings.structure_weight), settings.adam_grid_spacing
    fixed, moving = (
        strength * torch.cat([pool(side.on(grid, occupancy(mask), device)[None], spacing) for mask in masks])
        for side, masks in zip(sides, zip(*((pair.fixed, pair.moving) for pair in pairs), strict=True), strict=True)
    )
    return fixed, moving


def _scaling(start: sitk.Transform, grid: WorkingGrid) -> float:
    """Return how many times larger a start makes volumes in the middle of the grid."""
    middle = np.array(grid.origin) + (np.array(grid.shape[::-1]) - 1) / 2 * grid.spacing
    return abs(float(np.linalg.det(linear_parts(start, middle[None])[0])))


def _why_nothing_is_left(side: Side, grid: WorkingGrid) -> str:
    """Say why the working grid has no foreground of a volume, and what to do."""
    if side.masked:
        return f"The {side.role} mask leaves nothing to register where the volumes overlap; choose a larger mask."
    if min(size_mm(side.volume.image)) < 2.0 * grid.spacing:
        return (
            f"The {side.role} volume measures {size_words(side.volume.image)}, too small or too thin for a working "
            f"grid of {grid.spacing:g} mm; use a smaller --working-spacing-mm, or correct its voxel spacing if that "
            "is in another unit."
        )
    return (
        f"The anatomy in the {side.role} volume lies outside the overlap of the aligned volumes; check that both "
        "show the same part of the body, or align them by landmarks first."
    )


def _weight(
    side: Side, foreground: torch.Tensor, grid: WorkingGrid, settings: Settings, device: torch.device
) -> torch.Tensor:
    """Return the weight of each cell of the instance optimisation grid for one side, 0 to 1.

    A mask from the user is used as it is. Otherwise air around the fixed patient has no weight, since its noise would
    be matched like anatomy; the patient is dilated by one cell of the search grid to include both sides of the skin.
    Voxels outside the field of view or with unknown values have no weight, nor do cells with a lesion or their
    neighbours, whose features the lesion affects.

    Args:
        side: the fixed or the moving side.
        foreground: its patient or mask on the working grid, (z, y, x).
        grid: the working grid.
        settings: grid spacings.
        device: device to compute on.
    """
    seen = side.on(grid, side.volume.known, device, label=True)
    weight = pool(seen[None], settings.adam_grid_spacing)
    if side.masked:
        weight = weight * pool(foreground[None], settings.adam_grid_spacing)
    elif side.role == "fixed":
        reach = settings.grid_spacing // settings.adam_grid_spacing
        weight = weight * max_around(pool(foreground[None], settings.adam_grid_spacing), reach)
    if side.lesion is not None:
        held = pool((side.on(grid, side.lesion, device, label=True) != 0).float()[None], settings.adam_grid_spacing)
        weight = weight * (max_around(held, 1) == 0)
    return weight[0]
