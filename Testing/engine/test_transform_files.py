"""Files of transforms: what other programs write into the same formats, with another meaning, is refused in words."""

import struct

import numpy as np
import pytest
import SimpleITK as sitk
from volumes import assert_readable, empty_grid, field_transform, points_of, rigid_transform, through

from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.io.transforms import read_transform

ROWS = ["1 0 0 10", "0 1 0 -5", "0 0 1 2.5e0", "0 0 0 1"]
FOREIGN = {
    "minc.xfm": (
        "MNI Transform File\n%VIO\n\nTransform_Type = Linear;\nLinear_Transform =\n" + "\n".join(ROWS),
        "RAS",
    ),
    "renamed.txt": ("MNI Transform File\nTransform_Type = Linear;\n", "MINC"),
    "grid.xfm": ("no text that says it", "MINC"),
    "fsl.mat": ("\n".join(ROWS) + "\n", "bare matrix"),
    "fsl.txt": ("  ".join(ROWS), "bare matrix"),
    "afni.1D": ("# 3dAllineate matrices\n" + " ".join(ROWS[:3]), "bare matrix"),
    "comma.tfm": (",".join(row.replace(" ", ",") for row in ROWS), "bare matrix"),
    "surfer.lta": ("# made by\ntype      = 1\nnxforms   = 1\nmean = 0 0 0\n", "FreeSurfer"),
    "surfer.m3z": ("binary", "FreeSurfer"),
    "TransformParameters.0.txt": ('(Transform "EulerTransform")\n(NumberOfParameters 6)\n', "elastix"),
    "elastix.tfm": ('// comment\n(Transform "BSplineTransform")\n', "elastix"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_transform_of_another_program_is_named(tmp_path, name):
    text, words = FOREIGN[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words) as error:
        read_transform(tmp_path / name)
    assert str(error.value).endswith(".")


def field():
    return sitk.Cast(field_transform().GetDisplacementField(), sitk.sitkVectorFloat32)


def test_fields_in_lps_are_read_exactly(tmp_path):
    points = points_of(sitk.Shrink(empty_grid("LAS"), [6, 6, 6]))
    expected = through(sitk.DisplacementFieldTransform(sitk.Cast(field(), sitk.sitkVectorFloat64)), points)
    for name in ("field.nrrd", "field.nhdr", "field.mha", "field.nii.gz"):
        sitk.WriteImage(field(), str(tmp_path / name))
        np.testing.assert_allclose(through(read_transform(tmp_path / name), points), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("code", "name", "words"), [(1007, b"NREG_TRANS", "NiftyReg"), (1007, b"Mapping", "SPM"), (2006, b"", "FSL")]
)
def test_a_nifti_field_of_another_program_is_named(tmp_path, code, name, words):
    path = tmp_path / "field.nii"
    sitk.WriteImage(field(), str(path))
    content = bytearray(path.read_bytes())
    content[68:70] = struct.pack("<h", code)
    content[328:344] = name.ljust(16, b"\0")
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as error:
        read_transform(path)
    assert_readable_name(error)


def assert_readable_name(error):
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith(".")


@pytest.mark.parametrize("signs", [(1.0, 1.0, 1.0), (-1.0, -1.0, 1.0)], ids=["LPS", "RAS"])
@pytest.mark.parametrize("grid", ["oblique", "sagittal", "anisotropic"])
def test_positions_are_not_taken_for_displacements(tmp_path, grid, signs):
    image = sitk.Shrink(empty_grid(grid), [4, 4, 4])
    moved = through(rigid_transform(), points_of(image)) * signs
    positions = sitk.GetImageFromArray(moved.reshape(*image.GetSize()[::-1], 3), isVector=True)
    positions.CopyInformation(image)
    sitk.WriteImage(positions, str(tmp_path / "positions.nii.gz"))
    with pytest.raises(InputError, match="positions, not displacements"):
        read_transform(tmp_path / "positions.nii.gz")


def test_what_is_no_field_is_told_apart(tmp_path):
    plain = sitk.Shrink(empty_grid("LPS"), [4, 4, 4])
    endless = sitk.GetArrayFromImage(field())
    endless[0, 0, 0, 0] = np.inf
    cases = {
        "scalar.nii.gz": (plain, "1 values a voxel"),
        "two.nrrd": (sitk.Compose([plain, plain]), "2 values a voxel"),
        "flat.nrrd": (sitk.Compose([plain[:, :, 3]] * 3), "2D"),
        "colour.nii.gz": (sitk.Cast(sitk.Compose([plain] * 3), sitk.sitkVectorUInt8), "colour"),
        "endless.nrrd": (sitk.GetImageFromArray(endless, isVector=True), "not finite"),
    }
    for name, (image, words) in cases.items():
        sitk.WriteImage(image, str(tmp_path / name))
        with pytest.raises(InputError, match=words):
            read_transform(tmp_path / name)
    sitk.WriteTransform(sitk.Euler2DTransform(), str(tmp_path / "flat.tfm"))
    with pytest.raises(InputError, match="2D") as error:
        read_transform(tmp_path / "flat.tfm")
    assert_readable(error)
