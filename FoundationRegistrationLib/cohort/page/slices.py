"""The slices of a pair that its page shows: the fixed volume, the moving one before, and the registered one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ...errors import InputError
from ...evaluation.report.views import box_of, foreground_of, grey_window, slices_to_cut, windowed
from ...spatial.warping import warp_image

MOST_SLICES = 40
_SEARCHED = 128  # voxels of each side in which the anatomy is looked for


@dataclass(frozen=True)
class Slices:
    """Axial slices of a pair from inferior to superior, as radiologists look at them: patient's right on the left.

    Attributes:
        layers: by name, "fixed", "registered" and, if the moving volume was given, "before": grey values 0 to 255
            (slices, rows, columns), anterior in the first row.
        pixel_mm: height and width of a pixel.
        positions_mm: superior coordinate of the centre of each slice, LPS.
        middle: index of the slice through the middle of the anatomy.
    """

    layers: dict[str, NDArray[np.uint8]]
    pixel_mm: tuple[float, float]
    positions_mm: list[float]
    middle: int


def slices_of(fixed: sitk.Image, registered: sitk.Image, before: sitk.Image | None) -> Slices:
    """Cut a pair into at most `MOST_SLICES` slices on the grid of the fixed volume, cropped to its anatomy.

    Args:
        fixed: fixed volume, oblique or flipped if need be: its axes are brought into the nearest LPS order.
        registered: the moving volume in fixed space, on any grid.
        before: the moving volume where its own header says it lies, on any grid.

    Returns:
        Slices in a window of robust percentiles; the moving volume before and after share one.

    Raises:
        InputError: the fixed volume has colours, vectors or complex numbers.
    """
    if fixed.GetNumberOfComponentsPerPixel() != 1 or "complex" in fixed.GetPixelIDTypeAsString():
        msg = "The fixed volume has several values per voxel, so its slices cannot be drawn; give a grey volume."
        raise InputError(msg)
    oriented = sitk.DICOMOrient(fixed, "LPS")
    grid, middle = _shown_grid(oriented)
    images = {"fixed": oriented, "registered": registered} | ({} if before is None else {"before": before})
    shown = {name: _on_grid(image, grid) for name, image in images.items()}
    moving = grey_window(np.concatenate([array for name, array in shown.items() if name != "fixed"]))
    windows = {name: grey_window(array) if name == "fixed" else moving for name, array in shown.items()}
    spacing, size = grid.GetSpacing(), grid.GetSize()
    centre = [(n - 1) / 2 for n in size[:2]]
    return Slices(
        {name: np.rint(255 * windowed(array, windows[name])).astype(np.uint8) for name, array in shown.items()},
        (spacing[1], spacing[0]),
        [grid.TransformContinuousIndexToPhysicalPoint([*centre, float(k)])[2] for k in range(size[2])],
        middle,
    )


def _on_grid(image: sitk.Image, grid: sitk.Image) -> NDArray[np.float32]:
    """Voxels (z, y, x) of an image at the places of a grid."""
    if image.GetNumberOfComponentsPerPixel() != 1:
        image = sitk.VectorIndexSelectionCast(image, 0)
    return sitk.GetArrayFromImage(warp_image(image, grid, sitk.TranslationTransform(3))).astype(np.float32)


def _shown_grid(oriented: sitk.Image) -> tuple[sitk.Image, int]:
    """Grid of the shown slices, a part of that of the volume, and the index of the middle slice in it."""
    size, spacing = oriented.GetSize()[::-1], oriented.GetSpacing()[::-1]
    strides = [max(1, n // _SEARCHED) for n in size]
    coarse = sitk.GetArrayViewFromImage(oriented)[tuple(slice(None, None, s) for s in strides)].astype(np.float32)
    foreground = foreground_of(np.nan_to_num(coarse))
    box = box_of(foreground, [mm * stride for mm, stride in zip(spacing, strides, strict=True)])
    first = [side.start * stride for side, stride in zip(box, strides, strict=True)]
    end = [min(n, side.stop * stride) for n, side, stride in zip(size, box, strides, strict=True)]
    step = math.ceil((end[0] - first[0]) / MOST_SLICES)
    first[0] += (end[0] - first[0] - 1) % step // 2  # as far from both ends
    count = (end[0] - first[0] - 1) // step + 1
    grid = sitk.Image([end[2] - first[2], end[1] - first[1], count], sitk.sitkUInt8)
    grid.SetOrigin(oriented.TransformIndexToPhysicalPoint(first[::-1]))
    grid.SetSpacing([spacing[2], spacing[1], spacing[0] * step])
    grid.SetDirection(oriented.GetDirection())
    middle = round((slices_to_cut(foreground)[0] * strides[0] - first[0]) / step)
    return grid, min(max(middle, 0), count - 1)
