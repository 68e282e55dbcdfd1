"""One registration of a trial, and what is kept of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.errors import FoundationRegistrationError
from FoundationRegistrationLib.files.outputs import complete_or_absent
from FoundationRegistrationLib.spatial.points import transform_points

from .trials import Trial


@dataclass(frozen=True)
class Run:
    """A registered trial.

    Attributes:
        name: of the trial.
        group: anatomy and kind of images.
        kind: "sound", or how it was sabotaged.
        level: the verdict; "refused" if the registration ended with an error.
        reasons: of the verdict, or the error.
        mean_error_mm: over the points of the truth; None where there is no right answer.
        predictors: (N, 3) of the expected error at those points, NaN where it is not known.
        error_mm: (N,) true error at those points.
        cell_mm: edge of a cell.
    """

    name: str
    group: str
    kind: str
    level: str
    reasons: tuple[str, ...]
    mean_error_mm: float | None
    predictors: np.ndarray
    error_mm: np.ndarray
    cell_mm: float


def kept_run(folder: Path, trial: Trial) -> Run:
    """Return the run of a trial, which is made if it was not before."""
    path = folder / f"{trial.name}.npz"
    if not path.exists():
        described, arrays = _registered(trial)
        with complete_or_absent(path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, described=json.dumps(described), **arrays)
        print(trial.name, described["level"], described["mean_error_mm"], flush=True)  # noqa: T201 - progress
    with np.load(path) as kept:
        described = json.loads(str(kept["described"]))
        return Run(
            trial.name, trial.group, trial.kind, **described, predictors=kept["predictors"], error_mm=kept["error_mm"]
        )


def _registered(trial: Trial) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    case = trial.build()
    settings = Settings.from_preset(
        case.preset, working_spacing_mm=case.spacing_mm, initialization=case.initialization
    )
    nothing = {"predictors": np.zeros((0, 3)), "error_mm": np.zeros(0)}
    try:
        result = register(case.fixed, case.moving, settings, initial_transform=trial.initial)
    except FoundationRegistrationError as error:
        return {"level": "refused", "reasons": [str(error)], "mean_error_mm": None, "cell_mm": 0.0}, nothing
    described = {
        **result.verdict.to_dict(),
        "mean_error_mm": None,
        "cell_mm": result.error_predictors.GetSpacing()[0],
    }
    if case.fixed_points is None or case.moving_points is None:
        return described, nothing
    errors = np.linalg.norm(transform_points(result.transform, case.fixed_points) - case.moving_points, axis=1)
    predictors = _at(result.error_predictors, case.fixed_points)
    return {**described, "mean_error_mm": float(errors.mean())}, {"predictors": predictors, "error_mm": errors}


def _at(image: sitk.Image, points: np.ndarray) -> np.ndarray:
    """Return the vectors of the nearest voxels, (N, components), NaN outside."""
    indices = np.array([image.TransformPhysicalPointToIndex(point) for point in points.tolist()])
    inside = ((indices >= 0) & (indices < image.GetSize())).all(1)
    found = np.full((len(points), image.GetNumberOfComponentsPerPixel()), np.nan, np.float32)
    x, y, z = indices[inside].T
    found[inside] = sitk.GetArrayViewFromImage(image)[z, y, x]
    return found
