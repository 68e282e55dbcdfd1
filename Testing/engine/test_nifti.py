"""NIfTI and Analyze headers: read as an independent reader does, refused, or said; never silently something else."""

import math
import struct

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from volumes import GRIDS, points_of

from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.io.nifti import header_messages
from FoundationRegistrationLib.io.volumes import read_volume

# Where fields of a NIfTI-1 header are, and how they are packed.
FIELDS = {
    "dim": (40, "h"),
    "intent_code": (68, "h"),
    "datatype": (70, "h"),
    "bitpix": (72, "h"),
    "pixdim": (76, "f"),
    "vox_offset": (108, "f"),
    "scl_slope": (112, "f"),
    "scl_inter": (116, "f"),
    "xyzt_units": (123, "B"),
    "qform_code": (252, "h"),
    "sform_code": (254, "h"),
    "quatern_b": (256, "f"),
    "qoffset_x": (268, "f"),
    "srow_x": (280, "f"),
}
TYPES = ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
OBLIQUE = np.array([[-1.8, 0.3, 0.9, 40.0], [-0.5, -1.6, 0.5, -60.0], [0.6, 0.4, 1.9, 25.0], [0.0, 0.0, 0.0, 1.0]])


def orthogonal(affine):
    """The nearest affine whose axes are perpendicular, with the same voxel edges."""
    result, edges = affine.copy(), np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / edges)
    result[:3, :3] = left @ right * edges
    return result


AFFINE = orthogonal(OBLIQUE)


def nifti(array, qform=AFFINE, sform=AFFINE, codes=(1, 1), kind=nibabel.Nifti1Image, endian="<"):
    image = kind(array, None, kind.header_class(endianness=endian))
    image.header.set_data_dtype(array.dtype)
    image.header.set_qform(qform, codes[0])
    image.header.set_sform(sform, codes[1])
    image.header.set_xyzt_units("mm")
    return image


def numbers(dtype="i2", shape=(5, 6, 7)):
    return np.random.default_rng(3).integers(0, 100, shape).astype(dtype)


def with_fields(path, **values):
    """Write values into the raw header; a list changes several numbers from the field's beginning, None none."""
    raw = bytearray(path.read_bytes())
    for name, given in values.items():
        begin, code = FIELDS[name]
        for number, value in enumerate(given if isinstance(given, list) else [given]):
            if value is not None:
                struct.pack_into(f"<{code}", raw, begin + number * struct.calcsize(code), value)
    path.write_bytes(raw)
    return path


def saved(path, image=None, **values):
    nibabel.save(image or nifti(numbers()), path)
    return with_fields(path, **values) if values else path


def read(path, messages=None):
    return read_volume(path, "fixed", [] if messages is None else messages)


