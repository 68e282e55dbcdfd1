"""Colour over anatomy in the slice views: the PET of a registered PET-CT, or a map of the registration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer
import vtk

from ..errors import BridgeError
from ..nodes.pet_units import PetScale, pet_scale
from ..nodes.spaces import chain, to_world
from ..nodes.volumes import check_scalar_volume
from ..scene.carried import carried_to_world
from .borrowed import SLICE_VIEWS, BorrowedViews

_PET_COLOURS = "PET-Heat"
_CLEAR_SHARE = 0.02
"""Fraction of the window below which the overlay is transparent: the black part of the colour table."""


class _Overlay:
    """A volume in its own colours over another one, until `hide` restores the user's display.

    It hides when a node it needs is removed, when the scene is closed, and when a comparison or another overlay
    begins.
    """

    def __init__(self, volume_node: Any, background_node: Any, slice_view_names: Sequence[str]) -> None:
        self._volume, self._background = volume_node, background_node
        self._view_names = tuple(slice_view_names)
        self._views: BorrowedViews | None = None

    @property
    def is_shown(self) -> bool:
        """False before `show`, and after the user's display is restored."""
        return self._views is not None and self._views.held

    def set_opacity(self, opacity: float) -> None:
        """Set the opacity of the overlay, 0 to 1; no effect while hidden."""
        if self.is_shown:
            self._views.set_opacity(min(max(float(opacity), 0.0), 1.0))

    def hide(self) -> None:
        """Restore the layout and the views; a second call does nothing."""
        if self._views is not None:
            self._views.give_back()

    def _borrow(self, opacity: float, *also_needed: Any) -> None:
        if not self.is_shown:
            views = BorrowedViews(self._view_names, [self._volume, self._background, *also_needed])
            try:
                views.require(*chain(self._volume.GetParentTransformNode()))
                views.show(self._background, self._front(views), opacity)
            except BaseException:
                views.give_back()
                raise
            self._views = views
        self.set_opacity(opacity)

    def _front(self, views: BorrowedViews) -> Any:
        """Return the foreground node."""
        raise NotImplementedError


class MapOverlay(_Overlay):
    """A map of the registration, such as its Jacobian, over the anatomy; its own display node gives the colours.

    Args:
        map_node: scalar volume.
        background_node: the anatomy, usually the fixed volume.
        slice_view_names: layout names of the slice views to use.
    """

    def __init__(self, map_node: Any, background_node: Any, slice_view_names: Sequence[str] = SLICE_VIEWS) -> None:
        super().__init__(map_node, background_node, slice_view_names)

    def show(self, opacity: float = 0.5) -> None:
        """Show the map, or change its opacity if it is shown.

        Raises:
            BridgeError: a node is not in the scene, or there is no such view.
        """
        self._borrow(opacity)

    def _front(self, views: BorrowedViews) -> Any:
        return self._volume


