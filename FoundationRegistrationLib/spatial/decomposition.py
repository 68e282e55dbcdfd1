"""Transforms taken apart: what is linear, and the displacement field before it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import SimpleITK as sitk

from .points import matrix_of


def parts(transform: sitk.Transform) -> Iterator[sitk.Transform]:
    """Yield the components of a transform, nested ones too; the last one is applied first, as in ITK."""
    if transform.GetName() == "CompositeTransform":
        composite = sitk.CompositeTransform(transform)
        for number in range(composite.GetNumberOfTransforms()):
            yield from parts(composite.GetNthTransform(number))
    else:
        yield transform


def linear_matrix(transform: sitk.Transform) -> np.ndarray | None:
    """Return a linear transform as a matrix (4, 4), LPS mm; None if it is not linear."""
    rows = matrix_of(transform)
    return None if rows is None else np.array(rows)


def field_and_matrix(transform: sitk.Transform) -> tuple[sitk.Image, np.ndarray] | None:
    """Return the u and M of a transform of the form x -> M (x + u(x)), as registrations usually have; None otherwise.

    Returns:
        The displacement u, a vector image in LPS mm on its own grid, and the matrix M (4, 4), LPS mm.
    """
    *others, first = parts(transform)
    matrix = linear_matrix(sitk.CompositeTransform(others)) if others else np.eye(4)
    if first.GetName() != "DisplacementFieldTransform" or matrix is None:
        return None
    owner = sitk.DisplacementFieldTransform(sitk.Transform(first))  # must outlive its voxels
    return sitk.Image(owner.GetDisplacementField()), matrix
