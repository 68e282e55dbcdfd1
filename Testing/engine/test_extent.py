"""The grid of what is warped: its extent, its spacing, and small structures on coarse voxels."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from volumes import assert_readable, empty_grid, on_grid, points_of, rigid_transform, through

from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.io.transforms import write_transform
from FoundationRegistrationLib.pipeline.propagation.extent import covers, output_grid, outside_percent
from FoundationRegistrationLib.spatial.grids import field_of_view

INVERSE = sitk.Euler3DTransform(rigid_transform().GetInverse())
COARSE = {"spacing": (2.0, 2.0, 5.0), "size": (40, 44, 16)}


@pytest.fixture
def registration(tmp_path):
    """The folder of a rigid registration whose fixed volume has voxels of 2 x 2 x 5 mm, oblique."""
    write_transform(rigid_transform(), tmp_path / "transform.h5")
    write_transform(rigid_transform().GetInverse(), tmp_path / "inverse.h5")
    fixed, moving = coarse(), empty_grid("LPS")
    report = {
        side: {
            "size": image.GetSize(),
            "spacing": image.GetSpacing(),
            "origin": image.GetOrigin(),
            "direction": image.GetDirection(),
        }
        for side, image in (("fixed", fixed), ("moving", moving))
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    return tmp_path


def coarse():
    grid = sitk.Image(COARSE["size"], sitk.sitkFloat32)
    grid.SetSpacing(COARSE["spacing"])
    grid.SetDirection(empty_grid("oblique").GetDirection())
    extent = np.multiply(COARSE["size"], COARSE["spacing"])
    matrix = np.reshape(grid.GetDirection(), (3, 3))
    grid.SetOrigin((-matrix @ (extent / 2)).tolist())
    return grid


def fine(extent_mm=(60.0, 60.0, 60.0)):
    """1 mm voxels, flipped."""
    grid = empty_grid("RAS", extent_mm=extent_mm)
    image = sitk.Image([round(length) for length in extent_mm], sitk.sitkUInt8)
    image.SetDirection(grid.GetDirection())
    image.SetOrigin(grid.GetOrigin())
    return image


def indices(image, points):
    return np.array([image.TransformPhysicalPointToContinuousIndex(point) for point in points.tolist()])


@pytest.mark.parametrize("name", ["RAS", "oblique", "anisotropic"])
@pytest.mark.parametrize("spacing", [None, 3.0])
@pytest.mark.parametrize("covered", ["reference", "image", "union"])
def test_a_grid_covers_what_was_asked_for_on_the_lattice_of_the_reference(name, covered, spacing):
    reference, image = empty_grid(name, extent_mm=(40.0, 36.0, 44.0)), empty_grid("sagittal", (10, 20, -5))
    grid = output_grid(reference, image, INVERSE, covered, spacing)
    assert np.allclose(grid.GetDirection(), reference.GetDirection())
    shown = {"reference": field_of_view(reference), "image": through(INVERSE, field_of_view(image))}
    wanted = np.concatenate(list(shown.values())) if covered == "union" else shown[covered]
    at = indices(grid, wanted) + 0.5
    assert (at > -1e-6).all()
    assert (at < np.array(grid.GetSize()) + 1e-6).all()
    assert (np.ptp(at, axis=0) > np.array(grid.GetSize()) - 2.5).all(), "no larger than needed"
    if spacing is None:
        steps = indices(reference, np.array([grid.GetOrigin()]))
        assert np.abs(steps - np.round(steps)).max() < 1e-6
    else:
        assert grid.GetSpacing() == (spacing,) * 3


def test_what_lies_outside_a_grid_is_measured():
    grid, mask = empty_grid("LPS", extent_mm=(40.0, 40.0, 40.0)), fine()
    points = points_of(mask)
    ball = np.linalg.norm(points, axis=1) < 15.0
    marked = on_grid(ball.astype(np.uint8), mask)
    shift = sitk.TranslationTransform(3, (0.0, 20.0, 0.0))
    assert outside_percent(marked, grid, shift) == pytest.approx(50.0, abs=3.0)
    assert outside_percent(marked, grid, sitk.TranslationTransform(3)) == 0.0


@pytest.mark.parametrize("spacing", [0.0, -1.0, np.nan, 0.02])
def test_a_grid_that_cannot_be_is_refused(spacing):
    with pytest.raises(InputError) as error:
        output_grid(empty_grid("LPS"), empty_grid("LPS"), INVERSE, "union", spacing)
    assert_readable(error)


def test_an_unknown_extent_is_refused():
    with pytest.raises(InputError, match="union"):
        covers("everything", "fixed")


def apply(registration, kind, source, output, *options):
    return main(
        ["apply", str(registration), f"--{kind}", str(source), "--output", str(output), "--overwrite", *options]
    )


@pytest.mark.parametrize(("direction", "extent"), [("forward", "moving"), ("inverse", "fixed"), ("forward", "union")])
def test_apply_keeps_all_of_a_volume_with_an_extent(registration, capsys, direction, extent):
    grid = empty_grid("sagittal", extent_mm=(150.0, 90.0, 120.0))
    image = on_grid((100.0 + 0.3 * points_of(grid)[:, 0]).astype(np.float32), grid)
    sitk.WriteImage(image, str(registration / "image.nrrd"))
    output = registration / "out.nrrd"
    options = ("--direction", direction, "--extent", extent, "--spacing", "4")
    assert apply(registration, "image", registration / "image.nrrd", output, *options) == 0
    assert "lies outside" not in capsys.readouterr().err
    forward = direction == "forward"
    way = INVERSE if forward else sitk.Euler3DTransform(rigid_transform())
    result = sitk.ReadImage(str(output))
    at = indices(result, through(way, field_of_view(image))) + 0.5
    assert (at > -1e-6).all()
    assert (at < np.array(result.GetSize()) + 1e-6).all()
    assert result.GetSpacing() == (4.0, 4.0, 4.0)


def lesions(centre_mm, diameter_mm):
    grid = fine()
    inside = np.linalg.norm(points_of(grid) - centre_mm, axis=1) < diameter_mm / 2
    return on_grid(inside.astype(np.uint8), grid)


def volume_of(path):
    image = sitk.ReadImage(str(path))
    return np.count_nonzero(sitk.GetArrayViewFromImage(image)) * np.prod(image.GetSpacing())


@pytest.mark.parametrize("diameter_mm", [3.0, 6.0])
@pytest.mark.parametrize("reference", [False, True])
def test_a_small_lesion_keeps_its_volume_on_coarse_voxels(registration, capsys, diameter_mm, reference):
    """A segmentation has voxels of its own, whatever the reference."""
    rng = np.random.default_rng(3)
    sitk.WriteImage(coarse(), str(registration / "b0.nrrd"))
    for number in range(4):
        lesion = lesions(rng.uniform(-8.0, 8.0, 3), diameter_mm)
        for key, value in {"ID": "a", "Name": "lesion", "LabelValue": "1", "Layer": "0"}.items():
            lesion.SetMetaData(f"Segment0_{key}", value)
        source, output = registration / f"{number}.seg.nrrd", registration / f"carried{number}.seg.nrrd"
        sitk.WriteImage(lesion, str(source))
        options = ("--reference", str(registration / "b0.nrrd")) if reference else ()
        assert apply(registration, "labels", source, output, *options) == 0
        assert volume_of(output) == pytest.approx(volume_of(source), rel=0.08)
        said, digits = capsys.readouterr().err, 1 if diameter_mm < 5.0 else 0
        assert "voxels of their own" in said
        assert f"segment 'lesion' {volume_of(source):.{digits}f} and {volume_of(output):.{digits}f} mm³" in said
        kept = sitk.ReadImage(str(output))
        marked = points_of(kept)[sitk.GetArrayViewFromImage(kept).ravel() != 0].mean(0)
        drawn = points_of(lesion)[sitk.GetArrayViewFromImage(lesion).ravel() != 0].mean(0)
        assert np.linalg.norm(through(INVERSE, drawn[None])[0] - marked) < 0.3


def test_a_label_map_stays_on_the_reference_that_was_given_and_its_loss_is_said(registration, capsys):
    sitk.WriteImage(coarse(), str(registration / "b0.nrrd"))
    sitk.WriteImage(lesions((0.4, 0.4, 2.3), 3.0), str(registration / "lesion.nii.gz"))
    source, output = registration / "lesion.nii.gz", registration / "out.nii.gz"
    assert apply(registration, "labels", source, output, "--reference", str(registration / "b0.nrrd")) == 0
    said = capsys.readouterr().err
    assert sitk.ReadImage(str(output)).GetSize() == tuple(COARSE["size"])
    assert "Volumes before and after: label 1" in said
    assert apply(registration, "labels", source, output, "--spacing", "0.5") == 0
    assert sitk.ReadImage(str(output)).GetSpacing() == (0.5, 0.5, 0.5)
    assert volume_of(output) > 0.7 * volume_of(source)


def test_without_a_report_a_reference_is_asked_for(registration, capsys):
    (registration / "report.json").unlink()
    sitk.WriteImage(lesions((0.0, 0.0, 0.0), 9.0), str(registration / "lesion.nii.gz"))
    assert apply(registration, "labels", registration / "lesion.nii.gz", registration / "out.nii.gz") == 2
    assert "Give --reference" in capsys.readouterr().err
