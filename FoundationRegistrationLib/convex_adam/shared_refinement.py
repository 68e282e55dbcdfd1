"""Joint refinement of one displacement by two encoders."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import SettingsError
from ..runtime.progress import Progress
from .instance_optimisation import Descent, optimise_instance
from .stages import Found, Volumes
from .two_encoders import shared_by_reliability


@dataclass(frozen=True)
class SharedRefinement:
    """Stage: refinement by both features, the second replacing the first where it is reliable.

    Attributes:
        descent: how.
    """

    descent: Descent = Descent()

    def run(self, volumes: Volumes, found: Found, progress: Progress) -> Found:
        """Return the refined displacement; see `Stage`.

        Raises:
            SettingsError: there are not two encoders.
        """
        if len(volumes.features) != 2:
            msg = "SharedRefinement needs two encoders; name them as A+B, or omit this stage."
            raise SettingsError(msg)
        lead, details = volumes.features
        displacement = found.displacement
        terms = shared_by_reliability(lead, details, displacement, volumes.counted(displacement))
        optimised = optimise_instance(
            terms,
            displacement,
            self.descent,
            progress,
            kept_volume=volumes.kept_volume,
            points=volumes.points,
        )
        return found.refined(optimised.displacement, terms=tuple(terms), energies=optimised.energies)
