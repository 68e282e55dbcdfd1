"""Initial alignment before the deformable stages. All transforms map fixed points to moving points, LPS mm."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from ..runtime.progress import Progress
from ..spatial.grids import field_of_view, size_mm, smoothed_for_spacing
from ..spatial.points import foreground_points, linear_parts
from .candidate_starts import candidate_starts
from .initial_transform import PLAUSIBLE_VOLUME_CHANGE
from .mutual_information import MutualInformation
from .preprocessing import PreparedVolume

_SPACING_MM = 2.5
_LEAST_VOXELS = 8
_MOST_VOXELS = 5e7
# Coarse to fine: shrink factor, and the fraction of the foreground's voxels that are sampled.
_LEVELS = ((4, 1.0), (2, 0.5), (1, 0.15))
_EVALUATIONS = 60  # of the mutual information at each level, at most about
_CONVERGED = 1e-5  # relative gain of one iteration
# The price of scaling and shear, by the squares of how far (mm) they move points at the radius, in the optimiser's
# units: mutual information also rises where a stretched volume leaves the field of view.
_STIFFNESS = 0.002
_CANDIDATES = 4
_TRIED_EVALUATIONS, _TRIED_CONVERGED = 25, 1e-3  # to compare candidates
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

# Matrix (3, 3) for the parameters of its kind, in mm, and its derivatives (n, 3, 3) by them.
_MatrixOf = Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]


def initial_alignment(
    fixed: PreparedVolume,
    moving: PreparedVolume,
    kind: str,
    device: torch.device,
    progress: Progress,
    start: sitk.Transform | None = None,
) -> tuple[sitk.Transform, list[str]]:
    """Estimate a transform from the volumes.

    Rigid and affine maximise Mattes mutual information with L-BFGS at three resolutions. They start from the best of
    several places, which are compared after L-BFGS at the coarsest resolution: as given, and the likeliest of all
    shifts up to about the size of the foreground around the one that brings the centres of the foregrounds together,
    each with several rotations.

    Args:
        fixed: prepared fixed volume.
        moving: prepared moving volume.
        kind: "none", "center", "moments", "rigid" or "affine".
        device: where tensors live.
        progress: checked for cancellation.
        start: linear; rigid and affine start from its rotation and translation instead of a search.

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
    coarse = _isotropic(fixed.image), _isotropic(moving.image)
    if min(size for image in coarse for size in image.GetSize()) < _LEAST_VOXELS:
        if start is not None:
            return start, ["A volume is too thin for rigid or affine alignment; the initial alignment was kept."]
        message = "A volume is too thin for rigid or affine alignment; the centres of the foregrounds were aligned."
        return sitk.TranslationTransform(3, starts["moments"].tolist()), [message]
    images = _resolutions(*coarse, fixed.foreground)
    levels = [
        MutualInformation(*each, centre, share, device) for each, (_, share) in zip(images, _LEVELS, strict=True)
    ]
    radius = levels[-1].radius
    if start is None:
        searched = candidate_starts(*images[0], centre, starts["moments"], _CANDIDATES, progress, device)
        candidates = [np.zeros(6), *(np.append(angles * radius, shift) for angles, shift in searched)]
        first, said = _best_start(levels, candidates, progress)
    else:
        first, said = _rigid_part(start, centre, radius), []
    is_affine = kind == "affine"
    half = 0.5 if is_affine else 1.0
    parameters, gained = _maximised(levels, _rotation(radius), first, lambda share: progress.advance(half * share))
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
        lambda share: progress.advance(half + half * share),
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
    euler = sitk.Euler3DTransform()
    euler.SetMatrix((outer @ inner).ravel().tolist(), 1e-6)
    arcs = radius * np.array([euler.GetAngleX(), euler.GetAngleY(), euler.GetAngleZ()])
    return np.append(arcs, np.array(start.TransformPoint(centre.tolist())) - centre)


def _best_start(
    levels: list[MutualInformation], candidates: list[NDArray[np.float64]], progress: Progress
) -> tuple[NDArray[np.float64], list[str]]:
    """Return the candidate that leads to the largest information of all samples, and what the user should know.

    Args:
        levels: coarse to fine. L-BFGS runs on the first, and the second compares what it found.
        candidates: arcs and translations (6,); of equal ones the first is chosen.
        progress: checked for cancellation.
    """
    radius = levels[-1].radius
    matrix_of = _rotation(radius)
    found, scores = [], []
    for candidate in candidates:
        cost = _Cost(levels[0], matrix_of, lambda _: progress.check_cancelled(), (0.0, 0.0))
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
    doubtful = max(rivals, default=0.0) > _DOUBTFUL * scores[best]
    return candidates[best], [_IN_DOUBT] if doubtful else []


def _maximised(
    levels: list[MutualInformation],
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
    better = after > before * (1.0 + _LEAST_GAIN)
    return (parameters, True) if better else (start, False)


class _Cost:
    """What L-BFGS minimises at one level: the negative mutual information and the price, with their gradient."""

    def __init__(
        self,
        metric: MutualInformation,
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


def _resolutions(
    fixed: sitk.Image, moving: sitk.Image, foreground: sitk.Image
) -> list[tuple[sitk.Image, sitk.Image, sitk.Image]]:
    """Return fixed volume, mask of the samples and moving volume, coarse to fine."""
    mask = sitk.BinaryDilate(_sampled_as(foreground, fixed), [2, 2, 2])
    pairs = [(_shrunk(fixed, factor), _shrunk(moving, factor)) for factor, _ in _LEVELS]
    return [(one, _sampled_as(mask, one), other) for one, other in pairs]


def _shrunk(image: sitk.Image, factor: int) -> sitk.Image:
    """Return the image with fewer voxels along each axis, but no fewer than are needed."""
    if factor == 1:
        return image
    smooth = sitk.SmoothingRecursiveGaussian(image, 0.5 * factor * np.asarray(image.GetSpacing()))
    return sitk.Shrink(smooth, [min(factor, size // _LEAST_VOXELS) for size in image.GetSize()])


def _sampled_as(mask: sitk.Image, image: sitk.Image) -> sitk.Image:
    return sitk.Resample(mask, image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)


def _isotropic(image: sitk.Image) -> sitk.Image:
    """Return the volume with isotropic voxels in its own orientation, at the alignment's spacing or a coarser one."""
    extent = np.asarray(size_mm(image))
    wanted = max(_SPACING_MM, min(image.GetSpacing()), float(np.cbrt(extent.prod() / _MOST_VOXELS)))
    size = np.maximum(1, np.round(extent / wanted)).astype(int)
    spacing = extent / size
    origin = image.TransformContinuousIndexToPhysicalPoint(
        (0.5 * spacing / np.asarray(image.GetSpacing()) - 0.5).tolist()
    )
    smooth = smoothed_for_spacing(image, wanted)
    return sitk.Resample(
        smooth,
        size.tolist(),
        sitk.Transform(),
        sitk.sitkLinear,
        origin,
        spacing.tolist(),
        image.GetDirection(),
    )


def _centroid(mask: sitk.Image) -> np.ndarray:
    """Return the centre of mass of a mask, LPS mm."""
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(sitk.Cast(mask != 0, sitk.sitkUInt8))
    if not statistics.HasLabel(1):
        return foreground_points(mask).mean(0)
    return np.array(statistics.GetCentroid(1))
