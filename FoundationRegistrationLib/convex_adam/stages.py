"""What a stage of a deformable registration is: it takes a pair and what was found so far, and finds more."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch

from ..errors import SettingsError
from ..runtime.progress import Progress
from ..spatial.sampling import Weights, weight_on_both_sides
from .similarities import Term

# Features, or intensities, of the fixed and of the moving volume.
Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Volumes:
    """Both volumes as the stages compare them. All lie on one grid; a cell is a cube of working voxels.

    Attributes:
        features: (C, z, y, x) of both volumes on the cells, for each encoder, the leading one first.
        voxel_mm: edge of a working voxel.
        spacing: working voxels along one side of a cell.
        weights: (z, y, x) in 0..1, how much each fixed and each moving cell counts; None counts all fully.
        intensities: in 0..1, (z, y, x) of both volumes, by the working voxels along one side of what was averaged.
        voxels: number of working voxels.
    """

    features: tuple[Pair, ...]
    voxel_mm: float
    spacing: int
    weights: Weights = (None, None)
    intensities: Mapping[int, Pair] = field(default_factory=dict)
    voxels: int = 0

    @property
    def cell_mm(self) -> float:
        """Edge of a cell."""
        return self.spacing * self.voxel_mm

    def counted(self, displacement: torch.Tensor | None) -> torch.Tensor | None:
        """Return (z, y, x), how much each fixed cell counts under a displacement; None counts all fully."""
        return weight_on_both_sides(*self.weights, displacement)

    def term(self, encoder: int, displacement: torch.Tensor) -> Term:
        """Return the features of one encoder, to be brought to agree from a displacement on."""
        return Term(*self.features[encoder], self.counted(displacement))


@dataclass(frozen=True)
class Found:
    """What the stages have found so far.

    Attributes:
        displacement: (3, z, y, x) in cells of `spacing` working voxels, components (z, y, x), from fixed to moving.
        spacing: working voxels along one side of a cell of `displacement`.
        alone: what each encoder found alone, as long as none of them was chosen to lead.
        terms: the features to bring to agree, with the weights used last.
        earlier: displacements found in other ways on the way here, on the cells of the features.
        stiffness: (z, y, x), how many times the regulariser counts at each of these cells; None for once.
        energies: of the features at each iteration on the finest level, the last time they were optimised.
        gain_of_details: see `two_encoders.gain_of_details`; 0 with one encoder.
    """

    displacement: torch.Tensor
    spacing: int
    alone: tuple[torch.Tensor, ...] = ()
    terms: tuple[Term, ...] = ()
    earlier: tuple[torch.Tensor, ...] = ()
    stiffness: torch.Tensor | None = None
    energies: tuple[float, ...] = ()
    gain_of_details: float = 0.0

    def check_cells(self, volumes: Volumes, stage: object) -> None:
        """Check that the displacement lies on the cells of the features.

        Raises:
            SettingsError: a stage before brought it to finer cells.
        """
        if self.spacing != volumes.spacing:
            msg = f"{type(stage).__name__} must come before the stages that refine the cells; change their order."
            raise SettingsError(msg)

    def refined(self, displacement: torch.Tensor, **changed: Any) -> Found:
        """Return what was found with a better displacement; the one before is kept as found in another way.

        Args:
            displacement: takes the place of `displacement`.
            changed: other attributes.
        """
        return replace(self, displacement=displacement, earlier=(*self.earlier, self.displacement), **changed)

    @classmethod
    def nothing(cls, volumes: Volumes) -> Found:
        """Return where a registration begins: no displacement anywhere."""
        still = torch.zeros_like(volumes.features[0][0][:1]).expand(3, -1, -1, -1).clone()
        return cls(still, volumes.spacing, (still,) * len(volumes.features), (volumes.term(0, still),))


class Stage(Protocol):
    """One step of the deformable registration; best a frozen dataclass of plain values, for the record."""

    def run(self, volumes: Volumes, found: Found, progress: Progress) -> Found:
        """Return what was found, improved.

        Args:
            volumes: what to compare.
            found: what the stages before this one found.
            progress: `advance` tells how far this stage is, and raises if the run is cancelled.
        """
        ...


@runtime_checkable
class ComparesIntensities(Protocol):
    """A stage that compares intensities, not only features."""

    def intensity_spacing(self, voxels: int, voxel_mm: float, spacing: int) -> int | None:
        """Return the working voxels along one side of the cells it wants intensities of; None where it cannot run.

        Args:
            voxels: number of working voxels.
            voxel_mm: edge of a working voxel.
            spacing: working voxels along one side of a cell of the features.
        """
        ...


def step_names(stages: Sequence[Stage]) -> list[str]:
    """Return the names of the steps of progress: the classes of the stages in words, repeated ones with a number."""
    names: list[str] = []
    for stage in stages:
        name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(stage).__name__).lower()
        times = sum(other == name or other.startswith(f"{name} (") for other in names)
        names.append(f"{name} ({times + 1})" if times else name)
    return names
