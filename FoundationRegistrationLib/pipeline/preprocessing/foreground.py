"""The foreground mask: the patient without air and table."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

CT_BODY_THRESHOLD = -400.0
FOREGROUND_SPACING_MM = 3.0
_KEPT_COMPONENT_SHARE = 0.05
_BINS = 256
# Air is at most this share of the way from the least value to Li's threshold. On phantoms and brains it lies at up to
# 0.31 of it; the darkest tissue of a breast without air around it at 0.76.
_AIR_BELOW = 0.45
_NOISE_WIDTHS = 4.0  # of the darker half of the peak
_NARROW = 1e-3  # range of the values, beside their size


def find_foreground(image: sitk.Image, modality: str) -> sitk.Image:
    """Return a uint8 mask of the patient, on a grid of about 3 mm with the orientation of the input.

    The threshold is by minimum cross-entropy for MR and PET, or above the noise of the air where that is higher, and
    fixed for CT; holes such as the lungs are filled slice by slice, and small components are removed.
    """
    coarse = _coarse(image)
    values = sitk.GetArrayFromImage(coarse)
    threshold = CT_BODY_THRESHOLD if modality == "ct" else tissue_threshold(values)
    mask = values > threshold
    if not mask.any():
        mask = values > values.min()
    binary = sitk.GetImageFromArray(mask.astype(np.uint8))
    binary = sitk.BinaryMorphologicalClosing(sitk.ConstantPad(binary, [3] * 3, [3] * 3), [2, 2, 2])
    binary = sitk.Crop(_filled(binary), [3] * 3, [3] * 3)
    binary.CopyInformation(coarse)
    return _without_specks(binary)


def tissue_threshold(values: np.ndarray) -> float:
    """Return an intensity between the noise of air and dark tissue, from finite values of an MR or PET volume."""
    low, high = float(values.min()), float(values.max())
    if low and high - low < _NARROW * max(abs(low), abs(high)):  # too few digits for a histogram
        return low + tissue_threshold(values.astype(np.float64) - low)
    return _above_noise(values, half_li_threshold(values))


def _coarse(image: sitk.Image) -> sitk.Image:
    spacing = np.asarray(image.GetSpacing())
    size = np.asarray(image.GetSize())
    step = np.maximum(1, np.round(FOREGROUND_SPACING_MM / spacing)).astype(int)
    step = np.minimum(step, np.maximum(1, size // 8))
    return sitk.BinShrink(image, step.tolist()) if (step > 1).any() else image


def half_li_threshold(values: np.ndarray) -> float:
    """Return half of Li's threshold (Li & Tam 1998) above the minimum, with the brightest 0.5 % clipped.

    Half, so that dark tissue (muscle, suppressed fat) stays in the foreground.
    """
    clipped = np.minimum(values, np.percentile(values, 99.5))
    if clipped.min() == clipped.max():
        return float(clipped.min())
    low = float(clipped.min())
    # ITK's iteration stops at steps of 0.5 whatever the range: scale the values to 0..1000 first.
    unit = (float(clipped.max()) - low) / 1000.0
    return low + 0.5 * unit * float(_li((clipped.ravel() - low) / unit))


def _above_noise(values: np.ndarray, half_li: float) -> float:
    """Return half of Li's threshold, raised above the noise in air if the darkest voxels look like air.

    Air is the peak of the histogram below Li's threshold, if it lies far below it: in a volume without air the
    darkest tissue makes a peak close to the threshold.
    """
    clipped = np.minimum(values, np.percentile(values, 99.5)).ravel()
    low = float(clipped.min())
    if low == clipped.max():
        return half_li
    li = low + 2.0 * (half_li - low)
    counts, edges = np.histogram(clipped, _BINS)
    smooth = np.convolve(np.pad(counts, 2, "edge"), np.full(5, 0.2), "valid")
    below = max(1, int(np.searchsorted(edges, li)))
    peak = float(edges[int(np.argmax(smooth[:below]))])
    if peak - low > _AIR_BELOW * (li - low):
        return half_li
    darker = clipped[clipped <= peak]
    return max(half_li, peak + _NOISE_WIDTHS * float(np.sqrt(np.mean(np.square(darker - peak)))))


def _li(values: np.ndarray) -> float:
    filter_ = sitk.LiThresholdImageFilter()
    filter_.SetInsideValue(0)
    filter_.SetOutsideValue(1)
    filter_.SetNumberOfHistogramBins(_BINS)
    filter_.Execute(sitk.GetImageFromArray(values[None, :]))
    return filter_.GetThreshold()


def _filled(binary: sitk.Image) -> sitk.Image:
    """Fill holes in 3D and, for lungs open to the edge of the volume, in each slice along each axis."""
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
