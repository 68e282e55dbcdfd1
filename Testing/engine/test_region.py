"""A region says where tissue is deformed; around it the displacement fades, without folds, to the start."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from small_runs import quick
from volumes import (
    OBLIQUE,
    assert_readable,
    empty_grid,
    on_grid,
    points_of,
    rigid_transform,
    smooth_warp,
    through,
    volume,
)

from FoundationRegistrationLib import InputError, box_region, register
from FoundationRegistrationLib.evaluation.jacobian import jacobian_determinant
from FoundationRegistrationLib.io.regions import read_region
from FoundationRegistrationLib.pipeline.deformation.region import box_of, cells_in, faded_displacement
from FoundationRegistrationLib.spatial.displacement import displacement_image
from FoundationRegistrationLib.spatial.grids import WorkingGrid

AXES = np.reshape(OBLIQUE, (3, 3))
CENTER, SIZE = np.array([6.0, -4.0, 8.0]), np.array([20.0, 16.0, 24.0])


def in_box(points, margin=0.0):
    return (np.abs((points - CENTER) @ AXES) <= SIZE / 2 + margin).all(1)


@pytest.fixture(scope="module")
def pair():
    return volume(empty_grid("oblique"), smooth_warp), volume(empty_grid("sagittal", (3, -2, 4)))


@pytest.fixture(scope="module")
def run(pair):
    return register(*pair, options(), initial_transform=rigid_transform(), region=box_region(CENTER, SIZE, AXES))


def options():
    return quick(fluid_iterations=0, displacement_half_width=1, grid_spacing=2)


def test_far_from_the_region_the_transform_is_the_start(run):
    points = points_of(empty_grid("LPS", extent_mm=(200.0, 200.0, 200.0)))[::97]
    moved = np.linalg.norm(through(run.transform, points) - through(rigid_transform(), points), axis=1)
    assert moved[~in_box(points, 70.0)].max() < 1e-9
    assert moved[in_box(points)].mean() > 0.5
    assert run.metrics["jacobian"]["folded_percent"] == 0.0


def test_the_expected_error_is_known_in_the_region_only(run):
    known = ~np.isnan(sitk.GetArrayViewFromImage(run.expected_error).ravel())
    points = points_of(run.expected_error)
    assert known[in_box(points)].mean() > 0.8
    assert not known[~in_box(points, 0.01)].any()


def test_the_working_grid_is_around_the_region(run, pair):
    whole = register(*pair, options(), initial_transform=rigid_transform())
    voxels = [np.prod(result.record["working_grid"]["shape_zyx"]) for result in (run, whole)]
    assert voxels[0] < 0.6 * voxels[1]
    assert "content_sha256" in run.record["inputs"]["region"]


@pytest.mark.parametrize("length_mm", [2.0, 15.0, 40.0])
def test_a_displacement_fades_without_folds_whatever_its_length(length_mm):
    cells = WorkingGrid((-60.0, -60.0, -60.0), 4.0, (31, 31, 31))
    inside = cells_in(box_region(CENTER, SIZE, AXES), cells)
    direction = torch.tensor([0.6, -0.64, 0.48])[:, None, None, None]
    field = faded_displacement(length_mm / 4.0 * direction.expand(3, 31, 31, 31), cells, inside)
    points, vectors = points_of(field), sitk.GetArrayFromImage(field).reshape(-1, 3)
    assert np.allclose(np.linalg.norm(vectors[in_box(points)], axis=1), length_mm, rtol=1e-4)
    assert sitk.GetArrayFromImage(jacobian_determinant(field)).min() > 0.0
    if length_mm < 5.0:  # the narrowest border suffices
        narrow = displacement_image(length_mm / 4.0 * direction.expand(3, 31, 31, 31), cells, inside, 3.0)
        assert np.array_equal(sitk.GetArrayFromImage(field), sitk.GetArrayFromImage(narrow))
    array = sitk.GetArrayViewFromImage(field)
    assert max(np.abs(array.take(end, axis)).max() for axis in range(3) for end in (0, -1)) == 0.0


def test_a_region_that_shows_nothing_is_refused(pair):
    with pytest.raises(InputError, match="shows nothing") as error:
        register(*pair, options(), region=box_region((300.0, 0.0, 0.0), SIZE))
    assert_readable(error)


def roi(**changed):
    """The file of a ROI as Slicer writes it."""
    markup = {
        "type": "ROI",
        "coordinateSystem": "LPS",
        "center": CENTER.tolist(),
        "orientation": AXES.ravel().tolist(),
        "size": SIZE.tolist(),
        "insideOut": False,
        **changed,
    }
    return json.dumps({"markups": [markup]})


def assert_the_box(region):
    """A single voxel whose corners are those of the box."""
    corners = np.array(
        [
            region.TransformContinuousIndexToPhysicalPoint([a - 0.5, b - 0.5, c - 0.5])
            for a in (0, 1)
            for b in (0, 1)
            for c in (0, 1)
        ]
    )
    assert np.allclose(np.abs((corners - CENTER) @ AXES), SIZE / 2)
    low, high = box_of(region)
    assert np.allclose(low, corners.min(0))
    assert np.allclose(high, corners.max(0))


def test_a_roi_of_slicer_is_read_in_both_coordinate_systems(tmp_path):
    path = tmp_path / "roi.mrk.json"
    path.write_text(roi())
    assert_the_box(read_region(path, []))
    flip = np.array([-1.0, -1.0, 1.0])
    ras = {"center": (flip * CENTER).tolist(), "orientation": (flip[:, None] * AXES).ravel().tolist()}
    path.write_text(roi(coordinateSystem="RAS", **ras))
    assert_the_box(read_region(path, []))


def test_a_mask_is_a_region(tmp_path):
    grid = empty_grid("anisotropic")
    sitk.WriteImage(on_grid(in_box(points_of(grid)).astype(np.uint8), grid), str(tmp_path / "mask.nrrd"))
    low, high = box_of(read_region(tmp_path / "mask.nrrd", []))
    reach = np.abs(AXES) @ (SIZE / 2)
    assert np.abs(low - (CENTER - reach)).max() < 4.0
    assert np.abs(high - (CENTER + reach)).max() < 4.0


@pytest.mark.parametrize(
    "content",
    [
        roi(insideOut=True),
        roi(size=[0.0, 1.0, 1.0]),
        roi(center=None),
        roi(orientation=[1, 0, 0, 1, 1, 0, 0, 0, 1]),
        roi(coordinateSystem="IJK"),
        roi(type="Fiducial"),
        "[]",
        "{",
    ],
)
def test_what_is_no_box_is_refused(tmp_path, content):
    (tmp_path / "roi.mrk.json").write_text(content)
    with pytest.raises(InputError) as error:
        read_region(tmp_path / "roi.mrk.json", [])
    assert_readable(error)
