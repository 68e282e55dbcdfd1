"""Registered DICOM series, and the commands that write DICOM from them."""

import shutil
import subprocess

import pydicom
import pytest
from dicom_patient import TURNED, write_scan
from dicom_series import MR, SAGITTAL
from finished import finish

from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.io.dicom import series_uids
from FoundationRegistrationLib.io.volumes import read_volume

VALIDATOR = shutil.which("dciodvfy")
NEEDS_VALIDATOR = pytest.mark.skipif(VALIDATOR is None, reason="dciodvfy is in Debian's package dicom3tools")
CLOSE_MM = 0.05
TODAY, LAST_YEAR = "20240102", "20230101"


def last_year_onto_today(folder):
    """An oblique MR of today registered with a sagittal one of last year, by a known transform."""
    return registered(folder, MR, axes=SAGITTAL, day=LAST_YEAR)


def registered(folder, storage_class, transform=None, fixed_axes=TURNED, **options):
    write_scan(folder / "fixed", day=TODAY, axes=fixed_axes)
    write_scan(folder / "moving", storage_class, **options)
    inputs = {side: {"path": str(folder / side), **series_uids(folder / side)} for side in ("fixed", "moving")}
    volumes = [read_volume(folder / side, side, []) for side in ("fixed", "moving")]
    finish(folder / "result", *volumes, transform=transform, inputs=inputs)
    return folder


def run(*command):
    return main([str(word) for word in command])


def apply(folder, *more):
    reference = () if "--reference" in more else ("--reference", folder / "fixed")
    return run("apply", folder / "result", "--dicom", folder / "out", *reference, *more)


def refused(capsys, folder, *command):
    """The line with which a command is refused; nothing is written."""
    before = sorted(folder.rglob("*"))
    capsys.readouterr()
    assert run(*command) == 2
    assert sorted(folder.rglob("*")) == before
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.endswith(".\n")
    return said


def headers(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]


def errors_in(path):
    """What dciodvfy says is wrong."""
    said = subprocess.run([VALIDATOR, str(path)], capture_output=True, text=True, check=False)
    return [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]
