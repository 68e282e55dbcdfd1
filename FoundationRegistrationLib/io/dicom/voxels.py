"""Stored values of slices, rescaled slice by slice.

Uncompressed values are read directly. Compressed values are decoded by ITK from a copy that holds only the pixels:
given the file itself, ITK applies the rescaling of the first frame to all, and for MR sometimes another one than
RescaleSlope.
"""

from __future__ import annotations

import itertools
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pydicom.uid
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID

from ...errors import InputError
from .headers import ORIGINALS, Slice
from .reading import UNREADABLE, as_uid, damaged, read_tags

_PIXEL_TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"),
    *("PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
]
_BYTE_ORDER = {
    pydicom.uid.ImplicitVRLittleEndian: "<",
    pydicom.uid.ExplicitVRLittleEndian: "<",
    pydicom.uid.DeflatedExplicitVRLittleEndian: "<",
    pydicom.uid.ExplicitVRBigEndian: ">",
}
_CAPTURE = "1.2.840.10008.5.1.4.1.1.7.3"  # Multi-frame Grayscale Word Secondary Capture Image Storage


def read_voxels(slices: list[Slice]) -> np.ndarray:
    """Return the rescaled values of slices of one size, indexed (z, y, x) in their order.

    Integers stay integers (16 bit if they fit, else 32 bit); otherwise floating point, 32 bit if that holds every
    stored value.

    Raises:
        InputError: a file is damaged, its compression is not supported, or its rescaling is invalid.
    """
    scales = [_rescaling(item) for item in slices]
    stored = _stored(slices)
    kind = _kind(scales, stored)
    values = np.empty((len(slices), *stored[0].shape), kind)
    for k, (slope, intercept) in enumerate(scales):
        whole = np.issubdtype(kind, np.integer)
        values[k] = stored[k] + np.int64(intercept) if whole else stored[k] * slope + intercept
    return values


def _kind(scales: list[tuple[float, float]], stored: list[np.ndarray]) -> type[np.number]:
    """Return the type that holds all rescaled values."""
    if all(slope == 1 and intercept.is_integer() for slope, intercept in scales):
        shifts = [intercept for _, intercept in scales]
        low = min(int(plane.min()) + shift for plane, shift in zip(stored, shifts, strict=True))
        high = max(int(plane.max()) + shift for plane, shift in zip(stored, shifts, strict=True))
        for kind in (np.int16, np.int32):
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return kind
    return np.float32 if max(plane.dtype.itemsize for plane in stored) <= 2 else np.float64


def _rescaling(item: Slice) -> tuple[float, float]:
    """Return slope and intercept; for a radiotherapy dose, the grid scaling and 0."""
    pairs = (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0), ("DoseGridScaling", 1.0))
    found = []
    for keyword, otherwise in pairs:
        value = np.array([otherwise]) if not item.text(keyword) else item.numbers(keyword, 1)
        if value is None or (value[0] == 0 and keyword != "RescaleIntercept"):
            msg = f"has no valid {keyword} in {item.name} ({item.text(keyword)}); export it again."
            raise InputError(msg)
        found.append(float(value[0]))
    slope, intercept, dose = found
    return slope * dose, intercept * dose


def _stored(slices: list[Slice]) -> list[np.ndarray]:
    """Return the stored values of each slice, in order; each file is read once."""
    planes: list[np.ndarray | None] = [None] * len(slices)
    by_file = sorted(range(len(slices)), key=lambda k: slices[k].path)
    for path, places in itertools.groupby(by_file, key=lambda k: slices[k].path):
        frames = _frames(path, slices[0].size)
        for k in places:
            planes[k] = frames[slices[k].frame]
    return [plane for plane in planes if plane is not None]


def _frames(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Return the stored values of a file, indexed (frame, y, x).

    Raises:
        InputError: they are incomplete, or their compression is not supported.
    """
    dataset = read_tags(path, _PIXEL_TAGS, stop_before_pixels=False)
    no_header = "" if dataset.preamble else pydicom.uid.ImplicitVRLittleEndian
    syntax = as_uid(dataset.file_meta.get("TransferSyntaxUID", no_header))
    if not syntax or not _is_sound(dataset) or (dataset.Columns, dataset.Rows) != size:
        raise damaged(path)
    order = _BYTE_ORDER.get(syntax)
    if order is None or (order == ">" and dataset.BitsAllocated == 8):  # single bytes may be swapped in pairs
        values = _decoded(dataset, path)
    else:
        values = _uncompressed(dataset, order, path)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if values.size != frames * size[0] * size[1]:
        raise damaged(path)
    return values.reshape(frames, *size[::-1])


def _is_sound(dataset: Dataset) -> bool:
    """Whether the pixel description is consistent."""
    return (
        dataset.get("BitsAllocated") in (8, 16, 32)
        and dataset.get("BitsStored") in range(1, dataset.BitsAllocated + 1)
        and dataset.get("HighBit", dataset.BitsStored - 1) in range(dataset.BitsStored - 1, dataset.BitsAllocated)
        and dataset.get("PixelRepresentation") in (0, 1)
        and dataset.get("SamplesPerPixel", 1) == 1
        and isinstance(dataset.get("PixelData"), bytes)
    )


def _uncompressed(dataset: Dataset, order: str, path: Path) -> np.ndarray:
    """Return the value bits only: unused bits may hold overlays."""
    bits, signed = dataset.BitsAllocated, dataset.PixelRepresentation == 1
    count = dataset.Rows * dataset.Columns * int(dataset.get("NumberOfFrames") or 1)
    excess = len(dataset.PixelData) - count * bits // 8
    if excess < 0 or excess >= dataset.Rows * dataset.Columns * bits // 8:
        raise damaged(path)
    values = np.frombuffer(dataset.PixelData, f"{order}{'i' if signed else 'u'}{bits // 8}", count)
    values = values.astype(values.dtype.newbyteorder("="))
    above = bits - 1 - dataset.get("HighBit", dataset.BitsStored - 1)
    return values << above >> (bits - dataset.BitsStored)


def _decoded(dataset: FileDataset, path: Path) -> np.ndarray:
    """Decompress the values; run-length encoding with pydicom, since ITK refuses some valid files."""
    syntax = as_uid(dataset.file_meta.TransferSyntaxUID)
    try:
        with warnings.catch_warnings(record=True):
            warnings.filterwarnings("error", "The decoded RLE segment")  # more values than pixels in the slice
            return dataset.pixel_array if syntax == pydicom.uid.RLELossless else _decoded_by_itk(dataset)
    except (RuntimeError, Warning, *UNREADABLE) as error:
        msg = f"holds '{path.name}', which is damaged or has an unsupported compression ({syntax.name}); {ORIGINALS}."
        raise InputError(msg) from error


def _decoded_by_itk(dataset: FileDataset) -> np.ndarray:
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID(_CAPTURE)
    dataset.PhotometricInterpretation = "MONOCHROME2"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "pixels.dcm")
        dataset.save_as(copy)
        return sitk.GetArrayFromImage(sitk.ReadImage(str(copy)))
