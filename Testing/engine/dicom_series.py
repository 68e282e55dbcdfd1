"""Synthetic DICOM whose every pixel shows `scene` at the place where its own tags put it.

Points are LPS mm. A volume read from such files is right if each of its voxels shows `scene` at its own position;
a slice that is 0.2 mm off its place changes values by more than rounding does.
"""

import numpy as np
import SimpleITK as sitk
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, generate_uid
from volumes import points_of

MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
AXIAL = np.array([[1.0, 0, 0], [0, 1.0, 0]])
SAGITTAL = np.array([[0, 1.0, 0], [0, 0, -1.0]])
CORONAL = np.array([[1.0, 0, 0], [0, 0, -1.0]])
SIZE = (9, 7)
SPACING = (3.0, 4.0)
HALF_LIFE_OF_F18 = 6586.2


def scene(points):
    """Value at each point, about -500 to 1500; no two directions and no two places look alike."""
    x, y, z = points.T
    return 500 + 4 * x + 5 * y - 6 * z + 30 * np.sin(x / 9 + 1) + 30 * np.cos(y / 11 + z / 13)


def oblique(rng):
    """Axes along rows and columns, (2, 3), turned at random."""
    return np.linalg.qr(rng.normal(size=(3, 3)))[0][:2]


def positions(count=6, step=5.0, axes=AXIAL, first=(-11.0, -8.0, -13.0)):
    """Position of each slice of a regular stack, (count, 3)."""
    return np.asarray(first) + np.arange(count)[:, None] * step * np.cross(*axes)


def pixels(position, axes, size, spacing, show=scene):
    """What the slice shows, (rows, columns)."""
    rows, columns = np.indices(size[::-1])
    place = (
        np.asarray(position) + (columns[..., None] * spacing[0]) * axes[0] + (rows[..., None] * spacing[1]) * axes[1]
    )
    return show(place.reshape(-1, 3)).reshape(size[::-1])


def write_slice(
    path, position, axes=AXIAL, size=SIZE, spacing=SPACING, show=scene, syntax=ExplicitVRLittleEndian, bits=16,
    signed=True, slope=1.0, intercept=0.0, lacks=(), decimals=None, storage_class=MR, **tags,
):  # fmt: skip
    """Write one classic slice.

    Args:
        path: its file.
        position: of its first pixel.
        axes: unit vectors along rows and columns.
        size: columns and rows.
        spacing: mm along rows and along columns.
        show: from points to values.
        syntax: transfer syntax; with RLE the pixels are compressed.
        bits: allocated for a pixel.
        signed: whether stored values have a sign.
        slope: of rescaling.
        intercept: of rescaling.
        lacks: keywords left out.
        decimals: to which the position is rounded in the file, as some scanners do.
        storage_class: UID of the SOP class.
        **tags: whatever else the file says, by keyword.
    """
    dataset = _file(storage_class, ExplicitVRLittleEndian if syntax == RLELossless else syntax)
    _describe(dataset, size, bits, signed)
    dataset.InstanceNumber = 1
    stated = position if decimals is None else np.round(position, decimals)
    dataset.ImagePositionPatient = [_decimal(value) for value in stated]
    dataset.ImageOrientationPatient = [_decimal(value) for value in axes.ravel()]
    dataset.PixelSpacing = [_decimal(spacing[1]), _decimal(spacing[0])]
    dataset.RescaleSlope, dataset.RescaleIntercept = _decimal(slope), _decimal(intercept)
    stored = np.round((pixels(position, axes, size, spacing, show) - intercept) / slope)
    _set_pixels(dataset, stored, bits, signed)
    if syntax == RLELossless:
        dataset.compress(RLELossless)
    with disable_value_validation():  # some tests write what is not allowed
        for keyword, value in tags.items():
            if keyword in dataset:
                delattr(dataset, keyword)
            setattr(dataset, keyword, value)
        for keyword in lacks:
            delattr(dataset, keyword)
        dataset.save_as(path)


def write_series(folder, places=None, name="s{:03d}.dcm", start=1, **options):
    """Write a regular series; returns its files in the order of `places`."""
    folder.mkdir(parents=True, exist_ok=True)
    axes = options.get("axes", AXIAL)
    paths = []
    for k, place in enumerate(positions(axes=axes) if places is None else places):
        paths.append(folder / name.format(k))
        write_slice(paths[-1], place, **{"InstanceNumber": start + k, **options})
    return paths


