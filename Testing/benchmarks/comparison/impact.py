"""IMPACT (Boussot et al. 2025) from the itk-impact package: ConvexAdam in ITK on features of a TorchScript model.

Settings as in its own documentation's first example, but both stages see features. The model is MIND (Heinrich et al.
2012) with six neighbours, written here, as the models of its authors cannot be installed with pip. The package is
bound to torch 2.12 alone, so it runs in a process that looks for torch in a folder of its own first.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import SimpleITK as sitk

from .isotropic import pair_on_grid
from .methods import Found, Task

_MULTIPLE = 4  # of the coarse grid's spacing


def mind(task: Task) -> Found:
    """Register on an isotropic grid around the anatomy, the moving volume resampled onto it through the start.

    Raises:
        RuntimeError: the process failed; with the last line of what it said.
    """
    grid, fixed, moving = pair_on_grid(task, reach_mm=20.0 * task.spacing_mm, multiple=_MULTIPLE)
    images = {"fixed": grid.image(fixed), "moving": grid.image(moving)}
    images["mask"] = sitk.Resample(task.fixed_mask, images["fixed"], sitk.Transform(), sitk.sitkNearestNeighbor)
    for name, image in images.items():
        sitk.WriteImage(image, str(task.folder / f"{name}.nii"))
    path = os.pathsep.join(filter(None, (str(task.peers / "impact"), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("impact_process.py")), str(task.folder), str(task.threads)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": path},
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines() or ["no word"]
        msg = f"itk-impact ended with {done.returncode}: {said[-1]}"
        raise RuntimeError(msg)
    field = sitk.ReadImage(str(task.folder / "field.mha"), sitk.sitkVectorFloat64)
    return Found(sitk.CompositeTransform([task.start, sitk.DisplacementFieldTransform(field)]))
