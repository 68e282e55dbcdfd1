"""The stage interface of the deformable registration: a stage improves the result of the previous ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from ..runtime.progress import Progress
from ..spatial.sampling import Weights, weight_on_both_sides
from .point_pairs import PointPairs
from .similarities import Term

# Features or intensities of the fixed and the moving volume.
Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Volumes:
    """Both volumes in the form that stages use. All are on one grid; a cell is a cube of working voxels.

    Attributes:
        features: (C, z, y, x) of both volumes on the cells, per encoder, the main one first.
        voxel_mm: spacing of the working grid.
        spacing: working voxels along one side of a cell.
        weights: (z, y, x) in 0..1, weights of the fixed and the moving cells; None for all 1.
        intensities: (z, y, x) of both volumes in 0..1; None if there are only features.
        intensity_spacing: working voxels along one side of a voxel of the intensities; divides `spacing`.
        kept_volume: Jacobian determinant of a displacement that keeps volumes, after the scaling of the start.
        structures: (K, z, y, x) weighted maps of given structures on the cells, which the features also contain; None
            without.
        points: given points; None without.
    """

    features: tuple[Pair, ...]
    voxel_mm: float
    spacing: int
    weights: Weights = (None, None)
    intensities: Pair | None = None
    intensity_spacing: int = 1
    kept_volume: float = 1.0
    structures: Pair | None = None
    points: PointPairs | None = None

    @property
    def cell_mm(self) -> float:
        """Cell size."""
        return self.spacing * self.voxel_mm

    def counted(self, displacement: torch.Tensor | None) -> torch.Tensor | None:
        """Return the weight (z, y, x) of each fixed cell under a displacement; None for all 1."""
        return weight_on_both_sides(*self.weights, displacement)

    def term(self, encoder: int, displacement: torch.Tensor) -> Term:
        """Return the features of one encoder, weighted for a displacement."""
        return Term(*self.features[encoder], self.counted(displacement))


@dataclass(frozen=True)
class Found:
    """The current result of the stages.

    Attributes:
        displacement: (3, z, y, x) in cells of the features, components (z, y, x), from fixed to moving.
        alone: the result of each encoder alone, until one is chosen to lead.
        terms: the features to match, with their last weights.
        earlier: displacements of earlier steps.
        energies: of the features at each iteration of their last optimisation, on the finest level.
        gain_of_details: see `two_encoders.gain_of_details`; 0 with one encoder.
    """

    displacement: torch.Tensor
    alone: tuple[torch.Tensor, ...] = ()
    terms: tuple[Term, ...] = ()
    earlier: tuple[torch.Tensor, ...] = ()
    energies: tuple[float, ...] = ()
    gain_of_details: float = 0.0

    def refined(self, displacement: torch.Tensor, **changed: Any) -> Found:
        """Return the result with a better displacement; the previous one is kept in `earlier`.

        Args:
            displacement: replaces `displacement`.
            changed: other attributes.
        """
        return replace(self, displacement=displacement, earlier=(*self.earlier, self.displacement), **changed)

    @classmethod
    def nothing(cls, volumes: Volumes) -> Found:
        """Return the start of a registration: zero displacement."""
        still = torch.zeros_like(volumes.features[0][0][:1]).expand(3, -1, -1, -1).clone()
        return cls(still, (still,) * len(volumes.features), (volumes.term(0, still),))


class Stage(Protocol):
    """A step of the deformable registration; preferably a frozen dataclass of plain values, for the record."""

    def run(self, volumes: Volumes, found: Found, progress: Progress) -> Found:
        """Return an improved result.

        Args:
            volumes: what to compare.
            found: the result of the previous stages.
            progress: `advance` reports the progress of this stage, and raises if the run is cancelled.
        """
        ...


def step_names(stages: Sequence[Stage]) -> list[str]:
    """Return the progress step names: class names of the stages in words, repeated ones with a number."""
    names: list[str] = []
    for stage in stages:
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(stage).__name__).lower()
        times = sum(other == name or other.startswith(f"{name} (") for other in names)
        names.append(f"{name} ({times + 1})" if times else name)
    return names
