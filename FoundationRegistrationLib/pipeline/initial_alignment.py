"""Initial alignment before the deformable stages. All transforms map fixed points to moving points, LPS mm."""

from __future__ import annotations

import logging

import numpy as np
import SimpleITK as sitk

from ..errors import InputError, RegistrationCancelledError
from ..runtime.progress import Progress
from ..spatial.grids import field_of_view, size_mm, smoothed_for_spacing
from ..spatial.points import foreground_points, linear_parts, physical_points
from .preprocessing import PreparedVolume

_LOGGER = logging.getLogger(__name__)

_SPACING_MM = 2.5
_LEAST_VOXELS = 8
_MOST_VOXELS = 5e7
_LEVELS = (4, 2, 1)
_SEED = 20251
_ITERATIONS = 150
_HISTOGRAM_BINS = 32
_PLAUSIBLE_VOLUME_CHANGE = 3.0
# A smaller relative gain in mutual information is sampling noise: a volume registered to itself gains up to 0.0014
# from a shift by a tenth of a voxel.
_LEAST_GAIN = 0.002
# A given transform is checked at this many points along each axis of the fixed volume.
_CHECKED_PER_AXIS = 9
_SINGULAR = 1e-6
_NOTHING_BETTER = "The automatic alignment found nothing better than its starting position."


def initial_alignment(
    fixed: PreparedVolume, moving: PreparedVolume, kind: str, progress: Progress
) -> tuple[sitk.Transform, list[str]]:
    """Estimate a transform from the volumes.

    Rigid and affine maximise Mattes mutual information at three resolutions, from the best of three starts (as given,
    centres of the fields of view, centres of the foregrounds).

    Args:
        fixed: prepared fixed volume.
        moving: prepared moving volume.
        kind: "none", "center", "moments", "rigid" or "affine".
        progress: checked for cancellation.

    Returns:
        The transform from fixed to moving points, and messages for the user.
    """
    if kind == "none":
        return sitk.TranslationTransform(3), []
    starts = {
        "center": _translation(field_of_view(fixed.image).mean(0), field_of_view(moving.image).mean(0)),
        "moments": _translation(_centroid(fixed.foreground), _centroid(moving.foreground)),
    }
    if kind in starts:
        return starts[kind], []
    pair = _MetricPair(fixed, moving)
    if not pair.is_thick_enough:
        message = "A volume is too thin for rigid or affine alignment; the centres of the foregrounds were aligned."
        return starts["moments"], [message]
    candidates = [sitk.TranslationTransform(3), *starts.values()]
    start = min(candidates, key=pair.metric)
    rigid, messages = pair.optimise(_rigid_from(start, pair.center), progress, 0.0, 0.5 if kind == "affine" else 1.0)
    if kind == "rigid":
        return rigid, messages
    affine, more = pair.optimise(_affine_from(rigid), progress, 0.5, 1.0)
    said = list(dict.fromkeys([*messages, *more]))
    if messages != more and _NOTHING_BETTER in said:  # one of them did
        said.remove(_NOTHING_BETTER)
    determinant = float(np.linalg.det(np.array(affine.GetMatrix()).reshape(3, 3)))
    if not 1 / _PLAUSIBLE_VOLUME_CHANGE < determinant < _PLAUSIBLE_VOLUME_CHANGE:
        message = (
            f"The affine alignment scaled the volume by a factor of {determinant:.2f}; the rigid alignment is used "
            "instead."
        )
        return rigid, [*said, message]
    return affine, said


def check_initial_transform(transform: sitk.Transform, fixed: sitk.Image) -> list[str]:
    """Check that a given transform is a valid start, and return warnings about it.

    Args:
        transform: maps fixed points to moving points, LPS mm.
        fixed: fixed volume, in whose space it is checked.

    Raises:
        InputError: it is not 3D, not finite, or singular.
    """
    if transform.GetDimension() != 3:
        msg = f"The initial transform is {transform.GetDimension()}D; give a 3D transform."
        raise InputError(msg)
    index = np.indices((_CHECKED_PER_AXIS,) * 3).reshape(3, -1).T / (_CHECKED_PER_AXIS - 1)
    points = physical_points(fixed, index * (np.asarray(fixed.GetSize()) - 1))
    linear = linear_parts(transform, points)
    if not (np.isfinite(linear).all() and _is_finite(transform)):
        msg = "The initial transform holds numbers that are not finite; export it again."
        raise InputError(msg)
    ratios = np.linalg.det(linear)
    if (np.abs(ratios) < _SINGULAR).all():
        msg = (
            "The initial transform is singular: it flattens the volume or shrinks it to a point, and has no "
            "inverse; give another one."
        )
        raise InputError(msg)
    if (ratios < 0).all():
        return [
            "The initial transform mirrors the volume: left and right, or another pair of sides, are swapped. This "
            "can only be right if one of the volumes is stored mirrored; check it."
        ]
    share = float(np.mean(ratios <= _SINGULAR))
    if share > 0:
        return [f"The initial transform has folds in {100 * share:.1f} % of the fixed volume; check it."]
    volume_change = float(np.median(ratios))
    if not 1 / _PLAUSIBLE_VOLUME_CHANGE < volume_change < _PLAUSIBLE_VOLUME_CHANGE:
        return [f"The initial transform scales the volume by a factor of {volume_change:.3g}; check its units."]
    return []


