"""A slice view without a window: Slicer's own slice logic and displayable managers, drawn off screen."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from stand_in.scene import stand_in
from vtk.util.numpy_support import vtk_to_numpy

_MANAGERS = (
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLTransformsDisplayableManager2D",
)


class SliceView:
    """Draws what one of the stand-in's slice logics shows.

    Args:
        name: layout name, Red, Yellow or Green.
        size: pixels across and down.
        legends: draw the colour legends that are added from now on, as Slicer does.
    """

    def __init__(self, name: str, size: tuple[int, int] = (300, 300), *, legends: bool = False) -> None:
        application = stand_in()
        self.logic = application.slice_logics[name]
        self.node = self.logic.GetSliceNode()
        self._window = vtk.vtkRenderWindow()
        self._window.SetShowWindow(False)
        self._window.SetOffScreenRendering(True)
        self._window.SetMultiSamples(0)
        self._window.SetSize(*size)
        self._renderer = vtk.vtkRenderer()
        self._renderer.GetActiveCamera().ParallelProjectionOn()
        self._window.AddRenderer(self._renderer)
        self._interactor = vtk.vtkRenderWindowInteractor()
        self._interactor.SetRenderWindow(self._window)
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255.0)
        self._mapper.SetColorLevel(127.5)
        self._image = vtk.vtkActor2D()
        self._image.SetMapper(self._mapper)
        self._image.GetProperty().SetDisplayLocationToBackground()
        self._managers = self._add_managers(application.application_logic)
        if legends:
            self._legends = slicer.vtkMRMLColorLegendDisplayableManager()
            self._legends.SetMRMLApplicationLogic(application.application_logic)
            self._managers.AddDisplayableManager(self._legends)
        self.logic.ResizeSliceNode(*size)

    def look_at(self, volume_node: Any, ras: tuple[float, float, float] | None = None, zoom: float = 1.0) -> None:
        """Fit a volume into the view.

        Args:
            volume_node: what the view shows as its background.
            ras: a point that the slice goes through, and the centre of the view if zoomed; RAS mm.
            zoom: magnification over the fit.
        """
        composite = self.logic.GetSliceCompositeNode()
        shown = composite.GetBackgroundVolumeID()
        composite.SetBackgroundVolumeID(volume_node.GetID())
        self.logic.FitSliceToBackground()
        if ras is not None:
            self.node.JumpSliceByCentering(*ras) if zoom != 1.0 else self.node.JumpSliceByOffsetting(*ras)
        width, height, depth = self.node.GetFieldOfView()
        self.node.SetFieldOfView(width / zoom, height / zoom, depth)
        composite.SetBackgroundVolumeID(shown)

    def pixels(self) -> NDArray[np.uint8]:
        """Draw and return (row, column, RGB), the upper row first."""
        connection = self.logic.GetImageDataConnection()
        if connection is None:
            self._renderer.RemoveViewProp(self._image)
        else:
            self._mapper.SetInputConnection(connection)
            self._renderer.AddViewProp(self._image)
        self._window.Render()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self._window)
        grabber.ReadFrontBufferOff()
        grabber.SetInputBufferTypeToRGB()
        grabber.Update()
        image = grabber.GetOutput()
        width, height, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, 3)[::-1].copy()

    def ras_of_pixels(self) -> NDArray[np.float64]:
        """Return the RAS point (row, column, 3) at the centre of each pixel that `pixels` gives, mm."""
        width, height = self._window.GetSize()
        matrix = self.node.GetXYToRAS()
        xy_to_ras = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(3)])
        x, y = np.meshgrid(np.arange(width), np.arange(height)[::-1])
        return np.stack([x, y, np.zeros_like(x), np.ones_like(x)], axis=-1) @ xy_to_ras.T

    def drawn_legend(self, display_node: Any) -> Any | None:
        """Return what draws the legend of a colour legend node, a vtkScalarBarActor; None if nothing does."""
        return self._legends.GetColorLegendActor(display_node)

    def _add_managers(self, application_logic: Any) -> Any:
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(application_logic)
        for name in _MANAGERS:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        group = slicer.vtkMRMLDisplayableManagerGroup()
        group.SetRenderer(self._renderer)
        group.Initialize(factory, self._renderer)
        group.SetMRMLDisplayableNode(self.node)
        return group
