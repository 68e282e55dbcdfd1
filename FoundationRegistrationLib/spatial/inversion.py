"""The inverse of a transform with a displacement field, by Newton's method."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch

from ..runtime.device import device_with_doubles
from .displacement import lengths, rounded
from .grids import WorkingGrid
from .points import transform_points
from .sampling import identity_positions, sample

_INVERSION_STEPS = 30
_INVERSION_TOLERANCE_MM = 1e-3
_LARGEST_FINE_INVERSE = 2_000_000
_POINTS_AT_ONCE = 262_144  # more need memory and are no faster


def invert(
    initial: sitk.Transform, field: sitk.Image, domain: WorkingGrid, device: torch.device | None = None
) -> sitk.CompositeTransform:
    """Return the inverse of `compose_transform(initial, field)`: y -> x.

    Args:
        initial: fixed to moving points; any transform, inverted exactly if linear, numerically otherwise.
        field: displacement on an axis-aligned isotropic grid, zero at its border, LPS mm.
        domain: region of fixed space in which a nonlinear transform is inverted.
        device: where to compute; the CPU if None.
    """
    device = device_with_doubles(device or torch.device("cpu"))
    backward = sitk.DisplacementFieldTransform(rounded(inverse_displacement(field, device)))
    composite = sitk.CompositeTransform([backward, *_inverted(initial, domain, device)])
    composite.FlattenTransform()
    return composite


def _inverted(transform: sitk.Transform, domain: WorkingGrid, device: torch.device) -> list[sitk.Transform]:
    """Return the inverse as a list in composite order (the last is applied first)."""
    transform = transform.Downcast()
    if isinstance(transform, sitk.CompositeTransform):
        parts = [transform.GetNthTransform(index) for index in range(transform.GetNumberOfTransforms())]
        inverses: list[sitk.Transform] = []
        for part in reversed(parts):
            inverses += _inverted(part, domain, device)
            domain = _carried(domain, part)
        return inverses
    if transform.IsLinear():
        return [transform.GetInverse()]
    return [sitk.DisplacementFieldTransform(rounded(inverse_displacement(_rasterised(transform, domain), device)))]


def _carried(domain: WorkingGrid, transform: sitk.Transform) -> WorkingGrid:
    """Return a grid that contains the image of a domain under a transform."""
    ends = [
        (low, low + (size - 1) * domain.spacing) for low, size in zip(domain.origin, domain.shape[::-1], strict=True)
    ]
    nodes = np.stack(np.meshgrid(*(np.linspace(*end, 5) for end in ends)), -1).reshape(-1, 3)
    points = transform_points(transform, nodes)
    x, y, z = (float(value) for value in points.min(0))
    width, height, depth = (int(value) + 2 for value in np.ptp(points, axis=0) / domain.spacing)
    return WorkingGrid((x, y, z), domain.spacing, (depth, height, width))


def _rasterised(transform: sitk.Transform, domain: WorkingGrid) -> sitk.Image:
    """Return a transform as a displacement field, on a grid that contains the domain and its image."""
    to_field = sitk.TransformToDisplacementFieldFilter()
    to_field.SetOutputPixelType(sitk.sitkVectorFloat64)
    to_field.SetOutputSpacing((domain.spacing,) * 3)
    largest = 0.0
    for border in (0.0, None):
        margin = largest if border is None else border
        grid = domain.padded(int(np.ceil(margin / domain.spacing)) + 2)
        to_field.SetSize([int(size) for size in reversed(grid.shape)])
        to_field.SetOutputOrigin(grid.origin)
        field = to_field.Execute(transform)
        largest = float(np.linalg.norm(sitk.GetArrayViewFromImage(field), axis=-1).max())
    return field


def inverse_displacement(field: sitk.Image, device: torch.device) -> sitk.Image:
    """Return v with (x + u(x)) + v(x + u(x)) = x, on the grid of u or, if that is small, on one twice as fine.

    Newton's method at each voxel until convergence, damped where the Jacobian is nearly singular. Where u compresses
    tissue its inverse has finer detail than u, hence the finer grid. The result will be interpolated linearly, so it
    is made exact on average over the cells, not at the nodes.

    Args:
        field: u, a vector image in LPS mm on an axis-aligned isotropic grid.
        device: where to compute.
    """
    spacing = field.GetSpacing()[0]
    array = torch.from_numpy(sitk.GetArrayFromImage(field)).float().to(device) / spacing
    forward = array.permute(3, 0, 1, 2).flip(0).contiguous()
    refinement = 2 if 8 * forward[0].numel() <= _LARGEST_FINE_INVERSE else 1
    with torch.inference_mode():
        inverse = _right_between_nodes(_newton_inverse(forward, refinement, _INVERSION_TOLERANCE_MM / spacing))
    result = sitk.GetImageFromArray(
        (inverse * spacing).flip(0).permute(1, 2, 3, 0).double().contiguous().cpu().numpy(), isVector=True
    )
    result.SetOrigin(field.GetOrigin())
    result.SetSpacing([spacing / refinement] * 3)
    return result


def _newton_inverse(forward: torch.Tensor, refinement: int, tolerance: float) -> torch.Tensor:
    """Solve v = -u(y + v) for each node y of a refined grid, (3, z, y, x) in voxels of the grid of u.

    The first and last nodes of both grids coincide.
    """
    z, y, x = ((size - 1) * refinement + 1 for size in forward.shape[1:])
    target = identity_positions((z, y, x), forward.device) / refinement
    return inverse_at(forward, target.reshape(3, -1), tolerance).reshape(3, z, y, x)


def _right_between_nodes(values: torch.Tensor) -> torch.Tensor:
    """Return nodal values (3, z, y, x) whose linear interpolation is exact on average over the cells.

    Linear interpolation of exact values is too large by h^2 / 12 times the Laplacian on average over cells of edge h
    (trapezoidal rule). The sum of the six neighbours minus six times the node is h^2 times the Laplacian.
    """
    padded = torch.nn.functional.pad(values[None], (1,) * 6, mode="replicate")[0]
    corrected = 1.5 * values
    for axis in (1, 2, 3):
        inside = padded
        for other in {1, 2, 3} - {axis}:
            inside = inside.narrow(other, 1, values.shape[other])
        for start in (0, 2):
            corrected -= inside.narrow(axis, start, values.shape[axis]) / 12.0
    return corrected


def inverse_at(forward: torch.Tensor, targets: torch.Tensor, tolerance: float) -> torch.Tensor:
    """Solve v = -u(y + v) for points y: then x = y + v is the point with x + u(x) = y.

    Args:
        forward: u, (3, z, y, x) in voxels, components (z, y, x).
        targets: y, (3, N) continuous indices, components (z, y, x).
        tolerance: largest accepted residual in voxels.

    Returns:
        v, (3, N) in voxels.
    """
    derivatives = torch.stack(torch.gradient(forward, dim=(1, 2, 3)), dim=1).flatten(0, 1)
    solved = [_solved(forward, derivatives, some, tolerance) for some in targets.split(_POINTS_AT_ONCE, dim=1)]
    return torch.cat(solved, dim=1)


def _solved(forward: torch.Tensor, derivatives: torch.Tensor, target: torch.Tensor, tolerance: float) -> torch.Tensor:
    """Solve as `inverse_at` does; derivatives are (9, z, y, x), see `_newton_step`."""
    inverse = -sample(forward, target)
    best_error = target.new_full(target.shape[1:], torch.inf)
    best = inverse.clone()
    active = torch.arange(target.shape[1], device=target.device)
    for _ in range(_INVERSION_STEPS):
        position = target[:, active] + inverse[:, active]
        residual = inverse[:, active] + sample(forward, position)
        error = lengths(residual)
        better = error < best_error[active]
        best[:, active[better]] = inverse[:, active[better]]
        best_error[active] = torch.minimum(error, best_error[active])
        unfinished = error > tolerance
        active = active[unfinished]
        if not len(active):
            break
        step = _newton_step(sample(derivatives, position[:, unfinished]), residual[:, unfinished])
        inverse[:, active] -= step
    return best


def _newton_step(derivatives: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """Return (1 + du)^-1 residual by Cramer's rule, at most two voxels long; half the residual if nearly singular.

    Args:
        derivatives: (9, ...) d u_i / d x_j with row i, column j.
        residual: (3, ...).
    """
    columns = [derivatives[j::3].clone() for j in range(3)]
    for j in range(3):
        columns[j][j] += 1.0
    a, b, c = columns
    bc, ca, ab = (torch.linalg.cross(p, q, dim=0) for p, q in ((b, c), (c, a), (a, b)))
    determinant = (a * bc).sum(0)
    solved = torch.stack([(normal * residual).sum(0) for normal in (bc, ca, ab)]) / determinant
    step = torch.where(determinant > 0.1, solved, 0.5 * residual)
    return step * (2.0 / lengths(step).clamp_min(1e-12)).clamp(max=1.0)
