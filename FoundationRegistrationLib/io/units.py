"""What the values of a volume are, such as SUV, in the one header entry that NIfTI, NRRD and MetaImage keep."""

from __future__ import annotations

import SimpleITK as sitk

# ITK's name of the description of a file; at most 79 characters in NIfTI.
_ENTRY = "ITK_FileNotes"
_BEGINNING = "Voxel values: "


def set_units(image: sitk.Image, units: str) -> None:
    """State the units of a volume, such as "SUVbw g/ml"; nothing is stated if they are empty."""
    if units:
        image.SetMetaData(_ENTRY, f"{_BEGINNING}{units}")


def units_of(image: sitk.Image) -> str:
    """Return the units that `set_units` stated, also after writing and reading; empty if there are none."""
    return described_units(image.GetMetaData(_ENTRY)) if image.HasMetaDataKey(_ENTRY) else ""


def described_units(description: str) -> str:
    """Return the units in the description of a file; empty if it states none."""
    return description.removeprefix(_BEGINNING).strip() if description.startswith(_BEGINNING) else ""
