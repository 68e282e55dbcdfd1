"""Intermediate results of a registration: features, and the displacement after each stage, as numpy with geometry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk
import torch

from ...features import FeaturePair
from ...spatial.grids import WorkingGrid


@dataclass(frozen=True)
class Sampled:
    """An array and its geometry in fixed space.

    Attributes:
        array: float32, (z, y, x, components).
        origin: LPS position in mm of sample (0, 0, 0), as (x, y, z); the axes are those of LPS.
        spacing: between samples along each axis, mm.
    """

    array: np.ndarray
    origin: tuple[float, float, float]
    spacing: float

    @classmethod
    def of(cls, tensor: torch.Tensor, grid: WorkingGrid) -> Sampled:
        """Return a tensor (components, z, y, x) on a grid."""
        return cls(tensor.permute(1, 2, 3, 0).float().cpu().numpy(), grid.origin, grid.spacing)

    def image(self) -> sitk.Image:
        """Return the array as a vector image."""
        return WorkingGrid(self.origin, self.spacing, self.array.shape[:3]).image(self.array, is_vector=True)


@dataclass(frozen=True)
class Intermediate:
    """Inputs and results of the stages.

    Attributes:
        features: of the fixed and of the initially aligned moving volume, by encoder.
        displacements: for each stage in turn, its class and the displacement u of the deformable part, mm, components
            x, y, z in LPS, see `RegistrationResult.deformation`.
    """

    features: Mapping[str, tuple[Sampled, Sampled]]
    displacements: list[tuple[str, Sampled]] = field(default_factory=list)

    @classmethod
    def of(cls, features: Mapping[str, FeaturePair], grid: WorkingGrid) -> Intermediate:
        """Return the state before the first stage."""
        return cls(
            {name: (Sampled.of(pair.fixed, grid), Sampled.of(pair.moving, grid)) for name, pair in features.items()}
        )

    def add(self, stage: str, displacement: torch.Tensor, grid: WorkingGrid) -> None:
        """Store a displacement (3, z, y, x) in cells of a grid, components (z, y, x)."""
        self.displacements.append((stage, Sampled.of(displacement.flip(0) * grid.spacing, grid)))