def _is_finite(transform: sitk.Transform) -> bool:
    """Whether all parameters of a transform are finite; for a field, the values of its image."""
    transform = transform.Downcast()
    if isinstance(transform, sitk.CompositeTransform):
        parts = (transform.GetNthTransform(index) for index in range(transform.GetNumberOfTransforms()))
        return all(_is_finite(part) for part in parts)
    if isinstance(transform, sitk.DisplacementFieldTransform):
        field = transform.GetDisplacementField()  # a view of its voxels does not keep it alive
        return bool(np.isfinite(sitk.GetArrayViewFromImage(field)).all())
    return bool(np.isfinite([*transform.GetParameters(), *transform.GetFixedParameters()]).all())


def landmark_alignment(fixed_points: np.ndarray, moving_points: np.ndarray) -> sitk.Transform:
    """Return the least-squares rigid transform of corresponding landmarks.

    Args:
        fixed_points: (N, 3) LPS mm, N at least 3, not on one line.
        moving_points: (N, 3) LPS mm.

    Raises:
        InputError: too few landmarks, or all on one line.
    """
    if len(fixed_points) != len(moving_points) or len(fixed_points) < 3:
        msg = f"Landmark alignment needs at least 3 pairs, got {len(fixed_points)}; place more landmarks."
        raise InputError(msg)
    for points in (fixed_points, moving_points):
        spread = np.linalg.svd(points - points.mean(0), compute_uv=False)
        if spread[1] < 1e-3 * max(spread[0], 1e-9) or spread[0] == 0:
            msg = "The landmarks are collinear or coincide; place them apart in at least two directions."
            raise InputError(msg)
    return sitk.LandmarkBasedTransformInitializer(
        sitk.VersorRigid3DTransform(), fixed_points.ravel().tolist(), moving_points.ravel().tolist()
    )


class _MetricPair:
    """Both volumes at a common coarse spacing, with their metric."""

    def __init__(self, fixed: PreparedVolume, moving: PreparedVolume) -> None:
        self._fixed = _isotropic(fixed.image)
        self._moving = _isotropic(moving.image)
        self._mask = self._dilated_foreground(fixed.foreground)
        self.center = _centroid(fixed.foreground)
        self.is_thick_enough = min(*self._fixed.GetSize(), *self._moving.GetSize()) >= _LEAST_VOXELS

    def metric(self, transform: sitk.Transform) -> float:
        """Return the negative mutual information at a transform; infinite without overlap."""
        method = self._method()
        method.SetInitialTransform(transform)
        method.SetMetricSamplingPercentage(0.05, _SEED)
        try:
            return float(method.MetricEvaluate(self._fixed, self._moving))
        except RuntimeError:
            return float("inf")

    def optimise(
        self, transform: sitk.Transform, progress: Progress, begin: float, end: float
    ) -> tuple[sitk.Transform, list[str]]:
        """Optimise a transform; if that fails or does not help, return it with a message."""
        before = self.metric(transform)
        method = self._method()
        method.SetMetricSamplingPercentagePerLevel([1.0, 0.5, 0.15], _SEED)
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=1.0, minStep=1e-3, numberOfIterations=_ITERATIONS, relaxationFactor=0.6
        )
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel(_LEVELS)
        method.SetSmoothingSigmasPerLevel([0.5 * factor * _SPACING_MM for factor in _LEVELS])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        result = type(transform)(transform)
        method.SetInitialTransform(result, inPlace=True)

        cancellations: list[RegistrationCancelledError] = []

        def report() -> None:
            if cancellations:  # stopping only ends one resolution level
                method.StopRegistration()
                return
            done = (method.GetCurrentLevel() + method.GetOptimizerIteration() / _ITERATIONS) / len(_LEVELS)
            try:
                progress.advance(begin + (end - begin) * done)
            except RegistrationCancelledError as error:
                # It cannot propagate through ITK's C++ frames, so it is re-raised below.
                cancellations.append(error)
                method.StopRegistration()

        method.AddCommand(sitk.sitkIterationEvent, report)
        try:
            method.Execute(self._fixed, self._moving)
        except RuntimeError as error:
            if cancellations:
                raise cancellations[0] from None
            _LOGGER.debug("alignment failed: %s", error)
            return transform, ["The automatic alignment failed; its starting position is used."]
        if cancellations:
            raise cancellations[0]
        progress.check_cancelled()
        if self.metric(result) > before * (1.0 + _LEAST_GAIN):  # both are negative
            return transform, [_NOTHING_BETTER]
        return result, []

    def _method(self) -> sitk.ImageRegistrationMethod:
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=_HISTOGRAM_BINS)
        method.SetMetricSamplingStrategy(method.RANDOM)
        method.SetMetricFixedMask(self._mask)
        method.SetInterpolator(sitk.sitkLinear)
        # ITK sums the derivatives of its work units in order of completion: several are not reproducible.
        method.SetNumberOfWorkUnits(1)
        return method

    def _dilated_foreground(self, foreground: sitk.Image) -> sitk.Image:
        mask = sitk.Resample(foreground, self._fixed, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
        return sitk.BinaryDilate(mask, [2, 2, 2])


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


def _translation(fixed_point: np.ndarray, moving_point: np.ndarray) -> sitk.TranslationTransform:
    return sitk.TranslationTransform(3, (moving_point - fixed_point).tolist())


def _rigid_from(start: sitk.TranslationTransform, center: np.ndarray) -> sitk.Euler3DTransform:
    transform = sitk.Euler3DTransform()
    transform.SetCenter(center.tolist())
    transform.SetTranslation(start.GetOffset())
    return transform


def _affine_from(rigid: sitk.Euler3DTransform) -> sitk.AffineTransform:
    transform = sitk.AffineTransform(3)
    transform.SetCenter(rigid.GetCenter())
    transform.SetMatrix(rigid.GetMatrix())
    transform.SetTranslation(rigid.GetTranslation())
    return transform
