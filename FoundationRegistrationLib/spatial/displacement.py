"""Displacements on cells as a field that SimpleITK and Slicer interpret alike."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch

from .grids import WorkingGrid

_TAPER_STEEPNESS = 3.0
_SMALLEST_BORDER_MM = 10.0
_STEPS_PER_MM = 1024.0
LARGEST_BORDER_MM = 60.0


def displacement_image(
    displacement: torch.Tensor,
    cells: WorkingGrid,
    inside: torch.Tensor | None = None,
    steepness: float = _TAPER_STEEPNESS,
) -> sitk.Image:
    """Return a displacement as a vector image in LPS mm, padded and tapered to zero.

    Outside its grid a displacement field is zero in SimpleITK but repeats its edge in Slicer; with a border of zeros
    both agree. The taper is long enough not to cause folding.

    Args:
        displacement: (3, z, y, x) in cells, components (z, y, x).
        cells: the grid of the displacement.
        inside: (z, y, x) bool, where the displacement is kept; beyond it the taper begins. The whole grid if None.
        steepness: width of the taper over the largest displacement at its beginning.
    """
    millimetres = displacement.detach().float().cpu() * cells.spacing
    edge = max(
        float(lengths(face).max())
        for axis in (1, 2, 3)
        for face in (millimetres.select(axis, 0), millimetres.select(axis, -1))
    )
    if inside is not None and not inside.all():
        edge = max(edge, float(lengths(millimetres)[~inside].max()))
    largest = LARGEST_BORDER_MM * steepness / _TAPER_STEEPNESS
    taper_mm = float(np.clip(steepness * edge, _SMALLEST_BORDER_MM, largest))
    border = int(np.ceil(taper_mm / cells.spacing)) + 1
    padded = torch.nn.functional.pad(millimetres[None], (border,) * 6, mode="replicate")[0]
    distance = _distance(millimetres.shape[1:], border) if inside is None else _distance_to(inside, border)
    weight = 0.5 * (1.0 + torch.cos(torch.pi * (distance / border).clamp(max=1.0)))
    array = (padded * weight).flip(0).permute(1, 2, 3, 0).double().numpy()
    return cells.padded(border).image(np.ascontiguousarray(array), is_vector=True)


def rounded(field: sitk.Image) -> sitk.Image:
    """Return a displacement field, mm, to the nearest 1/1024 mm: below that it is noise, which files would store."""
    array = np.rint(sitk.GetArrayViewFromImage(field) * _STEPS_PER_MM) / _STEPS_PER_MM
    result = sitk.GetImageFromArray(array, isVector=True)
    result.CopyInformation(field)
    return result


def _distance(shape: torch.Size, border: int) -> torch.Tensor:
    """Return the distance of each cell of a padded grid from the original grid, in cells."""
    z, y, x = (_cells_outside(size, border) for size in shape)
    return torch.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)


def _distance_to(inside: torch.Tensor, border: int) -> torch.Tensor:
    """Return the distance of each cell of a padded grid from the cells of a mask of the original grid, in cells."""
    from scipy.ndimage import distance_transform_edt  # slow to import

    return torch.from_numpy(distance_transform_edt(np.pad(~inside.numpy(), border, constant_values=True))).float()


def _cells_outside(size: int, border: int) -> torch.Tensor:
    """Return the distance of each cell of a padded axis from the original axis, in cells."""
    index = torch.arange(-border, size + border, dtype=torch.float32)
    return torch.clamp(torch.maximum(-index, index - (size - 1)), min=0.0)


def lengths(vectors: torch.Tensor) -> torch.Tensor:
    """Return the lengths of vectors (3, ...); torch's norm is a hundred times slower along the first axis."""
    return vectors.square().sum(0).sqrt_()
