"""Initial alignment before the deformable stages. All transforms map fixed points to moving points, LPS mm."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Sequence

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from ...runtime.progress import Progress
from ...spatial.grids import field_of_view
from ...spatial.points import foreground_points, linear_parts
from ..driving import Driving
from ..preprocessing.prepared_volume import PreparedVolume
from .driven import terms_of
from .given_transform import PLAUSIBLE_VOLUME_CHANGE
from .mutual_information import Estimate, MutualInformation
from .starts import candidate_starts
from .volumes import LEAST_VOXELS, isotropic, resolutions

# Coarse to fine: shrink factor, and the fraction of the foreground's voxels that are sampled.
_LEVELS = ((4, 1.0), (2, 0.5), (1, 0.15))
_EVALUATIONS = 60  # of the mutual information at each level, at most about
_CONVERGED = 1e-5  # relative gain of one iteration
# The price of scaling and shear, by the squares of how far (mm) they move points at the radius, in the optimiser's
# units: mutual information also rises where a stretched volume leaves the field of view.
_STIFFNESS = 0.002
_CANDIDATES = 4
_TRIED_EVALUATIONS, _TRIED_CONVERGED = 25, 1e-3  # to compare candidates
# Shares of the time until the candidates are known, and until the best of them is.
_LISTED, _CHOSEN = 0.25, 0.35
# Another candidate that ends elsewhere, in parts of the radius, and is nearly as good makes the best one doubtful.
_ELSEWHERE, _DOUBTFUL = 0.4, 0.95
# The optimiser takes a first step of 1 mm where the gradient is larger than 1.
_SCALE = 100.0
# A smaller relative gain in mutual information may come from interpolation: a noisy volume registered to itself gains
# up to 0.0031 from a deformation by a tenth of a voxel.
_LEAST_GAIN = 0.005
_NOTHING_BETTER = "The automatic alignment found nothing better than its starting position."
_IN_DOUBT = (
    "The automatic alignment found two places where the volumes agree about equally well, and took the better one; "
    "check it, or give landmarks or an initial transform."
)

# The measure to maximise at a matrix and a translation.
_Metric = Callable[[NDArray[np.float64], NDArray[np.float64]], Estimate]
# Matrix (3, 3) for the parameters of its kind, in mm, and its derivatives (n, 3, 3) by them.
_MatrixOf = Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]


def initial_alignment(
    fixed: PreparedVolume,
    moving: PreparedVolume,
    kind: str,
    device: torch.device,
    progress: Progress,
    start: sitk.Transform | None = None,
    driving: Driving | None = None,
) -> tuple[sitk.Transform, list[str]]:
    """Estimate a transform from the volumes.

    Rigid and affine maximise Mattes mutual information with L-BFGS at three resolutions. They start from the best of
    several places, which are compared after L-BFGS at the coarsest resolution: as given, and the likeliest of all
    shifts up to about the size of the foreground around the one that brings the centres of the foregrounds together,
    each with several rotations. Given structures and points are a start of their own, and add to the mutual
    information.

    Args:
        fixed: prepared fixed volume.
        moving: prepared moving volume.
        kind: "none", "center", "moments", "rigid" or "affine".
        device: where tensors live.
        progress: receives the completed fraction of the step.
        start: linear; rigid and affine start from its rotation and translation instead of a search.
        driving: structures and points that correspond; the only measure if the volumes have no intensities.

    Returns:
        The transform from fixed to moving points, and messages for the user.
    """
    if kind == "none":
        return sitk.TranslationTransform(3), []
    centre = _centroid(fixed.foreground)
    starts = {
        "center": field_of_view(moving.image).mean(0) - field_of_view(fixed.image).mean(0),
        "moments": _centroid(moving.foreground) - centre,
    }
    if kind in starts:
        return sitk.TranslationTransform(3, starts[kind].tolist()), []
    coarse = isotropic(fixed.image), isotropic(moving.image)
    if min(size for image in coarse for size in image.GetSize()) < LEAST_VOXELS:
        if start is not None:
            return start, ["A volume is too thin for rigid or affine alignment; the initial alignment was kept."]
        message = "A volume is too thin for rigid or affine alignment; the centres of the foregrounds were aligned."
        return sitk.TranslationTransform(3, starts["moments"].tolist()), [message]
    images = resolutions(*coarse, fixed.foreground, [factor for factor, _ in _LEVELS])
    information = [
        MutualInformation(*each, centre, share, device) for each, (_, share) in zip(images, _LEVELS, strict=True)
    ]
    radius = information[-1].radius
    levels: list[_Metric] = [*information]
    if driving:
        levels = _driven(information if fixed.has_intensities else [], terms_of(driving, centre, device))
    if start is None:
        candidates = [np.zeros(6)]
        if driving:
            candidates.append(_parameters_of(*driving.rigid_start(), centre, radius))
        if fixed.has_intensities and not (driving and driving.points):
            searched = candidate_starts(
                *images[0], centre, starts["moments"], _CANDIDATES, progress.part(0.0, _LISTED), device
            )
            candidates += [np.append(angles * radius, shift) for angles, shift in searched]
        first, said = _best_start(levels, radius, candidates, progress.part(_LISTED, _CHOSEN))
    else:
        first, said = _rigid_part(start, centre, radius), []
    is_affine = kind == "affine"
    chosen = _CHOSEN if start is None else 0.0
    turned = 0.5 * (chosen + 1.0) if is_affine else 1.0
    parameters, gained = _maximised(levels, _rotation(radius), first, progress.part(chosen, turned))
    rigid = sitk.Euler3DTransform()
    rigid.SetCenter(centre.tolist())
    rigid.SetRotation(*(parameters[:3] / radius).tolist())
    rigid.SetTranslation(parameters[3:].tolist())
    if not is_affine:
        return rigid, said if gained else [*said, _NOTHING_BETTER]
    rotation = np.array(rigid.GetMatrix()).reshape(3, 3)
    parameters, more = _maximised(
        levels,
        _any_matrix(rotation, radius),
        np.append(np.zeros(9), parameters[3:]),
        progress.part(turned, 1.0),
        _STIFFNESS,
    )
    matrix = rotation + parameters[:9].reshape(3, 3) / radius
    affine = sitk.AffineTransform(3)
    affine.SetCenter(centre.tolist())
    affine.SetMatrix(matrix.ravel().tolist())
    affine.SetTranslation(parameters[9:].tolist())
    if not (gained or more):
        said.append(_NOTHING_BETTER)
    volume_change = float(np.linalg.det(matrix))
    if not 1 / PLAUSIBLE_VOLUME_CHANGE < volume_change < PLAUSIBLE_VOLUME_CHANGE:
        message = (
            f"The affine alignment scaled the volume by a factor of {volume_change:.2f}; the rigid alignment is used "
            "instead."
        )
        return rigid, [*said, message]
    return affine, said


def _rigid_part(start: sitk.Transform, centre: NDArray[np.float64], radius: float) -> NDArray[np.float64]:
    """Return the arcs and the translation (6,) of the rotation nearest to a linear transform that does not mirror."""
    outer, _, inner = np.linalg.svd(linear_parts(start, centre[None])[0])
    rotation = outer @ inner
    return _parameters_of(
        rotation, np.array(start.TransformPoint(centre.tolist())) - rotation @ centre, centre, radius
    )


def _driven(information: list[MutualInformation], terms: Sequence[_Metric]) -> list[_Metric]:
    """Return the measure of each level: mutual information, if any, and the terms of structures and points."""

    def with_terms(metrics: Sequence[_Metric]) -> _Metric:
        return lambda matrix, translation: functools.reduce(
            operator.add, (metric(matrix, translation) for metric in metrics)
        )

    return [with_terms([metric, *terms]) for metric in information] or [with_terms(terms)] * len(_LEVELS)


def _parameters_of(
    rotation: NDArray[np.float64], shift: NDArray[np.float64], centre: NDArray[np.float64], radius: float
) -> NDArray[np.float64]:
    """Return arcs and translation (6,), about the centre, of x -> rotation x + shift."""
    rigid = sitk.Euler3DTransform()
    rigid.SetMatrix(rotation.ravel().tolist(), 1e-6)
    angles = np.array(rigid.GetParameters()[:3])
    return np.append(angles * radius, rotation @ centre + shift - centre)


def _best_start(
    levels: Sequence[_Metric],
    radius: float,
    candidates: list[NDArray[np.float64]],
    advance: Callable[[float], None],
) -> tuple[NDArray[np.float64], list[str]]:
    """Return the candidate that leads to the largest information of all samples, and what the user should know.

    Args:
        levels: coarse to fine. L-BFGS runs on the first, and the second compares what it found.
        radius: of the arcs, mm.
        candidates: arcs and translations (6,); of equal ones the first is chosen.
        advance: told the completed fraction at each evaluation.
    """
    matrix_of = _rotation(radius)
    found, scores = [], []
    for number, candidate in enumerate(candidates):
        done = number / len(candidates)
        cost = _Cost(levels[0], matrix_of, advance, (done, done))
        options = {"maxfun": _TRIED_EVALUATIONS, "ftol": _TRIED_CONVERGED}
        parameters = minimize(cost, candidate, method="L-BFGS-B", jac=True, options=options).x
        found.append(parameters)
        scores.append(levels[1](matrix_of(parameters[:3])[0], parameters[3:]).of_all)
    best = int(np.argmax(scores))
    rivals = [
        score
        for parameters, score in zip(found, scores, strict=True)
        if np.linalg.norm(parameters - found[best]) > _ELSEWHERE * radius
    ]
    doubtful = max(rivals, default=-np.inf) > scores[best] - (1.0 - _DOUBTFUL) * abs(scores[best])
    return candidates[best], [_IN_DOUBT] if doubtful else []


def _maximised(
    levels: Sequence[_Metric],
    matrix_of: _MatrixOf,
    start: NDArray[np.float64],
    advance: Callable[[float], None],
    stiffness: float = 0.0,
) -> tuple[NDArray[np.float64], bool]:
    """Return the parameters of the largest mutual information, and whether all samples tell more than at the start.

    Args:
        levels: coarse to fine.
        matrix_of: of all parameters but the last three, which are the translation.
        start: parameters; they are returned if nothing better is found.
        advance: told the completed fraction at each evaluation.
        stiffness: half of it, times the squares of all parameters but the last three, is the price of a map.
    """
    parameters = start
    for level, metric in enumerate(levels):
        cost = _Cost(metric, matrix_of, advance, (level / len(levels), (level + 1) / len(levels)), stiffness)
        options = {"maxfun": _EVALUATIONS, "ftol": _CONVERGED}
        parameters = minimize(cost, parameters, method="L-BFGS-B", jac=True, options=options).x
    before, after = (levels[-1](matrix_of(each[:-3])[0], each[-3:]).of_all for each in (start, parameters))
    better = after > before + _LEAST_GAIN * abs(before)
    return (parameters, True) if better else (start, False)


class _Cost:
    """What L-BFGS minimises at one level: the negative mutual information and the price, with their gradient."""

    def __init__(
        self,
        metric: _Metric,
        matrix_of: _MatrixOf,
        advance: Callable[[float], None],
        shares: tuple[float, float],
        stiffness: float = 0.0,
    ) -> None:
        self._metric, self._matrix_of, self._advance, self._stiffness = metric, matrix_of, advance, stiffness
        self._shares = itertools.chain(np.linspace(*shares, _EVALUATIONS).tolist(), itertools.repeat(shares[1]))

    def __call__(self, parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        self._advance(next(self._shares))
        matrix, derivatives = self._matrix_of(parameters[:-3])
        found = self._metric(matrix, parameters[-3:])
        gradient = -_SCALE * np.append((derivatives * found.by_matrix).sum((1, 2)), found.by_translation)
        pull = self._stiffness * parameters[:-3]
        gradient[:-3] += pull
        return -_SCALE * found.value + 0.5 * float(pull @ parameters[:-3]), gradient


def _rotation(radius: float) -> _MatrixOf:
    """Return rotations of `Euler3DTransform`: about y, then x, then z, by the lengths of arcs at the radius."""

    def matrix_of(arcs: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        (x, by_x), (y, by_y), (z, by_z) = (_about(axis, arc / radius) for axis, arc in enumerate(arcs))
        return z @ x @ y, np.stack([z @ by_x @ y, z @ x @ by_y, by_z @ x @ y]) / radius

    return matrix_of


def _about(axis: int, angle: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the rotation about an axis, and its derivative by the angle."""
    after = (axis + 1) % 3, (axis + 2) % 3
    generator = np.zeros((3, 3))
    generator[after[1], after[0]], generator[after[0], after[1]] = 1.0, -1.0
    rotation = np.eye(3) + np.sin(angle) * generator + (1.0 - np.cos(angle)) * generator @ generator
    return rotation, generator @ rotation


def _any_matrix(near: NDArray[np.float64], radius: float) -> _MatrixOf:
    """Return matrices that differ from a given one, by how far points at the radius move."""
    derivatives = np.eye(9).reshape(9, 3, 3) / radius
    return lambda parameters: (near + parameters.reshape(3, 3) / radius, derivatives)


def _centroid(mask: sitk.Image) -> np.ndarray:
    """Return the centre of mass of a mask, LPS mm."""
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(sitk.Cast(mask != 0, sitk.sitkUInt8))
    if not statistics.HasLabel(1):
        return foreground_points(mask).mean(0)
    return np.array(statistics.GetCentroid(1))
