"""The preview of features as a user of the command line gets it."""

import numpy as np
import SimpleITK as sitk
import volumes

from FoundationRegistrationLib.__main__ import main


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