def affine_of(image):
    """From voxel index to RAS mm, as nibabel has it."""
    result = np.eye(4)
    result[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    result[:3, 3] = image.GetOrigin()
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ result


def apart(one, other, size):
    """How far a voxel is from itself at most, mm."""
    corners = np.array([(x, y, z, 1) for x in (0, size[0] - 1) for y in (0, size[1] - 1) for z in (0, size[2] - 1)])
    return np.linalg.norm(corners @ (one - other).T, axis=1).max()


# ---- sound files ----


@pytest.mark.parametrize("codes", [(1, 1), (2, 2), (1, 0), (0, 1), (1, 2), (2, 1), (0, 4)])
def test_voxels_lie_where_itk_and_nibabel_have_them(codes, tmp_path):
    """Over every orientation, and oblique ones at random, of volumes of 300 mm."""
    rng = np.random.default_rng(sum(codes))
    for number in range(24):
        turn = sitk.VersorTransform(rng.normal(size=3).tolist(), float(rng.uniform(-math.pi, math.pi))).GetMatrix()
        direction = np.array(list(GRIDS.values())[number][0] if number < len(GRIDS) else turn).reshape(3, 3)
        affine = np.eye(4)
        affine[:3, :3] = direction * rng.uniform(20, 50, 3) * [1, 1, (-1) ** number]
        affine[:3, 3] = rng.uniform(-200, 200, 3)
        path, messages = saved(tmp_path / "a.nii", nifti(numbers(), affine, affine, codes)), []
        found = read(path, messages)
        assert messages == []
        # ITK calculates with seven digits, as the header has them: some 5e-5 mm this far from the origin.
        np.testing.assert_allclose(points_of(found), points_of(sitk.ReadImage(str(path))), atol=1e-4)
        assert apart(affine_of(found), affine, found.GetSize()) < 1e-3  # the header has seven digits


@pytest.mark.parametrize(
    ("dtype", "scaling"),
    [
        *((dtype, scaling) for dtype in TYPES for scaling in ((1.0, 0.0), (0.5, -20.0), (0.0, 0.0), (math.nan, 0.0))),
        ("c8", (1.0, 0.0)),
        ("c16", (1.0, 0.0)),
    ],
)
@pytest.mark.parametrize("endian", ["<", ">"])
def test_intensities_are_those_of_itk_and_nibabel(dtype, endian, scaling, tmp_path):
    image = nifti(numbers(dtype), endian=endian)
    nibabel.save(image, tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    struct.pack_into(f"{endian}2f", raw, 112, *scaling)
    (tmp_path / "a.nii").write_bytes(raw)
    found, theirs = read(tmp_path / "a.nii"), sitk.ReadImage(str(tmp_path / "a.nii"))
    assert found.GetPixelID() == theirs.GetPixelID()
    values = sitk.GetArrayFromImage(found)
    np.testing.assert_allclose(values, sitk.GetArrayFromImage(theirs), rtol=1e-6)
    np.testing.assert_allclose(values.T, np.asarray(nibabel.load(tmp_path / "a.nii").dataobj), rtol=1e-6)


def test_an_offset_without_a_scale_is_left_out_and_said(tmp_path):
    """The standard has no scaling where the slope is 0."""
    messages = []
    found = read(saved(tmp_path / "a.nii", scl_slope=0.0, scl_inter=-1024.0), messages)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found).T, numbers())
    assert "-1024" in messages[0]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("scaling", [(1.0, 0.0), (2.0, 1.0)])
def test_what_is_not_known_stays_so(dtype, scaling, tmp_path):
    values = numbers(dtype)
    values[1, 2, 3], values[0, 0, 1], values[4, 5, 6] = np.nan, np.inf, -np.inf
    image = nifti(values)
    found = read(saved(tmp_path / "a.nii.gz", image)) if scaling == (1.0, 0.0) else None
    if found is None:
        found = read(saved(tmp_path / "a.nii", image, scl_slope=scaling[0], scl_inter=scaling[1]))
    np.testing.assert_allclose(sitk.GetArrayFromImage(found).T, values * scaling[0] + scaling[1], rtol=1e-6)


@pytest.mark.parametrize(("shape", "intent"), [((5, 6, 7, 1, 3), 1007), ((5, 6, 7, 1, 3), 1006), ((5, 6, 7, 1, 1), 0),
                                               ((5, 6, 7, 4), 0), ((5, 6, 1), 0), ((5, 6, 7, 2, 3), 0)])  # fmt: skip
def test_vectors_time_and_single_slices_are_as_itk_has_them(shape, intent, tmp_path):
    path = saved(tmp_path / "a.nii", nifti(numbers("f4", shape)), intent_code=intent)
    found, theirs = read(path), sitk.ReadImage(str(path))
    assert found.GetSize() == theirs.GetSize()
    assert found.GetNumberOfComponentsPerPixel() == theirs.GetNumberOfComponentsPerPixel()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(theirs))


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".img"])
@pytest.mark.parametrize("endian", ["<", ">"])
def test_nifti_2_is_nifti(ending, endian, tmp_path):
    kind = nibabel.Nifti2Pair if ending == ".img" else nibabel.Nifti2Image
    path, messages = saved(tmp_path / f"a{ending}", nifti(numbers("f4"), kind=kind, endian=endian)), []
    found = read(path, messages)
    assert messages == []
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found).T, numbers("f4"))
    assert apart(affine_of(found), AFFINE, found.GetSize()) < 1e-6


# ---- what is said ----


