"""The working grid of a pair: around the registrable region, as fine as memory allows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
import torch

from ...convex_adam.discrete_search import searches_of
from ...convex_adam.fluid_refinement import FluidRefinement
from ...convex_adam.stages import Stage
from ...encoders import EncoderInfo
from ...features import TOKEN_BUDGET_BYTES
from ...runtime.device import free_memory_bytes
from ...runtime.memory import check_limits, resident_bytes
from ...settings import Settings
from ...spatial.displacement import LARGEST_BORDER_MM
from ...spatial.grids import WorkingGrid, size_mm, size_words, working_grid
from ...spatial.points import foreground_points, linear_parts
from ..preprocessing.prepared_volume import PreparedVolume
from .region import box_of

# Memory of a device besides the grid: libraries and a network. Of the previous host memory of the process, at most
# this counts; the rest is the caller's.
_BASE_BYTES = 2.0e9
# Host memory besides the grid, measured: libraries loaded on first use, and the inverse; a packaged network; one with
# downloaded weights; finally the written and drawn results, also per fixed voxel.
_LATER_BYTES = 0.35e9
_PACKAGED_NETWORK_BYTES = 0.1e9
_NETWORK_BYTES = 1.2e9
_RESULT_BYTES = 0.1e9
_RESULT_VOXEL_BYTES = 130.0
_RESULT_CELL_BYTES = 185.0  # of the field with its border: inverse, copies, drawing
# Per voxel of the fluid refinement, measured: moments of the windows, force, and velocity.
_FINE_BYTES = 160.0
# With more working voxels the intensities are averaged over the cells of the features.
_MOST_VOXELS = 48_000_000
# Margin around the anatomy in cells of the search grid, so that the search extends past its edge.
_MARGIN_CELLS = 2
# Working voxels along the longest side of a volume: fewer cause a warning; and a sufficient number.
_FEWEST_VOXELS = 16
_ENOUGH_VOXELS = 100
_LARGEST_MM = 3000.0
# Working voxels smaller than this fraction of the finest voxels of both volumes are wasteful.
_FINEST_SHARE = 0.25


def choose_grid(
    fixed: PreparedVolume,
    moving: PreparedVolume,
    initial: sitk.Transform,
    settings: Settings,
    infos: Sequence[EncoderInfo],
    stages: Sequence[Stage],
    device: torch.device,
    region: sitk.Image | None = None,
    structures: int = 0,
) -> tuple[WorkingGrid, list[str]]:
    """Return the working grid at the requested spacing, or a coarser one with a message if memory is short.

    With a region it covers the foreground in the box of the region, and what may be matched to it. Each of the given
    structures takes memory as a feature does.
    """
    fixed_points = foreground_points(fixed.foreground)
    center = fixed_points.mean(0)
    # The moving foreground in fixed space, through the local linear part of the initial transform.
    offset = np.asarray(initial.TransformPoint(center.tolist()))
    linear = np.linalg.pinv(linear_parts(initial, center[None])[0])
    moving_points = center + (foreground_points(moving.foreground) - offset) @ linear.T
    if region is not None:
        fixed_points = np.clip(fixed_points, *box_of(region))

    loaded = loaded_bytes() if device.type == "cpu" else 0.0
    budget = settings.memory_budget_gb * 1e9 or 0.8 * free_memory_bytes(device) + loaded

    def needed_bytes(grid: WorkingGrid) -> float:
        if device.type != "cpu":
            return _BASE_BYTES + grid_bytes(grid, settings, infos, stages, structures)
        of_run, of_result = host_bytes(grid, fixed.image, settings, infos, stages, structures, loaded)
        if of_result - _field_bytes(grid, settings) > budget:  # no grid would fit
            return of_run
        return max(of_run, of_result)

    def grid_at(spacing: float) -> WorkingGrid:
        return working_grid(
            fixed_points,
            moving_points,
            spacing_mm=spacing,
            reach_mm=sum(search.reach_mm(spacing) for search in searches_of(stages)),
            margin_voxels=_MARGIN_CELLS * settings.grid_spacing,
            multiple=settings.grid_spacing,
        )

    spacing = settings.working_spacing_mm
    grid = grid_at(spacing)
    least = (2 * _MARGIN_CELLS + 2) * settings.grid_spacing  # the margin and two cells of anatomy
    while needed_bytes(grid) > budget and min(grid.shape) > least:
        spacing *= 1.1
        grid = grid_at(spacing)
    messages = [
        message
        for role, volume in (("fixed", fixed), ("moving", moving))
        if (message := _odd_size(role, volume.image, settings.working_spacing_mm))
    ]
    if spacing != settings.working_spacing_mm:
        messages.append(
            f"The working grid was made coarser ({spacing:.2f} mm instead of {settings.working_spacing_mm:g} mm) "
            f"to stay within {budget / 1e9:.1f} GB of memory."
        )
    finest = min(*fixed.image.GetSpacing(), *moving.image.GetSpacing())
    if spacing < _FINEST_SHARE * finest:
        messages.append(
            f"The working grid of {spacing:.2g} mm is much finer than the voxels of both volumes ({finest:.2g} mm or "
            "more): the run takes many times longer without benefit; use a larger --working-spacing-mm."
        )
    needed = needed_bytes(grid)
    if needed > budget:
        messages.append(
            f"About {needed / 1e9:.1f} GB of memory are needed, more than the {budget / 1e9:.1f} GB allowed."
        )
    if device.type == "cpu":
        of_volume = _RESULT_BYTES + fixed.image.GetNumberOfPixels() * _RESULT_VOXEL_BYTES
        check_limits(max(needed - loaded, of_volume + _field_bytes(grid, settings)))
    voxels = int(np.prod(grid.shape))
    if _refined(stages) and intensity_spacing(grid, settings) > 1:
        messages.append(
            f"The working grid has {voxels / 1e6:.0f} million voxels, too many to compare each; crop the volumes or "
            "choose a larger working spacing if fine structures matter."
        )
    return grid, messages


def _odd_size(role: str, image: sitk.Image, working_spacing_mm: float) -> str:
    """Return a warning if a volume is too small for the working grid or larger than any patient; else nothing."""
    longest = max(size_mm(image))
    if longest < _FEWEST_VOXELS * working_spacing_mm:
        return (
            f"The {role} volume measures {size_words(image)}, few voxels of a working grid of "
            f"{working_spacing_mm:g} mm: use a smaller --working-spacing-mm, about {longest / _ENOUGH_VOXELS:.2g}, "
            "or correct its voxel spacing if that is in another unit."
        )
    if longest > _LARGEST_MM:
        return (
            f"The {role} volume measures {size_words(image)}, larger than any patient: its voxel spacing may be in "
            "another unit, such as micrometres; correct it."
        )
    return ""


def loaded_bytes() -> float:
    """Return the memory of this process that counts for a run, in bytes: the libraries, not what the caller has."""
    return min(_BASE_BYTES, resident_bytes())


def host_bytes(
    grid: WorkingGrid | None,
    fixed: sitk.Image,
    settings: Settings,
    infos: Sequence[EncoderInfo],
    stages: Sequence[Stage],
    structures: int,
    loaded: float,
) -> tuple[float, float]:
    """Estimate the host memory of a run on the CPU, in bytes: while it registers, and while it writes the result.

    Args:
        grid: the working grid; None for a rigid or affine run.
        fixed: the fixed volume.
        settings: of the run.
        infos: properties of the encoders.
        stages: deformable stages.
        structures: number of structures that drive.
        loaded: see `loaded_bytes`.
    """
    of_run = loaded + _further_bytes(infos)
    of_result = loaded + _RESULT_BYTES + fixed.GetNumberOfPixels() * _RESULT_VOXEL_BYTES
    if grid is None:
        return of_run, of_result
    return of_run + grid_bytes(grid, settings, infos, stages, structures), of_result + _field_bytes(grid, settings)


def _further_bytes(infos: Sequence[EncoderInfo]) -> float:
    """Return the host memory of a run besides the grid and loaded libraries, with one network at a time."""
    slice_encoders = [info for info in infos if info.kind == "slice"]
    networks = [_PACKAGED_NETWORK_BYTES if info.packaged_sha256 else _NETWORK_BYTES for info in slice_encoders]
    return _LATER_BYTES + max(networks, default=0.0)


def _field_bytes(grid: WorkingGrid, settings: Settings) -> float:
    """Return the final memory of the displacement field of a run, with its widest border."""
    cell = settings.adam_grid_spacing
    border = LARGEST_BORDER_MM / (cell * grid.spacing) + 1
    return _RESULT_CELL_BYTES * float(np.prod([size / cell + 2 * border for size in grid.shape]))


def intensity_spacing(grid: WorkingGrid, settings: Settings) -> int:
    """Return the spacing of the intensities to compare: 1 working voxel, or a cell if there are too many voxels."""
    return 1 if np.prod(grid.shape) <= _MOST_VOXELS else settings.adam_grid_spacing


def _refined(stages: Sequence[Stage]) -> bool:
    """Return whether a stage compares the intensities."""
    return any(isinstance(stage, FluidRefinement) for stage in stages)


def grid_bytes(
    grid: WorkingGrid,
    settings: Settings,
    infos: Sequence[EncoderInfo],
    stages: Sequence[Stage],
    structures: int = 0,
) -> float:
    """Estimate the peak memory of a registration for its working grid and number of given structures, in bytes."""
    voxels = float(np.prod(grid.shape))
    kept = [min(settings.components or info.components, info.channels) for info in infos]
    channels = sum(kept) + structures * (1 + len(infos))  # their maps, and a copy beside each encoder's features
    per_cell = 4.0 * (2 * channels + 3 * 9)
    costs = max((4.0 * (2 * of.half_width + 1) ** 3 / of.spacing**3 for of in searches_of(stages)), default=0.0)
    slices = 2.0 * (grid.shape[0] / settings.slice_gap + 1)
    tokens = 0.0
    for info, components in zip(infos, kept, strict=True):
        of_one = slices * 4.0 * info.tokens**2
        tokens += min(TOKEN_BUDGET_BYTES, of_one * info.channels) + of_one * components
    fine = voxels * _FINE_BYTES / intensity_spacing(grid, settings) ** 3 if _refined(stages) else 0.0
    window = max((min(voxels, info.window**3) * info.window_voxel_bytes for info in infos), default=0.0)
    dense = voxels * (24.0 + per_cell / settings.adam_grid_spacing**3 + costs)
    return tokens + dense + max(fine, window)  # one after the other
