"""Real and anthropomorphic breasts under a known warp: a patch with a lesion, VICTRE's labels, a contrast series."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from FoundationRegistrationLib.pipeline.preprocessing.foreground import find_foreground
from FoundationRegistrationLib.spatial.points import physical_points, transform_points
from FoundationRegistrationLib.spatial.warping import warp_labels

from .case import Case
from .warps import drawn_warp

_POINTS = 6000
_NOISE = 0.02  # of the brightest tissue
_SERIES_SLICES = 24
_SERIES_SLICE_MM = 2.0
_BEFORE_CONTRAST, _AFTER_CONTRAST = slice(0, 2), slice(12, 14)

# VICTRE's tissue: intensities as in T1 and as in fat-suppressed T2, 0..1. What is not named looks like gland.
_AIR, _FAT, _SKIN, _GLAND, _MUSCLE, _LIGAMENT = 0, 1, 2, 29, 40, 88
_CONTRASTS = {
    _AIR: (0.0, 0.0),
    _FAT: (0.9, 0.2),
    _SKIN: (0.5, 0.5),
    _GLAND: (0.4, 0.9),
    _MUSCLE: (0.3, 0.4),
    _LIGAMENT: (0.35, 0.7),
}
_FIBROGLANDULAR = (_GLAND, 95, 125)  # gland, terminal ducts and lobules, ducts


def patch(folder: Path, seed: int = 1) -> Case:
    """Return a breast MR patch with a lesion, seen a second time through a warp and noise, drawn from a seed."""
    moving = sitk.ReadImage(str(folder / "breast1_image.nrrd"), sitk.sitkFloat32)
    lesion = sitk.Cast(sitk.ReadImage(str(folder / "breast1_label.nrrd")) != 0, sitk.sitkUInt8)
    truth = drawn_warp(moving, largest_mm=7.0, seed=seed)
    fixed = sitk.Resample(moving, moving, truth, sitk.sitkBSpline, 0.0, sitk.sitkFloat32)
    everywhere = _on_grid(np.ones(moving.GetSize()[::-1], np.uint8), moving)
    return Case(
        fixed=_with_noise(fixed, seed + 1),
        moving=moving,
        body=everywhere,
        preset="lesion",
        spacing_mm=1.0,
        initialization="none",
        fixed_labels={"lesion": warp_labels(lesion, moving, truth)},
        moving_labels={"lesion": lesion},
        moving_lesion=lesion,
        **_points(everywhere, truth),
    )


def victre(folder: Path) -> Case:
    """Return VICTRE's breast as two sequences, one of them seen through a warp."""
    tissue = sitk.ReadImage(str(folder / "phantom_seed20240611_labels_0p75mm.nii.gz"))
    truth = drawn_warp(tissue, largest_mm=9.0, seed=3)
    warped = sitk.Resample(tissue, tissue, truth, sitk.sitkNearestNeighbor, _AIR)
    body = sitk.Cast(warped != _AIR, sitk.sitkUInt8)
    return Case(
        fixed=_with_noise(_painted(warped, 0), 4),
        moving=_with_noise(_painted(tissue, 1), 5),
        body=body,
        preset="cross-sequence",
        spacing_mm=1.0,
        initialization="none",
        fixed_labels=_structures(warped),
        moving_labels=_structures(tissue),
        **_points(body, truth),
    )


def contrast_series(folder: Path) -> Case:
    """Return a slice before (fixed, seen through a warp in the plane) and after contrast, stacked to volumes."""
    frames = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "dce_4d_192x192x1x25.nii.gz")))[:, 0]
    before, moving = (_stacked(frames[chosen].mean(0)) for chosen in (_BEFORE_CONTRAST, _AFTER_CONTRAST))
    truth = drawn_warp(moving, largest_mm=8.0, seed=6, in_plane=True)
    fixed = sitk.Resample(before, before, truth, sitk.sitkBSpline, 0.0, sitk.sitkFloat32)
    body = sitk.Resample(find_foreground(fixed, "mr"), fixed, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    return Case(
        fixed=fixed,
        moving=moving,
        body=body,
        preset="longitudinal",
        initialization="none",
        **_points(body, truth),
    )


def _points(mask: sitk.Image, truth: sitk.Transform) -> dict[str, np.ndarray]:
    indices = np.argwhere(sitk.GetArrayViewFromImage(mask) > 0)[:, ::-1]
    indices = indices[np.random.default_rng(0).permutation(len(indices))[:_POINTS]]
    points = physical_points(mask, indices)
    return {"fixed_points": points, "moving_points": transform_points(truth, points)}


def _painted(tissue: sitk.Image, sequence: int) -> sitk.Image:
    values = np.full(256, _CONTRASTS[_GLAND][sequence], np.float32)
    for label, contrast in _CONTRASTS.items():
        values[label] = contrast[sequence]
    return _on_grid(values[sitk.GetArrayViewFromImage(tissue)], tissue)


def _structures(tissue: sitk.Image) -> dict[str, sitk.Image]:
    labels = sitk.GetArrayViewFromImage(tissue)
    masks = {
        "breast": (labels != _AIR) & (labels != _MUSCLE),
        "fibroglandular": np.isin(labels, _FIBROGLANDULAR),
        "muscle": labels == _MUSCLE,
    }
    return {name: _on_grid(mask.astype(np.uint8), tissue) for name, mask in masks.items()}


def _stacked(slice_values: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(np.repeat(slice_values[None].astype(np.float32), _SERIES_SLICES, axis=0))
    image.SetSpacing((1.0, 1.0, _SERIES_SLICE_MM))
    return image


def _with_noise(image: sitk.Image, seed: int) -> sitk.Image:
    values = sitk.GetArrayFromImage(image)
    noise = np.random.default_rng(seed).normal(0.0, _NOISE * np.percentile(values, 99.0), values.shape)
    return _on_grid((values + noise).astype(np.float32), image)


def _on_grid(values: np.ndarray, grid: sitk.Image) -> sitk.Image:
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(grid)
    return image