@pytest.mark.parametrize("kind", ["codes 0", "Analyze"])
def test_an_unknown_orientation_is_said_first(kind, tmp_path):
    if kind == "Analyze":
        nibabel.save(nibabel.AnalyzeImage(numbers(), np.diag([2.0, 3.0, 4.0, 1.0])), tmp_path / "a.img")
        path = tmp_path / "a.hdr"
    else:
        path = saved(tmp_path / "a.nii", qform_code=0, sform_code=0, xyzt_units=3)
    messages = []
    found = read(path, messages)
    assert "does not give the patient orientation" in messages[0]
    assert kind.split()[0] in messages[0]
    assert found.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found).T, numbers())
    assert header_messages(path, "fixed") == messages


@pytest.mark.parametrize(
    ("codes", "taken"),
    [((1, 1), "sform"), ((2, 1), "sform"), ((1, 2), "qform"), ((2, 2), "qform"), ((1, 4), "qform")],
)
def test_two_positions_that_differ_are_said_with_the_one_that_was_taken(codes, taken, tmp_path):
    """Which is taken is measured against ITK's own choice."""
    shifted, turned, mirrored = AFFINE.copy(), AFFINE.copy(), AFFINE.copy()
    shifted[:3, 3] += (0.0, 0.0, 30.0)
    edges = np.linalg.norm(AFFINE[:3, :3], axis=0)
    turned[:3, :3] = (AFFINE[:3, :3] / edges)[:, [1, 0, 2]] * [1.0, 1.0, -1.0] * edges
    mirrored[0] *= -1.0
    for other, word in ((shifted, "30 mm apart"), (turned, "rotated by 180°"), (mirrored, "mirrored")):
        path, messages = saved(tmp_path / "a.nii", nifti(numbers(), AFFINE, other, codes)), []
        found = read(path, messages)
        np.testing.assert_allclose(points_of(found), points_of(sitk.ReadImage(str(path))), atol=1e-5)
        expected = other if taken == "sform" else AFFINE
        assert apart(affine_of(found), expected, found.GetSize()) < 1e-3
        assert len(messages) == 1
        assert word in messages[0]
        assert f"the {taken} was used" in messages[0]
        assert header_messages(path, "fixed") == messages
    nearly = AFFINE.copy()
    nearly[:3, 3] += 0.3
    messages = []
    read(saved(tmp_path / "a.nii", nifti(numbers(), AFFINE, nearly, codes)), messages)
    assert messages == []


def test_other_units_are_converted_and_said(tmp_path):
    path, messages = saved(tmp_path / "a.nii", xyzt_units=3), []
    found = read(path, messages)
    np.testing.assert_allclose(points_of(found), points_of(sitk.ReadImage(str(path))), atol=1e-8)
    assert "micrometres" in messages[0]
    with pytest.raises(InputError, match=r"voxel spacing is .* m;"):
        read(saved(tmp_path / "b.nii", xyzt_units=1))


def test_a_sheared_sform_leaves_the_qform_and_alone_is_refused(tmp_path):
    messages = []
    found = read(saved(tmp_path / "a.nii", nifti(numbers(), AFFINE, OBLIQUE)), messages)
    assert apart(affine_of(found), AFFINE, found.GetSize()) < 1e-3
    assert "the qform was used" in messages[0]
    with pytest.raises(InputError, match="perpendicular"):
        read(saved(tmp_path / "b.nii", nifti(numbers(), AFFINE, OBLIQUE, (0, 1))))


def test_files_of_other_formats_have_no_header_messages(tmp_path):
    sitk.WriteImage(sitk.Image(5, 6, 7, sitk.sitkInt16), str(tmp_path / "a.nrrd"))
    (tmp_path / "empty").write_bytes(b"")
    for name in ("a.nrrd", "empty", "absent.nii", "."):
        assert header_messages(tmp_path / name, "fixed") == []


def test_header_messages_say_why_a_header_would_be_refused(tmp_path):
    path = saved(tmp_path / "a.nii.gz", nifti(numbers(), codes=(0, 1), sform=OBLIQUE))
    with pytest.raises(InputError) as error:
        read(path)
    assert header_messages(path, "fixed") == [str(error.value)]


# ---- what cannot be right ----