class PetOverlay(_Overlay):
    """PET over MRI: heat colours in an SUV window, transparent below it, with a legend of the colours and their unit.

    The PET node, its place in the hierarchy and its display are unchanged: a temporary volume with the same voxels is
    shown at the registered position of the PET, and updated when the registration or a transform above the PET
    changes. Values without units are assumed to be SUV if they can be. Values that are not SUV are shown in a window
    of their own, in proportion to the SUV window (see `PetScale`), and `caution` says so.

    Attributes:
        caution: warnings about the display; empty before `show` and if there are none.

    Args:
        pet_node: scalar volume in the space of the moving CT.
        mri_node: the fixed volume.
        transform_node: the result of the registration; None if the PET is already aligned. It is not applied twice if
            the PET is already under it.
        slice_view_names: layout names of the slice views to use.
    """

    def __init__(
        self,
        pet_node: Any,
        mri_node: Any,
        transform_node: Any | None = None,
        slice_view_names: Sequence[str] = SLICE_VIEWS,
    ) -> None:
        super().__init__(pet_node, mri_node, slice_view_names)
        self._transform = transform_node
        self._shown: Any | None = None
        self._place: Any | None = None
        self._scale: PetScale | None = None
        self._legend: Any | None = None
        self.caution = ""

    @property
    def volume_node(self) -> Any | None:
        """The temporary foreground volume; None while hidden."""
        return self._shown if self.is_shown else None

    def show(self, lower_suv: float = 2.5, upper_suv: float = 10.0, opacity: float = 0.6) -> None:
        """Show the PET, or change window and opacity if it is shown.

        Args:
            lower_suv: values up to about here are transparent.
            upper_suv: values from here on have the brightest colour.
            opacity: 0 to 1.

        Raises:
            BridgeError: an empty window, a volume without voxels or with several values per voxel, a node that is not
                in the scene, no such view.
        """
        _check_window(lower_suv, upper_suv)
        if self._volume is not None:
            check_scalar_volume(self._volume, "PET")
            self._scale = pet_scale(self._volume)
        self._borrow(opacity, *([] if self._transform is None else [self._transform]))
        self.set_window(lower_suv, upper_suv)

    def set_window(self, lower_suv: float, upper_suv: float) -> None:
        """Change the SUV window; no effect while hidden. Hides a PET that has lost its voxels.

        Raises:
            BridgeError: the lower value is not below the upper one.
        """
        _check_window(lower_suv, upper_suv)
        if self.is_shown and self._volume.GetImageData() is None:
            self.hide()
        if not self.is_shown:
            return
        lower, upper = self._scale.factor * lower_suv, self._scale.factor * upper_suv
        if self._legend is not None:
            self._legend.SetTitleText(self._scale.units or "SUV")
        display = self._shown.GetDisplayNode()
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(lower, upper)
        highest = max(self._volume.GetImageData().GetScalarRange()[1], upper)
        display.AutoThresholdOff()
        display.SetThreshold(lower + _CLEAR_SHARE * (upper - lower), highest)
        display.ApplyThresholdOn()
        self.caution = " ".join(filter(None, (self._absence(), self._scale.words(lower_suv, upper_suv))))

    def _front(self, views: BorrowedViews) -> Any:
        pet = self._volume
        self._place = views.add_temporary(slicer.vtkMRMLTransformNode())
        self._shown = views.add_temporary(slicer.vtkMRMLScalarVolumeNode())
        self._shown.SetName(f"{pet.GetName()} over {self._background.GetName()}")
        self._place.SetName(f"{self._shown.GetName()} (place)")
        self._copy_voxels()
        colours = pet.GetScene().GetFirstNode(_PET_COLOURS, "vtkMRMLPETProceduralColorNode")
        self._shown.GetDisplayNode().SetAndObserveColorNodeID(colours.GetID())
        self._put_in_place()
        self._shown.SetAndObserveTransformNodeID(self._place.GetID())
        self._legend = _legend(self._shown)
        views.observe(pet, slicer.vtkMRMLTransformableNode.TransformModifiedEvent, self._on_moved)
        views.observe(pet, vtk.vtkCommand.ModifiedEvent, self._copy_voxels)
        if self._transform is not None:
            views.require(*chain(self._transform))
            views.observe(self._transform, slicer.vtkMRMLTransformableNode.TransformModifiedEvent, self._on_moved)
        return self._shown

    def _on_moved(self, *_event: Any) -> None:
        """Follow the PET and its registration; hide if the position of the PET is no longer known."""
        try:
            self._put_in_place()
        except BridgeError:
            self.hide()
        else:
            self._copy_voxels()

    def _copy_voxels(self, *_event: Any) -> None:
        """Update to the current voxels of the PET, which hardening or a sequence browser replaces."""
        self._shown.CopyOrientation(self._volume)
        if self._shown.GetImageData() is not self._volume.GetImageData():
            self._shown.SetAndObserveImageData(self._volume.GetImageData())

    def _absence(self) -> str:
        """Return a warning if the PET does not overlap with the background, else nothing."""
        bounds = []
        for node in (self._shown, self._background):
            bounds.append([0.0] * 6)
            node.GetRASBounds(bounds[-1])
        first, second = bounds
        if all(first[low] <= second[low + 1] and second[low] <= first[low + 1] for low in (0, 2, 4)):
            return ""
        return (
            f"'{self._volume.GetName()}' does not overlap with '{self._background.GetName()}', so nothing of it is "
            "visible. "
            "Check that it belongs to the moving volume."
        )

    def _put_in_place(self) -> None:
        """Move the temporary volume to the current position of the PET, in world coordinates."""
        if self._transform is None:
            to_here = to_world(self._volume.GetParentTransformNode())
        else:
            to_here = carried_to_world(self._volume, self._transform)
        self._place.SetAndObserveTransformToParent(to_here)


def _legend(volume: Any) -> Any | None:
    """Return a legend of the colours of a temporary volume, removed with its display; None where Slicer has none."""
    colours = getattr(slicer.modules, "colors", None)
    logic = colours.logic() if colours is not None else None
    if not hasattr(logic, "AddDefaultColorLegendDisplayNode"):
        return None
    legend = logic.AddDefaultColorLegendDisplayNode(volume)
    legend.SaveWithSceneOff()
    legend.SetVisibility(True)
    return legend


def _check_window(lower_suv: float, upper_suv: float) -> None:
    if not lower_suv < upper_suv:
        msg = f"The SUV window is empty: its lower end ({lower_suv:g}) must be below its upper end ({upper_suv:g})."
        raise BridgeError(msg)
