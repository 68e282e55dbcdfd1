"""Volumes as arrays with an affine, of nibabel and of MONAI: every voxel stays at its point."""

import gzip

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from volumes import GRIDS, assert_readable, empty_grid, on_grid, points_of, smooth_warp, volume

from FoundationRegistrationLib import (
    InputError,
    Settings,
    array_from_volume,
    read_volume,
    register,
    volume_from_array,
)
from FoundationRegistrationLib.io.arrays import as_volume

TO_LPS = {"RAS": np.diag([-1.0, -1.0, 1.0, 1.0]), "LPS": np.eye(4)}


class StandInMetaTensor(torch.Tensor):
    """What is used of MONAI's `MetaTensor`: a tensor with an affine and a dictionary."""

    @classmethod
    def of(cls, array, affine, **meta):
        tensor = torch.as_tensor(np.ascontiguousarray(array)).as_subclass(cls)
        tensor.affine, tensor.meta = torch.as_tensor(affine), meta
        return tensor


def numbered(name, kind=np.int32):
    """A volume whose voxels can all be told apart, 5 x 4 x 3 of them, away from the origin."""
    image = empty_grid(name, (31.0, -7.0, 112.0))
    image = sitk.RegionOfInterest(image, (5, 4, 3), (2, 1, 3))
    return on_grid(np.arange(60).astype(kind), image)


def assert_same_volume(found, expected, tolerance_mm=1e-9):
    assert found.GetSize() == expected.GetSize()
    np.testing.assert_allclose(points_of(found), points_of(expected), rtol=0, atol=tolerance_mm)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(expected))


@pytest.mark.parametrize("space", TO_LPS)
@pytest.mark.parametrize("name", GRIDS)
def test_an_array_and_its_affine_say_where_each_voxel_is(name, space):
    image = numbered(name)
    array, affine = array_from_volume(image, space)
    assert array.shape == image.GetSize() == (5, 4, 3)
    for index in np.ndindex(array.shape):
        assert array[index] == image[index]
        point = TO_LPS[space] @ affine @ (*index, 1)
        np.testing.assert_allclose(point[:3], image.TransformIndexToPhysicalPoint(index), rtol=0, atol=1e-9)
    back = volume_from_array(array, affine, space)
    assert_same_volume(back, image)
    assert back.GetPixelID() == image.GetPixelID()


def test_the_components_of_a_vector_image_stay_last():
    image = sitk.Compose([numbered("oblique"), numbered("oblique") + 100])
    array, _ = array_from_volume(image)
    assert array.shape == (5, 4, 3, 2)
    assert tuple(array[4, 1, 2]) == image[4, 1, 2]


@pytest.mark.parametrize("name", GRIDS)
def test_nibabel_and_our_reader_see_the_same_volume_in_a_file(name, tmp_path):
    path = tmp_path / "volume.nii.gz"
    sitk.WriteImage(numbered(name), str(path))
    assert_same_volume(as_volume(nibabel.load(path), "fixed"), read_volume(path), 1e-4)  # the header is float32
    assert_same_volume(as_volume(nibabel.load(path), "fixed"), numbered(name), 1e-4)


@pytest.mark.filterwarnings("ignore:NvImgCodec")  # which MONAI looks for
@pytest.mark.parametrize("channel", [False, True])
@pytest.mark.parametrize("name", GRIDS)
def test_monai_and_our_reader_see_the_same_volume_in_a_file(name, channel, tmp_path):
    transforms = pytest.importorskip("monai.transforms")
    path = tmp_path / "volume.nii.gz"
    sitk.WriteImage(numbered(name, np.float32), str(path))
    tensor = transforms.LoadImage(reader="NibabelReader", image_only=True, ensure_channel_first=channel)(path)
    assert tensor.ndim == 3 + channel
    assert_same_volume(as_volume(tensor, "fixed"), read_volume(path), 1e-4)
    axes = (("L", "R"), ("P", "A"), ("I", "S"))
    turned = as_volume(transforms.Orientation("PLI", labels=axes)(tensor if channel else tensor[None]), "fixed")
    for index in np.ndindex(turned.GetSize()):
        point = turned.TransformIndexToPhysicalPoint(index)
        assert turned[index] == numbered(name)[numbered(name).TransformPhysicalPointToIndex(point)]


@pytest.mark.parametrize("space", [None, "RAS", "LPS"])
def test_a_tensor_with_an_affine_is_taken_with_its_gradient_type_and_channel(space):
    image = numbered("sagittal", np.float32)
    array, affine = array_from_volume(image, space or "RAS")
    meta = {} if space is None else {"space": space}
    plain = StandInMetaTensor.of(array, affine, **meta)
    trained = StandInMetaTensor.of(array[None], affine, **meta).requires_grad_()
    trained.affine, trained.meta = plain.affine, plain.meta
    half = StandInMetaTensor.of(array, affine, **meta).to(torch.bfloat16)  # whole numbers below 256 are exact
    half.affine, half.meta = plain.affine, plain.meta
    for tensor in (plain, trained, half):
        assert_same_volume(as_volume(tensor, "fixed"), image)


