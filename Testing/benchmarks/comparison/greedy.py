"""Greedy (Yushkevich et al. 2016) from the picsl-greedy package, its deformable part alone.

Its documentation (greedy.readthedocs.io) advises a mask in fixed space, normalized cross-correlation where both
volumes look alike, with a stationary velocity field, and normalized mutual information where their intensities differ
much; the correlation is signed, so it fails where one sequence is bright and the other dark. It warns that its mutual
information is weak for deformable registration. Iterations and, for mutual information, the smoothing were chosen on
phantoms that no table reports: with a velocity field or the default smoothing it folded there.
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from picsl_greedy import Greedy3D

from .methods import Found, Task
from .niftyreg import ras_matrix

_ALIKE = "-m NCC 4x4x4 -sv"
_UNLIKE = "-m NMI -s 4vox 1.5vox"
_UNLIKE_PRESETS = ("cross-sequence", "pet-ct-to-mri")
_ITERATIONS = "100x100x50"  # at a quarter, half and all of the resolution


def deformable(task: Task) -> Found:
    """Register with the metric for such a pair, the start given as initial transform."""
    start = task.folder / "start.mat"  # an affine is read from a file alone
    np.savetxt(start, ras_matrix(task.start))
    metric = _UNLIKE if task.preset in _UNLIKE_PRESETS else _ALIKE
    program = Greedy3D()
    program.execute(
        f"-i fixed moving -gm mask -it {start} {metric} -n {_ITERATIONS} -threads {task.threads} -wp 0 -o warp",
        fixed=sitk.Cast(task.fixed, sitk.sitkFloat64),
        moving=sitk.Cast(task.moving, sitk.sitkFloat64),
        mask=sitk.Cast(task.fixed_mask, sitk.sitkFloat64),
        warp=None,
    )
    field = sitk.Cast(program["warp"], sitk.sitkVectorFloat64)  # in LPS mm, unlike the affine
    return Found(sitk.CompositeTransform([task.start, sitk.DisplacementFieldTransform(field)]))
