"""Displacement fields as SimpleITK transforms: padding, inversion, files, and what is done with them.

Every transform maps a point of the space resampled onto to a point of the space resampled from, in LPS mm:
`transform` maps fixed points to moving points, `inverse` moving points to fixed points.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from .convex_adam.sampling import identity_positions, sample
from .errors import OutputError
from .geometry import WorkingGrid, transform_points
from .io.transforms import read_transform as read_transform
from .io.written import check_room, check_transform
from .preprocessing import finite_float

_LOGGER = logging.getLogger(__name__)

_TAPER_STEEPNESS = 3.0
_SMALLEST_BORDER_MM = 10.0
LARGEST_BORDER_MM = 60.0
_INVERSION_STEPS = 30
_INVERSION_TOLERANCE_MM = 1e-3
_LARGEST_FINE_INVERSE = 2_000_000
_POINTS_AT_ONCE = 262_144  # more take memory and are no faster
_NARROW_PIXEL_TYPES = (sitk.sitkUInt8, sitk.sitkInt8, sitk.sitkUInt16, sitk.sitkInt16, sitk.sitkFloat32)


def displacement_image(displacement: torch.Tensor, cells: WorkingGrid) -> sitk.Image:
    """Return a displacement as a vector image in LPS mm, padded and tapered to zero.

    A SimpleITK displacement field is zero outside its grid and one in Slicer repeats its edge; with a border
    of zeros both mean the same. The taper is long enough not to fold space by itself.

    Args:
        displacement: (3, z, y, x) in cells, components (z, y, x).
        cells: the grid of the displacement.
    """
    millimetres = displacement.detach().float().cpu() * cells.spacing
    edge = max(
        float(_lengths(face).max())
        for axis in (1, 2, 3)
        for face in (millimetres.select(axis, 0), millimetres.select(axis, -1))
    )
    taper_mm = float(np.clip(_TAPER_STEEPNESS * edge, _SMALLEST_BORDER_MM, LARGEST_BORDER_MM))
    border = int(np.ceil(taper_mm / cells.spacing)) + 1
    padded = torch.nn.functional.pad(millimetres[None], (border,) * 6, mode="replicate")[0]
    outside = [_cells_outside(size, border) for size in millimetres.shape[1:]]
    distance = torch.sqrt(outside[0][:, None, None] ** 2 + outside[1][:, None] ** 2 + outside[2] ** 2)
    weight = 0.5 * (1.0 + torch.cos(torch.pi * (distance / border).clamp(max=1.0)))
    array = (padded * weight).flip(0).permute(1, 2, 3, 0).double().numpy()
    return cells.padded(border).image(np.ascontiguousarray(array), is_vector=True)


def _cells_outside(size: int, border: int) -> torch.Tensor:
    """Return how many cells each cell of a padded axis lies outside the axis."""
    index = torch.arange(-border, size + border, dtype=torch.float32)
    return torch.clamp(torch.maximum(-index, index - (size - 1)), min=0.0)


def compose(initial: sitk.Transform, field: sitk.Image) -> sitk.CompositeTransform:
    """Return x -> initial(x + u(x)), flat, so that every program can read it from a file."""
    composite = sitk.CompositeTransform([initial, sitk.DisplacementFieldTransform(sitk.Image(field))])
    composite.FlattenTransform()
    return composite


def displacement_on_grid_of(image: sitk.Image, transform: sitk.Transform) -> sitk.Image:
    """Return transform(x) - x at the voxels x of an image, a vector image in LPS mm."""
    to_field = sitk.TransformToDisplacementFieldFilter()
    to_field.SetReferenceImage(image)
    to_field.SetOutputPixelType(sitk.sitkVectorFloat64)
    return to_field.Execute(transform)


def invert(initial: sitk.Transform, field: sitk.Image, domain: WorkingGrid) -> sitk.CompositeTransform:
    """Return the inverse of `compose(initial, field)`: y -> x.

    Args:
        initial: fixed to moving points; any transform, inverted exactly if linear, numerically otherwise.
        field: displacement on an axis-aligned isotropic grid, zero at its border, LPS mm.
        domain: where in fixed space a transform that is not linear is inverted.
    """
    backward = sitk.DisplacementFieldTransform(inverse_displacement(field))
    composite = sitk.CompositeTransform([backward, *_inverted(initial, domain)])
    composite.FlattenTransform()
    return composite


def _inverted(transform: sitk.Transform, domain: WorkingGrid) -> list[sitk.Transform]:
    """Return the inverse as a list in the order a composite takes it (the last is applied first)."""
    transform = transform.Downcast()
    if isinstance(transform, sitk.CompositeTransform):
        parts = [transform.GetNthTransform(index) for index in range(transform.GetNumberOfTransforms())]
        inverses: list[sitk.Transform] = []
        for part in reversed(parts):
            inverses += _inverted(part, domain)
            domain = _carried(domain, part)
        return inverses
    if transform.IsLinear():
        return [transform.GetInverse()]
    return [sitk.DisplacementFieldTransform(inverse_displacement(_rasterised(transform, domain)))]


def _carried(domain: WorkingGrid, transform: sitk.Transform) -> WorkingGrid:
    """Return a grid that holds what a transform makes of a domain."""
    ends = [
        (low, low + (size - 1) * domain.spacing) for low, size in zip(domain.origin, domain.shape[::-1], strict=True)
    ]
    lattice = np.stack(np.meshgrid(*(np.linspace(*end, 5) for end in ends)), -1).reshape(-1, 3)
    points = transform_points(transform, lattice)
    x, y, z = (float(value) for value in points.min(0))
    width, height, depth = (int(value) + 2 for value in np.ptp(points, axis=0) / domain.spacing)
    return WorkingGrid((x, y, z), domain.spacing, (depth, height, width))


def _rasterised(transform: sitk.Transform, domain: WorkingGrid) -> sitk.Image:
    """Return a transform as a displacement field, on a grid around the domain that its range fits into."""
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


def inverse_displacement(field: sitk.Image) -> sitk.Image:
    """Return v with (x + u(x)) + v(x + u(x)) = x, on the grid of u or, if that is small, one twice as fine.

    Newton's method at each voxel until it has converged, damped where the Jacobian is nearly singular. Where u
    compresses tissue its inverse has finer detail than u, hence the finer grid. Between nodes the result will be
    interpolated linearly, so it is made right on average over the cells, not at their corners.

    Args:
        field: u, a vector image in LPS mm on an axis-aligned isotropic grid.
    """
    spacing = field.GetSpacing()[0]
    array = torch.from_numpy(sitk.GetArrayFromImage(field)).float() / spacing
    forward = array.permute(3, 0, 1, 2).flip(0).contiguous()
    refinement = 2 if 8 * forward[0].numel() <= _LARGEST_FINE_INVERSE else 1
    with torch.inference_mode():
        inverse = _right_between_nodes(_newton_inverse(forward, refinement, _INVERSION_TOLERANCE_MM / spacing))
    result = sitk.GetImageFromArray(
        (inverse * spacing).flip(0).permute(1, 2, 3, 0).double().contiguous().numpy(), isVector=True
    )
    result.SetOrigin(field.GetOrigin())
    result.SetSpacing([spacing / refinement] * 3)
    return result


def _newton_inverse(forward: torch.Tensor, refinement: int, tolerance: float) -> torch.Tensor:
    """Solve v = -u(y + v) for each node y of a refined grid, (3, z, y, x) in voxels of the grid of u.

    The first and last nodes of the refined grid are those of the grid of u.
    """
    z, y, x = ((size - 1) * refinement + 1 for size in forward.shape[1:])
    target = identity_positions((z, y, x), forward.device) / refinement
    return inverse_at(forward, target.reshape(3, -1), tolerance).reshape(3, z, y, x)


def _right_between_nodes(values: torch.Tensor) -> torch.Tensor:
    """Return values (3, z, y, x) at nodes whose linear interpolation is right on average over the cells.

    What is interpolated from exact values is too large by h^2 / 12 times the Laplacian, on average over cells of edge
    h, as the trapezoidal rule tells. The six neighbours less six times the node are h^2 times the Laplacian.
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
        tolerance: residual in voxels that is good enough.

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
    active = torch.arange(target.shape[1])
    for _ in range(_INVERSION_STEPS):
        position = target[:, active] + inverse[:, active]
        residual = inverse[:, active] + sample(forward, position)
        error = _lengths(residual)
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
    """Return (1 + du)^-1 residual by Cramer's rule, at most two voxels long; half the residual if near singular.

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
    return step * (2.0 / _lengths(step).clamp_min(1e-12)).clamp(max=1.0)


def _lengths(vectors: torch.Tensor) -> torch.Tensor:
    """Return the lengths of vectors (3, ...); torch's own norm is a hundred times slower along the first axis."""
    return vectors.square().sum(0).sqrt_()


