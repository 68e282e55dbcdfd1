"""Whether the values of a volume are SUV: by its units, or else by the plausibility of its values."""

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
# No SUV image has more than this fraction of voxels above this value, or any value above the highest.
_HIGH_SUV, _HIGH_SHARE, _HIGHEST_SUV = 100.0, 0.01, 1000.0
_NEXT = "Convert it to SUV first, for instance with the extension PETDICOMExtension, and choose that volume."


def suv_caution(pet_node: Any) -> str:
    """Return a warning if it is uncertain that a volume's values are SUV; empty if its units say so.

    Raises:
        BridgeError: its units are not SUV.
    """
    name = pet_node.GetName()
    quantity, units = _words(pet_node.GetVoxelValueQuantity()), _words(pet_node.GetVoxelValueUnits())
    if quantity or units:
        if _says_suv(quantity, units):
            return ""
        msg = (
            f"'{name}' is in {(units or quantity)[-1]}, not SUV: the colours of an SUV window would be wrong. {_NEXT}"
        )
        raise BridgeError(msg)
    values = array_from_image(pet_node.GetImageData())
    highest = float(np.nanmax(values))
    if highest > _HIGHEST_SUV or np.count_nonzero(values > _HIGH_SUV) > _HIGH_SHARE * values.size:
        return (
            f"'{name}' has no units, and its values (up to {highest:.0f}) are beyond any SUV: the colours are most "
            f"likely wrong. {_NEXT}"
        )
    return f"'{name}' has no units; its values are assumed to be SUV."


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
    """Whether quantity and units together denote SUV."""
    of_units, both = " ".join(units).casefold(), " ".join([*quantity, *units]).casefold()
    if any(word in of_units for word in _ACTIVITY_WORDS):
        return False
    if not quantity:
        return of_units.startswith("g/ml") or any(word in of_units for word in _SUV_WORDS)
    return bool(_SUV_QUANTITIES & set(quantity)) or any(word in both for word in _SUV_WORDS)
