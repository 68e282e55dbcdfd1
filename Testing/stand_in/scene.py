"""The MRML side of 3D Slicer without its application: one scene, its module logics and three slice logics.

Everything here is Slicer's own code (`slicer-core`); only the wiring that the application does at its start is
ours. No window system and no OpenGL are needed.
"""

from __future__ import annotations

import functools
import tempfile
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import slicer
import vtk

FOUR_UP_SLICES = {
    "Red": ("Axial", (0.953, 0.290, 0.200)),
    "Yellow": ("Sagittal", (0.929, 0.835, 0.298)),
    "Green": ("Coronal", (0.431, 0.690, 0.294)),
}
_MODULE_LOGICS = {
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Models": "vtkSlicerModelsLogic",
    "Data": "vtkSlicerDataModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
}


@dataclass(frozen=True)
class StandIn:
    """What the application would own.

    Attributes:
        scene: also `slicer.mrmlScene`.
        application_logic: knows the slice logics and, by module name, the module logics.
        logics: module logics by the name of their module.
        slice_logics: by layout name, Red, Yellow and Green.
    """

    scene: Any
    application_logic: Any
    logics: dict[str, Any]
    slice_logics: dict[str, Any]
    _kept_alive: list[Any] = field(default_factory=list, repr=False)


def boot() -> Any:
    """Return the scene, with `slicer.mrmlScene`, `slicer.modules` and a minimal `slicer.app` set."""
    return stand_in().scene


@functools.cache
def stand_in() -> StandIn:
    """Build scene and logics; a second call returns the same ones, as there is one application in a process."""
    scene = slicer.vtkMRMLScene()
    application_logic = slicer.vtkSlicerApplicationLogic()
    application_logic.SetMRMLScene(scene)
    application_logic.SetSliceLogics(vtk.vtkCollection())
    application_logic.SetViewLogics(vtk.vtkCollection())
    kept_alive = _add_file_access(scene, application_logic)
    logics = _add_module_logics(scene, application_logic)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    slice_logics = {name: _add_slice_logic(scene, application_logic, name) for name in FOUR_UP_SLICES}
    kept_alive.append(_add_layout(scene))

    slicer.mrmlScene = scene
    slicer.modules = SimpleNamespace(
        **{name.lower(): SimpleNamespace(name=name, logic=functools.partial(logics.get, name)) for name in logics}
    )
    slicer.app = SimpleNamespace(
        applicationLogic=lambda: application_logic,
        mrmlScene=lambda: scene,
        temporaryPath=tempfile.gettempdir(),
    )
    return StandIn(scene, application_logic, logics, slice_logics, kept_alive)


def _add_module_logics(scene: Any, application_logic: Any) -> dict[str, Any]:
    colours = slicer.vtkSlicerColorLogic()
    application_logic.SetColorLogic(colours)
    colours.SetMRMLApplicationLogic(application_logic)
    colours.SetMRMLScene(scene)
    colours.AddDefaultColorNodes()
    application_logic.SetModuleLogic("Colors", colours)
    logics = {"Colors": colours}
    for name, class_name in _MODULE_LOGICS.items():
        logic = getattr(slicer, class_name)()
        logic.SetMRMLApplicationLogic(application_logic)
        logic.SetMRMLScene(scene)
        application_logic.SetModuleLogic(name, logic)
        logics[name] = logic
    return logics


def _add_file_access(scene: Any, application_logic: Any) -> list[Any]:
    """Make .mrb files readable: they are unpacked through the scene's cache and data manager."""
    cache = tempfile.TemporaryDirectory(prefix="slicer-cache-")
    remote = slicer.vtkMRMLRemoteIOLogic()
    remote.SetMRMLApplicationLogic(application_logic)
    remote.SetMRMLScene(scene)
    remote.GetCacheManager().SetRemoteCacheDirectory(cache.name)
    manager = slicer.vtkDataIOManagerLogic()
    manager.SetMRMLApplicationLogic(application_logic)
    manager.SetMRMLScene(scene)
    manager.SetAndObserveDataIOManager(remote.GetDataIOManager())
    remote.AddDataIOToScene()
    return [cache, remote, manager]


def _add_layout(scene: Any) -> Any:
    """Add crosshair and layout node; the layout takes the slice nodes that are there already."""
    crosshair = slicer.vtkMRMLCrosshairNode()
    crosshair.SetCrosshairName("default")
    scene.AddNode(crosshair)
    layout_logic = slicer.vtkMRMLLayoutLogic()
    layout_logic.SetMRMLScene(scene)
    layout_logic.GetLayoutNode().SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    return layout_logic


def _add_slice_logic(scene: Any, application_logic: Any, name: str) -> Any:
    orientation, colour = FOUR_UP_SLICES[name]
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(application_logic)
    application_logic.GetSliceLogics().AddItem(logic)
    logic.SetMRMLScene(scene)
    node = logic.AddSliceNode(name)
    node.SetOrientation(orientation)
    node.SetLayoutColor(*colour)
    node.SetMappedInLayout(1)
    return logic
