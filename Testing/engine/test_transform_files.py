"""Files of transforms: what other programs write into the same formats, with another meaning, is refused in words."""

import struct
import subprocess
import sys

import h5py
import numpy as np
import pytest
import SimpleITK as sitk
from volumes import assert_readable, empty_grid, field_image, field_transform, points_of, rigid_transform, through

from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.io.transforms import read_transform, write_transform

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
    return sitk.Cast(field_image(), sitk.sitkVectorFloat32)


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
        "scalar.nii.gz": (plain, "1 values per voxel"),
        "two.nrrd": (sitk.Compose([plain, plain]), "2 values per voxel"),
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


# ---- damaged files ----

DAMAGE = """
import random, sys
from pathlib import Path
import SimpleITK as sitk
from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.io.transforms import read_transform

folder = Path(sys.argv[1])
for path in sorted(folder.glob("sound*")):
    sound = path.read_bytes()
    expected = read_transform(path)
    for seed in range(int(sys.argv[2])):
        chance = random.Random(seed)
        content = bytearray(sound)
        kind = chance.choice(("cut", "zeros", "flip", "noise"))
        begin = chance.randrange(len(sound) if chance.random() < 0.5 else min(len(sound), 6000))
        end = min(len(sound), begin + chance.choice((1, 8, 64, 512, 4096)))
        if kind == "cut":
            del content[begin:]
        elif kind == "zeros":
            content[begin:end] = bytes(end - begin)
        elif kind == "flip":
            content[begin] ^= 1 << chance.randrange(8)
        else:
            content[begin:end] = chance.randbytes(end - begin)
        spoilt = folder / f"spoilt{path.suffix}"
        spoilt.write_bytes(content)
        print(path.name, seed, kind, flush=True)  # the last line names what ended the process
        try:
            found = read_transform(spoilt)
        except InputError as error:
            print("refused", error)
            continue
        same = found.GetParameters() == expected.GetParameters()
        print("same" if same and found.GetFixedParameters() == expected.GetFixedParameters() else "other")
"""


@pytest.mark.parametrize("ending", [".h5", ".tfm", ".txt", ".mat"])
def test_a_damaged_transform_file_ends_nothing_and_a_cut_one_is_refused(tmp_path, ending):
    small = sitk.Shrink(field(), [8, 8, 8])
    affine = sitk.AffineTransform(rigid_transform().GetMatrix(), (3.5, -20.25, 7.125), (10.5, -5.25, 2.75))
    parts = [sitk.Euler3DTransform((1.5, 2.5, 3.5), 0.1, 0.2, 0.3), affine]
    grid = sitk.DisplacementFieldTransform(sitk.Cast(small, sitk.sitkVectorFloat64))
    sitk.WriteTransform(affine, str(tmp_path / f"sound_affine{ending}"))
    if ending != ".mat":
        sitk.WriteTransform(sitk.CompositeTransform([*parts, grid]), str(tmp_path / f"sound_composite{ending}"))
    if ending == ".h5":
        write_transform(sitk.CompositeTransform([*parts, grid]), tmp_path / "sound_compressed.h5")
    script = [sys.executable, "-c", DAMAGE, str(tmp_path), "150"]
    run = subprocess.run(script, capture_output=True, text=True, check=False, timeout=300)
    lines = run.stdout.splitlines()
    assert run.returncode == 0, (lines[-1:], run.stderr[-500:])
    outcomes = dict(zip(lines[::2], lines[1::2], strict=True))
    assert len(outcomes) == 150 * len(list(tmp_path.glob("sound*")))
    refused = [said for said in outcomes.values() if said.startswith("refused")]
    assert len(refused) > len(outcomes) // 4
    assert all(said.endswith(".") for said in refused)
    # A file in text is whole too where it ends with one of its transforms: nothing says how many there are.
    cuts = {what: said for what, said in outcomes.items() if what.endswith("cut") and not said.startswith("refused")}
    assert cuts == {}


@pytest.mark.parametrize("name", ["TransformParameters", "TransformFixedParameters", "TransformType"])
def test_an_hdf5_file_that_lacks_a_part_is_refused(tmp_path, name):
    path = tmp_path / "transform.h5"
    for spoil in (lambda part: part.pop(name), lambda part: part.move(name, "Elsewhere"), shorten(name)):
        sitk.WriteTransform(field_transform(), str(path))
        with h5py.File(path, "r+") as file:
            spoil(file["TransformGroup/0"])
        with pytest.raises(InputError, match=r"damaged or incomplete; copy it again|is not a transform file"):
            read_transform(path)
    with h5py.File(path, "w") as file:
        file["image"] = np.zeros((3, 4))
    with pytest.raises(InputError, match="holds no transform"):
        read_transform(path)


def shorten(name):
    def spoil(part):
        values = part[name][()]
        del part[name]
        part[name] = values[:-1] if len(values) > 1 else 7.0

    return spoil


def test_names_of_older_versions_of_itk_are_read(tmp_path):
    path, transform = tmp_path / "transform.h5", field_transform()
    sitk.WriteTransform(transform, str(path))
    with h5py.File(path, "r+") as file:
        for name in ("Parameters", "FixedParameters"):
            file["TransformGroup/0"].move(f"Transform{name}", f"Tranform{name}")
    assert read_transform(path).GetParameters() == transform.GetParameters()
