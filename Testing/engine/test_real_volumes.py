"""Real volumes against known answers. Where the data is absent these tests are skipped."""

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.evaluation.overlap import dice, mean_over_labels, volume_error
from FoundationRegistrationLib.spatial.points import transform_points
from FoundationRegistrationLib.spatial.warping import warp_labels

PROJECT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("FOUNDATION_REGISTRATION_DATA", "../shared/data"))
DATA = DATA if DATA.is_absolute() else PROJECT / DATA


def read(name):
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"no real data: {path} is absent; set FOUNDATION_REGISTRATION_DATA to its folder")
    return sitk.ReadImage(str(path))


@pytest.mark.parametrize(
    ("encoder", "spacing_mm", "slice_gap", "least", "gain"),
    [("mind", 4.0, 0, 0.54, 0.08), ("litemedsam", 6.0, 10, 0.52, 0.07)],
)
def test_brains_of_two_subjects(encoder, spacing_mm, slice_gap, least, gain):
    fixed, moving = read("brain_intersubject/Subj8_T1.nii.gz"), read("brain_intersubject/Subj5_T1.nii.gz")
    labels = read("brain_intersubject/Subj8_T1_DLMUSE.nii.gz")
    moving_labels = read("brain_intersubject/Subj5_T1_DLMUSE.nii.gz")
    settings = Settings.from_preset(encoder=encoder, working_spacing_mm=spacing_mm, slice_gap=slice_gap)
    result = register(fixed, moving, settings)
    after = mean_over_labels(dice(labels, warp_labels(moving_labels, labels, result.transform)))
    before = mean_over_labels(dice(labels, warp_labels(moving_labels, labels, result.initial_transform)))
    assert after >= least
    assert after > before + gain
    assert result.metrics["jacobian"]["folded_percent"] < 0.1


@pytest.mark.parametrize(
    ("sequence", "spacing_mm", "most_mm"), [("FLAIR", 2.0, 0.6), ("T1W", 2.0, 1.0), ("T1W", 3.0, 1.6)]
)
def test_follow_up_of_a_patient_on_native_grids(sequence, spacing_mm, most_mm):
    fixed = read("ms_longitudinal/raw_study1_FLAIR.nii.gz")
    moving = read(f"ms_longitudinal/raw_study2_{sequence}.nii.gz")
    mask = read("ms_longitudinal/coregistered_brainmask.nii.gz")

    def reference(name):
        return sitk.ReadTransform(str(DATA / "ms_longitudinal" / f"{name}.txt"))

    to_fixed = reference("study1_FLAIR_to_common_space")
    indices = np.argwhere(sitk.GetArrayViewFromImage(mask)[::6, ::24, ::24] > 0) * (6, 24, 24)
    common = np.array([mask.TransformIndexToPhysicalPoint(index[::-1].tolist()) for index in indices])
    truth = transform_points(reference("study2_FLAIR_to_common_space"), common)
    if sequence == "T1W":
        truth = transform_points(reference("study2_T1W_intrastudy_to_FLAIR"), truth)
    result = register(fixed, moving, Settings.from_preset("longitudinal", working_spacing_mm=spacing_mm))
    error = np.linalg.norm(transform_points(result.transform, transform_points(to_fixed, common)) - truth, axis=1)
    assert error.mean() <= most_mm
    if sequence == "FLAIR":
        inside = sitk.GetArrayViewFromImage(mask) > 0
        values = [sitk.GetArrayFromImage(sitk.Resample(v, mask, to_fixed))[inside] for v in (fixed, result.warped)]
        assert np.corrcoef(*values)[0, 1] >= 0.94


def smooth_warp(image, largest_mm):
    """A known smooth displacement field on the grid of a volume, fading to zero at its edges, as a transform."""
    size = image.GetSize()
    axes = np.meshgrid(*(np.linspace(0, np.pi, n) for n in reversed(size)), indexing="ij")
    window = np.sin(axes[0]) * np.sin(axes[1]) * np.sin(axes[2])
    components = [window * np.cos(0.7 * axes[2]), -window * np.cos(0.5 * axes[1]), 0.5 * window]
    field = sitk.GetImageFromArray(largest_mm * np.stack(components, axis=-1), isVector=True)
    field.CopyInformation(image)
    return sitk.DisplacementFieldTransform(field)


def test_known_warp_of_a_breast_with_a_lesion():
    """The fixed volume is the patch seen through a known warp, so the warp itself is the right answer."""
    moving, lesion = read("breast_mr_patch/breast1_image.nrrd"), read("breast_mr_patch/breast1_label.nrrd")
    truth = smooth_warp(moving, 5.0)
    fixed = sitk.Resample(moving, moving, truth, sitk.sitkBSpline, 0, sitk.sitkFloat32)
    settings = Settings.from_preset("longitudinal", initialization="none")
    result = register(fixed, moving, settings)
    inside = np.argwhere(np.ones(moving.GetSize()))[::97]
    points = np.array([moving.TransformIndexToPhysicalPoint(index.tolist()) for index in inside])
    before = np.linalg.norm(points - transform_points(truth, points), axis=1)
    after = np.linalg.norm(transform_points(result.transform, points) - transform_points(truth, points), axis=1)
    assert after.mean() < 0.4 * before.mean()
    binary = sitk.Cast(lesion != 0, sitk.sitkUInt8)
    expected, found = (warp_labels(binary, moving, transform) for transform in (truth, result.transform))
    assert dice(expected, found)[1] > 0.85
    assert volume_error(expected, found) < 0.15


def test_known_warp_of_an_anthropomorphic_breast():
    """The tissue labels get other intensities on either side, as if two sequences had been acquired."""
    tissue = read("breast_phantom_victre/phantom_seed20240611_labels_0p75mm.nii.gz")
    labels = sitk.GetArrayFromImage(tissue)
    contrasts = [np.zeros(256, np.float32) for _ in range(2)]
    for value, (one, other) in {
        1: (0.9, 0.2),
        2: (0.5, 0.5),
        29: (0.4, 0.9),
        40: (0.3, 0.4),
        88: (0.35, 0.7),
    }.items():
        contrasts[0][value], contrasts[1][value] = one, other
    for value in (33, 95, 125, 150, 225):
        contrasts[0][value], contrasts[1][value] = contrasts[0][29], contrasts[1][29]
    noise = np.random.default_rng(0)

    def acquired(image, contrast):
        values = contrast[sitk.GetArrayFromImage(image)]
        result = sitk.GetImageFromArray(values + noise.normal(0, 0.02, values.shape).astype(np.float32))
        result.CopyInformation(image)
        return result

    truth = smooth_warp(tissue, 6.0)
    fixed = acquired(sitk.Resample(tissue, tissue, truth, sitk.sitkNearestNeighbor, 0), contrasts[0])
    moving = acquired(tissue, contrasts[1])
    result = register(
        fixed, moving, Settings.from_preset("cross-sequence", initialization="none", working_spacing_mm=1.5)
    )
    indices = np.argwhere(labels > 0)[::499]
    points = np.array([tissue.TransformIndexToPhysicalPoint(index[::-1].tolist()) for index in indices])
    before = np.linalg.norm(points - transform_points(truth, points), axis=1)
    after = np.linalg.norm(transform_points(result.transform, points) - transform_points(truth, points), axis=1)
    assert after.mean() < 0.4 * before.mean()


def test_a_series_of_frames_is_refused_with_advice():
    frames = read("breast_dce_2d/dce_4d_192x192x1x25.nii.gz")
    with pytest.raises(InputError, match="frame"):
        register(frames, frames)
