"""Combining two encoders: which one to start from, and their local weights.

The first finds large displacements, the second refines them; but if the first has failed, the second leads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ..spatial.sampling import Weights, weight_on_both_sides
from .reliability import mean_reliability, reliability
from .similarities import Term
from .stages import Pair

# The detail encoder leads only if its own result explains this much more, of 2 for both features: fine features
# always explain themselves well when registered alone. On PET-CT phantoms 10 and 11, where the main encoder is right,
# it is 0.04 to 0.10; on phantom 1, where LiteMedSAM is wrong, 0.17.
_LEAST_GAIN_OF_DETAILS = 0.125
# Exponent of the weight of the leading features, see `shared_by_reliability`.
_POWER_OF_LEAD = 2


def gain_of_details(features: Sequence[Pair], found: Sequence[torch.Tensor], weights: Weights) -> float:
    """Return how much more the second features' displacement explains than the first's, of 2 for both features.

    Args:
        features: (C, z, y, x) of both volumes, for each encoder.
        found: the displacement (3, z, y, x) in cells from each pair of features alone.
        weights: (z, y, x), weight of each cell.
    """
    explained = []
    for displacement in found:
        counted = weight_on_both_sides(*weights, displacement)
        explained.append(math.fsum(mean_reliability(*pair, displacement, counted) for pair in features))
    return explained[1] - explained[0]


def details_lead(gain: float) -> bool:
    """Whether a gain means that the first features failed."""
    return gain > _LEAST_GAIN_OF_DETAILS


def shared_by_reliability(
    lead: Pair,
    details: Pair,
    displacement: torch.Tensor,
    weight: torch.Tensor | None,
) -> list[Term]:
    """Return both features as terms that share the weight of each cell.

    The weight of the leading features is a power of the fraction that the details leave unexplained, and the details
    have the rest: these decide alone where they agree, and do not count where they agree no better than by chance.
    """
    left = (1.0 - reliability(*details, displacement, weight)).pow_(_POWER_OF_LEAD)
    of_details = 1.0 - left
    if weight is not None:
        left, of_details = left * weight, of_details * weight
    return [Term(*lead, left), Term(*details, of_details)]
