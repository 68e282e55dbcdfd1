"""The names of the files of a registration."""

from __future__ import annotations

# What a registration writes into its folder, some of it only on request: the record of one run.
RESULTS = (
    "transform.h5",
    "inverse.h5",
    "initial_transform.h5",
    "warped.nii.gz",
    "jacobian.nii.gz",
    "expected_error_mm.nrrd",  # ITK, and so Slicer, reads NaN in NIfTI as 0
    "features_fixed.nii.gz",
    "features_moving.nii.gz",
    "report.json",
    "overview.png",
)
