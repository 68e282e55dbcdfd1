"""Last refinement, on the intensities themselves: local normalised cross-correlation.

Features of cells leave fine structures some millimetres off. Where both volumes show the same tissues alike, their
intensities tell more than any feature; elsewhere they say nothing, and the field stays.
Source of the measure: Avants et al., Medical Image Analysis 2008.
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

# Least mean of the local correlation with which intensities say where tissue belongs. T1 against fat-suppressed T2
# has 0.1 to 0.2 and gets worse; windowed CT against T1 has 0.3 to 0.4, one sequence more, and they get better.
_LEAST_CORRELATION = 0.25
# Cells of this stage need be no smaller.
_FINE_MM = 2.0
# Beyond so many working voxels it would need more memory than all else.
_MOST_VOXELS = 48_000_000
# Standard deviation, in intensities of 0..1, below which a window counts as flat.
_NOISE = 0.02


@dataclass(frozen=True)
class LocalCorrelation:
    """The stage: the field is refined where intensities correlate, on cells fine enough.

    Attributes:
        rounds: how often.
        radius: half-width of the windows correlated, cells.
        descent: how, in each round; its regulariser holds the change of the field.
    """

    rounds: int = 2
    radius: int = 3
    descent: Descent = Descent(regulariser=Diffusion(0.5), iterations=40, learning_rate=0.5)

    def intensity_spacing(self, voxels: int, voxel_mm: float, spacing: int) -> int:
        """Return the cells of the features if these are fine enough, or voxels too many; else working voxels."""
        return spacing if spacing * voxel_mm <= _FINE_MM or voxels > _MOST_VOXELS else 1

    def run(self, volumes: Volumes, found: Found, progress: Progress) -> Found:
        """Return the displacement refined, on the cells of the intensities; see `Stage`."""
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
        """Return the displacement with which intensities correlate better around each voxel.

        The squared difference of locally normalised intensities is 2 (1 - correlation). Only the change of the field
        is regularised, and a place counts as far as the volumes agree there already, so that little pulls where a
        lesion has come or gone. Each round normalises the moving volume anew, as it lies by then, and adds a change
        of its own: several small ones go further than one large one, also where they should not, as chance agreement
        adds up. If the volumes do not correlate on the whole, as with unlike contrast, the displacement is returned
        as it is.

        Args:
            fixed: (z, y, x) intensities in 0..1.
            moving: the same for the moving volume, on the same grid.
            displacement: (3, z, y, x) in voxels of that grid, from fixed to moving.
            weight: (z, y, x) in 0..1, how much each fixed voxel counts; None counts all fully.
            progress: told of each iteration.
            stiffness: (z, y, x), how many times the regulariser counts at each voxel; None for once everywhere.
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
    """Return the value of each cell on a grid `factor` times finer, which may end within the last cells."""
    if of_cells is None:
        return None
    for axis, size in enumerate(shape):
        of_cells = of_cells.repeat_interleave(factor, axis).narrow(axis, 0, size)
    return of_cells


def _correlation(fixed: torch.Tensor, moving: torch.Tensor, weight: torch.Tensor | None) -> float:
    """Return the correlation of locally normalised intensities, (1, z, y, x), over all that counts."""
    if weight is None:
        weight = torch.ones_like(fixed[0])
    product, squares = fixed * moving, 0.5 * (fixed.square() + moving.square())
    return float((product * weight).sum() / (squares * weight).sum().clamp_min(torch.finfo(squares.dtype).tiny))


def locally_normalised(volume: torch.Tensor, radius: int) -> torch.Tensor:
    """Return (1, z, y, x): each voxel less the mean of the cube around it, over the standard deviation there."""
    mean, square = mean_around(torch.stack([volume, volume.square()]), radius)
    deviation = (square - mean.square()).clamp_min_(0.0).add_(_NOISE**2).sqrt_()
    return ((volume - mean) / deviation)[None]
