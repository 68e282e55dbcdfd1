"""Structures in one volume only, such as a new or resected lesion, where the field is kept stiff.

They have no counterpart, so the forces at their border would only compress them. They are detected without a mask,
where the registered features remain unexplained. Regions that are still far off look the same and are kept stiff too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from ..runtime.progress import Progress
from ..spatial.windows import max_around, mean_around
from .instance_optimisation import Descent, optimise_instance
from .reliability import reliability
from .similarities import Term
from .stages import Found, Volumes

# Half-width of the window for the explained fraction: smaller than a lesion, larger than noise.
_REACH_MM = 4.0
# Cells with a smaller explained fraction begin to count as unmatched. On the lesion phantoms 10 and 11 with MIND, 0.1
# to 0.35 are explained in the lesion, in 95 % of the rest more than 0.55.
_LEAST_EXPLAINED = 0.5


@dataclass(frozen=True)
class UnmatchedStructures:
    """Stage: repeated optimisation on the features, with a stiffer field where only one volume shows a structure.

    Attributes:
        stiffness: extra factor of the regulariser there.
        descent: how.
    """

    stiffness: float
    descent: Descent = Descent()

    def run(self, volumes: Volumes, found: Found, progress: Progress) -> Found:
        """Return the displacement, and the stiffness for the stages that follow; see `Stage`."""
        found.check_cells(volumes, self)
        counted = volumes.counted(found.displacement)
        lone = unmatched(*volumes.features[-1], found.displacement, counted, volumes.cell_mm)
        stiffness = 1.0 + self.stiffness * lone
        matched = [without(lone, term) for term in found.terms]
        optimised = optimise_instance(matched, found.displacement, self.descent, progress, stiffness=stiffness)
        return replace(found, displacement=optimised.displacement, stiffness=stiffness, energies=optimised.energies)


def unmatched(
    fixed: torch.Tensor, moving: torch.Tensor, displacement: torch.Tensor, weight: torch.Tensor | None, cell_mm: float
) -> torch.Tensor:
    """Return (z, y, x) in 0..1, to what degree each fixed cell is unmatched.

    Args:
        fixed: (C, z, y, x) features.
        moving: (C, z, y, x) features.
        displacement: (3, z, y, x) in cells, from fixed to moving.
        weight: (z, y, x) in 0..1, weight of each fixed cell; cells below one half are not tested. None for all 1.
        cell_mm: cell size.
    """
    reach = max(1, round(_REACH_MM / cell_mm))
    explained = reliability(fixed, moving, displacement, weight, reach)
    missing = (1.0 - explained / _LEAST_EXPLAINED).clamp_min_(0.0)
    if weight is not None:
        missing.masked_fill_(weight <= 0.5, 0.0)
    # The border of a lesion is partly explained by its surroundings.
    return mean_around(max_around(missing[None], 1), 1)[0]


def without(share: torch.Tensor, term: Term) -> Term:
    """Return a term with its weight reduced by this fraction (z, y, x) in each cell."""
    weight = 1.0 - share if term.weight is None else term.weight * (1.0 - share)
    return Term(term.fixed, term.moving, weight)
