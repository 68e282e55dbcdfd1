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
from ..spatial.points import foreground_points
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
# The optimiser takes a first step of 1 mm where the gradient is larger than 1.
_SCALE = 100.0
# A smaller relative gain in mutual information may come from interpolation: a noisy volume registered to itself gains
# up to 0.0031 from a deformation by a tenth of a voxel.
_LEAST_GAIN = 0.005
_NOTHING_BETTER = "The automatic alignment found nothing better than its starting position."

# Matrix (3, 3) for the parameters of its kind, in mm, and its derivatives (n, 3, 3) by them.
_MatrixOf = Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]


def initial_alignment(
    fixed: PreparedVolume, moving: PreparedVolume, kind: str, device: torch.device, progress: Progress
) -> tuple[sitk.Transform, list[str]]:
    """Estimate a transform from the volumes.

    Rigid and affine maximise Mattes mutual information with L-BFGS at three resolutions, from the best of three
    starts (as given, centres of the fields of view, centres of the foregrounds).

    Args:
        fixed: prepared fixed volume.
        moving: prepared moving volume.
        kind: "none", "center", "moments", "rigid" or "affine".
        device: where tensors live.
        progress: checked for cancellation.

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
        message = "A volume is too thin for rigid or affine alignment; the centres of the foregrounds were aligned."
        return sitk.TranslationTransform(3, starts["moments"].tolist()), [message]
    levels = _levels(*coarse, fixed.foreground, centre, device)
    start = max((np.zeros(3), *starts.values()), key=lambda translation: levels[-1].value(np.eye(3), translation))
    is_affine = kind == "affine"
    radius = levels[-1].radius
    half = 0.5 if is_affine else 1.0
    parameters, gained = _maximised(
        levels, _rotation(radius), np.append(np.zeros(3), start), lambda share: progress.advance(half * share)
    )
    rigid = sitk.Euler3DTransform()
    rigid.SetCenter(centre.tolist())
    rigid.SetRotation(*(parameters[:3] / radius).tolist())
    rigid.SetTranslation(parameters[3:].tolist())
    if not is_affine:
        return rigid, [] if gained else [_NOTHING_BETTER]
    rotation = np.array(rigid.GetMatrix()).reshape(3, 3)
    parameters, more = _maximised(
        levels,
        _any_matrix(rotation, radius),
        np.append(np.zeros(9), parameters[3:]),
        lambda share: progress.advance(half + half * share),
    )
    matrix = rotation + parameters[:9].reshape(3, 3) / radius
    affine = sitk.AffineTransform(3)
    affine.SetCenter(centre.tolist())
    affine.SetMatrix(matrix.ravel().tolist())
    affine.SetTranslation(parameters[9:].tolist())
    said = [] if gained or more else [_NOTHING_BETTER]
    volume_change = float(np.linalg.det(matrix))
    if not 1 / PLAUSIBLE_VOLUME_CHANGE < volume_change < PLAUSIBLE_VOLUME_CHANGE:
        message = (
            f"The affine alignment scaled the volume by a factor of {volume_change:.2f}; the rigid alignment is used "
            "instead."
        )
        return rigid, [*said, message]
    return affine, said


def _maximised(
    levels: list[MutualInformation],
    matrix_of: _MatrixOf,
    start: NDArray[np.float64],
    advance: Callable[[float], None],
) -> tuple[NDArray[np.float64], bool]:
    """Return the parameters of the largest mutual information, and whether it is larger than at the start.

    Args:
        levels: coarse to fine.
        matrix_of: of all parameters but the last three, which are the translation.
        start: parameters; they are returned if nothing better is found.
        advance: told the completed fraction at each evaluation.
    """
    parameters = start
    for level, metric in enumerate(levels):
        cost = _Cost(metric, matrix_of, advance, (level / len(levels), (level + 1) / len(levels)))
        options = {"maxfun": _EVALUATIONS, "ftol": _CONVERGED}
        parameters = minimize(cost, parameters, method="L-BFGS-B", jac=True, options=options).x
    before, after = (levels[-1].value(matrix_of(each[:-3])[0], each[-3:]) for each in (start, parameters))
    better = after > before * (1.0 + _LEAST_GAIN)
    return (parameters, True) if better else (start, False)


class _Cost:
    """What L-BFGS minimises at one level: the negative mutual information, with its gradient by the parameters."""

    def __init__(
        self,
        metric: MutualInformation,
        matrix_of: _MatrixOf,
        advance: Callable[[float], None],
        shares: tuple[float, float],
    ) -> None:
        self._metric, self._matrix_of, self._advance = metric, matrix_of, advance
        self._shares = itertools.chain(np.linspace(*shares, _EVALUATIONS).tolist(), itertools.repeat(shares[1]))

    def __call__(self, parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        self._advance(next(self._shares))
        matrix, derivatives = self._matrix_of(parameters[:-3])
        found = self._metric(matrix, parameters[-3:])
        gradient = np.append((derivatives * found.by_matrix).sum((1, 2)), found.by_translation)
        return -_SCALE * found.value, -_SCALE * gradient


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


def _levels(
    fixed: sitk.Image, moving: sitk.Image, foreground: sitk.Image, centre: NDArray[np.float64], device: torch.device
) -> list[MutualInformation]:
    """Return the mutual information of isotropic volumes, coarse to fine."""
    mask = _sampled_as(foreground, fixed)
    mask = sitk.BinaryDilate(mask, [2, 2, 2])
    levels = []
    for factor, share in _LEVELS:
        coarse, coarser = (_shrunk(image, factor) for image in (fixed, moving))
        levels.append(MutualInformation(coarse, _sampled_as(mask, coarse), coarser, centre, share, device))
    return levels


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
