"""Compare two aligned volumes in the slice views: fade, flicker and checkerboard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray

from ..errors import BridgeError
from ..nodes.grids import array_from_image, grid_of, image_from_array
from ..nodes.resampling import resample_intensities
from ..nodes.spaces import chain, composed, from_world, to_world
from .borrowed import SLICE_VIEWS, BorrowedViews


class Comparison:
    """Fixed and moved volume in the same slice views, until `close` restores the user's display.

    The volumes' own display nodes are unchanged; their window and level apply here too. The comparison closes when
    one of the volumes, or the transform above the moved one, is removed, when the scene is closed, and when another
    comparison or overlay begins.

    Args:
        fixed_node: scalar or colour volume.
        moved_node: the volume to compare with it, resampled or under a transform of any kind.
        slice_view_names: layout names of the slice views to use.
        clipped: hide the moved volume outside the fixed one.

    Raises:
        BridgeError: a volume is not in the scene, or there is no such view.
    """

    def __init__(
        self,
        fixed_node: Any,
        moved_node: Any,
        slice_view_names: Sequence[str] = SLICE_VIEWS,
        *,
        clipped: bool = True,
    ) -> None:
        self._fixed, self._moved, self._clipped = fixed_node, moved_node, clipped
        self._views = BorrowedViews(slice_view_names, [fixed_node, moved_node])
        self._views.require(*chain(moved_node.GetParentTransformNode()))
        for node in (fixed_node, moved_node):
            self._views.observe(node, slicer.vtkMRMLTransformableNode.TransformModifiedEvent, self._on_moved)
        self._checkerboard: Any | None = None
        self._cells = 0
        self._fade = 0.5
        self._flickers = False
        self._shows_moved = False

    @property
    def is_open(self) -> bool:
        """False once the user's display is restored."""
        return self._views.held

    @property
    def flickers(self) -> bool:
        """Whether `tick` switches between the volumes."""
        return self.is_open and self._flickers

    def fade(self, share: float) -> None:
        """Blend both volumes.

        Args:
            share: of the moved volume, 0 (fixed alone) to 1 (moved alone).
        """
        self._fade = min(max(float(share), 0.0), 1.0)
        self._flickers = False
        self._show_both(self._fade)

    def flicker(self, on: bool) -> None:
        """Start to alternate the volumes at each `tick`, or return to the last fade."""
        if not on:
            self.fade(self._fade)
            return
        self._flickers, self._shows_moved = True, False
        self._show_both(0.0)

    def tick(self) -> None:
        """Show the other volume; to be called from a timer. Does nothing unless flickering."""
        if self.flickers:
            self._shows_moved = not self._shows_moved
            self._views.set_opacity(float(self._shows_moved))

    def checkerboard(self, cells: int = 8) -> None:
        """Show alternating tiles of the fixed and the moved volume, each with its own window and level.

        Args:
            cells: tiles along the longest side of the fixed volume; tiles are cubes in mm.

        Raises:
            BridgeError: fewer than 2 cells, or a volume without voxels.
        """
        if cells < 2:
            msg = f"A checkerboard needs at least 2 cells, not {cells}."
            raise BridgeError(msg)
        self._check_open()
        self._flickers = False
        self._cells = cells
        array = _checkerboard(self._fixed, self._moved, cells)
        self._remove_checkerboard()
        self._checkerboard = self._views.add_temporary(
            _volume_like(self._fixed, array, f"{self._fixed.GetName()} / {self._moved.GetName()} checkerboard")
        )
        show_full_range(self._checkerboard)
        self._checkerboard.GetDisplayNode().SetInterpolate(self._fixed.GetDisplayNode().GetInterpolate())
        self._views.show(self._checkerboard, None, 0.0)

    def close(self) -> None:
        """Restore the layout and the views; a second call does nothing."""
        self._views.give_back()

    def _on_moved(self, *_event: Any) -> None:
        """Recompute the checkerboard when a transform has moved a volume; the other modes update by themselves.

        If that is no longer possible, for instance without voxels, the comparison closes.
        """
        if self._checkerboard is not None:
            try:
                self.checkerboard(self._cells)
            except BridgeError:
                self.close()

    def _show_both(self, opacity: float) -> None:
        self._check_open()
        self._views.show(self._fixed, self._moved, opacity, clipped=self._clipped)
        self._remove_checkerboard()

    def _check_open(self) -> None:
        if not self.is_open:
            msg = "The comparison has ended, because a node was removed or another view was opened; start it again."
            raise BridgeError(msg)

    def _remove_checkerboard(self) -> None:
        if self._checkerboard is not None:
            self._views.remove_temporary(self._checkerboard)
            self._checkerboard = None


def _checkerboard(fixed: Any, moved: Any, cells: int) -> NDArray[np.uint8]:
    """Return alternating grey (k, j, i) or colour (k, j, i, 3) values of both volumes on the fixed grid."""
    for node in (fixed, moved):
        if node.GetImageData() is None or node.GetImageData().GetNumberOfPoints() == 0:
            msg = f"'{node.GetName()}' has no voxels; choose another volume."
            raise BridgeError(msg)
    source, target = grid_of(moved), grid_of(fixed)
    fixed_to_moved = composed(to_world(fixed.GetParentTransformNode()), from_world(moved.GetParentTransformNode()))
    on_fixed_grid = resample_intensities(moved.GetImageData(), source, target, fixed_to_moved)
    shown = [_displayed(fixed, fixed.GetImageData()), _displayed(moved, on_fixed_grid)]
    if any(picture.ndim == 4 for picture in shown):
        shown = [picture if picture.ndim == 4 else np.repeat(picture[..., None], 3, axis=-1) for picture in shown]
    extents = np.array(target.dimensions) * target.spacing
    i, j, k = (
        ((np.arange(n) + 0.5) * mm * cells / extents.max()).astype(int)
        for n, mm in zip(target.dimensions, target.spacing, strict=True)
    )
    fixed_here = (k[:, None, None] + j[:, None] + i) % 2 == 0
    return np.where(fixed_here[..., None] if shown[0].ndim == 4 else fixed_here, *shown)


def _displayed(node: Any, image: vtk.vtkImageData) -> NDArray[np.uint8]:
    """Return the grey or colour values 0 to 255 of an image with a volume's window and level."""
    values = array_from_image(image)
    if values.ndim == 4 and values.dtype == np.uint8:
        return values
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    low, high = node.GetDisplayNode().GetWindowLevelMin(), node.GetDisplayNode().GetWindowLevelMax()
    share = (values - np.float32(low)) * np.float32(255.0 / max(high - low, 1e-6))
    return np.clip(share, 0.0, 255.0).astype(np.uint8)


def _volume_like(reference: Any, array: NDArray[np.uint8], name: str) -> Any:
    """Return a volume node, in no scene yet, of (k, j, i) grey or (k, j, i, 3) colour, on the grid of another one."""
    kind = "vtkMRMLVectorVolumeNode" if array.ndim == 4 else "vtkMRMLScalarVolumeNode"
    node = getattr(slicer, kind)()
    node.SetName(name)
    node.CopyOrientation(reference)
    node.SetAndObserveImageData(image_from_array(array))
    node.SetAndObserveTransformNodeID(reference.GetTransformNodeID())
    return node


def show_full_range(node: Any) -> None:
    """Show grey or colour values of 0 to 255 unchanged."""
    if node.GetDisplayNode() is None:
        node.CreateDefaultDisplayNodes()
    node.GetDisplayNode().AutoWindowLevelOff()
    node.GetDisplayNode().SetWindowLevelMinMax(0.0, 255.0)
