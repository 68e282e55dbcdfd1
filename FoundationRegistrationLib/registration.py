"""One registration from two volumes to a trusted transform: the only place that knows the order of the steps."""

from __future__ import annotations

import dataclasses
import datetime
import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from .alignment import initial_alignment
from .convex_adam import ConvexAdamResult, convex_adam, search_factors, search_reach_mm
from .convex_adam.windows import max_around
from .device import describe_device, free_memory_bytes, peak_memory_bytes, resolve_device
from .encoders import EncoderInfo, encoder_info
from .errors import InputError
from .features import (
    TOKEN_BUDGET_BYTES,
    EncoderSource,
    FeatureCache,
    FeaturePair,
    extract_features,
    feature_preview,
    pool,
)
from .geometry import (
    WorkingGrid,
    check_overlap,
    check_volume,
    foreground_points,
    resample_to_grid,
    working_grid,
)
from .metrics import jacobian_determinant, jacobian_summary
from .preprocessing import PreparedVolume, prepare
from .progress import CancelledCallback, Progress, ProgressCallback
from .settings import Settings
from .transforms import compose, displacement_image, invert, round_trip_errors, warp_image

_LOGGER = logging.getLogger(__name__)

# Shares of the run, for the percent bar only.
_STEPS = {
    "preparation": 3.0,
    "initial alignment": 12.0,
    "encoding": 45.0,
    "encoding details": 10.0,
    "discrete search": 10.0,
    "instance optimisation": 22.0,
    "refinement": 22.0,
    "inverse and warp": 8.0,
}
# Steps that only a combination of two encoders has.
_STEPS_OF_DETAILS = ("encoding details", "refinement")
_BASE_BYTES = 2.0e9
_ROUND_TRIP_POINTS = 4000
# At least this many cells of the search grid surround the anatomy, so that the search can see past its edge.
_MARGIN_CELLS = 2


@dataclass(frozen=True)
class RegistrationResult:
    """What a registration returns.

    Attributes:
        transform: maps fixed points to moving points, LPS mm; resamples the moving volume onto the fixed one.
        inverse: maps moving points to fixed points, LPS mm.
        initial_transform: the part of `transform` found or given before the deformable stages.
        warped: the moving volume on the grid of the fixed one, resampled once, in its own pixel type.
        displacement: u of the deformable part, a vector image in LPS mm; transform(x) = initial(x + u(x)).
        jacobian: determinant of the spatial Jacobian of x + u(x), on the grid of `displacement`.
        metrics: folding, inverse error, explained variance and energies, as plain numbers.
        timings: seconds of each step.
        peak_memory: bytes, of this process since it began ("host") and of the accelerator ("device").
        feature_preview: where it was asked for, the first three components of the features of the fixed and of the
            moving volume as colours, both in fixed space before the deformable stages; one colour means one feature.
        messages: what the user should know about this run.
        record: settings, versions, device, weights and inputs: all it takes to repeat the run.
    """

    transform: sitk.CompositeTransform
    inverse: sitk.CompositeTransform
    initial_transform: sitk.Transform
    warped: sitk.Image
    displacement: sitk.Image
    jacobian: sitk.Image
    metrics: Mapping[str, Any]
    timings: Mapping[str, float]
    peak_memory: Mapping[str, int]
    feature_preview: tuple[sitk.Image, sitk.Image] | None
    messages: tuple[str, ...]
    record: Mapping[str, Any]


