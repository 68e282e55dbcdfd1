"""Makes the picture of six pairs as hard as patients: axial and sagittal slices with the annotators' outlines.

Usage: python Testing/tutorial/make_hard_phantoms.py [--output FOLDER] [--spacing-mm MM]
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT), str(_ROOT / "Testing" / "tutorial")]

from matplotlib import pyplot as plt  # noqa: E402
from saving import picture_parser, save_small  # noqa: E402

from FoundationRegistrationLib.phantom import make_phantom  # noqa: E402

_PAIRS = (
    ("longitudinal", 101),
    ("longitudinal", 106),
    ("cross-sequence", 102),
    ("cross-sequence", 104),
    ("lesion", 101),
    ("pet-ct-to-mri", 101),
)
_OUTLINES = {"breast": "deepskyblue", "fibroglandular": "orange", "organ": "lime", "lesion": "red"}


def main() -> None:
    """Draw the pairs side by side."""
    options = picture_parser(__doc__, spacing_mm=1.5).parse_args()
    mpl.use("Agg")
    figure, axes = plt.subplots(4, len(_PAIRS), figsize=(1.9 * len(_PAIRS), 6.2), facecolor="black")
    for column, (task, seed) in enumerate(_PAIRS):
        case = make_phantom(task, seed, spacing_mm=options.spacing_mm)
        axes[0, column].set_title(task, color="white", fontsize=8)
        for row, side in enumerate(("fixed", "moving")):
            _draw(axes[2 * row : 2 * row + 2, column], getattr(case, side), case.labelmap(side), side)
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.965, 0.02, 0.02)
    save_small(figure, options.output / "hard_phantoms.png")


def _draw(axes: NDArray[np.object_], image: sitk.Image, labels: sitk.Image, side: str) -> None:
    """An axial slice through both breasts and a sagittal one through the left, with outlines."""
    values, marks = _isotropic(image, sitk.sitkLinear), _isotropic(labels, sitk.sitkNearestNeighbor)
    places = np.argwhere(marks == 1)
    z = int(np.median(places[:, 0]))
    x = int(np.median(places[places[:, 2] >= np.median(places[:, 2]), 2]))
    low, high = (-200.0, 250.0) if values.min() < -900.0 else (0.0, np.percentile(values[marks > 0], 99.5))  # CT, MR
    for axis, where in zip(axes, (np.s_[z], np.s_[::-1, :, x]), strict=True):
        axis.set(facecolor="black", xticks=[], yticks=[])
        axis.imshow(values[where], cmap="gray", vmin=low, vmax=high)
        for value, (name, colour) in enumerate(_OUTLINES.items(), start=1):
            inside = np.isin(marks[where], (1, 2, 4)) if name == "breast" else marks[where] == value
            if inside.any() and not inside.all():
                axis.contour(inside, [0.5], colors=colour, linewidths=0.6)
    axes[0].text(0.02, 0.95, side, color="white", fontsize=7, transform=axes[0].transAxes)


def _isotropic(image: sitk.Image, interpolator: int) -> NDArray[np.float32]:
    """Array (z, y, x) of a volume in LPS order on cubic voxels."""
    image = sitk.DICOMOrient(image, "LPS")
    edge = min(image.GetSpacing())
    size = [round(n * step / edge) for n, step in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    finer = sitk.Resample(
        image, size, sitk.Transform(), interpolator, image.GetOrigin(), [edge] * 3, image.GetDirection()
    )
    return sitk.GetArrayFromImage(finer).astype(np.float32)


if __name__ == "__main__":
    main()
