"""A finished registration on disk with known transforms, and the other programs that read what it exports."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from volumes import empty_grid, field_image, rigid_transform, volume

from FoundationRegistrationLib.io.transforms import write_transform
from FoundationRegistrationLib.io.volumes import write_volume_directly
from FoundationRegistrationLib.spatial.warping import compose_transform

# Programs that need versions of their own, in a folder of their own (see the Makefile).
PEERS = Path(os.environ.get("FOUNDATION_REGISTRATION_PEERS", Path(sys.prefix) / "peers"))


def deformable():
    """Transform as a registration writes it: a rigid part after a displacement field."""
    return compose_transform(rigid_transform(), field_image())


def coarse(name, factor=2):
    """Named grid with voxels of 3 to 8 mm."""
    return sitk.Shrink(empty_grid(name), [factor] * 3)


def finish(folder, fixed, moving, transform=None, start=None, inputs=None):
    """Write the folder of a registration.

    Args:
        folder: created.
        fixed: fixed volume, on whose grid the record says it is.
        moving: moving volume.
        transform: from fixed to moving points; `deformable` if None.
        start: initial transform; the rigid part of `deformable` if None.
        inputs: what the report says of the file of each side.
    """
    folder.mkdir(parents=True)
    transform = deformable() if transform is None else transform
    write_transform(transform, folder / "transform.h5")
    write_transform(rigid_transform() if start is None else start, folder / "initial_transform.h5")
    back = sitk.CompositeTransform([rigid_transform().GetInverse()])
    write_transform(back, folder / "inverse.h5")
    report = {"settings": {}, "initialization": "rigid", "inputs": inputs or {}}
    for side, image in (("fixed", fixed), ("moving", moving)):
        report[side] = {
            "size": image.GetSize(),
            "spacing": image.GetSpacing(),
            "origin": image.GetOrigin(),
            "direction": image.GetDirection(),
        }
    (folder / "report.json").write_text(json.dumps(report))
    return folder


def finish_niftis(folder, fixed_name, moving_name, **recorded):
    """Write a registration of two NIfTI files; returns its folder and the two volumes."""
    volumes = {"fixed": volume(coarse(fixed_name)), "moving": volume(coarse(moving_name))}
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for side, image in volumes.items():
        paths[side] = {"path": str(folder / f"{side}.nii.gz")}
        write_volume_directly(image, folder / f"{side}.nii.gz")
    return finish(folder / "result", *volumes.values(), inputs={**paths, **recorded}), *volumes.values()


def warped(volume_to_warp, onto, transform):
    """What a warp should give, (z, y, x), and where it is far enough from the border, where programs differ."""
    values = sitk.GetArrayFromImage(sitk.Resample(volume_to_warp, onto, transform, sitk.sitkLinear, 0.0))
    size = volume_to_warp.GetSize()
    inner = sitk.Image(size, sitk.sitkFloat32)
    inner.CopyInformation(volume_to_warp)
    inner = sitk.Paste(inner, inner + 1, [n - 4 for n in size], [2, 2, 2], [2, 2, 2])
    inside = sitk.GetArrayFromImage(sitk.Resample(inner, onto, transform, sitk.sitkLinear, 0.0)) > 0.999
    assert inside.mean() > 0.1
    return values, inside


def sampled_points(image, count=200, seed=0):
    """Points of voxel centres inside the grid, (N, 3), in LPS mm, and their indices."""
    rng = np.random.default_rng(seed)
    index = np.column_stack([rng.integers(0, n, count) for n in image.GetSize()])
    return np.array([image.TransformIndexToPhysicalPoint(i.tolist()) for i in index]), index
