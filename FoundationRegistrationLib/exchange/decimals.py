"""DICOM decimal strings."""

from __future__ import annotations

from pydicom.valuerep import format_number_as_ds


def decimal(value: float) -> str:
    """Return a number as a DICOM decimal string, as exact as its 16 characters allow."""
    return str(format_number_as_ds(float(value)))
