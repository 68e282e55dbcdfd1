"""The starting affine, found once for each case and given to every method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from FoundationRegistrationLib.files.outputs import complete_or_absent
from FoundationRegistrationLib.io.transforms import write_transform
from FoundationRegistrationLib.pipeline.initial_alignment.search import initial_alignment
from FoundationRegistrationLib.pipeline.preprocessing.prepared_volume import prepare
from FoundationRegistrationLib.runtime.progress import Progress
from FoundationRegistrationLib.spatial.points import linear_parts, transform_points

from .case import Case


def starting_affine(case: Case, path: Path) -> sitk.AffineTransform:
    """Return the affine from fixed to moving points, LPS mm, that a file holds; find it and write it if need be."""
    if not path.is_file():
        sides = (prepare(case.fixed, "auto", "fixed"), prepare(case.moving, "auto", "moving"))
        found, _ = initial_alignment(
            *sides, case.initialization, torch.device("cpu"), Progress({"initial alignment": 1.0})
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        with complete_or_absent(path) as unfinished:
            named = unfinished.with_suffix(".tfm")  # the kind of the file is told by its ending
            write_transform(as_affine(found), named)
            named.replace(unfinished)
    return sitk.AffineTransform(sitk.ReadTransform(str(path)))


def as_affine(transform: sitk.Transform) -> sitk.AffineTransform:
    """Return a linear transform of any class as an affine about the origin."""
    origin = np.zeros((1, 3))
    matrix, offset = linear_parts(transform, origin)[0], transform_points(transform, origin)[0]
    return sitk.AffineTransform(matrix.ravel().tolist(), offset.tolist())
