"""What a verdict on a registration is based on, without any truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..driving import StructureAgreement
from .agreement import Agreement
from .fine_structure import FineStructure
from .outlines import OutlineDistance


@dataclass(frozen=True)
class Evidence:
    """Measures of a registration.

    Attributes:
        in_common: fraction of the smaller patient region that lies within the other.
        agreement: mutual information, also in other orientations; None if too little can be compared.
        fine_structure: None if too little can be compared.
        outlines: None if hardly any outline is in both fields of view.
        expected_error: figures of the expected error, None if not known.
        one_modality: whether both volumes are of one modality.
        found_automatically: whether the initial alignment was automatic, so that it should be right if they match.
        deformable: whether tissue could change its shape; else fine structure need not agree everywhere.
        structures: how each given structure agrees after the registration.
        points_left_mm: by name, how far each point that drove is off after the registration.
        intensities_compared: False if only structures and points were compared.
    """

    in_common: float
    agreement: Agreement | None
    fine_structure: FineStructure | None
    outlines: OutlineDistance | None
    expected_error: Mapping[str, float | None]
    one_modality: bool
    found_automatically: bool
    deformable: bool = True
    structures: Sequence[StructureAgreement] = ()
    points_left_mm: Mapping[str, float] = field(default_factory=dict)
    intensities_compared: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the measures for JSON."""
        measured = {"agreement": self.agreement, "fine_structure": self.fine_structure, "outlines": self.outlines}
        return {
            "in_common": self.in_common,
            "structures": [each.to_dict() for each in self.structures],
            **{name: None if each is None else each.to_dict() for name, each in measured.items()},
        }
