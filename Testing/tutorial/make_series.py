"""Makes the pictures of the page on dynamic series: the overview of a run, and subtractions before and after it.

Usage: python Testing/tutorial/make_series.py [--output FOLDER] [--spacing-mm MM]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT), str(_ROOT / "Testing" / "tutorial")]

from matplotlib import pyplot as plt  # noqa: E402
from saving import picture_parser, save_small  # noqa: E402

from FoundationRegistrationLib import Series, Settings, choose_phases, register_series  # noqa: E402
from FoundationRegistrationLib.phantom import make_dynamic_phantom  # noqa: E402
from FoundationRegistrationLib.series.kinetics import (  # noqa: E402
    before_contrast,
    maximum_intensity_projection,
    subtraction,
)
from FoundationRegistrationLib.series.phases import Phases  # noqa: E402

_SEED = 101


def main() -> None:
    """Register a dynamic phantom and draw."""
    options = picture_parser(__doc__, spacing_mm=2.0).parse_args()
    mpl.use("Agg")
    phantom = make_dynamic_phantom(_SEED, spacing_mm=options.spacing_mm, motion="sudden")
    times = tuple(phantom.times_s.tolist())
    result = register_series(Series(phantom.frames, times), Settings.from_preset("dce"))
    with tempfile.TemporaryDirectory() as folder:
        result.save(folder)
        shutil.copyfile(Path(folder, "overview.png"), options.output / "series_overview.png")
    phases = choose_phases(len(times), times)
    figure, axes = plt.subplots(1, 3, figsize=(11.0, 3.1), facecolor="black")
    titles = "As acquired", "Registered", "Without motion"
    projections = [
        _projection(frames, phases) for frames in (phantom.frames, result.corrected.frames, phantom.motion_free)
    ]
    brightest = float(np.percentile(projections[2], 99.8))
    for axis, title, projection in zip(axes, titles, projections, strict=True):
        axis.imshow(projection, cmap="gray", vmin=0.0, vmax=brightest)
        axis.set_title(title, color="white", fontsize=10)
        axis.set_axis_off()
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.91, 0.02, 0.02)
    save_small(figure, options.output / "series_subtraction.png")


def _projection(frames: tuple[sitk.Image, ...], phases: Phases) -> NDArray[np.float32]:
    """Return the axial maximum intensity projection of the early subtraction, (y, x)."""
    early = subtraction(frames[phases.early], before_contrast(frames, phases))
    return sitk.GetArrayFromImage(maximum_intensity_projection(early)).squeeze()


if __name__ == "__main__":
    main()
