"""The stage in which two encoders refine one displacement together."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SettingsError
from ..runtime.progress import Progress
from .instance_optimisation import Descent, optimise_instance
from .stages import Found, Volumes
from .two_encoders import shared_by_reliability


@dataclass(frozen=True)
class SharedRefinement:
    """Both features refine what was found, the second taking over at each place as far as it is reliable there.

    Attributes:
        descent: how.
    """

    descent: Descent = Descent()

    def run(self, volumes: Volumes, found: Found, progress: Progress) -> Found:
        """Return the displacement refined by both; see `Stage`.

        Raises:
            SettingsError: there are not two encoders.
        """
        found.check_cells(volumes, self)
        if len(volumes.features) != 2:
            msg = "SharedRefinement needs two encoders; name them as A+B, or leave this stage out."
            raise SettingsError(msg)
        lead, details = volumes.features
        displacement = found.displacement
        terms = shared_by_reliability(lead, details, displacement, volumes.counted(displacement))
        optimised = optimise_instance(terms, displacement, self.descent, progress, stiffness=found.stiffness)
        return found.refined(optimised.displacement, terms=tuple(terms), energies=optimised.energies)
