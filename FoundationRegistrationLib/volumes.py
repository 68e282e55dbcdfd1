"""Reading and writing volumes and label maps as files, with errors that say what to do."""

from __future__ import annotations

from pathlib import Path

import SimpleITK as sitk

from .errors import InputError, OutputError
from .io.regular import is_folder, is_regular_file
from .outputs import staged_folder

# What ITK's readers say, and what it means for the user.
_READER_COMPLAINTS = {
    "spacing": "has a voxel spacing of zero or less; correct its header",
    "orthonormal": "has axes that are not perpendicular unit vectors; resample it to a proper grid",
    "direction": "has axes that are not perpendicular unit vectors; resample it to a proper grid",
    "unable to determine imageio": "is not an image; give NIfTI, NRRD, MetaImage or a DICOM slice series as such",
}

# Formats that keep the place and the orientation of the voxels.
_KEEP_ORIENTATION = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


def read_volume(path: Path, role: str) -> sitk.Image:
    """Read a volume of any pixel type.

    Args:
        path: NIfTI, NRRD, MetaImage or whatever else SimpleITK reads, or a folder with one DICOM series.
        role: its name in error messages, such as "fixed".

    Raises:
        InputError: missing, no image, or an unsound header.
    """
    if not (is_regular_file(path) or is_folder(path)):
        msg = f"The {role} volume '{path}' does not exist; check the path."
        raise InputError(msg)
    try:
        if path.is_dir():
            files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path))
            if not files:
                msg = f"The {role} folder '{path}' holds no DICOM series; give a folder of slices or a file."
                raise InputError(msg)
            return sitk.ReadImage(files)
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        text = str(error).lower()
        what = next((said for key, said in _READER_COMPLAINTS.items() if key in text), "cannot be read as an image")
        msg = f"The {role} volume '{path}' {what}."
        raise InputError(msg) from error


def read_labels(path: Path, role: str) -> sitk.Image:
    """Read a label map or mask; floating point files are taken if all values are whole numbers.

    Raises:
        InputError: missing, no image, or not whole numbers.
    """
    image = read_volume(path, role)
    if image.GetPixelID() in (sitk.sitkFloat32, sitk.sitkFloat64):
        whole = sitk.Cast(sitk.Round(image), sitk.sitkInt32)
        difference = sitk.Abs(sitk.Cast(whole, image.GetPixelID()) - image)
        if sitk.GetArrayViewFromImage(difference).max() != 0:  # NaN is no label either
            msg = f"The {role} '{path}' holds fractions or NaN; give whole numbers, one for each structure."
            raise InputError(msg)
        return whole
    return image


def check_volume_name(path: Path) -> None:
    """Check that a file of this name can keep a volume with its place and orientation.

    Raises:
        OutputError: it cannot, as TIFF, VTK or GIPL cannot, or it is no name of an image.
    """
    if not path.name.lower().endswith(_KEEP_ORIENTATION):
        msg = f"'{path.name}' cannot keep a volume with its orientation; end its name with .nii.gz, .nrrd or .mha."
        raise OutputError(msg)


def write_volume(image: sitk.Image, path: Path) -> None:
    """Write a volume under a temporary name and move it into place.

    Raises:
        OutputError: it cannot be written.
    """
    with staged_folder(path.parent) as staging:
        write_volume_directly(image, staging / path.name)


def write_volume_directly(image: sitk.Image, path: Path) -> None:
    """Write a volume where it is; for folders that are staged already.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        msg = f"Cannot write '{path.name}': unknown file type, no space or no permission; choose .nii.gz or .nrrd."
        raise OutputError(msg) from error