def round_trip_errors(transform: sitk.Transform, inverse: sitk.Transform, points: np.ndarray) -> np.ndarray:
    """Return how far each fixed point (N, 3) lies from where forward then inverse bring it, in mm."""
    back = transform_points(inverse, transform_points(transform, points))
    return np.linalg.norm(back - points, axis=1)


def write_transform(transform: sitk.Transform, path: Path) -> None:
    """Write a transform file (.h5 for composites), and read it back.

    Raises:
        OutputError: it cannot be written.
    """
    check_room(path, transform)
    try:
        sitk.WriteTransform(transform, str(path))
    except RuntimeError as error:
        msg = f"Cannot write the transform '{path}': no space or no permission; choose another folder."
        raise OutputError(msg) from error
    check_transform(path, transform)


def warp_image(
    image: sitk.Image, reference: sitk.Image, transform: sitk.Transform, interpolation: str = "linear"
) -> sitk.Image:
    """Resample intensities once, from their own voxels, onto the grid of a reference.

    Args:
        image: 3D volume; NaN and infinities count as its least value, as does the outside. Colours and vectors are
            resampled component by component, complex numbers part by part.
        reference: gives the grid.
        transform: maps a point of the reference to a point of the image, LPS mm.
        interpolation: "linear", or "bspline" for cubic B-splines clamped to the range of the image.

    Returns:
        A volume of the image's pixel type; integers are rounded.
    """
    if image.GetNumberOfComponentsPerPixel() > 1 or "vector" in image.GetPixelIDTypeAsString():
        components = range(image.GetNumberOfComponentsPerPixel())
        parts = [sitk.VectorIndexSelectionCast(image, index) for index in components]
        return sitk.Compose([warp_image(part, reference, transform, interpolation) for part in parts])
    if "complex" in image.GetPixelIDTypeAsString():
        parts = [sitk.ComplexToReal(image), sitk.ComplexToImaginary(image)]
        return sitk.RealAndImaginaryToComplex(*(warp_image(p, reference, transform, interpolation) for p in parts))
    # Float32 holds every whole number of 16 bits, but not of 32.
    wide = image.GetPixelID() not in _NARROW_PIXEL_TYPES
    source = finite_float(image, np.float64 if wide else np.float32)
    values = sitk.GetArrayViewFromImage(source)
    low, high = float(values.min()), float(values.max())
    interpolator = sitk.sitkBSpline if interpolation == "bspline" else sitk.sitkLinear
    resampled = sitk.Resample(source, reference, transform, interpolator, low, source.GetPixelID())
    warped = np.clip(sitk.GetArrayFromImage(resampled), low, high)
    if image.GetPixelID() not in (sitk.sitkFloat32, sitk.sitkFloat64):
        warped = np.rint(warped)
    result = sitk.GetImageFromArray(warped.astype(sitk.GetArrayViewFromImage(image).dtype))
    result.CopyInformation(resampled)
    return result


def warp_labels(labels: sitk.Image, reference: sitk.Image, transform: sitk.Transform) -> sitk.Image:
    """Resample a label map once onto the grid of a reference, with smooth boundaries and no new labels.

    Each voxel takes the label with the largest linearly interpolated share.

    Args:
        labels: label map of an integer pixel type; 0 is the outside.
        reference: gives the grid.
        transform: maps a point of the reference to a point of the label map, LPS mm.
    """
    return sitk.Resample(labels, reference, transform, sitk.sitkLabelLinear, 0, labels.GetPixelID())
