"""Intensities of MR, CT and PET brought to 0..1, and the foreground (the patient) found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..spatial.checks import check_same_grid
from ..spatial.grids import smoothed_for_spacing

# Soft tissue window for the breast and trunk, Hounsfield units.
CT_WINDOW = (-200.0, 250.0)
CT_BODY_THRESHOLD = -400.0
# No tissue is as dark: below are the values that scanners and programs put where nothing was measured.
CT_PADDING_BELOW = -1500.0
# Of what lies below, this share has one value; the rest comes from interpolation at its edge.
_ONE_PADDING = 0.7
# Uptake above this many SUV is equally "hot"; the square root keeps the mild uptake of organs visible.
PET_CEILING = 10.0
MR_PERCENTILES = (0.5, 99.5)

_PET_LEAST_SPACING_MM = 1.9
_FOREGROUND_SPACING_MM = 3.0
_KEPT_COMPONENT_SHARE = 0.05


@dataclass(frozen=True)
class PreparedVolume:
    """A volume made ready for the encoders.

    Attributes:
        image: float32, 0..1, on the grid of the input.
        foreground: uint8 mask of the patient, or the mask the user gave; it may lie on a coarser grid.
        modality: "mr", "ct" or "pet".
        background: value outside the field of view when the input itself is resampled, in its own units.
        known: uint8 mask, on the grid of the input, of the voxels whose value was measured; the others have that of
            the nearest one measured, and nothing may be concluded from them.
        messages: what the user should know of these intensities.
    """

    image: sitk.Image
    foreground: sitk.Image
    modality: str
    background: float
    known: sitk.Image
    messages: tuple[str, ...] = ()


def prepare(image: sitk.Image, modality: str, role: str, mask: sitk.Image | None = None) -> PreparedVolume:
    """Normalise intensities and find the foreground.

    Args:
        image: checked scalar volume of any pixel type.
        modality: "mr", "ct", "pet", or "auto" to guess it from the values.
        role: its name in error messages.
        mask: region of interest on the grid of the image; it takes the place of the foreground.

    Raises:
        InputError: the mask lies on another grid or leaves nothing.
    """
    messages = []
    if modality == "auto":
        modality = guess_modality(image)
        if modality == "mr" and _may_be_ct(_sampled_values(image)):
            messages.append(
                f"The {role} volume may be a CT without air around the patient; it is taken as MR. If it is CT, say "
                f"so: --{role}-modality ct."
            )
    known = _known(image, modality)
    measured = sitk.GetArrayViewFromImage(known) != 0
    if not measured.any():
        msg = f"The {role} volume holds no value that could be one of {modality.upper()}; choose another modality."
        raise InputError(msg)
    background = float(sitk.GetArrayViewFromImage(image)[measured].min())
    finite = _with_values(image, known, background)
    given = None if mask is None else checked_mask(mask, image, role)
    foreground = _without_unknown(find_foreground(finite, modality) if given is None else given, known, role)
    inside = _values_inside(finite, foreground, known)
    low, high = intensity_range(inside, modality, role)
    scaled = sitk.Clamp((finite - low) / (high - low), sitk.sitkFloat32, 0.0, 1.0)
    if modality == "pet":
        scaled = sitk.Sqrt(scaled)
    return PreparedVolume(
        _filled_from_nearest(scaled, known), foreground, modality, background, known, tuple(messages)
    )


def _sampled_values(image: sitk.Image) -> np.ndarray:
    """Return about a million of the finite values of a volume, float32, fewer if it has fewer."""
    values = sitk.GetArrayViewFromImage(image).ravel()
    some = values[:: max(1, values.size // 1_000_000)].astype(np.float32)
    finite = some[np.isfinite(some)]
    return finite if finite.size else values[np.isfinite(values)].astype(np.float32)


def _known(image: sitk.Image, modality: str) -> sitk.Image:
    """Return the mask of the voxels that were measured: they are finite, and in CT no padding."""
    values = sitk.GetArrayViewFromImage(image)
    measured = np.isfinite(values)
    if modality == "ct":
        measured &= values > CT_PADDING_BELOW
    known = sitk.GetImageFromArray(measured.astype(np.uint8))
    known.CopyInformation(image)
    return known


def _with_values(image: sitk.Image, known: sitk.Image, unknown: float) -> sitk.Image:
    """Return the volume as float32, with another value where nothing is known."""
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    values[sitk.GetArrayViewFromImage(known) == 0] = unknown
    result = sitk.GetImageFromArray(values)
    result.CopyInformation(image)
    return result


def _filled_from_nearest(image: sitk.Image, known: sitk.Image) -> sitk.Image:
    """Return the volume with the nearest known value where nothing is known, so that no edge arises there.

    Sought among every third voxel or so, as a volume may have many.
    """
    from scipy.ndimage import distance_transform_edt

    mask = sitk.GetArrayViewFromImage(known) != 0
    if mask.all():
        return image
    values = sitk.GetArrayFromImage(image)
    spacing = np.asarray(image.GetSpacing())[::-1]
    step = np.maximum(1, np.floor(_FOREGROUND_SPACING_MM / spacing)).astype(int)
    some = tuple(slice(None, None, by) for by in step)
    if not mask[some].any():
        step, some = np.ones(3, int), (slice(None),) * 3
    nearest = distance_transform_edt(
        ~mask[some], sampling=(step * spacing).tolist(), return_distances=False, return_indices=True
    )
    coarse = values[some][tuple(nearest)]
    unknown = np.nonzero(~mask)
    values[unknown] = coarse[tuple(index // by for index, by in zip(unknown, step, strict=True))]
    result = sitk.GetImageFromArray(values)
    result.CopyInformation(image)
    return result


def _without_unknown(foreground: sitk.Image, known: sitk.Image, role: str) -> sitk.Image:
    """Return a foreground without what lies at unknown voxels.

    Raises:
        InputError: nothing is left.
    """
    inside = foreground * sitk.Resample(known, foreground, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    if not sitk.GetArrayViewFromImage(inside).any():
        msg = (
            f"The {role} volume has no known value (all NaN, infinite or padding) in its mask or in the patient; "
            "choose another mask or volume."
        )
        raise InputError(msg)
    return inside


def guess_modality(image: sitk.Image) -> str:
    """Guess "ct", "pet" or "mr" from the values of a volume; NaN and infinities say nothing.

    CT has air near -1000 HU in a fair share of the voxels, below it nothing but one value of padding, and little
    between air and soft tissue, where signed MR (inversion recovery, phase, differences) has values throughout. PET
    is non-negative on coarse voxels, with a few of them far above the bulk of the body; anything else is taken as MR.
    """
    values = _sampled_values(image)
    if _is_ct(values):
        return "ct"
    positive = values[values > 0]
    if values.min() >= 0.0 and positive.size and min(image.GetSpacing()) >= _PET_LEAST_SPACING_MM:
        body = positive[positive > _minimum_cross_entropy(positive)]
        if body.size and np.percentile(body, 99.9) > 8.0 * np.median(body):
            return "pet"
    return "mr"


def _is_ct(values: np.ndarray) -> bool:
    below = values[values <= CT_PADDING_BELOW]
    if below.size:
        _, counts = np.unique(below, return_counts=True)
        if counts.max() < _ONE_PADDING * below.size:
            return False
        values = values[values > CT_PADDING_BELOW]
    if not values.size or np.mean(values < -300.0) <= 0.02:
        return False
    if values.min() > -1000.0 and np.mean(values == values.min()) > 0.02:  # cut off somewhere in the air
        return bool(values.min() <= -500.0)
    air, between, tissue = (np.mean((values >= low) & (values < low + 300.0)) for low in (-1100.0, -600.0, -200.0))
    lung = np.mean((values >= -900.0) & (values < -600.0))
    return bool(max(air, lung) > 2.0 * between and tissue > 2.0 * between)


def _may_be_ct(values: np.ndarray) -> bool:
    """Tell whether values look like soft tissue in Hounsfield units: whole numbers around 0, from fat to bone."""
    low, middle, high = np.percentile(values, (2, 50, 95))
    whole = np.array_equal(values, np.rint(values))
    return bool(whole and -1100.0 < low < -50.0 and -150.0 < middle < 150.0 and 50.0 < high < 1000.0)


def intensity_range(inside: np.ndarray, modality: str, role: str) -> tuple[float, float]:
    """Return the intensities that become 0 and 1, given the values inside the foreground."""
    if modality == "ct":
        return CT_WINDOW
    if modality == "pet":
        # Values far above any SUV are activity concentrations: scale them so that the body's median is 0.7 SUV.
        suv = 1.0 if inside.max() < 200.0 else float(np.median(inside[inside > 0])) / 0.7
        return 0.0, PET_CEILING * suv
    low, high = (float(v) for v in np.percentile(inside, MR_PERCENTILES))
    if high <= low:
        low, high = float(inside.min()), float(inside.max())
    if high <= low:
        msg = f"The {role} volume is constant inside its mask or foreground; choose another mask or volume."
        raise InputError(msg)
    return low, high


def checked_mask(mask: sitk.Image, image: sitk.Image, role: str) -> sitk.Image:
    """Return a user's mask as uint8 0 or 1.

    Raises:
        InputError: it lies on another grid or selects nothing.
    """
    check_same_grid(mask, image, f"{role} mask", role)
    binary = sitk.Cast(mask != 0, sitk.sitkUInt8)
    if not sitk.GetArrayViewFromImage(binary).any():
        msg = f"The {role} mask is empty; choose a mask that selects a part of the volume."
        raise InputError(msg)
    return binary


def find_foreground(image: sitk.Image, modality: str) -> sitk.Image:
    """Return a uint8 mask of the patient, on a grid of about 3 mm with the orientation of the input.

    The threshold is the minimum cross-entropy one for MR and PET and a fixed one for CT; holes such as the
    lungs are filled slice by slice, and specks are dropped.
    """
    coarse = _coarse(image)
    values = sitk.GetArrayFromImage(coarse)
    threshold = CT_BODY_THRESHOLD if modality == "ct" else _minimum_cross_entropy(values)
    mask = values > threshold
    if not mask.any():
        mask = values > values.min()
    binary = sitk.GetImageFromArray(mask.astype(np.uint8))
    binary = sitk.BinaryMorphologicalClosing(sitk.ConstantPad(binary, [3] * 3, [3] * 3), [2, 2, 2])
    binary = sitk.Crop(_filled(binary), [3] * 3, [3] * 3)
    binary.CopyInformation(coarse)
    return _without_specks(binary)


def _coarse(image: sitk.Image) -> sitk.Image:
    spacing = np.asarray(image.GetSpacing())
    size = np.asarray(image.GetSize())
    step = np.maximum(1, np.round(_FOREGROUND_SPACING_MM / spacing)).astype(int)
    step = np.minimum(step, np.maximum(1, size // 8))
    return sitk.BinShrink(image, step.tolist()) if (step > 1).any() else smoothed_for_spacing(image, 0.0)


def _minimum_cross_entropy(values: np.ndarray) -> float:
    """Return half of Li's threshold (Li & Tam 1998) above the least value, the brightest 0.5 % clipped.

    Half of it, because dark tissue (muscle, suppressed fat) must stay in the foreground.
    """
    clipped = np.minimum(values, np.percentile(values, 99.5))
    if clipped.min() == clipped.max():
        return float(clipped.min())
    low = float(clipped.min())
    # ITK's iteration stops at steps of half a unit, whatever the unit: bring the values to 0..1000 first.
    unit = (float(clipped.max()) - low) / 1000.0
    return low + 0.5 * unit * float(_li((clipped.ravel() - low) / unit))


def _li(values: np.ndarray) -> float:
    filter_ = sitk.LiThresholdImageFilter()
    filter_.SetInsideValue(0)
    filter_.SetOutsideValue(1)
    filter_.SetNumberOfHistogramBins(256)
    filter_.Execute(sitk.GetImageFromArray(values[None, :]))
    return filter_.GetThreshold()


def _filled(binary: sitk.Image) -> sitk.Image:
    """Fill holes in three dimensions and, for lungs open to the edge of the volume, in each slice of each axis."""
    from scipy.ndimage import binary_fill_holes

    array = sitk.GetArrayFromImage(binary) != 0
    for axis in range(3):
        for index in range(array.shape[axis]):
            selection = tuple(index if a == axis else slice(None) for a in range(3))
            array[selection] = binary_fill_holes(array[selection])
    return sitk.GetImageFromArray(array.astype(np.uint8))


def _without_specks(binary: sitk.Image) -> sitk.Image:
    components = sitk.ConnectedComponent(binary)
    counts = np.bincount(sitk.GetArrayViewFromImage(components).ravel())
    counts[0] = 0
    kept = counts >= _KEPT_COMPONENT_SHARE * counts.max()
    result = sitk.GetImageFromArray(kept[sitk.GetArrayViewFromImage(components)].astype(np.uint8))
    result.CopyInformation(binary)
    return result


def _values_inside(image: sitk.Image, mask: sitk.Image, known: sitk.Image) -> np.ndarray:
    """Return the known voxels of the volume under the mask, which may lie on another grid."""
    if mask.GetSize() != image.GetSize():
        mask = sitk.Resample(mask, image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    measured = sitk.GetArrayViewFromImage(known) != 0
    values = sitk.GetArrayViewFromImage(image)
    inside = values[measured & (sitk.GetArrayViewFromImage(mask) != 0)]
    return inside if inside.size else values[measured]