@pytest.mark.parametrize(
    ("kind", "becomes"),
    [("?", np.uint8), (">i2", np.int16), (">f8", np.float64), ("<f2", np.float32), ("u1", np.uint8)],
)
def test_any_kind_of_number_keeps_its_values(kind, becomes):
    array, affine = array_from_volume(numbered("oblique"))
    array = (array % 2).astype(kind)
    found = sitk.GetArrayFromImage(volume_from_array(array, affine))
    assert found.dtype == becomes
    np.testing.assert_array_equal(found.T, array.astype(float))


def test_what_nibabel_scales_and_its_units_count():
    array, affine = array_from_volume(numbered("oblique", np.int16))
    metres = np.diag([1e-3, 1e-3, 1e-3, 1.0]) @ affine
    stored = nibabel.Nifti1Image(array[..., None], metres)  # one frame
    stored.header.set_xyzt_units("meter", "sec")
    assert_same_volume(as_volume(stored, "fixed"), numbered("oblique"), 1e-6)
    raw = nibabel.Nifti1Image(array, affine).to_bytes()
    scaled = bytearray(raw)
    scaled[112:120] = np.array([0.5, -3.0], "<f4").tobytes()  # slope and intercept
    found = as_volume(nibabel.Nifti1Image.from_bytes(bytes(scaled)), "fixed")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found).T, array * 0.5 - 3.0)


def sheared(affine):
    return affine @ np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def flat(affine):
    return affine @ np.diag([1, 0, 1, 1])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda a, m: (a, sheared(m)), "perpendicular"),
        (lambda a, m: (a, flat(m)), "4 x 4"),
        (lambda a, m: (a, m[:3]), "4 x 4"),
        (lambda a, m: (a, m.T), "4 x 4"),
        (lambda a, m: (a, m * np.nan), "4 x 4"),
        (lambda a, m: (a, np.diag([5e3, 1, 1, 1]) @ m), "voxel spacing of"),
        (lambda a, m: (a[0], m), "2 dimensions"),
        (lambda a, m: (np.stack([a, a]), m), "4 dimensions"),
        (lambda a, m: (a[:0], m), "no voxels"),
        (lambda a, m: (a + 1j, m), "complex"),
        (lambda a, m: (a.astype(str), m), "numbers"),
        (lambda a, m: (a, m, "RSA"), "'RAS' or 'LPS'"),
    ],
)
def test_what_is_no_volume_is_refused(change, word):
    array, affine = array_from_volume(numbered("LPS"))
    with pytest.raises(InputError, match=word) as error:
        volume_from_array(*change(array, affine))
    assert_readable(error)


def test_what_has_no_place_in_space_is_refused_and_the_remedy_named(tmp_path):
    array, affine = array_from_volume(numbered("LPS"))
    frames = nibabel.Nifti1Image(np.stack([array, array], -1), affine)
    channels = StandInMetaTensor.of(np.stack([array, array]), affine)
    for given, word in (
        (array, "volume_from_array"),
        (torch.as_tensor(array.copy()), "volume_from_array"),
        (tmp_path / "fixed.nii.gz", "read_volume"),
        ("fixed.nii.gz", "read_volume"),
        (frames, "a 3D volume"),
        (channels, "one channel"),
    ):
        with pytest.raises(InputError, match=f"The fixed volume .*{word}") as error:
            register(given, numbered("LPS"))
        assert_readable(error)


def test_a_damaged_file_behind_a_nibabel_image_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(1000, size=(20, 20, 20)).astype(np.int16)
    whole = nibabel.Nifti1Image(noise, np.eye(4)).to_bytes()
    (tmp_path / "short.nii").write_bytes(whole[:5000])
    (tmp_path / "cut.nii.gz").write_bytes(gzip.compress(whole)[:5000])
    for path in tmp_path.iterdir():
        with pytest.raises(InputError, match="moving volume is damaged") as error:
            as_volume(nibabel.load(path), "moving")
        assert_readable(error)


def test_a_registration_is_the_same_whatever_program_the_volumes_are_of():
    settings = Settings(
        encoder="mind", device="cpu", working_spacing_mm=5.0, grid_spacing=4, iterations=5, fluid_iterations=0,
        initialization="none", feature_cache_gb=0.0,
    )  # fmt: skip
    fixed, moving = volume(empty_grid("oblique"), smooth_warp), volume(empty_grid("sagittal", (3, -2, 4)))
    masks = {"fixed_mask": fixed > 50.0, "moving_mask": moving > 50.0}
    expected = register(fixed, moving, settings, **masks)
    arrays = {name: array_from_volume(image) for name, image in {"moving": moving, **masks}.items()}
    found = register(
        nibabel.Nifti1Image(*array_from_volume(fixed)),
        StandInMetaTensor.of(arrays["moving"][0][None], arrays["moving"][1]),
        settings,
        fixed_mask=nibabel.Nifti1Image(*arrays["fixed_mask"]),
        moving_mask=volume_from_array(arrays["moving_mask"][0] > 0, arrays["moving_mask"][1]),
    )
    for image, other in ((found.displacement, expected.displacement), (found.warped, expected.warped)):
        np.testing.assert_allclose(points_of(image), points_of(other), rtol=0, atol=1e-6)
        np.testing.assert_allclose(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(other), rtol=0, atol=0.05)
    assert found.record["inputs"]["moving_mask"] == expected.record["inputs"]["moving_mask"]
    assert_same_volume(found.fixed, fixed, 1e-9)
