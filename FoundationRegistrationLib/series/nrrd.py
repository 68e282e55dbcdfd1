"""NRRD files with a list of frames, the format of Slicer's volume sequences (.seq.nrrd).

The first axis holds the frames; the header gives their times as text and a unit
(https://slicer.readthedocs.io/en/latest/developer_guide/modules/sequences.html).
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..errors import InputError, OutputError
from ..io.integrity import nrrd_voxels
from ..io.paths import called
from ..io.volumes import read_image
from ..io.written import check_volume, incomplete

_SECONDS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
}
_WHAT = "series"
_FRAME_KINDS = ("list", "time")
_TYPES = {
    "i1": "int8",
    "u1": "uint8",
    "i2": "int16",
    "u2": "uint16",
    "i4": "int32",
    "u4": "uint32",
    "i8": "int64",
    "u8": "uint64",
    "f4": "float",
    "f8": "double",
}
_COMPRESSION = 4  # gzip's higher levels take several times longer for a few per cent


def read_nrrd(path: Path, name: str, messages: list[str]) -> sitk.Image:
    """Read a NRRD file with frames: one volume with several values per voxel, or a 4D image.

    ITK accepts a fourth axis without a direction in space only if its kind is "list"; a file that calls it "time" is
    read through a copy.

    Args:
        path: the file.
        name: its name in messages.
        messages: warnings about it are appended.

    Raises:
        InputError: it is damaged, or such a file has its voxels in other files.
    """
    fields = nrrd_voxels(path, name).fields
    kinds = fields.get("kinds", "").lower().split()
    if "time" not in kinds or "none" not in fields.get("spacedirections", "").lower():
        return read_image(path, _WHAT, messages)
    if "datafile" in fields:
        msg = f"{name} has a time axis and its voxels in another file, which is not supported; save it as .seq.nrrd."
        raise InputError(msg)
    found: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "series.nrrd")
        _copy_with_list(path, copy)
        try:
            image = read_image(copy, _WHAT, found)
        except InputError as error:
            raise InputError(str(error).replace(called(_WHAT, copy), name)) from error
        messages += [message.replace(called(_WHAT, copy), name) for message in found]
    return image


def _copy_with_list(path: Path, copy: Path) -> None:
    """Copy a NRRD file, with the axis of the kind "time" called "list"."""
    with path.open("rb") as source, copy.open("wb") as target:
        while (line := source.readline()).strip():
            is_kinds = line.lower().startswith(b"kinds:")
            target.write(line.lower().replace(b"time", b"list") if is_kinds else line)
        target.write(line)
        shutil.copyfileobj(source, target)


def frames_of(image: sitk.Image, name: str) -> list[sitk.Image]:
    """Return the frames of a NRRD that was read as one volume with several values per voxel.

    Raises:
        InputError: the values are not frames, but colours or vectors.
    """
    kind = _said(image, "NRRD_kinds[pixel]").lower()
    if kind not in _FRAME_KINDS:
        msg = (
            f"{name} holds {image.GetNumberOfComponentsPerPixel()} values per voxel of the kind "
            f"'{kind or 'unknown'}', not frames; save it as a volume sequence (.seq.nrrd)."
        )
        raise InputError(msg)
    return [sitk.VectorIndexSelectionCast(image, index) for index in range(image.GetNumberOfComponentsPerPixel())]


def stored_times(image: sitk.Image) -> tuple[float, ...] | None:
    """Return the times of the frames of such a NRRD, s, as stored; None if they are no numbers or have no unit."""
    unit = _said(image, "NRRD_units[pixel]")
    for axis in (0, 3):
        if values := _said(image, f"axis {axis} index values"):
            return in_seconds(values.split(), unit)
    # Slicer's older multivolumes.
    values = _said(image, "MultiVolume.FrameLabels")
    return in_seconds(values.split(","), _said(image, "MultiVolume.FrameIdentifyingDICOMTagUnits"))


def write_frames(frames: Sequence[sitk.Image], times_s: Sequence[float] | None, path: Path) -> None:
    """Write frames on one grid, and read them back.

    Args:
        frames: 3D scalar volumes on one grid, of one pixel type.
        times_s: time of each, s; they are numbered if None.
        path: the file, .seq.nrrd.

    Raises:
        OutputError: it cannot be written completely.
    """
    array = np.stack([sitk.GetArrayViewFromImage(frame) for frame in frames], axis=-1)
    header = "".join(f"{line}\n" for line in ("NRRD0005", *_header(frames[0], array.dtype, len(frames), times_s), ""))
    try:
        with path.open("wb") as stream:
            stream.write(header.encode())
            with gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=_COMPRESSION, mtime=0) as packed:
                packed.write(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).data)
    except OSError as error:
        raise incomplete(path) from error
    try:
        found = read_image(path, "written series", [])
    except InputError as error:
        raise incomplete(path) from error
    check_volume(path, found, sitk.Compose(list(frames)))


def _header(grid: sitk.Image, dtype: np.dtype, count: int, times_s: Sequence[float] | None) -> Iterator[str]:
    kind = _TYPES.get(dtype.str[1:])
    if kind is None:
        msg = f"A series of {grid.GetPixelIDTypeAsString()} cannot be written; give integers or real numbers."
        raise OutputError(msg)
    axes = np.reshape(grid.GetDirection(), (3, 3)) * grid.GetSpacing()
    yield f"type: {kind}"
    yield "dimension: 4"
    yield "space: left-posterior-superior"
    yield f"sizes: {count} {' '.join(map(str, grid.GetSize()))}"
    yield f"space directions: none {' '.join(_vector(axis) for axis in axes.T)}"
    yield "kinds: list domain domain domain"
    if times_s is None:
        yield 'labels: "frame" "" "" ""'
    else:
        yield 'labels: "time" "" "" ""'
        yield 'units: "s" "" "" ""'
    yield "endian: little"
    yield "encoding: gzip"
    yield f"space origin: {_vector(grid.GetOrigin())}"
    yield "DataNodeClassName:=vtkMRMLScalarVolumeNode"
    yield "axis 0 index type:=numeric"
    yield f"axis 0 index values:={' '.join(f'{value:.10g}' for value in (times_s or range(count)))}"


def _vector(values: Sequence[float] | np.ndarray) -> str:
    return f"({','.join(f'{value + 0.0:.17g}' for value in values)})"


def in_seconds(values: Sequence[str], unit: str) -> tuple[float, ...] | None:
    """Return index values as times, s; None if they are no numbers or their unit is not one of time."""
    factor = _SECONDS.get(unit.strip().lower())
    if factor is None:
        return None
    try:
        return tuple(factor * float(value) for value in values)
    except ValueError:
        return None


def _said(image: sitk.Image, key: str) -> str:
    return str(image.GetMetaData(key)) if image.HasMetaDataKey(key) else ""
