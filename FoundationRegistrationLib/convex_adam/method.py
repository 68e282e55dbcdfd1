"""The stages of the method for given settings, and their description for the record."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from ..errors import SettingsError
from ..runtime.plugins import plugins
from ..settings import STRUCTURES_ONLY, Settings
from .discrete_search import DiscreteSearch, searches_of
from .fluid_refinement import FluidRefinement
from .instance_optimisation import Descent, InstanceOptimisation
from .motion_floor import MotionFloor
from .regularisers import Diffusion
from .shared_refinement import SharedRefinement
from .similarities import Similarity, SquaredDifference
from .stages import Stage

# Of the cost of volume changes of tissue that is not compressible at all.
_VOLUME_STRENGTH = 4.0


def stages_of(settings: Settings) -> list[Stage]:
    """Return the deformable stages of given settings; none if the result is linear.

    Raises:
        SettingsError: there is no similarity of that name.
    """
    if settings.is_linear:
        return []
    descent = Descent(
        similarity=_similarity(settings.similarity),
        regulariser=Diffusion(settings.regularization),
        volume_strength=_VOLUME_STRENGTH * (1.0 - settings.compressibility),
        iterations=settings.iterations,
        learning_rate=settings.learning_rate,
        levels=settings.adam_levels,
        smoothing_kernel=settings.smoothing_kernel,
        smoothing_repeats=settings.smoothing_repeats,
        convergence_tolerance=settings.convergence_tolerance,
    )
    search = DiscreteSearch(
        settings.grid_spacing,
        settings.displacement_half_width,
        settings.search_range_mm,
        settings.inverse_consistency_iterations,
    )
    # A search is arbitrary where nothing is compared, as far from structures.
    stages: list[Stage] = [] if settings.encoder == STRUCTURES_ONLY else [search]
    stages.append(InstanceOptimisation(descent))
    if settings.detail_encoder:
        stages.append(SharedRefinement(descent))
    if settings.fluid_iterations > 0:
        stages.append(
            FluidRefinement(
                settings.fluid_iterations,
                smoothing=settings.fluid_smoothing,
                field_smoothing=settings.field_smoothing,
                compressibility=settings.compressibility,
            )
        )
    if settings.motion_floor > 0.0:
        stages.append(MotionFloor(settings.motion_floor))
    return stages


def similarities() -> dict[str, Similarity]:
    """Return the similarities by name; plugins may add some, see `runtime.plugins`."""
    return {**plugins("similarities"), "squared-difference": SquaredDifference()}


def _similarity(name: str) -> Similarity:
    known = similarities()
    if name not in known:
        msg = f"Unknown similarity '{name}'; choose one of: {', '.join(known)}."
        raise SettingsError(msg)
    return known[name]


def search_spacing(stages: Sequence[Stage], settings: Settings) -> int:
    """Return the least common multiple of the search grid spacings; that of the settings without a search."""
    spacings = [search.spacing for search in searches_of(stages)]
    return math.lcm(*spacings) if spacings else settings.grid_spacing


def described_stages(stages: Sequence[Stage]) -> list[Any]:
    """Return stages as plain values for a record: class and fields of each object."""
    return [_described(stage) for stage in stages]


def _described(value: Any) -> Any:
    if isinstance(value, (bool, int, float, str, type(None))):
        return value
    if isinstance(value, (list, tuple)):
        return [_described(item) for item in value]
    kind = type(value)
    fields = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
    name = kind.__qualname__ if kind.__module__.startswith(__package__) else f"{kind.__module__}.{kind.__qualname__}"
    return {"class": name, **{field.name: _described(getattr(value, field.name)) for field in fields}}
