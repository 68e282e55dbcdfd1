"""Regions in fixed space: boxes, the ROI markups of 3D Slicer, and masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import ArrayLike

from ..errors import InputError
from ..files.bounded import plain_json, read_bounded
from .paths import check_input_file
from .segmentation_files import read_segmentation

_MOST_BYTES = 4_000_000
_TO_LPS = {"LPS": (1.0, 1.0, 1.0), "RAS": (-1.0, -1.0, 1.0)}


def box_region(center_mm: ArrayLike, size_mm: ArrayLike, axes: ArrayLike | None = None) -> sitk.Image:
    """Return a box as a mask of a single voxel, for `register(region=...)`.

    Args:
        center_mm: (3,) LPS mm.
        size_mm: (3,) lengths of its edges.
        axes: (3, 3), its axes in LPS as columns; along L, P and S if None.

    Raises:
        InputError: a number is not finite, an edge has no length, or the axes are not perpendicular.
    """
    center, size = np.asarray(center_mm, dtype=float), np.asarray(size_mm, dtype=float)
    matrix = np.eye(3) if axes is None else np.asarray(axes, dtype=float)
    if center.shape != (3,) or size.shape != (3,) or matrix.shape != (3, 3):
        msg = "A box needs a centre and a size of three numbers each, in LPS mm."
        raise InputError(msg)
    if not (np.isfinite([*center, *size, *matrix.ravel()]).all() and (size > 0).all()):
        msg = "The box of the region has no volume, or numbers that are not finite; draw it again."
        raise InputError(msg)
    box = sitk.Image(1, 1, 1, sitk.sitkUInt8) + 1
    box.SetSpacing(size.tolist())
    box.SetOrigin(center.tolist())
    try:
        box.SetDirection(matrix.ravel().tolist())
    except RuntimeError:
        matrix = np.zeros((3, 3))  # singular
    if np.abs(matrix.T @ matrix - np.eye(3)).max() > 1e-3:
        msg = "The axes of the region's box are not perpendicular; draw it again, without a transform that shears."
        raise InputError(msg)
    return box


def read_region(path: Path, messages: list[str]) -> sitk.Image:
    """Read a region: a mask or segmentation, whose segments are united, or a box.

    Args:
        path: an image of whole numbers, nonzero in the region, on any grid; or a ROI of 3D Slicer (.mrk.json).
        messages: warnings about the file are appended.

    Returns:
        A mask; a box is a single voxel.

    Raises:
        InputError: it is neither, or cannot be read.
    """
    if not path.name.lower().endswith(".json"):
        return read_segmentation(path, "region", messages).label_map()
    check_input_file(path, "region")
    try:
        content = plain_json(read_bounded(path, _MOST_BYTES))
    except (OSError, ValueError) as error:
        msg = f"The region '{path}' cannot be read ({error}); save the ROI from Slicer again."
        raise InputError(msg) from error
    markups = content.get("markups") if isinstance(content, dict) else None
    boxes = [each for each in markups or [] if isinstance(each, dict) and each.get("type") == "ROI"]
    if len(boxes) != 1:
        msg = f"'{path}' holds {len(boxes)} ROI markups; give the file of one ROI of Slicer, or a mask."
        raise InputError(msg)
    return _box(boxes[0], path)


def _box(roi: dict[str, Any], path: Path) -> sitk.Image:
    if roi.get("insideOut"):
        msg = f"The ROI '{path}' means what is outside its box; turn off 'Inside out' in Slicer, and save it again."
        raise InputError(msg)
    try:
        to_lps = np.array(_TO_LPS[roi.get("coordinateSystem", "LPS")])
        center = to_lps * np.array(roi["center"], dtype=float)
        axes = to_lps[:, None] * np.array(roi.get("orientation", np.eye(3).ravel()), dtype=float).reshape(3, 3)
        return box_region(center, roi["size"], axes)
    except (KeyError, TypeError, ValueError) as error:
        msg = f"The ROI '{path}' has no readable centre, size and orientation; save it from Slicer again."
        raise InputError(msg) from error
