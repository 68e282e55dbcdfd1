"""Reading and writing volume and label map files."""

from __future__ import annotations

import logging
import os
import re
import struct
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError, OutputError
from ..runtime.progress import tell
from .dicom import is_dicom, read_dicom
from .integrity import check_whole, meta_voxels, nrrd_voxels
from .nifti import first_bytes, has_niftis_name, is_nifti, read_nifti
from .paths import called, check_input, reason
from .placement import UNKNOWN_ORIENTATION, meta_doubts, nrrd_doubts
from .quiet import reader_heard
from .streams import GZIP_MAGIC, check_length, counted, damaged, pieces
from .written import check_room, check_volume, incomplete

_LOGGER = logging.getLogger(__name__)

# Messages of ITK's readers, and their meaning for the user.
_READER_COMPLAINTS = {
    "spacing": "has a voxel spacing of zero or less; correct its header",
    "orthonormal": "has axes that are not perpendicular unit vectors; resample it to a proper grid",
    "direction": "has axes that are not perpendicular unit vectors; resample it to a proper grid",
    "unable to determine imageio": "is not a supported image; give NIfTI, NRRD, MetaImage or a DICOM series",
}
_NOT_READABLE = "cannot be read as an image; open it in 3D Slicer and save it as .nrrd or .nii.gz"
_DAMAGE = re.compile(r"truncated|not read completely|uncompress failed|(can ?not|failed to) read|read error", re.I)
# Beginnings of these formats, also of truncated files.
_BEGINNINGS = (b"NRRD", GZIP_MAGIC, *(struct.pack(f"{order}i", size) for order in "<>" for size in (348, 540)))
# Formats without patient orientation, with the header before uncompressed voxels.
_PLAIN_FORMATS = {
    "GiplImageIO": re.compile(rb".{256}", re.DOTALL),
    "MRCImageIO": re.compile(rb".{1024}", re.DOTALL),
    "VTKImageIO": re.compile(rb".*?\n(BINARY\n.*?\n(LOOKUP_TABLE|VECTORS)[^\n]*\n|ASCII\n)", re.DOTALL),
    **dict.fromkeys(("TIFFImageIO", "LSMImageIO", "PNGImageIO", "JPEGImageIO", "JPEG2000ImageIO", "BMPImageIO")),
    **dict.fromkeys(("BioRadImageIO", "StimulateImageIO")),
}
_LONGEST_PLAIN_HEADER = 2048
# Formats that keep position and orientation.
_KEEP_ORIENTATION = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


def read_volume(
    path: str | os.PathLike[str],
    role: str = "given",
    messages: list[str] | None = None,
    series: str | None = None,
) -> sitk.Image:
    """Read a volume of any pixel type, only if it is complete.

    Args:
        path: NIfTI, NRRD, MetaImage or another format of SimpleITK; a DICOM file, or a folder with one series.
        role: its name in error messages, such as "fixed".
        messages: warnings about the file are appended, the most serious first; if None, they are logged.
        series: of a DICOM folder with several series, the one to read: its number, its UID or the beginning of it,
            its description or a part of it.

    Returns:
        The volume in LPS, with rescaled intensities. A DICOM PET is converted to SUV by body weight if its header
        allows; a message says so, or why not.

    Raises:
        InputError: it is missing, not an image, incomplete, or has an invalid header.
    """
    found: list[str] = []
    image = read_image(Path(path), f"{role} volume", found, series)
    tell(found, messages, _LOGGER)
    return image


def read_image(path: Path, what: str, messages: list[str], series: str | None = None) -> sitk.Image:
    """Read an image like `read_volume`; `what` is its kind in messages, such as "displacement field".

    Raises:
        InputError: it is missing, not an image, incomplete, or has an invalid header.
    """
    check_input(path, what)
    name = called(what, path)
    found: list[str] = []
    try:
        image = _read(path, name, found, series)
    except OSError as error:
        msg = f"{name} cannot be read ({reason(error)}); check your permissions and the disk, or copy it again."
        raise InputError(msg) from error
    except RuntimeError as error:
        text = str(error).lower()
        complaint = next((said for key, said in _READER_COMPLAINTS.items() if key in text), _NOT_READABLE)
        msg = f"{name} {complaint}."
        raise InputError(msg) from error
    if not np.isfinite([*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection()]).all():
        msg = f"{name} has a position or voxel spacing that is not a number; convert it again or correct its header."
        raise InputError(msg)
    messages += found
    return image