def register(
    fixed: sitk.Image,
    moving: sitk.Image,
    settings: Settings | None = None,
    *,
    fixed_mask: sitk.Image | None = None,
    moving_mask: sitk.Image | None = None,
    initial_transform: sitk.Transform | None = None,
    preview_features: bool = False,
    progress: ProgressCallback | None = None,
    cancelled: CancelledCallback | None = None,
) -> RegistrationResult:
    """Register a moving volume to a fixed one (paper section 2.1).

    Args:
        fixed: 3D scalar volume of any size, spacing, orientation and pixel type.
        moving: the same; it need not share anything with the fixed volume's grid.
        settings: all parameters; the defaults if None.
        fixed_mask: region that counts, on the grid of the fixed volume; the patient is found if None.
        moving_mask: the same on the grid of the moving volume.
        initial_transform: maps fixed points to moving points, LPS mm; takes the place of
            `settings.initialization`.
        preview_features: also return the features as colours, which takes memory and time of its own.
        progress: called with a `ProgressEvent` as the run goes on.
        cancelled: asked often; once it returns True the run ends.

    Raises:
        InputError: a volume, mask or transform cannot be used; the message says what to do.
        SettingsError: an unknown encoder or a device that is not there.
        WeightsError: the encoder's weights are missing or damaged.
        RegistrationCancelledError: `cancelled` returned True.
    """
    settings = settings or Settings()
    parts = [dataclasses.replace(settings, encoder=name, detail_encoder="") for name in settings.encoders]
    infos = [encoder_info(part.encoder) for part in parts]
    device = resolve_device(settings.device)
    shares = {step: share for step, share in _STEPS.items() if len(parts) > 1 or step not in _STEPS_OF_DETAILS}
    steps = Progress(shares, progress, cancelled)

    steps.start("preparation")
    check_volume(fixed, "fixed")
    check_volume(moving, "moving")
    sources = [EncoderSource.from_settings(part, device) for part in parts]
    prepared_fixed = prepare(fixed, settings.fixed_modality, "fixed", fixed_mask)
    prepared_moving = prepare(moving, settings.moving_modality, "moving", moving_mask)

    steps.start("initial alignment")
    messages: list[str] = []
    if initial_transform is not None:
        initial = _checked_initial(initial_transform)
    else:
        initial, messages = initial_alignment(prepared_fixed, prepared_moving, settings.initialization, steps)
    check_overlap(fixed, moving, initial)

    grid, more = _choose_grid(prepared_fixed, prepared_moving, initial, settings, infos, device)
    messages += more
    features, preview, found, cells = _deform(
        prepared_fixed, prepared_moving, initial, grid, sources, parts, preview_features, device, steps
    )
    messages += [message for pair in features.values() for message in pair.messages]

    steps.start("inverse and warp")
    field = displacement_image(found.displacement, cells)
    transform = compose(initial, field)
    inverse = invert(initial, field, grid)
    steps.advance(0.5)
    warped = warp_image(moving, fixed, transform, settings.interpolation)
    steps.advance(0.8)
    jacobian = jacobian_determinant(field)
    metrics = {
        "jacobian": jacobian_summary(jacobian, _mask_on_grid_of(prepared_fixed.foreground, jacobian)),
        "inverse_error_mm": _inverse_error(transform, inverse, prepared_fixed.foreground),
        "explained_variance": {name: list(pair.explained_variance) for name, pair in features.items()},
        "encoded_slices": {name: pair.encoded_slices for name, pair in features.items()},
        "features_from_cache": all(pair.from_cache for pair in features.values()),
        "unfolded_percent": 100.0 * found.unfolded,
        "adam_iterations": len(found.energies),
        "energy_first_last": [found.energies[0], found.energies[-1]] if found.energies else [],
    }
    steps.finish()
    record = {
        **_environment(settings, device, features),
        "fixed": _described(fixed, prepared_fixed),
        "moving": _described(moving, prepared_moving),
        "initialization": "given transform" if initial_transform is not None else settings.initialization,
        "working_grid": {"origin": grid.origin, "spacing": grid.spacing, "shape_zyx": grid.shape},
        "search_cells_mm": [factor * grid.spacing for factor in search_factors(settings, grid.spacing)],
    }
    for message in messages:
        _LOGGER.info(message)
    return RegistrationResult(
        transform=transform,
        inverse=inverse,
        initial_transform=initial,
        warped=warped,
        displacement=field,
        jacobian=jacobian,
        metrics=metrics,
        timings=dict(steps.timings),
        peak_memory=peak_memory_bytes(device),
        feature_preview=preview,
        messages=tuple(messages),
        record=record,
    )


