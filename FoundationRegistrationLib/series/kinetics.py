"""Maps of how contrast agent comes and goes: subtraction, wash-in, wash-out, signal enhancement ratio, projections.

All volumes are float32 on the grid of the series. A voxel whose value is not known is NaN: where a frame is NaN or
infinite, and, for maps that divide by the signal before contrast, where that is not above the noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..errors import InputError
from ..pipeline.preprocessing.foreground import tissue_threshold
from ..spatial.checks import check_grid, check_same_grid, check_volume
from .phases import Phases

Plane = Literal["axial", "coronal", "sagittal"]
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
LEAST_ENHANCEMENT_PERCENT = 10.0
"""Below this, the late enhancement is too small to divide by."""
_ACROSS: dict[Plane, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
Values = NDArray[np.float32]


@dataclass(frozen=True)
class KineticMaps:
    """Maps of a series. S is the signal before contrast, in the early or in the late frame.

    Attributes:
        wash_in: enhancement of the early phase, 100 (S_early - S_before) / S_before, in percent.
        wash_out: change of the signal in the delayed phase, 100 (S_late - S_early) / S_early, in percent: above 10
            persistent, within 10 plateau, below -10 wash-out (delayed phase of ACR BI-RADS MRI). It says
            something only where tissue enhances. None without a late frame.
        ser: signal enhancement ratio (S_early - S_before) / (S_late - S_before); above 1, the signal falls (Li et
            al., Radiology 248:79, 2008). NaN where the late frame is less than 10 % above the signal before
            contrast. None without a late frame.
        noise_floor: signal before contrast at or below which the maps are NaN.
    """

    wash_in: sitk.Image
    wash_out: sitk.Image | None
    ser: sitk.Image | None
    noise_floor: float


def check_frames(frames: Sequence[sitk.Image]) -> None:
    """Check that frames are two or more 3D volumes on one grid.

    Raises:
        InputError: they are not.
    """
    if len(frames) < 2:
        msg = "A dynamic series has at least one frame before contrast and one after it; this one has fewer than two."
        raise InputError(msg)
    for number, frame in enumerate(frames):
        check_grid(frame, f"frame {number}")
        check_same_grid(frame, frames[0], f"frame {number} of the series", "first")


def before_contrast(frames: Sequence[sitk.Image], phases: Phases) -> sitk.Image:
    """Return the mean of the frames before contrast, float32; NaN where one of them is not finite.

    Raises:
        InputError: the frames are not on one grid, or those before contrast have no content.
    """
    check_frames(frames)
    values = np.stack([_values(frames[number]) for number in phases.before])
    image = _image(values.mean(axis=0), frames[0])
    check_volume(image, "pre-contrast")
    return image


def subtraction(frame: sitk.Image, before: sitk.Image) -> sitk.Image:
    """Return frame - before, float32, of any pixel types; negative where the signal fell.

    Args:
        frame: a frame after contrast.
        before: the signal before it, on the same grid, such as the first frame.

    Raises:
        InputError: the volumes are not on one grid.
    """
    check_same_grid(frame, before, "frame", "pre-contrast")
    return _image(_values(frame) - _values(before), before)


def kinetic_maps(frames: Sequence[sitk.Image], phases: Phases, noise_floor: float | None = None) -> KineticMaps:
    """Return the maps of a series whose frames show the same tissue in the same voxel.

    Args:
        frames: volumes on one grid, in the order of time.
        phases: the frames to compare, see `choose_phases`.
        noise_floor: signal before contrast at or below which a voxel is not known; if None, found between the noise
            of air and dark tissue, or 0 if that is lower.

    Raises:
        InputError: the frames are not on one grid, or one to compare has no signal.
    """
    grid = frames[0]
    before = _values(before_contrast(frames, phases))
    for phase in (phases.early, phases.late):
        if phase is not None:
            check_volume(frames[phase], f"frame {phase}")
    if noise_floor is None:
        noise_floor = max(tissue_threshold(before[np.isfinite(before)]), 0.0)
    known = before > noise_floor
    if not known.any():
        msg = f"No voxel is above the noise ({noise_floor:g}) before contrast; choose other frames before contrast."
        raise InputError(msg)
    early = _values(frames[phases.early])
    wash_in = _image(_ratio(100.0 * (early - before), before, known), grid)
    if phases.late is None:
        return KineticMaps(wash_in, None, None, noise_floor)
    late = _values(frames[phases.late])
    enhanced = known & (late - before >= 0.01 * LEAST_ENHANCEMENT_PERCENT * before)
    return KineticMaps(
        wash_in=wash_in,
        wash_out=_image(_ratio(100.0 * (late - early), early, known & (early > noise_floor)), grid),
        ser=_image(_ratio(early - before, late - before, enhanced), grid),
        noise_floor=noise_floor,
    )


def maximum_intensity_projection(image: sitk.Image, plane: Plane = "axial") -> sitk.Image:
    """Return the largest value along the image axis that is nearest to the normal of a plane; NaN does not count.

    Args:
        image: 3D volume, such as a subtraction.
        plane: "axial" projects along the patient's feet-head axis, "coronal" from front to back, "sagittal" from
            side to side.

    Returns:
        One slice, float32, in the middle of the volume and as thick as it. NaN where nothing along a ray is known.
    """
    oriented = sitk.DICOMOrient(image, "LPS")
    axis = _ACROSS[plane]
    values = _values(oriented)
    unknown = np.isnan(values)
    largest = np.where(unknown, -np.inf, values).max(axis=2 - axis, keepdims=True)
    largest[unknown.all(axis=2 - axis, keepdims=True)] = np.nan
    result = sitk.GetImageFromArray(largest.astype(np.float32))
    middle, spacing = [0.0, 0.0, 0.0], list(oriented.GetSpacing())
    middle[axis] = 0.5 * (oriented.GetSize()[axis] - 1)
    spacing[axis] *= oriented.GetSize()[axis]
    result.SetOrigin(oriented.TransformContinuousIndexToPhysicalPoint(middle))
    result.SetSpacing(spacing)
    result.SetDirection(oriented.GetDirection())
    return result


def _values(image: sitk.Image) -> Values:
    """The voxels (K, J, I) as float32, NaN where they are not finite."""
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    values[~np.isfinite(values)] = np.nan
    return values


def _ratio(above: Values, below: Values, known: NDArray[np.bool_]) -> Values:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=known)


def _image(values: NDArray[np.floating], grid: sitk.Image) -> sitk.Image:
    image = sitk.GetImageFromArray(values.astype(np.float32))
    image.CopyInformation(grid)
    return image
