"""Whether the values of a volume are SUV, by its units or else by their plausibility; if not, a scale for display."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer

from .grids import array_from_image

# DICOM part 16: Standardized Uptake Value, and that by body weight, lean mass, surface and ideal weight.
_SUV_QUANTITIES = {"126400", "126401", "126402", "126403", "126404", "126405", "126406"}
_SUV_WORDS = ("suv", "standardized uptake", "standardised uptake")
_ACTIVITY_WORDS = ("bq", "becquerel")
# No SUV image has more than this fraction of voxels above this value, or any value above the highest.
_HIGH_SUV, _HIGH_SHARE, _HIGHEST_SUV = 100.0, 0.01, 1000.0
_NEXT = (
    "Convert it to SUV for values that can be compared, for instance with the extension PETDICOMExtension, and "
    "choose that volume."
)


@dataclass(frozen=True)
class PetScale:
    """How an SUV window is applied to a volume.

    Attributes:
        factor: value of the volume for one SUV of the window: 1 if the values are SUV; else a rough one, from the
            median uptake of the body.
        units: of the values, if they are not SUV; empty if they are.
        caution: why the values are not, or perhaps not, SUV; empty if the units say that they are.
    """

    factor: float
    units: str
    caution: str

    def words(self, lower_suv: float, upper_suv: float) -> str:
        """Return the caution for a window, with the values that its colours stand for if they are not SUV."""
        if not self.units:
            return self.caution
        window = f"{self.factor * lower_suv:.3g} to {self.factor * upper_suv:.3g} {self.units}"
        return f"{self.caution} The colours go from {window}, estimated from its own values. {_NEXT}"


def says_suv(volume: Any) -> bool:
    """Whether quantity and units of a volume declare its values SUV."""
    return _says_suv(_words(volume.GetVoxelValueQuantity()), _words(volume.GetVoxelValueUnits()))


def pet_scale(pet_node: Any) -> PetScale:
    """Return how an SUV window applies to a volume with voxels."""
    name = pet_node.GetName()
    quantity, units = _words(pet_node.GetVoxelValueQuantity()), _words(pet_node.GetVoxelValueUnits())
    if _says_suv(quantity, units):
        return PetScale(1.0, "", "")
    values = array_from_image(pet_node.GetImageData())
    if quantity or units:
        what = (units or quantity)[-1]
        return PetScale(_about_one_suv(values), what, f"'{name}' is in {what}, not SUV.")
    highest = float(np.nanmax(values))
    if highest > _HIGHEST_SUV or np.count_nonzero(values > _HIGH_SUV) > _HIGH_SHARE * values.size:
        caution = f"'{name}' has no units, and its values (up to {highest:.0f}) are beyond any SUV."
        return PetScale(_about_one_suv(values), "(unknown units)", caution)
    return PetScale(1.0, "", f"'{name}' has no units; its values are assumed to be SUV.")


def _about_one_suv(values: np.ndarray) -> float:
    """Return about which value is SUV 1; 1 if there is no uptake."""
    from FoundationRegistrationLib.pipeline.preprocessing.foreground import half_li_threshold
    from FoundationRegistrationLib.pipeline.preprocessing.modality import value_of_one_suv

    finite = values[np.isfinite(values)]
    uptake = finite[finite > 0]
    if not uptake.size:
        return 1.0
    body = uptake[uptake > half_li_threshold(finite)]
    return value_of_one_suv(body if body.size else uptake)


def mark_as_suv(node: Any) -> None:
    """Set DICOM codes on a volume node that declare its values SUV by body weight."""
    for take, codes in (
        (node.SetVoxelValueQuantity, ("126400", "DCM", "Standardized Uptake Value")),
        (node.SetVoxelValueUnits, ("{SUVbw}g/ml", "UCUM", "Standardized Uptake Value body weight")),
    ):
        entry = slicer.vtkCodedEntry()
        entry.SetValueSchemeMeaning(*codes)
        take(entry)


def _words(entry: Any | None) -> list[str]:
    """Return code and meaning of a coded entry, if present."""
    texts = (entry.GetCodeValue(), entry.GetCodeMeaning()) if entry is not None else ()
    return [text for text in texts if text]


def _says_suv(quantity: list[str], units: list[str]) -> bool:
    """Whether quantity and units together denote SUV; not if both are missing."""
    of_units, both = " ".join(units).casefold(), " ".join([*quantity, *units]).casefold()
    if any(word in of_units for word in _ACTIVITY_WORDS):
        return False
    if not quantity:
        return of_units.startswith("g/ml") or any(word in of_units for word in _SUV_WORDS)
    return bool(_SUV_QUANTITIES & set(quantity)) or any(word in both for word in _SUV_WORDS)
