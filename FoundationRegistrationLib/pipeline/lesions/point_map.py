"""The transform of a registration for points, forward and inverse, exactly as its field is interpolated."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch

from ...spatial.inversion import inverse_at
from ...spatial.points import preimages, transform_points
from ...spatial.sampling import sample

_TOLERANCE_MM = 1e-5


class PointMap:
    """x -> initial(x + u(x)), from fixed to moving points, LPS mm.

    Args:
        field: u, a vector image in LPS mm on an axis-aligned isotropic grid, zero at its border.
        initial: fixed to moving points.

    Attributes:
        displacement: u as (3, z, y, x) in cells of its grid, components (z, y, x), double.
    """

    def __init__(self, field: sitk.Image, initial: sitk.Transform) -> None:
        self._origin, self._spacing = np.array(field.GetOrigin()), field.GetSpacing()[0]
        self._initial = initial
        array = torch.from_numpy(sitk.GetArrayFromImage(field)).double() / self._spacing
        self.displacement = array.permute(3, 0, 1, 2).flip(0).contiguous()

    def forward(self, fixed_points: np.ndarray) -> np.ndarray:
        """Map fixed points (N, 3) to moving points."""
        cells = self.to_cells(fixed_points)
        moved = cells + sample(self.displacement, cells[:, :, None, None])[:, :, 0, 0]
        return transform_points(self._initial, self.from_cells(moved))

    def backward(self, moving_points: np.ndarray) -> np.ndarray:
        """Map moving points (N, 3) to fixed points."""
        cells = self.to_cells(self.before_initial(moving_points))
        return self.from_cells(cells + inverse_at(self.displacement, cells, _TOLERANCE_MM / self._spacing))

    def before_initial(self, moving_points: np.ndarray) -> np.ndarray:
        """Return the points (N, 3) that the initial transform maps to moving points."""
        size = np.array(self.displacement.shape[:0:-1])
        middle = self._origin + (size - 1) / 2 * self._spacing
        return preimages(self._initial, moving_points, np.tile(middle, (len(moving_points), 1)))

    def to_cells(self, points: np.ndarray) -> torch.Tensor:
        """Return points (N, 3) in LPS mm as continuous indices (3, N), components (z, y, x)."""
        return torch.from_numpy(((points - self._origin) / self._spacing)[:, ::-1].T.copy())

    def from_cells(self, cells: torch.Tensor) -> np.ndarray:
        """Return continuous indices (3, N), components (z, y, x), as points (N, 3) in LPS mm."""
        return cells.numpy()[::-1].T * self._spacing + self._origin

    def image(self, displacement: torch.Tensor) -> sitk.Image:
        """Return another displacement in cells as a vector image in LPS mm on the same grid."""
        array = (displacement * self._spacing).flip(0).permute(1, 2, 3, 0).contiguous().numpy()
        image = sitk.GetImageFromArray(array, isVector=True)
        image.SetOrigin(self._origin.tolist())
        image.SetSpacing((self._spacing,) * 3)
        return image
