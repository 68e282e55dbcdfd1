"""What `register` is given: every pixel type and size is taken alike, what cannot be right is refused by name."""

import numpy as np
import pytest
import SimpleITK as sitk
from small_runs import HALF_VOXEL_MM, array_of, quick, settings, small_pair
from volumes import assert_readable, body_points, empty_grid, mean_error, on_grid, points_of, smooth_warp, volume

from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.errors import InputError, SettingsError

# ---- sizes that no patient has ----


def resized(image, factor):
    """The same voxels as if they were so many times larger."""
    result = sitk.Image(image)
    result.SetSpacing((factor * np.array(image.GetSpacing())).tolist())
    result.SetOrigin((factor * np.array(image.GetOrigin())).tolist())
    return result


def test_micrometres_and_a_thin_slice_are_refused_in_words_that_fit():
    tiny = [resized(image, 0.001) for image in small_pair()]
    with pytest.raises(InputError, match=r"fixed volume measures 0\.\d+ x 0\.\d+ x 0\.\d+ mm") as error:
        register(*tiny, quick())
    assert "mask" not in str(error.value)
    assert "unit" in str(error.value)
    thin = volume(empty_grid("RAS"))[:, :, 18:20]
    thin.SetSpacing((2.0, 2.0, 0.1))
    with pytest.raises(InputError, match="too thin") as error:
        register(thin, thin, quick())
    assert "mask" not in str(error.value)
    assert "--working-spacing-mm" in str(error.value)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("side", ["fixed", "moving"])
def test_a_single_slice_is_refused(side, axis):
    index = [slice(None)] * 3
    index[axis] = slice(18, 19)
    pair = dict(zip(("fixed", "moving"), small_pair(), strict=True))
    pair[side] = pair[side][tuple(index)]
    with pytest.raises(InputError, match=f"The {side} volume is a single slice") as error:
        register(**pair, settings=quick())
    assert_readable(error)


@pytest.mark.parametrize("stages", ["deformable", "rigid"])
def test_volumes_that_overlap_where_neither_shows_the_patient_are_refused(stages):
    fixed, moving = small_pair()
    moving.SetOrigin([position + 60.0 for position in moving.GetOrigin()])
    with pytest.raises(InputError, match="Nothing of the two volumes could be compared") as error:
        register(fixed, moving, quick(stages=stages))
    assert_readable(error)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_volume_of_one_bright_voxel_far_from_the_patient_is_refused():
    fixed, moving = small_pair()
    dark = sitk.Image(moving) * 0
    dark[0, 0, 0] = 1
    with pytest.raises(InputError, match="Nothing of the two volumes could be compared"):
        register(fixed, dark, quick())


@pytest.mark.parametrize(("factor", "word"), [(0.5, "few voxels"), (300.0, "larger than any patient")])
def test_odd_sizes_are_said(factor, word):
    pair = [resized(image, factor) for image in small_pair()]
    messages = register(*pair, quick(iterations=2, memory_budget_gb=0.001)).messages
    assert sum(word in message for message in messages) == 2
    assert any("measures" in message and "unit" in message for message in messages)


@pytest.mark.parametrize(("working_mm", "is_said"), [(2.0, True), (4.0, False)])
def test_a_grid_far_finer_than_all_voxels_is_said(working_mm, is_said):
    pair = [sitk.BinShrink(image, [6, 6, 6]) for image in small_pair()]
    finest = min(*pair[0].GetSpacing(), *pair[1].GetSpacing())
    assert (working_mm < finest / 4) is is_said
    wanted = quick(working_spacing_mm=working_mm, iterations=2, fluid_iterations=0)
    assert any("much finer than the voxels" in message for message in register(*pair, wanted).messages) is is_said


# ---- pixel types and odd volumes ----


def big_endian(image, folder):
    """The same volume as 16 bit big-endian MetaImage, written by hand."""
    path = folder / "big.mha"
    header = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = True",
        "TransformMatrix = " + " ".join(map(str, np.array(image.GetDirection()).reshape(3, 3).T.ravel())),
        "Offset = " + " ".join(map(str, image.GetOrigin())),
        "ElementSpacing = " + " ".join(map(str, image.GetSpacing())),
        "DimSize = " + " ".join(map(str, image.GetSize())),
        "ElementType = MET_SHORT",
        "ElementDataFile = LOCAL",
    ]
    path.write_bytes(("\n".join(header) + "\n").encode() + np.rint(array_of(image)).astype(">i2").tobytes())
    return sitk.ReadImage(str(path))


def with_values(image, positions, value):
    values = array_of(image)
    values[positions] = value
    return on_grid(values, image)


CONVERSIONS = {
    "int16": lambda image, _: sitk.Cast(image, sitk.sitkInt16),
    "uint16": lambda image, _: sitk.Cast(image * 50, sitk.sitkUInt16),
    "uint8": lambda image, _: sitk.Cast(image * 0.25, sitk.sitkUInt8),
    "int8": lambda image, _: sitk.Cast(image * 0.12, sitk.sitkInt8),
    "int32": lambda image, _: sitk.Cast(image * 1e6, sitk.sitkInt32),
    "float64": lambda image, _: sitk.Cast(image, sitk.sitkFloat64),
    "millions": lambda image, _: image * 1e4,
    "millionths": lambda image, _: image * 1e-6,
    "NaN around": lambda image, _: with_values(image, array_of(image) < 1, np.nan),
    "inf": lambda image, _: with_values(image, (slice(15, 17), slice(20, 22), slice(9, 12)), np.inf),
    "big-endian": big_endian,
}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_every_pixel_type_gives_the_same_registration(name, tmp_path):
    fixed, moving = small_pair()
    converted = CONVERSIONS[name](moving, tmp_path)
    result = register(fixed, converted, settings(iterations=20, fluid_iterations=20))
    assert mean_error(result.transform, smooth_warp, body_points(smooth_warp)) < HALF_VOXEL_MM
    assert result.warped.GetPixelID() == converted.GetPixelID()
    values = array_of(result.warped)
    assert np.isfinite(values).all()
    # Brightness is that of the input, and the anatomy is that of the fixed volume.
    assert np.corrcoef(values.ravel().astype(float), array_of(fixed).ravel())[0, 1] > 0.93


