"""ANTs SyN (Avants et al. 2008) from the antspyx package, with the settings of the paper's appendix B.

The paper's numbers are those of ANTs' own script: SyN[0.1,3,0]. What the paper calls total field variance is its
update field variance, 3; the total one, 0, smooths nothing more. Fields are in LPS mm. antspyx pins older versions of
numpy and scipy than the rest here, so it has a folder of its own and runs in a process that looks there first.
"""

from __future__ import annotations

import os
import subprocess
import sys

import SimpleITK as sitk

from .methods import Found, Task

_CALL = "import sys; from ants.internal import get_lib_fn; sys.exit(get_lib_fn('antsRegistration')(sys.argv[1:]))"


def syn(task: Task) -> Found:
    """Register with mutual information over four levels, the start given as initial transform.

    The metric is made for two sequences too; the mask keeps most of the air out of its histogram.

    Raises:
        RuntimeError: antsRegistration failed; with the last line of what it said.
    """
    fixed, moving, mask, start = (task.folder / name for name in ("fixed.nii", "moving.nii", "mask.nii", "start.mat"))
    sitk.WriteImage(sitk.Cast(task.fixed, sitk.sitkFloat32), str(fixed))
    sitk.WriteImage(sitk.Cast(task.moving, sitk.sitkFloat32), str(moving))
    sitk.WriteImage(task.fixed_mask, str(mask))
    sitk.WriteTransform(task.start, str(start))
    prefix = task.folder / "syn"
    arguments = [
        *("--dimensionality", "3", "--float", "1", "--output", f"{prefix}"),
        *("--initial-moving-transform", f"{start}", "--interpolation", "Linear", "--masks", f"[{mask},NULL]"),
        *("--transform", "SyN[0.1,3,0]", "--metric", f"MI[{fixed},{moving},1,32]"),
        *("--convergence", "[100x70x50x20,1e-6,10]"),
        *("--shrink-factors", "8x4x2x1", "--smoothing-sigmas", "3x2x1x0vox"),
    ]
    path = os.pathsep.join(filter(None, (str(task.peers), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", _CALL, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": path},
    )
    warp = task.folder / "syn1Warp.nii.gz"
    if done.returncode != 0 or not warp.is_file():
        said = (done.stdout + done.stderr).strip().splitlines() or ["no word"]
        msg = f"antsRegistration ended with {done.returncode}: {said[-1]}"
        raise RuntimeError(msg)
    field = sitk.ReadImage(str(warp), sitk.sitkVectorFloat64)
    return Found(sitk.CompositeTransform([task.start, sitk.DisplacementFieldTransform(field)]))
