"""Last refinement, on the intensities: local normalised cross-correlation.

Features of cells leave fine structures some millimetres off. Where both volumes show tissues with similar contrast,
intensities are more precise than features; elsewhere the field is unchanged. Source of the measure: Avants et al.,
Medical Image Analysis 2008.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..runtime.progress import Progress
from ..spatial.sampling import compose_displacements, upsample, warp
from ..spatial.windows import mean_around
from .instance_optimisation import Descent, optimise_instance
from .regularisers import Diffusion
from .reliability import reliability
from .similarities import Term
from .stages import Found, Volumes

# Smallest mean local correlation at which intensities help. T1 against fat-suppressed T2 has 0.1 to 0.2 and gets
# worse; windowed CT against T1 has 0.3 to 0.4, the same sequence more, and they improve.
_LEAST_CORRELATION = 0.25
# Smallest useful cell size.
_FINE_MM = 2.0
# With more working voxels it would dominate the memory.
_MOST_VOXELS = 48_000_000
# Standard deviation, in intensities of 0..1, below which a window counts as flat.
_NOISE = 0.02


@dataclass(frozen=True)
class LocalCorrelation:
    """Stage: refinement by local correlation of intensities, on sufficiently fine cells.

    Attributes:
        rounds: number of rounds.
        radius: half-width of the correlation windows, cells.
        descent: minimisation in each round; its regulariser penalises the change of the field.
    """

    rounds: int = 2
    radius: int = 3
    descent: Descent = Descent(regulariser=Diffusion(0.5), iterations=40, learning_rate=0.5)

    def intensity_spacing(self, voxels: int, voxel_mm: float, spacing: int) -> int:
        """Return the cells of the features if fine enough, or if there are too many voxels; else working voxels."""
        return spacing if spacing * voxel_mm <= _FINE_MM or voxels > _MOST_VOXELS else 1

    def run(self, volumes: Volumes, found: Found, progress: Progress) -> Found:
        """Return the refined displacement on the cells of the intensities; see `Stage`."""
        found.check_cells(volumes, self)
        before = found.displacement
        spacing = self.intensity_spacing(volumes.voxels, volumes.voxel_mm, volumes.spacing)
        fixed, moving = volumes.intensities[spacing]
        shape = (fixed.shape[0], fixed.shape[1], fixed.shape[2])
        factor = found.spacing // spacing
        weight, stiffness = (_repeated(each, factor, shape) for each in (volumes.counted(before), found.stiffness))
        displacement = self.refined(fixed, moving, upsample(before, factor, shape), weight, progress, stiffness)
        return found.refined(displacement, spacing=spacing)

    def refined(
        self,
        fixed: torch.Tensor,
        moving: torch.Tensor,
        displacement: torch.Tensor,
        weight: torch.Tensor | None,
        progress: Progress,
        stiffness: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the displacement refined by the local correlation of intensities.

        The squared difference of locally normalised intensities is 2 (1 - correlation). Only the change of the field
        is regularised, and voxels are weighted by their current agreement, so that new or vanished lesions exert
        little force. Each round renormalises the warped moving volume and adds its own change: several small changes
        go further than one large one, which includes fitting of noise. If the volumes do not correlate overall, as
        with different contrast, the displacement is returned unchanged.

        Args:
            fixed: (z, y, x) intensities in 0..1.
            moving: the same for the moving volume, on the same grid.
            displacement: (3, z, y, x) in voxels of that grid, from fixed to moving.
            weight: (z, y, x) in 0..1, weight of each fixed voxel; None for all 1.
            progress: told of each iteration.
            stiffness: (z, y, x), factor of the regulariser at each voxel; None for 1.
        """
        unchanged = torch.zeros_like(displacement)
        fixed = locally_normalised(fixed, self.radius)
        for index in range(self.rounds):
            carried = locally_normalised(warp(moving[None], displacement)[0], self.radius)
            if index == 0 and _correlation(fixed, carried, weight) < _LEAST_CORRELATION:
                return displacement
            trusted = reliability(fixed, carried, unchanged, weight)
            term = Term(fixed, carried, trusted if weight is None else trusted * weight)
            part = (index / self.rounds, 1.0 / self.rounds)
            change = optimise_instance([term], unchanged, self.descent, progress, part, stiffness).displacement
            displacement = compose_displacements(change, displacement)
        return displacement


def _repeated(of_cells: torch.Tensor | None, factor: int, shape: tuple[int, int, int]) -> torch.Tensor | None:
    """Return the cell values on a grid `factor` times finer, which may end within the last cells."""
    if of_cells is None:
        return None
    for axis, size in enumerate(shape):
        of_cells = of_cells.repeat_interleave(factor, axis).narrow(axis, 0, size)
    return of_cells


def _correlation(fixed: torch.Tensor, moving: torch.Tensor, weight: torch.Tensor | None) -> float:
    """Return the weighted correlation of locally normalised intensities (1, z, y, x)."""
    if weight is None:
        weight = torch.ones_like(fixed[0])
    product, squares = fixed * moving, 0.5 * (fixed.square() + moving.square())
    return float((product * weight).sum() / (squares * weight).sum().clamp_min(torch.finfo(squares.dtype).tiny))


def locally_normalised(volume: torch.Tensor, radius: int) -> torch.Tensor:
    """Return (1, z, y, x): each voxel minus the local mean, divided by the local standard deviation."""
    mean, square = mean_around(torch.stack([volume, volume.square()]), radius)
    deviation = (square - mean.square()).clamp_min_(0.0).add_(_NOISE**2).sqrt_()
    return ((volume - mean) / deviation)[None]
