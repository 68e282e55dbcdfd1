"""Frames of a single slice: registered in their plane, as slabs in which nothing changes along the third axis.

Motion through the plane cannot be seen in one slice, and not corrected.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import SimpleITK as sitk

from ..errors import InputError
from ..spatial.grids import WorkingGrid
from ..spatial.inversion import invert
from ..spatial.warping import compose_transform, displacement_on_grid_of

_SLICES = 16  # of a slab: more than the windows of the similarity measures reach
_PARALLEL = 1e-3


@dataclasses.dataclass(frozen=True, eq=False)
class SlicePlane:
    """The plane of a single slice.

    Attributes:
        to_plane: LPS points in mm to points of the plane: x and y along its axes, z across it, 0 in the slice.
        axes: unit vectors along x, y and z of the plane, the columns of a matrix.
        thickness: of the slice, mm.
    """

    to_plane: sitk.AffineTransform
    axes: np.ndarray
    thickness: float

    @classmethod
    def of(cls, image: sitk.Image) -> SlicePlane:
        """Return the plane of a volume of one slice along any of its axes."""
        flat = _with_slice_last(image)
        axes = np.reshape(flat.GetDirection(), (3, 3))
        to_plane = sitk.AffineTransform(3)
        to_plane.SetMatrix(axes.T.ravel().tolist())
        to_plane.SetTranslation((-axes.T @ flat.GetOrigin()).tolist())
        return cls(to_plane, axes, flat.GetSpacing()[2])

    def slab(self, image: sitk.Image, role: str) -> sitk.Image:
        """Return a slice of this plane as a slab in its coordinates, of identical slices.

        Raises:
            InputError: it is not one slice, or lies in another plane; `role` is its name.
        """
        flat = _with_slice_last(image) if 1 in image.GetSize() else None
        if flat is not None:
            axes = np.reshape(flat.GetDirection(), (3, 3))
            origin = np.array(self.to_plane.TransformPoint(flat.GetOrigin()))
        if flat is None or np.abs(axes - self.axes).max() > _PARALLEL or abs(origin[2]) > self.thickness / 2:
            msg = f"The {role} volume does not lie in the plane of the reference; a single slice has no other."
            raise InputError(msg)
        array = np.repeat(sitk.GetArrayViewFromImage(flat), _SLICES, axis=0)
        slab = sitk.GetImageFromArray(array)
        x_spacing, y_spacing, _ = flat.GetSpacing()
        z_spacing = float(np.sqrt(x_spacing * y_spacing))
        slab.SetSpacing((x_spacing, y_spacing, z_spacing))
        slab.SetOrigin((float(origin[0]), float(origin[1]), -(_SLICES - 1) / 2 * z_spacing))
        return slab

    def in_space(
        self, initial: sitk.Transform, field: sitk.Image, working: WorkingGrid
    ) -> tuple[sitk.CompositeTransform, sitk.CompositeTransform, sitk.Image]:
        """Return a registration of slabs as one of their slices.

        Args:
            initial: fixed to moving points of the plane, without motion across it.
            field: displacement of the slabs before it, on an axis-aligned isotropic grid.
            working: working grid of the slabs.

        Returns:
            Fixed to moving points and its inverse, LPS mm, and the displacement in the coordinates of the plane.
        """
        flat = _in_plane(field)
        found, back = compose_transform(initial, flat), invert(initial, flat, working)
        from_plane = self.to_plane.GetInverse()
        transform, inverse = (_chained(from_plane, each, self.to_plane) for each in (found, back))
        return transform, inverse, displacement_on_grid_of(flat, found)

    def on_slice(self, mask: sitk.Image, image: sitk.Image) -> sitk.Image:
        """Return a mask in the coordinates of the plane on the grid of a slice in it."""
        return sitk.Resample(mask, image, self.to_plane, sitk.sitkNearestNeighbor, 0)


def _chained(last: sitk.Transform, then: sitk.Transform, first: sitk.Transform) -> sitk.CompositeTransform:
    """Return three transforms as a flat composite, in its order: the last argument is applied first."""
    composite = sitk.CompositeTransform([last, then, first])
    composite.FlattenTransform()
    return composite


def _with_slice_last(image: sitk.Image) -> sitk.Image:
    """Return a volume of one slice with that axis last; no voxel moves."""
    across = image.GetSize().index(1)
    return sitk.PermuteAxes(image, [axis for axis in range(3) if axis != across] + [across])


def _in_plane(field: sitk.Image) -> sitk.Image:
    """Return a field of slabs with the displacement of their middle everywhere, and none across the plane."""
    array = sitk.GetArrayFromImage(field)
    middle = round(-field.GetOrigin()[2] / field.GetSpacing()[2])
    array[:] = array[min(max(middle, 0), len(array) - 1)]
    array[..., 2] = 0.0
    result = sitk.GetImageFromArray(array, isVector=True)
    result.CopyInformation(field)
    return result
