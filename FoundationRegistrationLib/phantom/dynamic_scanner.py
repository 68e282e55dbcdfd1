"""The scanner of a dynamic series: one field of view and one setting of the coils for all frames."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from .acquisition import VoxelGrid, paint
from .anatomy import Tissues
from .artefacts import Artefacts, acquire_spoilt_mr, draw_artefacts
from .contrasts import CONTRASTS, UNSUPPRESSED, Contrast
from .easy import FIXED_BOX
from .implicit import Array, GridFunction, Points
from .incompressible import Chain
from .sampling import slabs
from .views import draw_mr_view

SEQUENCE = "t1-fs"
_AROUND_LESION_MM = 22.0
_LEFT_OF_SHADING = 0.25
_EASY_SPACING = (1.0, 1.0, 1.25)


@dataclasses.dataclass(frozen=True)
class Scanned:
    """The patient in one position: signals (N,) without noise, mask (N,) of the heart's blood, label map (uint8)."""

    signals: list[Array]
    heart: NDArray[np.bool_]
    labels: sitk.Image


@dataclasses.dataclass(frozen=True)
class SeriesScanner:
    """What all frames have in common.

    Attributes:
        grid: of all frames.
        artefacts: of all frames. Where fat suppression fails moves with the patient, whose air and tissue bend the
            field; the coils' shading stays in place.
        breasts: (2, 3), low and high corner of the box around the breasts, LPS mm.
    """

    grid: VoxelGrid
    artefacts: Artefacts
    breasts: Points

    def scan(
        self,
        tissues_at: Callable[[Points], Tissues],
        position: Chain,
        contrasts: Sequence[Contrast],
        values: Mapping[str, int],
    ) -> Scanned:
        """The patient in one position at one or more stages of enhancement.

        Args:
            tissues_at: tissues at points of the first frame.
            position: points of the first frame to points of this position.
            contrasts: what the tissues look like, one signal for each.
            values: target names to their values in the label map, later ones over earlier ones.
        """
        unsuppressed = CONTRASTS[UNSUPPRESSED[SEQUENCE]]
        signals: list[list[Array]] = [[] for _ in contrasts]
        hearts, labels = [], []
        for first, last in slabs(self.grid):
            points = self.grid.points(first, last)
            tissue_points = position.inverse(points)
            tissues = tissues_at(tissue_points)
            failure = (self.artefacts.unsuppressed(tissue_points), unsuppressed)
            for parts, contrast in zip(signals, contrasts, strict=True):
                parts.append(paint(tissues, contrast, 0.0, min(self.grid.spacing), failure))
            hearts.append(np.minimum(tissues.distance["heart"], tissues.distance["blood"]) < 0.0)
            flat = np.zeros(len(points), np.uint8)
            for name, value in values.items():
                flat[tissues.targets[name]] = value
            labels.append(flat)
        return Scanned(
            [np.concatenate(parts) for parts in signals],
            np.concatenate(hearts),
            self.grid.image(np.concatenate(labels)),
        )

    def image(self, signal: Array, heart: NDArray[np.bool_], noise: np.random.Generator | None) -> sitk.Image:
        """The volume (float32) of a signal (N,), with noise from a generator, or without any."""
        artefacts = self.artefacts if noise is not None else dataclasses.replace(self.artefacts, noise=0.0)
        rng = noise if noise is not None else np.random.default_rng(0)
        return acquire_spoilt_mr(signal, heart, artefacts, self.breasts, self.grid, rng)


def easy_scanner(breasts: Points, spacing_mm: float) -> SeriesScanner:
    """An axial grid around both breasts, no shading, little noise. Arguments as in `patient_scanner`."""
    spacing = (_EASY_SPACING[0] * spacing_mm, _EASY_SPACING[1] * spacing_mm, _EASY_SPACING[2] * spacing_mm)
    grid = VoxelGrid.covering(np.array(FIXED_BOX[0]), np.array(FIXED_BOX[1]), spacing, np.eye(3))
    artefacts = Artefacts(
        shading=1.0,
        tilt=1.0,
        slow=GridFunction(np.zeros((2, 2, 2), np.float32), (0.0, 0.0, 0.0), 1.0),
        failures=np.zeros((0, 3)),
        failure_mm=np.zeros(0),
        failure=np.zeros(0),
        ghost=0.0,
        ghost_mm=60.0,
        noise=8.0,
        blur_voxels=0.42,
    )
    return SeriesScanner(grid, artefacts, breasts)


def patient_scanner(rng: np.random.Generator, breasts: Points, lesions: Points, spacing_mm: float) -> SeriesScanner:
    """Draw the setting of a scanner that normalises the coils' shading, though not entirely.

    Args:
        rng: source of all random choices.
        breasts: (2, 3), low and high corner of the box around the breasts, LPS mm.
        lesions: (N, 3) centres of what has to be seen, whatever is cropped.
        spacing_mm: voxel size of the phantom.
    """
    view = draw_mr_view(rng, SEQUENCE, breasts)
    low = np.minimum(view.low, lesions.min(axis=0) - _AROUND_LESION_MM)
    high = np.maximum(view.high, lesions.max(axis=0) + _AROUND_LESION_MM)
    grid = dataclasses.replace(view, low=low, high=high).grid(spacing_mm)
    drawn = draw_artefacts(rng, breasts, fat_suppressed=True)
    artefacts = dataclasses.replace(drawn, shading=drawn.shading**_LEFT_OF_SHADING, tilt=drawn.tilt**_LEFT_OF_SHADING)
    return SeriesScanner(grid, artefacts, breasts)
