"""The subtraction of a registered contrast series as a volume node."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import BridgeError
from ..nodes.grids import grid_of, image_from_array
from ..nodes.volumes import new_volume, overwrite_volume
from ..scene.changes import all_or_nothing
from .registered import RegisteredSeries, engine_words
from .sequences import time_points

_ROLE = "FoundationRegistration.Subtraction"
_COLOURS = "Yellow"
_BRIGHTEST_PERCENTILE = 99.8
_CLEAR_SHARE = 0.15
"""Fraction of the brightest enhancement below which the subtraction is transparent over anatomy."""


def subtraction_volume(node: Any, time_point: int | None = None, before: int = 1) -> Any:
    """Return a time point minus the mean signal before contrast, as a volume node on the voxels of the reference.

    It lies under the parent transform of the registered volumes. The same subtraction renews its node.

    Args:
        node: the registered sequence, its browser, or the volume that the browser shows.
        time_point: number of a time point after contrast, from 0; the one nearest to a minute after contrast if None.
        before: number of time points before contrast.

    Raises:
        BridgeError: it is no registered series, or there is no such time point after contrast.
    """
    series = RegisteredSeries.of(node)
    number, values = _subtracted(series, time_point, before)
    grid = grid_of(series.frames[0])
    volume = new_volume(image_from_array(values), grid, series.frames[0])
    role, scene = f"{_ROLE}.{number}", series.sequence.GetScene()
    present = series.sequence.GetNodeReference(role)
    if present is not None:
        overwrite_volume(present, volume)
        present.SetAndObserveTransformNodeID(series.parent.GetID() if series.parent is not None else None)
        return present
    title = time_points(series.sequence)[number]
    with all_or_nothing(scene) as changes:
        changes.add_displayed(volume, f"{series.name} subtraction, time point {title}")
        changes.set_parent(volume, series.parent)
        _show_enhancement(volume, values)
        series.sequence.SetNodeReferenceID(role, volume.GetID())
    return volume


def _subtracted(series: RegisteredSeries, time_point: int | None, before: int) -> tuple[int, np.ndarray]:
    """Return the number of the time point and its subtraction (k, j, i), as the engine computes it."""
    import SimpleITK as sitk

    from FoundationRegistrationLib.series.kinetics import before_contrast, subtraction
    from FoundationRegistrationLib.series.phases import choose_phases, first_minute

    count = len(series.frames)
    with engine_words():
        phases = choose_phases(count, series.times_s, before, messages=[])
        number = first_minute(count, series.times_s, before) if time_point is None else time_point
        if isinstance(number, bool) or not isinstance(number, int) or not before <= number < count:
            msg = f"There is no time point {number!r} after contrast; give a number from {before} to {count - 1}."
            raise BridgeError(msg)
        images = series.own_images([*phases.before, number])
        result = subtraction(images[-1], before_contrast(images, phases))
    return number, sitk.GetArrayFromImage(result)


def _show_enhancement(volume: Any, values: np.ndarray) -> None:
    """Show what enhances in colours, and nothing else."""
    brightest = float(np.nanpercentile(values, _BRIGHTEST_PERCENTILE))
    if brightest <= 0.0:  # nothing enhances: plain grey values
        return
    display = volume.GetDisplayNode()
    colours = volume.GetScene().GetFirstNode(_COLOURS, "vtkMRMLColorTableNode")
    if colours is not None:
        display.SetAndObserveColorNodeID(colours.GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, brightest)
    display.AutoThresholdOff()
    display.SetThreshold(_CLEAR_SHARE * brightest, max(float(np.nanmax(values)), brightest))
    display.ApplyThresholdOn()
