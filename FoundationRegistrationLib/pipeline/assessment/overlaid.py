"""Both volumes of a registration on one coarse grid, to be compared without any truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from ...spatial.grids import WorkingGrid, resample_to_grid, working_grid
from ...spatial.points import foreground_points
from ..preprocessing.prepared_volume import PreparedVolume

_CELLS = 300_000  # of the grid, inside the fixed foreground
_MARGIN = 4  # cells around it
_MARGIN_OF_A_REGION = 12  # whose surroundings are needed to compare what is at its edge


@dataclass(frozen=True)
class Overlaid:
    """Two volumes on a grid of isotropic cells along the patient's axes; arrays are (z, y, x).

    Attributes:
        grid: the cells, LPS mm.
        fixed: intensities, 0..1.
        moving: intensities after the registration, 0..1.
        fixed_inside: bool, the fixed foreground.
        moving_inside: bool, the moving foreground after the registration.
        seen: bool, inside both fields of view.
        judged: bool, the part of the fixed foreground that is compared.
    """

    grid: WorkingGrid
    fixed: torch.Tensor
    moving: torch.Tensor
    fixed_inside: torch.Tensor
    moving_inside: torch.Tensor
    seen: torch.Tensor
    judged: torch.Tensor

    @classmethod
    def of(
        cls,
        fixed: PreparedVolume,
        moving: PreparedVolume,
        transform: sitk.Transform,
        device: torch.device,
        judged: sitk.Image | None = None,
    ) -> Overlaid:
        """Sample both volumes on a grid around the fixed foreground, or around the part of it that is judged.

        Args:
            fixed: fixed volume.
            moving: moving volume.
            transform: maps fixed to moving points, LPS mm.
            device: where the tensors are kept.
            judged: mask of that part; all of it if None.
        """
        if judged is None:
            grid = _grid(fixed.image, fixed.foreground, _MARGIN)
        else:
            grid = _grid(fixed.image, judged, _MARGIN_OF_A_REGION)
        identity = sitk.TranslationTransform(3)

        def sampled(image: sitk.Image, to_image: sitk.Transform, *, label: bool = False) -> torch.Tensor:
            values = torch.from_numpy(resample_to_grid(image, grid, to_image, label=label)).to(device)
            return values > 0 if label else values

        inside = sampled(fixed.foreground, identity, label=True)
        seen = sampled(fixed.known, identity, label=True) & sampled(moving.known, transform, label=True)
        return cls(
            grid,
            sampled(fixed.image, identity),
            sampled(moving.image, transform),
            inside,
            sampled(moving.foreground, transform, label=True),
            seen,
            inside if judged is None else inside & sampled(judged, identity, label=True),
        )


def _grid(image: sitk.Image, mask: sitk.Image, margin: int) -> WorkingGrid:
    """Return cells not smaller than the voxels of the image, and no more than `_CELLS` in the mask."""
    volume = float(np.count_nonzero(sitk.GetArrayViewFromImage(mask)) * np.prod(mask.GetSpacing()))
    voxel = float(np.cbrt(np.prod(image.GetSpacing())))
    points = foreground_points(mask)
    spacing = max(float(np.cbrt(volume / _CELLS)), voxel)
    return working_grid(points, points, spacing_mm=spacing, reach_mm=0.0, margin_voxels=margin, multiple=1)


OCTANTS = tuple(
    f"{left} {back} {upper}"
    for upper in ("lower", "upper")
    for back in ("front", "back")
    for left in ("right", "left")
)


def octants_of(cells: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the octant, an index into `OCTANTS`, of each cell (N, 3) as (z, y, x), about their median."""
    return (cells > np.median(cells, axis=0)) @ np.array([4, 2, 1])