# ---- bad inputs ----


def bad_volumes():
    good = volume(empty_grid())
    skewed = sitk.Image(good)
    skewed.SetDirection((1, 0.1, 0, 0, 1, 0, 0, 0, 1))
    return {
        "2D": good[:, :, 10],
        "4D": sitk.JoinSeries([good, good]),
        "vector": sitk.Compose([good, good]),
        "constant": good * 0 + 3,
        "all NaN": good * float("nan"),
        "skewed": skewed,
    }


@pytest.mark.parametrize("role", ["fixed", "moving"])
@pytest.mark.parametrize("name", bad_volumes())
def test_bad_volumes_are_refused_by_name(name, role):
    images = {"fixed": volume(empty_grid()), "moving": volume(empty_grid()), role: bad_volumes()[name]}
    with pytest.raises(InputError, match=role) as error:
        register(images["fixed"], images["moving"], quick())
    assert_readable(error)


@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_bad_masks_are_refused_by_name(role):
    image = volume(empty_grid())
    for mask in (image[1:] > 0, sitk.Cast(image * 0, sitk.sitkUInt8), sitk.Image([4, 4], sitk.sitkUInt8)):
        with pytest.raises(InputError, match=f"{role} mask") as error:
            register(image, image, quick(), **{f"{role}_mask": mask})
        assert_readable(error)


def test_masks_that_do_not_meet_are_refused():
    image = volume(empty_grid())
    x = points_of(image)[:, 0]
    corner = on_grid(((x > 30) & (points_of(image)[:, 2] > 30)).astype(np.uint8), image)
    other = volume(empty_grid("LPS", (60, 0, 0)))
    far = on_grid((points_of(other)[:, 0] > 90).astype(np.uint8), other)
    with pytest.raises(InputError, match="mask") as error:
        register(image, other, quick(displacement_half_width=1), fixed_mask=corner, moving_mask=far)
    assert_readable(error)


def test_a_2d_initial_transform_is_refused():
    with pytest.raises(InputError, match="2D") as error:
        register(volume(empty_grid()), volume(empty_grid()), quick(), initial_transform=sitk.Euler2DTransform())
    assert_readable(error)


@pytest.mark.parametrize("settings", [{"encoder": "mind"}, "longitudinal"])
def test_settings_of_another_type_are_refused(settings):
    with pytest.raises(SettingsError, match="from_preset") as error:
        register(volume(empty_grid()), volume(empty_grid()), settings)
    assert_readable(error)


@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_a_volume_that_is_none_is_refused(role):
    volumes = {"fixed": volume(empty_grid()), "moving": volume(empty_grid()), role: None}
    with pytest.raises(InputError, match=f"The {role} volume is a NoneType") as error:
        register(**volumes)
    assert_readable(error)


def test_a_matrix_as_initial_transform_is_refused():
    with pytest.raises(InputError, match="ndarray, not a SimpleITK transform") as error:
        register(volume(empty_grid()), volume(empty_grid()), quick(), initial_transform=np.eye(4))
    assert_readable(error)


def test_an_unknown_encoder_is_refused_before_anything_is_done():
    with pytest.raises(SettingsError, match="mind") as error:  # it names what there is
        register(volume(empty_grid()), volume(empty_grid()), Settings(encoder="resnet"))
    assert_readable(error)


@pytest.mark.parametrize(
    "values",
    [
        {"no_such_setting": 1},
        {"preset": "fastest"},
        {"working_spacing_mm": 0.05},
        {"working_spacing_mm": -1.0},
        {"working_spacing_mm": float("nan")},
        {"working_spacing_mm": "2"},
        {"iterations": -1},
        {"iterations": 2.5},
        {"iterations": True},
        {"smoothing_kernel": 4},
        {"regularization": float("inf")},
        {"initialization": "magic"},
        {"interpolation": "nearest"},
        {"fixed_modality": "ultrasound"},
        {"device": "tpu"},
        {"grid_spacing": 5, "adam_grid_spacing": 2},
        {"encoder": 3},
    ],
)
def test_bad_settings_are_refused(values):
    with pytest.raises(SettingsError) as error:
        Settings.from_preset(**values)
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert next(reversed(values)).split("_")[0] in message or str(next(iter(values.values()))) in message


def test_the_working_grid_and_the_slices_follow_the_coarser_volume_unless_given():
    found = Settings().suited_to((1.0, 1.0, 1.0), (1.0, 1.0, 8.0))
    assert (found.working_spacing_mm, found.slice_gap) == (2.0, 3)
    given = Settings(working_spacing_mm=1.5, slice_gap=2).suited_to((1.0, 1.0, 1.0), (4.0, 4.0, 4.0))
    assert (given.working_spacing_mm, given.slice_gap) == (1.5, 2)
    assert Settings().suited_to((1e-3,) * 3, (1e-3,) * 3).working_spacing_mm == 0.1
    assert Settings().suited_to((90.0,) * 3, (1.0,) * 3).working_spacing_mm == 20.0
