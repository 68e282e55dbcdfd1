"""Real brains: two subjects, two dates of a patient, the averages MNI152 and Colin27, Colin27 with a subject."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
from sklearn.mixture import GaussianMixture

from FoundationRegistrationLib.spatial.grids import smoothed_for_spacing
from FoundationRegistrationLib.spatial.points import physical_points, transform_points
from FoundationRegistrationLib.spatial.warping import warp_labels

from .case import Case

_FIRST_CORTICAL_LABEL = 100  # MUSE: regions of the cortex are numbered from here
_WHITE_MATTER_LABELS = tuple(range(81, 96))  # lobes, fornix, internal capsule, corpus callosum
_POINT_STEP = (4, 16, 16)
_COARSE_MM = 2.0
_CLOSED_VOXELS = 4
_MIXTURE_STEP = 10
_FLUID, _GREY, _WHITE = 1, 2, 3


def two_subjects(folder: Path) -> Case:
    """Return T1 of two subjects with about 145 labelled regions."""
    fixed, moving, fixed_regions, moving_regions = (
        sitk.ReadImage(str(folder / f"{name}.nii.gz"))
        for name in ("Subj8_T1", "Subj5_T1", "Subj8_T1_DLMUSE", "Subj5_T1_DLMUSE")
    )
    return Case(
        fixed=fixed,
        moving=moving,
        body=fixed_regions != 0,
        preset="between-patients",
        fixed_labels=_tissues_of_regions(fixed_regions),
        moving_labels=_tissues_of_regions(moving_regions),
    )


def follow_up(folder: Path, sequence: str) -> Case:
    """Return FLAIR of one date and a sequence ("FLAIR" or "T1W") of a later one, with reference affines.

    Both lie on their native grids. Where both are FLAIR, the lesions that changed are known too.
    """
    fixed, moving = (
        sitk.ReadImage(str(folder / f"raw_study{name}.nii.gz"), sitk.sitkFloat32)
        for name in ("1_FLAIR", f"2_{sequence}")
    )
    to_fixed, to_flair = (
        sitk.ReadTransform(str(folder / f"study{study}_FLAIR_to_common_space.txt")) for study in (1, 2)
    )
    truth = [to_flair, to_fixed.GetInverse()]
    if sequence == "T1W":
        truth.insert(0, sitk.ReadTransform(str(folder / "study2_T1W_intrastudy_to_FLAIR.txt")))
    true_transform = sitk.CompositeTransform(truth)
    brain, changed = (
        sitk.Resample(
            sitk.ReadImage(str(folder / f"coregistered_{name}.nii.gz"), sitk.sitkUInt8),
            fixed,
            to_fixed.GetInverse(),
            sitk.sitkNearestNeighbor,
        )
        for name in ("brainmask", "gt")
    )
    step = tuple(slice(None, None, count) for count in _POINT_STEP)
    indices = np.argwhere(sitk.GetArrayViewFromImage(brain)[step] > 0) * _POINT_STEP
    points = physical_points(brain, indices[:, ::-1])
    return Case(
        fixed=fixed,
        moving=moving,
        body=brain,
        preset="longitudinal" if sequence == "FLAIR" else "cross-sequence",
        fixed_points=points,
        moving_points=transform_points(true_transform, points),
        change=changed if sequence == "FLAIR" else None,
        true_transform=true_transform if sequence == "FLAIR" else None,
    )


def averages(mni: Path, colin: Path) -> Case:
    """Return MNI152 (fixed) and Colin27, both without skull, at 2 mm.

    MNI152's tissues are its own probability maps. Colin27 has none: its brain is split into fluid, grey and white
    matter by a mixture of three Gaussians, which limits the Dice that can be reached, for all methods alike.
    """
    template, grey, white = (
        sitk.ReadImage(str(mni / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"), sitk.sitkFloat32)
        for name in ("t1", "gm", "wm")
    )
    moving = _colin(colin)
    fixed, grey, white, coarse_moving = (_coarse(image) for image in (template, grey, white, moving))
    return Case(
        fixed=fixed,
        moving=coarse_moving,
        body=sitk.Cast(fixed > 0, sitk.sitkUInt8),
        preset="between-patients",
        fixed_labels=_masks(_likeliest(fixed, grey, white)),
        moving_labels=_masks(warp_labels(_clustered(moving), coarse_moving, sitk.Transform())),
    )


def subject_and_colin(folder: Path, colin: Path, subject: str) -> Case:
    """Return a subject (fixed) and Colin27, both without skull, for tuning; their tissues as in the other cases."""
    regions = sitk.ReadImage(str(folder / f"{subject}_T1_DLMUSE.nii.gz"))
    brain = sitk.BinaryMorphologicalClosing(regions != 0, (_CLOSED_VOXELS,) * 3)
    tissues = _tissues_of_regions(regions)
    moving = _colin(colin)
    return Case(
        fixed=sitk.Mask(sitk.ReadImage(str(folder / f"{subject}_T1.nii.gz"), sitk.sitkFloat32), brain),
        moving=moving,
        body=brain,
        preset="between-patients",
        fixed_labels={"grey matter": tissues["cortex"], "white matter": tissues["white matter"]},
        moving_labels=_masks(_clustered(moving)),
    )


def _colin(folder: Path) -> sitk.Image:
    return sitk.ReadImage(str(folder / "ch2bet.nii.gz"), sitk.sitkFloat32)


def _tissues_of_regions(regions: sitk.Image) -> dict[str, sitk.Image]:
    labels = sitk.GetArrayViewFromImage(regions)
    masks = {
        "cortex": labels >= _FIRST_CORTICAL_LABEL,
        "white matter": np.isin(labels, _WHITE_MATTER_LABELS),
    }
    return {"regions": regions} | {name: _on_grid(mask, regions) for name, mask in masks.items()}


def _masks(tissue: sitk.Image) -> dict[str, sitk.Image]:
    return {"grey matter": tissue == _GREY, "white matter": tissue == _WHITE}


def _likeliest(fixed: sitk.Image, grey: sitk.Image, white: sitk.Image) -> sitk.Image:
    """Return the tissue of the largest share at each voxel of the brain; what the two maps leave is fluid."""
    shares = [sitk.GetArrayFromImage(image) / 255.0 for image in (grey, white)]
    tissue = np.argmax([1.0 - sum(shares), *shares], axis=0) + _FLUID
    return _on_grid(np.where(sitk.GetArrayViewFromImage(fixed) > 0, tissue, 0), fixed)


def _clustered(brain: sitk.Image) -> sitk.Image:
    """Return fluid, grey and white matter of a T1-weighted brain without skull, from its intensities."""
    values = sitk.GetArrayViewFromImage(brain)
    inside = values > 0
    intensities = values[inside].astype(float)[:, None]
    starts = np.percentile(intensities, (5.0, 45.0, 85.0))[:, None]
    mixture = GaussianMixture(3, means_init=starts, random_state=0).fit(intensities[::_MIXTURE_STEP])
    tissue = np.zeros(values.shape, np.uint8)
    tissue[inside] = np.argsort(np.argsort(mixture.means_.ravel()))[mixture.predict(intensities)] + _FLUID
    return _on_grid(tissue, brain)


def _coarse(image: sitk.Image) -> sitk.Image:
    """Return a volume of 1 mm at 2 mm, its axes and its edge kept."""
    factor = [round(_COARSE_MM / spacing) for spacing in image.GetSpacing()]
    size = [-(-count // step) for count, step in zip(image.GetSize(), factor, strict=True)]
    return sitk.Resample(
        smoothed_for_spacing(image, _COARSE_MM),
        size,
        sitk.Transform(),
        sitk.sitkLinear,
        image.GetOrigin(),
        (_COARSE_MM,) * 3,
        image.GetDirection(),
    )


def _on_grid(values: np.ndarray, grid: sitk.Image) -> sitk.Image:
    image = sitk.GetImageFromArray(values.astype(np.uint8))
    image.CopyInformation(grid)
    return image