def injection(start="095013.8", lacks=(), **tags):
    """What was injected one half-life (1 h 49 min 46.2 s) before 11:40."""
    item = Dataset()
    values = {
        "RadiopharmaceuticalStartTime": start,
        "RadionuclideTotalDose": "350000000",
        "RadionuclideHalfLife": str(HALF_LIFE_OF_F18),
        **tags,
    }
    for keyword, value in values.items():
        if keyword not in lacks:
            setattr(item, keyword, value)
    return [item]


PET = {
    "Modality": "PT",
    "Units": "BQML",
    "DecayCorrection": "START",
    "CorrectedImage": ["DECY", "ATTN", "SCAT"],
    "PatientWeight": "70",
    "SeriesDate": "20240229",
    "SeriesTime": "114000",
    "AcquisitionDate": "20240229",
    "AcquisitionTime": "114000",
    "RadiopharmaceuticalInformationSequence": injection(),
}


def write_enhanced(
    path, places, axes=AXIAL, size=SIZE, spacing=SPACING, show=scene, scales=None, own=None, frame_axes=None, **tags
):
    """Write an enhanced multi-frame file.

    Args:
        path: its file.
        places: position of each frame, in the order in which the frames are stored.
        axes: unit vectors along rows and columns.
        size: columns and rows.
        spacing: mm along rows and along columns.
        show: from points to values; or one such function for each frame.
        scales: slope and intercept of each frame.
        own: for each frame a functional group's keyword, and the tags in it.
        frame_axes: axes of each frame, where they differ.
        **tags: what stands at the top of the file.
    """
    dataset = _file(ENHANCED_MR, ExplicitVRLittleEndian)
    _describe(dataset, size, 16, True)
    dataset.NumberOfFrames = len(places)
    shared = Dataset()
    _add(shared, "PixelMeasuresSequence", PixelSpacing=[_decimal(spacing[1]), _decimal(spacing[0])])
    frames, stored = [], []
    for k, place in enumerate(places):
        group = Dataset()
        here = axes if frame_axes is None else frame_axes[k]
        slope, intercept = (1.0, 0.0) if scales is None else scales[k]
        _add(group, "PlanePositionSequence", ImagePositionPatient=[_decimal(value) for value in place])
        _add(group, "PlaneOrientationSequence", ImageOrientationPatient=[_decimal(value) for value in here.ravel()])
        _add(group, "PixelValueTransformationSequence", RescaleSlope=slope, RescaleIntercept=intercept)
        for keyword, values in (own[k] if own else {}).items():
            _add(group, keyword, **values)
        frames.append(group)
        seen = show[k] if isinstance(show, list) else show
        stored.append(np.round((pixels(place, here, size, spacing, seen) - intercept) / slope))
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    _set_pixels(dataset, np.array(stored), 16, True)
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


def write_object(path, storage_class, **tags):
    """Write a DICOM file without pixels, such as a report."""
    dataset = _file(storage_class, ExplicitVRLittleEndian)
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


def largest_error(image: sitk.Image, show=scene) -> float:
    """Largest difference between a voxel and what is to be seen at its position."""
    return float(np.abs(sitk.GetArrayFromImage(image).ravel() - show(points_of(image))).max())


def _file(storage_class, syntax) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = storage_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    dataset = FileDataset(
        "", {}, file_meta=meta, preamble=bytes(128), is_implicit_VR=syntax == ImplicitVRLittleEndian,
        is_little_endian=syntax != ExplicitVRBigEndian,
    )  # fmt: skip
    dataset.SOPClassUID, dataset.SOPInstanceUID = storage_class, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.PatientName, dataset.PatientID = "MR", "Synthetic^Scene", "0"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = "1.2.3", "1.2.3.4", "1.2.3.5"
    dataset.SeriesDescription = "t1"
    return dataset


def _describe(dataset, size, bits, signed):
    dataset.Columns, dataset.Rows = size
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, int(signed)


def _set_pixels(dataset, stored, bits, signed):
    limits = np.iinfo(f"{'i' if signed else 'u'}{bits // 8}")
    assert stored.min() >= limits.min and stored.max() <= limits.max, "the scene does not fit the pixels"
    order = ">" if dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian else "<"
    values = stored.astype(f"{order}{limits.dtype.kind}{bits // 8}").tobytes()
    dataset.add_new("PixelData", "OB" if bits == 8 else "OW", values + bytes(len(values) % 2))


def _add(group, keyword, **values):
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    setattr(group, keyword, Sequence([item]))


def _decimal(value) -> str:
    """The number as a DICOM decimal string, which has 16 characters at most."""
    return f"{float(value):.9g}"
