"""Normalisation of MR, CT and PET intensities to 0..1 inside the foreground."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from ...errors import InputError
from ...spatial.warping import is_measured
from .foreground import FOREGROUND_SPACING_MM, find_foreground
from .masks import checked_mask
from .modality import CT_PADDING_BELOW, guess_modality, may_be_ct, sampled_values, value_of_one_suv

# Soft tissue window for the breast and trunk, Hounsfield units.
CT_WINDOW = (-200.0, 250.0)
# Uptake above this SUV is clipped; the square root keeps the mild uptake of organs visible.
PET_CEILING = 10.0
MR_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class PreparedVolume:
    """A volume prepared for the encoders.

    Attributes:
        image: float32, 0..1, on the grid of the input.
        foreground: uint8 mask of the patient, or the user's mask; may be on a coarser grid.
        modality: "mr", "ct" or "pet".
        known: uint8 mask, on the grid of the input, of the measured voxels; the others have the value of the nearest
            measured one, and carry no information.
        messages: warnings about the intensities.
        has_intensities: False if they are not to be compared; the image is then zero.
    """

    image: sitk.Image
    foreground: sitk.Image
    modality: str
    known: sitk.Image
    messages: tuple[str, ...] = ()
    has_intensities: bool = True


def prepare(image: sitk.Image, modality: str, role: str, mask: sitk.Image | None = None) -> PreparedVolume:
    """Normalise intensities and find the foreground.

    Args:
        image: checked scalar volume of any pixel type.
        modality: "mr", "ct", "pet", or "auto" to guess it from the values.
        role: its name in error messages.
        mask: region of interest on the grid of the image; replaces the foreground.

    Raises:
        InputError: the mask is on another grid or leaves nothing.
    """
    messages = []
    if modality == "auto":
        modality = guess_modality(image)
        if modality == "mr" and may_be_ct(sampled_values(image)):
            messages.append(
                f"The {role} volume may be a CT without air around the patient; it is taken as MR. If it is CT, use "
                f"--{role}-modality ct."
            )
    known = _known(image, modality)
    measured = sitk.GetArrayViewFromImage(known) != 0
    if not measured.any():
        msg = f"The {role} volume has no valid {modality.upper()} value; choose another modality."
        raise InputError(msg)
    finite = _with_values(image, known, modality)
    given = None if mask is None else checked_mask(mask, image, role)
    foreground = _without_unknown(find_foreground(finite, modality) if given is None else given, known, role)
    inside = _values_inside(finite, foreground, known)
    low, high = intensity_range(inside, modality, role)
    scaled = sitk.Clamp((finite - low) / (high - low), sitk.sitkFloat32, 0.0, 1.0)
    if modality == "pet":
        scaled = sitk.Sqrt(scaled)
    return PreparedVolume(_filled_from_nearest(scaled, known), foreground, modality, known, tuple(messages))


def without_intensities(image: sitk.Image, role: str, mask: sitk.Image | None = None) -> PreparedVolume:
    """Prepare a volume of which only given structures and points are compared: its foreground is all of it.

    Args:
        image: scalar volume of any content.
        role: its name in error messages.
        mask: region of interest on the grid of the image; replaces the foreground.

    Raises:
        InputError: the mask is on another grid or leaves nothing.
    """
    known = sitk.Image(image.GetSize(), sitk.sitkUInt8) + 1
    known.CopyInformation(image)
    foreground = known if mask is None else checked_mask(mask, image, role)
    nothing = sitk.Cast(known * 0, sitk.sitkFloat32)
    return PreparedVolume(nothing, foreground, "none", known, (), False)


def _known(image: sitk.Image, modality: str) -> sitk.Image:
    """Return the mask of measured voxels, without the padding of CT."""
    values = sitk.GetArrayViewFromImage(image)
    measured = is_measured(values)
    if modality == "ct":
        measured &= values > CT_PADDING_BELOW
    known = sitk.GetImageFromArray(measured.astype(np.uint8))
    known.CopyInformation(image)
    return known


def _with_values(image: sitk.Image, known: sitk.Image, modality: str) -> sitk.Image:
    """Return the volume as float32, with its least known value where it is unknown.

    Values of MR in more than 24 bits are relative to the least one, so that those far from 0 do not become equal.
    """
    given, measured = sitk.GetArrayViewFromImage(image), sitk.GetArrayViewFromImage(known) != 0
    least = float(given[measured].min())
    zero = least if modality == "mr" and given.dtype.itemsize > 2 and given.dtype != np.float32 else 0.0
    values = given.astype(np.float32) if zero == 0.0 else (given.astype(np.float64) - zero).astype(np.float32)
    values[~measured] = least - zero
    result = sitk.GetImageFromArray(values)
    result.CopyInformation(image)
    return result


def _filled_from_nearest(image: sitk.Image, known: sitk.Image) -> sitk.Image:
    """Return the volume with unknown voxels set to the nearest known value, so that no edge appears there.

    The nearest value is searched on a subsampled grid, since a volume may have many voxels.
    """
    from scipy.ndimage import distance_transform_edt

    mask = sitk.GetArrayViewFromImage(known) != 0
    if mask.all():
        return image
    values = sitk.GetArrayFromImage(image)
    spacing = np.asarray(image.GetSpacing())[::-1]
    step = np.maximum(1, np.floor(FOREGROUND_SPACING_MM / spacing)).astype(int)
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
    """Return a foreground without unknown voxels.

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


def intensity_range(inside: np.ndarray, modality: str, role: str) -> tuple[float, float]:
    """Return the intensities mapped to 0 and 1, from the values inside the foreground."""
    if modality == "ct":
        return CT_WINDOW
    if modality == "pet":
        # Values far above any SUV are activity concentrations.
        suv = 1.0 if inside.max() < 200.0 else value_of_one_suv(inside[inside > 0])
        return 0.0, PET_CEILING * suv
    low, high = (float(v) for v in np.percentile(inside, MR_PERCENTILES))
    if high <= low:
        low, high = float(inside.min()), float(inside.max())
    if high <= low:
        msg = f"The {role} volume is constant inside its mask or foreground; choose another mask or volume."
        raise InputError(msg)
    return low, high


def _values_inside(image: sitk.Image, mask: sitk.Image, known: sitk.Image) -> np.ndarray:
    """Return the known voxels of the volume inside the mask, which may be on another grid."""
    if mask.GetSize() != image.GetSize():
        mask = sitk.Resample(mask, image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    measured = sitk.GetArrayViewFromImage(known) != 0
    values = sitk.GetArrayViewFromImage(image)
    inside = values[measured & (sitk.GetArrayViewFromImage(mask) != 0)]
    return inside if inside.size else values[measured]
