"""The preview of features: what its colours mean, and how a user of the command line gets it."""

import numpy as np
import SimpleITK as sitk
import torch
import volumes

from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.features import feature_preview
from FoundationRegistrationLib.spatial.grids import WorkingGrid


def test_the_command_line_writes_the_preview_on_request(tmp_path):
    offset = (40.0, -25.0, 10.0)
    fixed = volumes.volume(volumes.empty_grid("oblique"))
    moving = volumes.volume(volumes.empty_grid("RAS", center=offset), offset=offset)
    for name, image in (("fixed", fixed), ("moving", moving)):
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    command = ["register", str(tmp_path / "fixed.nii.gz"), str(tmp_path / "moving.nii.gz")]
    command += [
        "--output",
        str(tmp_path / "result"),
        "--encoder",
        "mind",
        "--working-spacing-mm",
        "4",
        "--feature-preview",
    ]
    command += ["--initialization", "moments", "--iterations", "1", "--progress", "none"]
    assert main(command) == 0
    paths = [tmp_path / "result" / f"features_{role}.nii.gz" for role in ("fixed", "moving")]
    previews = [sitk.ReadImage(str(path)) for path in paths]
    arrays = [sitk.GetArrayFromImage(preview).astype(float) for preview in previews]
    assert previews[0].GetNumberOfComponentsPerPixel() == 3
    assert previews[0].GetOrigin() == previews[1].GetOrigin()
    # Both lie in fixed space: after the centres were brought together the same anatomy has the same colour.
    inside = arrays[0].any(-1) & arrays[1].any(-1)
    assert inside.sum() > 0.7 * arrays[0].any(-1).sum()
    same, other = ((arrays[0] - moved)[inside] for moved in (arrays[1], np.roll(arrays[1], 3, axis=2)))
    assert np.abs(same).mean() < 0.6 * np.abs(other).mean()
    # A coloured voxel of the fixed preview lies where the fixed volume shows the body, in millimetres.
    indices = np.argwhere(arrays[0].any(-1))[::50, ::-1]
    points = np.array(
        [previews[0].TransformContinuousIndexToPhysicalPoint(index.tolist()) for index in indices * 1.0]
    )
    assert (volumes.body_depth(points) > -9.0).all()


def test_one_colour_is_one_feature_in_both_volumes_with_the_geometry_of_the_cells():
    cells = WorkingGrid((3.0, -4.0, 5.5), 2.5, (6, 7, 8))
    fixed, moving = volumes.noise(0, 5, 6, 7, 8), volumes.noise(1, 5, 6, 7, 8)
    moving[:, 2:4] = fixed[:, 1:3]
    foregrounds = [torch.ones(6, 7, 8), torch.ones(6, 7, 8)]
    foregrounds[0][:, :2] = 0
    images = feature_preview((fixed, moving), foregrounds, cells)
    arrays = []
    for image in images:
        assert (image.GetOrigin(), image.GetSpacing(), image.GetSize()) == ((3.0, -4.0, 5.5), (2.5,) * 3, (8, 7, 6))
        assert image.GetPixelIDTypeAsString() == "vector of 8-bit unsigned integer"
        arrays.append(sitk.GetArrayFromImage(image))
    assert np.array_equal(arrays[0][1:3, 2:], arrays[1][2:4, 2:])
    assert not arrays[0][:, :2].any(), "outside the foreground it is black"
    assert all(np.ptp(array[..., channel]) > 200 for array in arrays for channel in range(3))


def test_fewer_than_three_components_leave_colours_dark():
    cells = WorkingGrid((0.0, 0.0, 0.0), 1.0, (4, 5, 6))
    pair = [volumes.noise(seed, 1, 4, 5, 6) for seed in (0, 1)]
    red, _ = (sitk.GetArrayFromImage(image) for image in feature_preview(pair, [torch.ones(4, 5, 6)] * 2, cells))
    assert red[..., 0].max() == 255
    assert not red[..., 1:].any()
