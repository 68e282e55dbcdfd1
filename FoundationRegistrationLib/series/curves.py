"""Curves of signal over time of the structures of a label map, as a table."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..files.outputs import complete_or_absent
from ..spatial.checks import check_same_grid
from .kinetics import check_frames
from .phases import Phases

_COLUMNS = ("label", "name", "voxels", "frame", "time_s", "mean", "sd", "enhancement_percent")


@dataclass(frozen=True)
class LabelCurve:
    """The signal of one structure over F frames.

    Attributes:
        label: its value in the label map.
        name: its name; empty if it has none.
        voxels: how many of its voxels are finite in all frames; only these count.
        mean: (F,) mean signal, NaN without any voxel.
        sd: (F,) standard deviation over the voxels (of the population), NaN without any.
        enhancement_percent: (F,) of the mean signal over that before contrast; NaN if the latter is 0 or less.
    """

    label: int
    name: str
    voxels: int
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    enhancement_percent: NDArray[np.float64]


def label_curves(
    frames: Sequence[sitk.Image], labels: sitk.Image, phases: Phases, names: Mapping[int, str] | None = None
) -> list[LabelCurve]:
    """Return the curve of every label but 0.

    Args:
        frames: volumes on one grid, in the order of time.
        labels: whole numbers on the grid of the frames.
        phases: gives the frames before contrast.
        names: of labels, where known.

    Raises:
        InputError: the frames or the labels are not on one grid.
    """
    check_frames(frames)
    check_same_grid(labels, frames[0], "label map", "first")
    values = sitk.GetArrayViewFromImage(labels)
    marked = values != 0
    of_voxels = values[marked]
    signals = np.stack([sitk.GetArrayViewFromImage(frame)[marked].astype(np.float64) for frame in frames])
    known = np.isfinite(signals).all(axis=0)
    curves = []
    for label in np.unique(of_voxels):
        signal = signals[:, known & (of_voxels == label)]
        mean, sd = (signal.mean(axis=1), signal.std(axis=1)) if signal.size else (np.full(len(frames), np.nan),) * 2
        before = float(mean[list(phases.before)].mean())
        enhancement = 100.0 * (mean / before - 1.0) if before > 0.0 else np.full(len(frames), np.nan)
        name = (names or {}).get(int(label), "")
        curves.append(LabelCurve(int(label), name, signal.shape[1], mean, sd, enhancement))
    return curves


def write_curves(path: str | os.PathLike[str], curves: Sequence[LabelCurve], times_s: Sequence[float] | None) -> None:
    """Write curves as CSV, one row for each label and frame; what is not known is an empty cell.

    Args:
        path: the file; an existing one is replaced.
        curves: of one series.
        times_s: time of each frame, s; None if not known.

    Raises:
        OutputError: the file cannot be written.
    """
    with complete_or_absent(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(_COLUMNS)
        for curve in curves:
            for frame, row in enumerate(zip(curve.mean, curve.sd, curve.enhancement_percent, strict=True)):
                time = "" if times_s is None else f"{times_s[frame]:g}"
                cells = ["" if math.isnan(value) else f"{value:.6g}" for value in row]
                table.writerow([curve.label, curve.name, curve.voxels, frame, time, *cells])
