"""What only one volume shows, such as a lesion that has come or gone, and where the field is therefore to stay stiff.

Nothing on the other side corresponds to it, so the pull of its border only squeezes it. It is found without a mask,
by what the registered features leave unexplained. A place that is still far off cannot be told from it and is
held too.
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

# So far to either side the explanation is judged: less than a lesion is wide, more than noise is.
_REACH_MM = 4.0
# Where less than this share of the features' variation is explained, a place begins to count as unmatched. On the
# lesion phantoms 10 and 11 with MIND, 0.1 to 0.35 are explained in the lesion, in 95 % of the rest more than 0.55.
_LEAST_EXPLAINED = 0.5


@dataclass(frozen=True)
class UnmatchedStructures:
    """The stage: the features are optimised once more, the field stiffer where only one volume shows a structure.

    Attributes:
        stiffness: how many times the regulariser is added there.
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
    """Return (z, y, x) in 0..1, how far each fixed cell shows something that only one of the volumes has.

    Args:
        fixed: (C, z, y, x) features.
        moving: (C, z, y, x) features.
        displacement: (3, z, y, x) in cells, from fixed to moving.
        weight: (z, y, x) in 0..1, how much each fixed cell counts; what counts less than half is not judged. None
            counts all fully.
        cell_mm: edge of a cell.
    """
    reach = max(1, round(_REACH_MM / cell_mm))
    explained = reliability(fixed, moving, displacement, weight, reach)
    missing = (1.0 - explained / _LEAST_EXPLAINED).clamp_min_(0.0)
    if weight is not None:
        missing.masked_fill_(weight <= 0.5, 0.0)
    # The border of a lesion is explained in part, by what is beside it.
    return mean_around(max_around(missing[None], 1), 1)[0]


def without(share: torch.Tensor, term: Term) -> Term:
    """Return a term that counts less, by this share (z, y, x) of each cell."""
    weight = 1.0 - share if term.weight is None else term.weight * (1.0 - share)
    return Term(term.fixed, term.moving, weight)
