"""Reading and writing volumes and label maps as files, with errors that say what to do."""

from __future__ import annotations

import logging
import os
import re
import struct
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError, OutputError
from .dicom import is_dicom, read_dicom
from .integrity import check_whole, meta_voxels, nrrd_voxels
from .nifti import first_bytes, has_niftis_name, is_nifti, read_nifti
from .paths import called, check_input, reason
from .placement import UNKNOWN_ORIENTATION, meta_doubts, nrrd_doubts
from .quiet import reader_heard
from .streams import GZIP_MAGIC, check_length, counted, damaged, pieces
from .written import check_room, check_volume, incomplete

_LOGGER = logging.getLogger(__name__)

# What ITK's readers say, and what it means for the user.
_READER_COMPLAINTS = {
    "spacing": "has a voxel spacing of zero or less; correct its header",
    "orthonormal": "has axes that are not perpendicular unit vectors; resample it to a proper grid",
    "direction": "has axes that are not perpendicular unit vectors; resample it to a proper grid",
    "unable to determine imageio": "is not an image; give NIfTI, NRRD, MetaImage or a DICOM slice series as such",
}
_NOT_READABLE = "cannot be read as an image; open it in 3D Slicer and save it as .nrrd or .nii.gz"
_DAMAGE = re.compile(r"truncated|not read completely|uncompress failed|(can ?not|failed to) read|read error", re.I)
# How files of these kinds begin, however short they were cut.
_BEGINNINGS = (b"NRRD", GZIP_MAGIC, *(struct.pack(f"{order}i", size) for order in "<>" for size in (348, 540)))
# Formats that know nothing of a patient, with the header before their voxels where these are not compressed.
_PLAIN_FORMATS = {
    "GiplImageIO": re.compile(rb".{256}", re.DOTALL),
    "MRCImageIO": re.compile(rb".{1024}", re.DOTALL),
    "VTKImageIO": re.compile(rb".*?\n(BINARY\n.*?\n(LOOKUP_TABLE|VECTORS)[^\n]*\n|ASCII\n)", re.DOTALL),
    **dict.fromkeys(("TIFFImageIO", "LSMImageIO", "PNGImageIO", "JPEGImageIO", "JPEG2000ImageIO", "BMPImageIO")),
    **dict.fromkeys(("BioRadImageIO", "StimulateImageIO")),
}
_LONGEST_PLAIN_HEADER = 2048
# Formats that keep the place and the orientation of the voxels.
_KEEP_ORIENTATION = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


def read_volume(path: str | os.PathLike[str], role: str = "given", messages: list[str] | None = None) -> sitk.Image:
    """Read a volume of any pixel type: the file that is named, and only if it is whole.

    Args:
        path: NIfTI, NRRD, MetaImage or whatever else SimpleITK reads; a DICOM file, or a folder with one series.
        role: its name in error messages, such as "fixed".
        messages: what the user must know of the file is appended, the most alarming first; if None, it is logged as
            warnings.

    Returns:
        The volume in LPS, intensities as the file means them.

    Raises:
        InputError: missing, no image, not whole, or an unsound header.
    """
    found: list[str] = []
    image = read_image(Path(path), f"{role} volume", found)
    if messages is None:
        for message in found:
            _LOGGER.warning(message)
    else:
        messages += found
    return image


def read_image(path: Path, what: str, messages: list[str]) -> sitk.Image:
    """Read an image as `read_volume` does; `what` it is in messages is not a volume, but a transform perhaps.

    Raises:
        InputError: missing, no image, not whole, or an unsound header.
    """
    check_input(path, what)
    name = called(what, path)
    found: list[str] = []
    try:
        image = _read(path, name, found)
    except OSError as error:
        msg = f"{name} cannot be read ({reason(error)}); check your permission and the disk, or copy it again."
        raise InputError(msg) from error
    except RuntimeError as error:
        text = str(error).lower()
        complaint = next((said for key, said in _READER_COMPLAINTS.items() if key in text), _NOT_READABLE)
        msg = f"{name} {complaint}."
        raise InputError(msg) from error
    if not np.isfinite([*image.GetSpacing(), *image.GetOrigin(), *image.GetDirection()]).all():
        msg = f"{name} has a position or voxel size that is no number; convert it again or correct its header."
        raise InputError(msg)
    messages += found
    return image