def header_fields(path: Path) -> dict[str, str]:
    """Return the header entries that ITK gives as text; none if unreadable, which `read_image` reports."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with reader_heard():
            reader.ReadImageInformation()
    except RuntimeError:
        return {}
    return {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}


def _read(path: Path, name: str, messages: list[str], series: str | None) -> sitk.Image:
    """Read a file or folder by its content, not its name."""
    if path.is_dir() or series is not None:
        return _read_dicom(path, name, messages, series)
    with path.open("rb") as stream:
        head = stream.read(len("NRRD"))
    if not head:
        raise damaged(name)
    if head == b"NRRD":
        return _read_nrrd(path, name, messages)
    head = first_bytes(path, name)
    if is_nifti(path, head):
        return read_nifti(path, name, messages)
    if path.suffix.lower() in (".mha", ".mhd"):
        return _read_meta(path, name, messages)
    if path.suffix.lower() in (".nrrd", ".nhdr") or has_niftis_name(path):
        if not any(head) or any(head.startswith(begin[: len(head)]) for begin in _BEGINNINGS):
            raise damaged(name)
        if head[128:132] != b"DICM":
            msg = f"{name} {_READER_COMPLAINTS['unable to determine imageio']}."
            raise InputError(msg)
    with reader_heard():
        dicom = is_dicom(path)
    return (_read_dicom if dicom else _read_other)(path, name, messages)


def _read_dicom(path: Path, name: str, messages: list[str], series: str | None = None) -> sitk.Image:
    with reader_heard():
        return read_dicom(path, name, messages, series)


def _read_nrrd(path: Path, name: str, messages: list[str]) -> sitk.Image:
    voxels = nrrd_voxels(path, name)
    check_whole(path, voxels, name, messages)
    messages[:0] = [f"{name} {doubt}" for doubt in nrrd_doubts(voxels.fields)]
    with reader_heard():
        return sitk.ReadImage(str(path), imageIO="NrrdImageIO")


def _read_meta(path: Path, name: str, messages: list[str]) -> sitk.Image:
    voxels = meta_voxels(path, name)
    check_whole(path, voxels, name, messages)
    messages[:0] = [f"{name} {doubt}" for doubt in meta_doubts(voxels.fields, name)]
    with reader_heard():
        return sitk.ReadImage(str(path), imageIO="MetaImageIO")


def _read_other(path: Path, name: str, messages: list[str]) -> sitk.Image:
    """Read a format that only ITK knows; its complaints become errors or warnings."""
    failure: RuntimeError | None = None
    with reader_heard() as heard:
        try:
            reader = sitk.ImageFileReader.GetImageIOFromFileName(str(path))
            image = sitk.ReadImage(str(path))
        except RuntimeError as error:
            failure = error
    if any(_DAMAGE.search(line) for line in heard):
        raise damaged(name) from failure
    if failure is not None:
        raise failure
    if reader in _PLAIN_FORMATS:
        _check_plain_length(path, image, _PLAIN_FORMATS[reader], name)
        why = f"{reader.removesuffix('ImageIO')} files cannot"
        messages.append(f"{name} {UNKNOWN_ORIENTATION.format(why)}")
    elif heard:
        messages.append(f"{name} was read with a warning: {heard[0]}")
    return image


def _check_plain_length(path: Path, image: sitk.Image, header: re.Pattern[bytes] | None, name: str) -> None:
    """Check that an uncompressed file has the length of its header and voxels."""
    found = header.match(first_bytes(path, name, _LONGEST_PLAIN_HEADER)) if header else None
    if found is None or found[0].endswith(b"ASCII\n"):
        return
    values = image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel()
    needed = len(found[0]) + values * image.GetSizeOfPixelComponent()
    with path.open("rb") as stream:
        check_length(min(counted(pieces(stream, name), needed), needed), needed, name, [])


def read_labels(path: Path, role: str, messages: list[str]) -> sitk.Image:
    """Read a label map or mask; floating point is accepted if all values are whole numbers.

    Args:
        path: as in `read_volume`.
        role: its name in error messages, such as "fixed mask".
        messages: warnings about the file are appended, the most serious first.

    Raises:
        InputError: it is missing, not an image, incomplete, or not whole numbers.
    """
    return whole_numbers(read_image(path, role, messages), called(role, path))


def whole_numbers(image: sitk.Image, name: str) -> sitk.Image:
    """Return a label map of an integer pixel type; floating point is accepted if all values are whole numbers.

    Raises:
        InputError: they are not; `name` is the name of the label map.
    """
    values = sitk.GetArrayViewFromImage(image)
    is_float = values.dtype.kind == "f"
    if is_float and not np.array_equal(values, np.rint(values)):  # NaN is not a label either
        msg = f"{name} holds fractions or NaN; give whole numbers, one per structure."
        raise InputError(msg)
    if max(-float(values.min()), float(values.max())) > np.iinfo(np.int32).max:
        msg = f"{name} holds numbers too large for labels; give small whole numbers."
        raise InputError(msg)
    return sitk.Cast(image, sitk.sitkInt32) if is_float else image


def check_volume_name(path: Path) -> None:
    """Check that the file type can keep the position and orientation of a volume.

    Raises:
        OutputError: it cannot (TIFF, VTK, GIPL), or is not an image type.
    """
    if not path.name.lower().endswith(_KEEP_ORIENTATION):
        msg = f"'{path.name}' cannot keep the orientation of a volume; use .nii.gz, .nrrd or .mha."
        raise OutputError(msg)


def write_volume_directly(image: sitk.Image, path: Path) -> None:
    """Write a volume directly to its path and read it back; for staging folders.

    Raises:
        OutputError: it cannot be written completely, or the format cannot hold it.
    """
    check_room(path, image)
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        msg = f"Cannot write '{path.name}': unknown file type, full disk or no permission; choose .nii.gz or .nrrd."
        raise OutputError(msg) from error
    try:
        found = read_image(path, "written volume", [])
    except InputError as error:
        raise incomplete(path) from error
    check_volume(path, found, image)