NAN, INF = math.nan, math.inf
IMPOSSIBLE = [
    *({"pixdim": [None, None, None, size]} for size in (0.0, -3.0, NAN, INF, 1e30, 1e-12)),
    *({"pixdim": [None, size], "sform_code": 0} for size in (0.0, -3.0, NAN, INF)),
    {"pixdim": [None, 9.0, 9.0, 9.0], "qform_code": 0},  # not the voxels of the sform
    {"pixdim": [None, 9.0, 9.0, 9.0]},
    {"pixdim": [NAN], "sform_code": 0},
    {"pixdim": [-1.5], "sform_code": 0},
    *({"srow_x": [value], "qform_code": 0} for value in (NAN, INF, 1e30)),
    *({"srow_x": [None, None, None, value], "qform_code": 0} for value in (NAN, INF, 1e30)),
    {"srow_x": [0.0] * 12, "qform_code": 0},
    {"srow_x": [0.0] * 12},
    {"srow_x": [1.0] * 12, "qform_code": 0},
    *({"quatern_b": value, "sform_code": 0} for value in (NAN, 1.7, -INF)),
    *({"qoffset_x": value, "sform_code": 0} for value in (NAN, INF, 1e30)),
    {"qform_code": 8193},
    {"sform_code": -1},
    *({"dim": [count]} for count in (0, 1, 8, -3)),
    *({"dim": [None, None, size]} for size in (0, -6, 5000)),
    {"dim": [6, None, None, None, 1, 1, 2]},
    {"datatype": 0},
    {"datatype": 77},
    {"datatype": 16},
    {"datatype": 1, "bitpix": 1},
    {"datatype": 1536, "bitpix": 128},
    {"bitpix": 8},
    *({"vox_offset": value} for value in (0.0, 300.0, 352.5, 1e9, NAN, INF, -352.0)),
    *({"scl_slope": value} for value in (INF, -INF, 1e-38, -1e35)),
    *({"scl_slope": 2.0, "scl_inter": value} for value in (INF, NAN)),
    {"intent_code": 1005},
]


@pytest.mark.parametrize("values", IMPOSSIBLE, ids=str)
def test_headers_that_cannot_be_right_are_refused_in_words(values, tmp_path, recwarn):
    with pytest.raises(InputError) as error:
        read(saved(tmp_path / "a.nii", **values))
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("The fixed volume '")
    assert "again" in str(error.value)
    assert not recwarn.list


# ---- any bytes ----


def sound_file(rng, path):
    """A sound file of random size, type, byte order, place and codes; what a header has to be changed in."""
    affine = AFFINE.copy()
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.5, 4.0, 3)
    affine[:3, 3] = rng.uniform(-200.0, 200.0, 3)
    kind = [nibabel.Nifti1Image, nibabel.Nifti1Image, nibabel.Nifti2Image][rng.integers(3)]
    codes = [(1, 1), (1, 0), (0, 1), (2, 1), (1, 2)][rng.integers(5)]
    values = numbers(TYPES[rng.integers(len(TYPES))], tuple(rng.integers(3, 9, 3)))
    nibabel.save(nifti(values, affine, affine, codes, kind, "<>"[rng.integers(2)]), path)
    return kind


@pytest.mark.parametrize("seed", range(20))
def test_random_header_bytes_are_read_as_nibabel_does_or_refused_or_said(seed, tmp_path):
    """400 headers with up to three random bytes: never another volume without a word, never another exception."""
    rng, path = np.random.default_rng(seed), tmp_path / "a.nii"
    outcomes = []
    for _ in range(20):
        kind = sound_file(rng, path)
        raw = bytearray(path.read_bytes())
        for place in rng.integers(0, 352 if kind is nibabel.Nifti1Image else 544, rng.integers(1, 4)):
            raw[place] = rng.integers(256) if rng.random() < 0.5 else raw[place] ^ (1 << int(rng.integers(8)))
        path.write_bytes(raw)
        messages = []
        try:
            found = read(path, messages)
        except InputError as error:
            assert "\n" not in str(error)
            outcomes.append("refused")
            continue
        if messages:
            outcomes.append("said")
            continue
        truth = kind.from_bytes(bytes(raw))
        values = sitk.GetArrayFromImage(found).T
        np.testing.assert_allclose(values, np.asarray(truth.dataobj).reshape(values.shape), 1e-5, 1e-30)
        assert apart(affine_of(found), truth.affine, found.GetSize()) < 1.01 * min(found.GetSpacing())
        outcomes.append("equal")
    assert "equal" in outcomes