def header_fields(path: Path) -> dict[str, str]:
    """Return what ITK gives of a file's header as text; nothing where it cannot be read, which `read_image` says."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with reader_heard():
            reader.ReadImageInformation()
    except RuntimeError:
        return {}
    return {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}


def _read(path: Path, name: str, messages: list[str]) -> sitk.Image:
    """Read a file or folder by what is in it, whatever it is called."""
    if path.is_dir():
        return _read_dicom(path, name, messages)
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


def _read_dicom(path: Path, name: str, messages: list[str]) -> sitk.Image:
    with reader_heard():
        return read_dicom(path, name, messages)


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
    """Read a format that only ITK knows; what its reader complains of is refused or said."""
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
    """Check that a file of an uncompressed format is as long as its header and voxels are."""
    found = header.match(first_bytes(path, name, _LONGEST_PLAIN_HEADER)) if header else None
    if found is None or found[0].endswith(b"ASCII\n"):
        return
    values = image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel()
    needed = len(found[0]) + values * image.GetSizeOfPixelComponent()
    with path.open("rb") as stream:
        check_length(min(counted(pieces(stream, name), needed), needed), needed, name, [])


def read_labels(path: Path, role: str, messages: list[str]) -> sitk.Image:
    """Read a label map or mask; floating point files are taken if all values are whole numbers.

    Args:
        path: as in `read_volume`.
        role: its name in error messages, such as "fixed mask".
        messages: what the user must know of the file is appended, the most alarming first.

    Raises:
        InputError: missing, no image, not whole, or not whole numbers.
    """
    return whole_numbers(read_image(path, role, messages), called(role, path))


def whole_numbers(image: sitk.Image, name: str) -> sitk.Image:
    """Return a label map of an integer pixel type; floating point is taken if all values are whole numbers.

    Raises:
        InputError: they are not; `name` is what the label map is called.
    """
    if image.GetPixelID() not in (sitk.sitkFloat32, sitk.sitkFloat64):
        return image
    values = sitk.GetArrayViewFromImage(image)
    if not np.array_equal(values, np.rint(values)):  # nor is NaN a label
        msg = f"{name} holds fractions or NaN; give whole numbers, one for each structure."
        raise InputError(msg)
    if max(-values.min(), values.max()) > np.iinfo(np.int32).max:
        msg = f"{name} holds numbers too large for labels; give small whole numbers."
        raise InputError(msg)
    return sitk.Cast(image, sitk.sitkInt32)


def check_volume_name(path: Path) -> None:
    """Check that a file of this name can keep a volume with its place and orientation.

    Raises:
        OutputError: it cannot, as TIFF, VTK or GIPL cannot, or it is no name of an image.
    """
    if not path.name.lower().endswith(_KEEP_ORIENTATION):
        msg = f"'{path.name}' cannot keep a volume with its orientation; end its name with .nii.gz, .nrrd or .mha."
        raise OutputError(msg)


def write_volume_directly(image: sitk.Image, path: Path) -> None:
    """Write a volume where it is, and read it back; for folders that are staged already.

    Raises:
        OutputError: it cannot be written whole, or the format cannot hold it.
    """
    check_room(path, image)
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        msg = f"Cannot write '{path.name}': unknown file type, no space or no permission; choose .nii.gz or .nrrd."
        raise OutputError(msg) from error
    try:
        found = read_image(path, "written volume", [])
    except InputError as error:
        raise incomplete(path) from error
    check_volume(path, found, image)
