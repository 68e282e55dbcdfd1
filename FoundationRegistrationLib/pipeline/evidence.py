"""All that is measured of a finished registration to judge it, without any truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import SimpleITK as sitk
import torch

from .agreement import Agreement, fraction_in_common, measure_agreement
from .fine_structure import FineStructure, measure_fine_structure
from .outlines import OutlineDistance, measure_outlines
from .overlaid import Overlaid
from .preprocessing import PreparedVolume


@dataclass(frozen=True)
class Evidence:
    """Measures of a registration.

    Attributes:
        in_common: fraction of the smaller patient region that lies within the other.
        agreement: mutual information, also in other orientations; None if too little can be compared.
        fine_structure: None if too little can be compared.
        outlines: None if hardly any outline is in both fields of view.
        expected_error: figures of the expected error.
        found_automatically: whether the initial alignment was automatic, so that it should be right if they match.
    """

    in_common: float
    agreement: Agreement | None
    fine_structure: FineStructure | None
    outlines: OutlineDistance | None
    expected_error: Mapping[str, float | None]
    found_automatically: bool

    @classmethod
    def of(
        cls,
        fixed: PreparedVolume,
        moving: PreparedVolume,
        initial: sitk.Transform,
        transform: sitk.Transform,
        expected_error: Mapping[str, float | None],
        device: torch.device,
        *,
        found_automatically: bool,
    ) -> Evidence:
        """Measure a registration.

        Args:
            fixed: fixed volume.
            moving: moving volume.
            initial: maps fixed to moving points, LPS mm, before the deformable stages.
            transform: the whole transform.
            expected_error: figures of the expected error.
            device: where tensors live.
            found_automatically: whether `initial` was found from the volumes.
        """
        overlaid = Overlaid.of(fixed, moving, transform, device)
        return cls(
            in_common=fraction_in_common(fixed, moving, transform),
            agreement=measure_agreement(fixed, moving, initial, transform),
            fine_structure=measure_fine_structure(overlaid),
            outlines=measure_outlines(overlaid),
            expected_error=expected_error,
            found_automatically=found_automatically,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the measures for JSON."""
        measured = {"agreement": self.agreement, "fine_structure": self.fine_structure, "outlines": self.outlines}
        return {
            "in_common": self.in_common,
            **{name: None if each is None else each.to_dict() for name, each in measured.items()},
        }
