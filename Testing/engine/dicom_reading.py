"""Reading in the tests of DICOM: what comes out, with which words it is refused, how a folder is spoilt."""

import shutil

import numpy as np
import pytest
from dicom_series import scene, write_series, write_slice
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.io.dicom import read_dicom
from FoundationRegistrationLib.io.volumes import read_volume

TURNED = np.array([[np.cos(0.02), np.sin(0.02), 0], [-np.sin(0.02), np.cos(0.02), 0]])
ROUNDING = 0.51  # of values to whole numbers
SYNTAXES = (
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless,
)  # fmt: skip


def read(path):
    """The volume and what was said of it."""
    messages = []
    return read_dicom(path, f"The fixed volume '{path}'", messages), messages


def elsewhere(points):
    """What another volume shows."""
    return 0.8 * scene(points + np.array([7.0, -5.0, 9.0])) + 40


def refused(path):
    """The words with which a file or folder is refused."""
    with pytest.raises(InputError) as error:
        read_volume(path, "fixed", [])
    message = str(error.value)
    assert message.startswith("The fixed volume '") and message.endswith(".") and "\n" not in message
    return message.replace(str(path), "")


def change(index, **tags):
    """Write one slice again, with other tags."""
    return lambda folder, places: write_slice(folder / f"s{index:03d}.dcm", places[index], **tags)


def add(places=None, name="x{:03d}.dcm", **options):
    """Add slices, by default another volume at the same places."""
    return lambda folder, there: write_series(
        folder, there if places is None else places, name, **{"show": elsewhere, **options}
    )


def spoil(index, make):
    """Replace the bytes of one file."""

    def spoiled(folder, _):
        path = folder / f"s{index:03d}.dcm"
        path.write_bytes(make(path.read_bytes()))

    return spoiled


def without(*indices):
    """Take slices away."""
    return lambda folder, _: [(folder / f"s{k:03d}.dcm").unlink() for k in indices]


def sheared(folder, places):
    for k, place in enumerate(places):
        write_slice(folder / f"s{k:03d}.dcm", place + np.array([0, 0.8 * k, 0]), InstanceNumber=k + 1)


def unequal(folder, places):
    for k, place in enumerate(places):
        write_slice(folder / f"s{k:03d}.dcm", place + np.array([0, 0, max(0, k - 3) * 2.5]))


def copied_below(folder, _):
    (folder / "below").mkdir()
    shutil.copy(folder / "s002.dcm", folder / "below" / "s002.dcm")


def copied(folder, _):
    shutil.copy(folder / "s002.dcm", folder / "s002 copy.dcm")