def _deform(
    fixed: PreparedVolume,
    moving: PreparedVolume,
    initial: sitk.Transform,
    grid: WorkingGrid,
    sources: Sequence[EncoderSource],
    parts: Sequence[Settings],
    preview_features: bool,
    device: torch.device,
    steps: Progress,
) -> tuple[dict[str, FeaturePair], tuple[sitk.Image, sitk.Image] | None, ConvexAdamResult, WorkingGrid]:
    """Encode both volumes on the working grid with each encoder and run ConvexAdam.

    `parts` are the settings with one encoder each; the results are by the names of the encoders.
    """
    settings = parts[0]
    identity = sitk.TranslationTransform(3)
    sides = ((fixed, identity), (moving, initial))

    def on_grid(image: sitk.Image, transform: sitk.Transform, label: bool = False) -> torch.Tensor:
        return torch.from_numpy(resample_to_grid(image, grid, transform, label=label)).to(device)

    images = [on_grid(side.image, transform) for side, transform in sides]
    masks = [on_grid(side.foreground, transform, label=True) for side, transform in sides]
    for mask, role in zip(masks, ("fixed", "moving"), strict=True):
        if not mask.any():
            msg = f"The {role} mask leaves nothing to register where the volumes meet; choose a larger mask."
            raise InputError(msg)
    cache = FeatureCache.from_settings(settings)
    features = {}
    for step, source, part in zip(("encoding", "encoding details"), sources, parts, strict=False):
        steps.start(step)
        features[part.encoder] = extract_features(
            source, images[0], images[1], masks[0], masks[1], part, steps, cache
        )
    lead, *details = ((pair.fixed, pair.moving) for pair in features.values())
    cells = grid.pooled(settings.adam_grid_spacing)
    preview = None
    if preview_features:
        inside = [pool(mask[None], settings.adam_grid_spacing)[0] for mask in masks]
        preview = feature_preview(lead, inside, cells)
    seen = [on_grid(_ones_like(side.image), transform, label=True) for side, transform in sides]
    weight = _cost_weight(masks[0], seen[0] * seen[1], settings)
    found = convex_adam(
        *lead,
        settings,
        voxel_mm=grid.spacing,
        weight=weight,
        details=details[0] if details else None,
        progress=steps,
    )
    return features, preview, found, cells


