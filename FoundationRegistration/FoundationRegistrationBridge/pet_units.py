"""Whether the values of a volume are SUV: by the units it carries, or else by what the values can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from .errors import BridgeError
from .grids import array_from_image

# DICOM part 16: Standardized Uptake Value, and that by body weight, lean mass, surface and ideal weight.
_SUV_QUANTITIES = {"126400", "126401", "126402", "126403", "126404", "126405", "126406"}
_SUV_WORDS = ("suv", "standardized uptake", "standardised uptake")
_ACTIVITY_WORDS = ("bq", "becquerel")
# More than this share of a volume above this value, or any value above the highest, is no SUV that occurs.
_HIGH_SUV, _HIGH_SHARE, _HIGHEST_SUV = 100.0, 0.01, 1000.0
_NEXT = "Convert it to SUV first, for instance with the extension PETDICOMExtension, and choose that volume."


def suv_caution(pet_node: Any) -> str:
    """Return in a sentence what is not sure about a volume's values being SUV; empty if its units say they are.

    Raises:
        BridgeError: its units say that they are something else.
    """
    name = pet_node.GetName()
    quantity, units = _words(pet_node.GetVoxelValueQuantity()), _words(pet_node.GetVoxelValueUnits())
    if quantity or units:
        if _says_suv(quantity, units):
            return ""
        msg = f"'{name}' is in {(units or quantity)[-1]}, not SUV: an SUV window would paint it wrongly. {_NEXT}"
        raise BridgeError(msg)
    values = array_from_image(pet_node.GetImageData())
    highest = float(np.nanmax(values))
    if highest > _HIGHEST_SUV or np.count_nonzero(values > _HIGH_SUV) > _HIGH_SHARE * values.size:
        return (
            f"'{name}' does not say its units, and its values (up to {highest:.0f}) are beyond any SUV: the colours "
            f"are most likely wrong. {_NEXT}"
        )
    return f"'{name}' does not say its units; its values are taken for SUV."


def mark_as_suv(node: Any) -> None:
    """Say on a volume node that its values are SUV by body weight, in the codes that DICOM has for it."""
    for take, codes in (
        (node.SetVoxelValueQuantity, ("126400", "DCM", "Standardized Uptake Value")),
        (node.SetVoxelValueUnits, ("{SUVbw}g/ml", "UCUM", "Standardized Uptake Value body weight")),
    ):
        entry = slicer.vtkCodedEntry()
        entry.SetValueSchemeMeaning(*codes)
        take(entry)


def _words(entry: Any | None) -> list[str]:
    """Return code and meaning of a coded entry, as far as it has them."""
    texts = (entry.GetCodeValue(), entry.GetCodeMeaning()) if entry is not None else ()
    return [text for text in texts if text]


def _says_suv(quantity: list[str], units: list[str]) -> bool:
    """Tell whether quantity and units, taken together, are those of SUV."""
    of_units, both = " ".join(units).casefold(), " ".join([*quantity, *units]).casefold()
    if any(word in of_units for word in _ACTIVITY_WORDS):
        return False
    if not quantity:
        return of_units.startswith("g/ml") or any(word in of_units for word in _SUV_WORDS)
    return bool(_SUV_QUANTITIES & set(quantity)) or any(word in both for word in _SUV_WORDS)
