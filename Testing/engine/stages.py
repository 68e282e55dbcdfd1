"""Runs the stages that settings stand for on tensors, without files, encoders or an initial alignment."""

import dataclasses

from FoundationRegistrationLib.convex_adam import convex_adam
from FoundationRegistrationLib.convex_adam.instance_optimisation import Descent, optimise_instance
from FoundationRegistrationLib.convex_adam.method import stages_of
from FoundationRegistrationLib.convex_adam.stages import Volumes, step_names
from FoundationRegistrationLib.runtime.progress import Progress


def stage(kind, settings):
    """The stage of a class, as settings have it."""
    return next(stage for stage in stages_of(settings) if isinstance(stage, kind))


def descent_of(settings):
    """How Adam goes down on features, as settings have it."""
    return stages_of(settings)[1].descent


def optimised(terms, start, settings, progress):
    return optimise_instance(terms, start, descent_of(settings), progress)


def run(
    fixed,
    moving,
    settings,
    *,
    voxel_mm,
    weight=None,
    moving_weight=None,
    details=None,
    intensities=None,
    progress=None,
    seen=None,
):
    """The result of the stages; without `intensities`, which are on the working grid, the last one is left out.

    What each stage found is added to the list `seen`.
    """
    left_out = {
        **({} if intensities else {"fluid_iterations": 0}),
        "detail_encoder": "second" if details else "",
    }
    stages = stages_of(dataclasses.replace(settings, **left_out))
    volumes = Volumes(
        ((fixed, moving), *((details,) if details else ())),
        voxel_mm,
        settings.adam_grid_spacing,
        (weight, moving_weight),
        intensities,
    )
    progress = progress or Progress(dict.fromkeys(step_names(stages), 1.0))
    return convex_adam(volumes, stages, progress, lambda _, found: None if seen is None else seen.append(found))


__all__ = ["Descent", "descent_of", "optimised", "run", "stage"]
