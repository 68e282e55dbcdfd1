"""The registration of a series: every frame onto one of them, or onto their mean."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import SimpleITK as sitk

from .. import __version__
from ..errors import InputError
from ..pipeline.preprocessing.masks import mask_on_grid_of
from ..pipeline.provenance import described_grid, environment
from ..runtime.guards import plain_torch
from ..runtime.progress import CancelledCallback, Progress, ProgressCallback, ProgressEvent
from ..settings import Settings
from ..spatial.checks import check_volume
from ..spatial.grids import content_sha256
from ..spatial.warping import finite_float, is_measured
from .figures import Temporal, on_grid_of, shows_anything, temporal_figures
from .frames import Series
from .onto import Onto
from .result import FrameResult, SeriesResult, left_as_it_was


class FrameStore(Protocol):
    """Keeps frames as they are done, so that an interrupted series can go on."""

    def load(self, index: int, key: str) -> FrameResult | None:
        """Return the frame that was kept under a key; None if there is none."""

    def keep(self, index: int, key: str, result: FrameResult) -> None:
        """Keep a registered frame under the key of its inputs and settings."""


@plain_torch()
def register_series(
    series: Series,
    settings: Settings | None = None,
    *,
    reference: int | str = 0,
    mask: sitk.Image | None = None,
    store: FrameStore | None = None,
    progress: ProgressCallback | None = None,
    cancelled: CancelledCallback | None = None,
) -> SeriesResult:
    """Register every frame of a series onto one of them, or onto the mean of all.

    The reference is prepared once, and all frames share its working grid. A frame that cannot be registered, or on
    which the verdict is "failed", is left as it is and reported. A series of single slices is registered in its
    plane.

    Args:
        series: the frames; `read_series` reads them.
        settings: all parameters; those of the preset "dce" if None.
        reference: number of the frame that the others are registered to, from 0, or "mean".
        mask: region of the reference to register, on its grid; the foreground is segmented if None.
        store: keeps frames as they are done; frames that it has kept are not registered again.
        progress: called with a `ProgressEvent` during the run.
        cancelled: checked often; the run ends when it returns True.

    Returns:
        The transforms of all frames and the corrected series.

    Raises:
        InputError: there is no such reference, it is empty, its mask is empty or on another grid, or no frame can be
            registered.
        SettingsError: an unknown encoder or an unavailable device.
        WeightsError: the encoder's weights are missing or damaged.
        RegistrationCancelledError: `cancelled` returned True.
    """
    settings = Settings.or_preset(settings, "dce")
    target, reference_frame = reference_of(series, reference)
    check_volume(target, "reference")
    onto = Onto.of(target, series, settings, mask)
    frames: list[FrameResult] = []
    inputs = _inputs(series, target, mask)
    errors: list[InputError] = []
    for index, frame in enumerate(series.frames):
        grids = {"fixed": described_grid(target), "moving": described_grid(frame)}
        if index == reference_frame:
            frames.append(left_as_it_was("reference", report=grids))
            continue
        key = _key(inputs, index, settings)
        kept = store.load(index, key) if store is not None else None
        if kept is None:
            steps = Progress(onto.method.shares(), _of_frame(progress, index, len(series.frames)), cancelled)
            try:
                kept = onto.register(frame, index, steps)
            except InputError as error:
                errors.append(error)
                kept = left_as_it_was("failed", (str(error),), report=grids)
            else:
                if store is not None:
                    store.keep(index, key, kept)
        frames.append(kept)
    if len(errors) == len(frames) - (reference_frame is not None):
        raise errors[0]
    return _completed(series, target, reference_frame, frames, onto, inputs, progress)


def reference_of(series: Series, reference: int | str) -> tuple[sitk.Image, int | None]:
    """Return the volume that the frames are registered to, and its number, None for the mean.

    The mean is that of the measured values, without frames that show nothing.

    Raises:
        InputError: there is no such frame, or none that shows anything.
    """
    if reference == "mean":
        return _mean_of(series), None
    if isinstance(reference, bool) or not isinstance(reference, int) or not 0 <= reference < len(series.frames):
        msg = f"There is no frame {reference!r}; give a number from 0 to {len(series.frames) - 1}, or 'mean'."
        raise InputError(msg)
    return series.frames[reference], reference


def _mean_of(series: Series) -> sitk.Image:
    grid, frames = series.frames[0], [frame for frame in series.frames if shows_anything(frame)]
    if not frames:
        msg = "No frame of the series has measured values that differ, so there is no mean to register to."
        raise InputError(msg)
    total = np.zeros(grid.GetSize()[::-1], dtype=np.float64)
    count = np.zeros(total.shape, dtype=np.int64)
    for frame in frames:
        measured = sitk.GetImageFromArray(is_measured(sitk.GetArrayViewFromImage(frame)).astype(np.uint8))
        measured.CopyInformation(frame)
        on_grid = mask_on_grid_of(measured, grid)
        if on_grid is None:
            continue
        known = sitk.GetArrayViewFromImage(on_grid) != 0
        total[known] += sitk.GetArrayFromImage(on_grid_of(grid, frame))[known]
        count += known
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    image = sitk.GetImageFromArray(mean.astype(np.float32))
    image.CopyInformation(grid)
    return finite_float(image)


def _completed(
    series: Series,
    target: sitk.Image,
    reference_frame: int | None,
    frames: list[FrameResult],
    onto: Onto,
    inputs: Mapping[str, Any],
    progress: ProgressCallback | None,
) -> SeriesResult:
    """Return the result of a series whose frames are registered."""
    settings, device = onto.method.settings, onto.method.runtime.device
    moves = [found.transform if found.state == "registered" else None for found in frames]
    corrected = [
        on_grid_of(target, frame, move, settings.interpolation)
        for frame, move in zip(series.frames, moves, strict=True)
    ]
    # Without a foreground on its own grid (a mask of a few voxels) the whole reference counts.
    inside = mask_on_grid_of(onto.foreground, target) or sitk.Cast(target == target, sitk.sitkUInt8)
    foreground = sitk.GetArrayViewFromImage(inside) != 0
    shown = [index for index, frame in enumerate(series.frames) if shows_anything(frame)]
    before, after = (Temporal.of([those[index] for index in shown], target) for those in (series.frames, corrected))
    if progress is not None:
        progress(ProgressEvent("done", 1.0))
    return SeriesResult(
        series=series,
        reference=target,
        reference_frame=reference_frame,
        foreground=inside,
        frames=tuple(frames),
        corrected=dataclasses.replace(series, frames=tuple(corrected)),
        metrics=temporal_figures(before, after, foreground),
        messages=(*onto.messages, *_of_frames(frames)),
        record={**environment(settings, device, {}), "inputs": inputs},
    )


def _of_frames(frames: list[FrameResult]) -> list[str]:
    """Return the messages of the frames, each once with the numbers of its frames."""
    numbers: dict[str, list[int]] = {}
    for index, frame in enumerate(frames):
        for message in frame.messages:
            numbers.setdefault(message, []).append(index)
    kinds = {message: type(message) for frame in frames for message in frame.messages}
    return [
        kinds[message](f"Frame{'s' * (len(those) > 1)} {_listed(those)}: {message}")
        for message, those in numbers.items()
    ]


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _inputs(series: Series, target: sitk.Image, mask: sitk.Image | None) -> dict[str, Any]:
    """Return the hashes of the reference, of its mask if any and of the frames, independent of their file format."""
    found = {"reference": content_sha256(target), "frames": [content_sha256(frame) for frame in series.frames]}
    return found if mask is None else {**found, "mask": content_sha256(mask)}


def _key(inputs: Mapping[str, Any], index: int, settings: Settings) -> str:
    """Return what identifies the registration of a frame: its volumes and mask, the settings, and the version.

    Interpolation is no part of it: it is that of the corrected series, not of the transforms that are kept.
    """
    volumes = [inputs["reference"], inputs["frames"][index], inputs.get("mask")]
    values = {name: value for name, value in settings.to_dict().items() if name != "interpolation"}
    facts = [__version__, *volumes, values]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _of_frame(progress: ProgressCallback | None, index: int, count: int) -> ProgressCallback | None:
    """Return the progress of a frame as progress of the series."""
    if progress is None:
        return None
    report = progress

    def show(event: ProgressEvent) -> None:
        report(ProgressEvent(f"frame {index}: {event.step}", (index + event.fraction) / count))

    return show