def _cost_weight(foreground: torch.Tensor, seen: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Return how much each fixed cell counts, 0 to 1: near the patient and inside both fields of view.

    The noise in the air around the patient would otherwise be matched as if it were anatomy. The foreground is
    widened by one cell of the search grid, so that the skin counts from both sides.

    Args:
        foreground: (z, y, x) mask on the working grid.
        seen: (z, y, x), 1 where both fields of view reach.
        settings: grid spacings.

    Returns:
        Weight on the instance optimisation grid.
    """
    reach = settings.grid_spacing // settings.adam_grid_spacing
    near = max_around(pool(foreground[None], settings.adam_grid_spacing), reach)
    return near[0] * pool(seen[None], settings.adam_grid_spacing)[0]


def _choose_grid(
    fixed: PreparedVolume,
    moving: PreparedVolume,
    initial: sitk.Transform,
    settings: Settings,
    infos: Sequence[EncoderInfo],
    device: torch.device,
) -> tuple[WorkingGrid, list[str]]:
    """Return the working grid at the wished spacing, or coarser where memory would not do, and then say so."""
    fixed_points = foreground_points(fixed.foreground)
    center = fixed_points.mean(0)
    # The moving foreground in fixed space, through the local linear part of the initial transform.
    offset = np.asarray(initial.TransformPoint(center.tolist()))
    columns = [np.asarray(initial.TransformPoint((center + axis).tolist())) - offset for axis in np.eye(3)]
    linear = np.linalg.pinv(np.column_stack(columns))
    moving_points = center + (foreground_points(moving.foreground) - offset) @ linear.T

    budget = settings.memory_budget_gb * 1e9 or 0.8 * free_memory_bytes(device)

    def grid_at(spacing: float) -> WorkingGrid:
        return working_grid(
            fixed_points,
            moving_points,
            spacing_mm=spacing,
            reach_mm=search_reach_mm(settings, spacing),
            margin_voxels=_MARGIN_CELLS * settings.grid_spacing,
            multiple=settings.grid_spacing,
        )

    spacing = settings.working_spacing_mm
    grid = grid_at(spacing)
    least = (2 * _MARGIN_CELLS + 2) * settings.grid_spacing  # the margin, and two cells of anatomy
    while estimated_bytes(grid, settings, infos) > budget and min(grid.shape) > least:
        spacing *= 1.1
        grid = grid_at(spacing)
    messages = []
    if spacing != settings.working_spacing_mm:
        messages.append(
            f"The working grid was made coarser ({spacing:.2f} mm instead of {settings.working_spacing_mm:g} mm) "
            f"to stay within {budget / 1e9:.1f} GB of memory."
        )
    needed = estimated_bytes(grid, settings, infos)
    if needed > budget:
        messages.append(
            f"About {needed / 1e9:.1f} GB of memory are needed, more than the {budget / 1e9:.1f} GB allowed."
        )
    return grid, messages


def estimated_bytes(grid: WorkingGrid, settings: Settings, infos: Sequence[EncoderInfo]) -> float:
    """Estimate the peak memory of a registration on a working grid, in bytes."""
    voxels = float(np.prod(grid.shape))
    kept = [min(settings.components or info.components, info.channels) for info in infos]
    channels = sum(kept)
    per_cell = 4.0 * (2 * channels + 3 * 9)
    candidates = 4.0 * (2 * settings.displacement_half_width + 1) ** 3
    slices = 2.0 * (grid.shape[0] / settings.slice_gap + 1)
    tokens = 0.0
    for info, components in zip(infos, kept, strict=True):
        of_one = slices * 4.0 * info.tokens**2
        tokens += min(TOKEN_BUDGET_BYTES, of_one * info.channels) + of_one * components
    dense = voxels * (24.0 + per_cell / settings.adam_grid_spacing**3 + candidates / settings.grid_spacing**3)
    return _BASE_BYTES + tokens + dense


def _checked_initial(transform: sitk.Transform) -> sitk.Transform:
    if transform.GetDimension() != 3:
        msg = f"The initial transform is {transform.GetDimension()}D; give a 3D transform."
        raise InputError(msg)
    return transform


def _ones_like(image: sitk.Image) -> sitk.Image:
    ones = sitk.Image(image.GetSize(), sitk.sitkUInt8) + 1
    ones.CopyInformation(image)
    return ones


def _mask_on_grid_of(mask: sitk.Image, image: sitk.Image) -> sitk.Image | None:
    """Return a mask on another grid, None where it slips between its voxels, as a single slice may."""
    found = sitk.Resample(mask, image, sitk.TranslationTransform(3), sitk.sitkNearestNeighbor, 0)
    return found if sitk.GetArrayViewFromImage(found).any() else None


def _inverse_error(transform: sitk.Transform, inverse: sitk.Transform, foreground: sitk.Image) -> dict[str, float]:
    """Return the forward-then-inverse error over points of the fixed foreground, mm."""
    indices = np.argwhere(sitk.GetArrayViewFromImage(foreground) != 0)[:, ::-1]
    indices = indices[:: max(1, len(indices) // _ROUND_TRIP_POINTS)]
    points = [foreground.TransformIndexToPhysicalPoint(index) for index in indices.tolist()]
    errors = round_trip_errors(transform, inverse, np.array(points))
    return {"mean": float(errors.mean()), "max": float(errors.max())}


def _environment(settings: Settings, device: torch.device, features: Mapping[str, FeaturePair]) -> dict[str, Any]:
    packages = ("FoundationRegistration", "torch", "numpy", "SimpleITK", "scikit-learn", "timm")
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "made": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "settings": settings.to_dict(),
        "versions": {"python": platform.python_version(), **versions},
        "platform": platform.platform(),
        "device": describe_device(device),
        "weights_sha256": {name: pair.weights_sha256 for name, pair in features.items()},
        "precision": {name: pair.precision for name, pair in features.items()},
    }


def _described(image: sitk.Image, prepared: PreparedVolume) -> dict[str, Any]:
    return {
        "size": list(image.GetSize()),
        "spacing": list(image.GetSpacing()),
        "origin": list(image.GetOrigin()),
        "direction": list(image.GetDirection()),
        "pixel_type": image.GetPixelIDTypeAsString(),
        "modality": prepared.modality,
    }
