"""Slice views used by an overlay or a comparison, and restored afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import slicer
import vtk

from ..errors import BridgeError

SLICE_VIEWS = ("Red", "Yellow", "Green")
_TAKE_OVER_EVENT = vtk.vtkCommand.UserEvent + 7301
"""Invoked on the scene by the next user of the views."""


@dataclass(frozen=True)
class _Layers:
    """What one slice view blends."""

    background_id: str | None
    foreground_id: str | None
    foreground_opacity: float
    compositing: int
    clipped: bool

    @classmethod
    def of(cls, composite: Any) -> _Layers:
        return cls(
            composite.GetBackgroundVolumeID(),
            composite.GetForegroundVolumeID(),
            composite.GetForegroundOpacity(),
            composite.GetCompositing(),
            composite.GetClipToBackgroundVolume(),
        )

    def put_back(self, composite: Any, scene: Any) -> None:
        composite.SetBackgroundVolumeID(_if_present(self.background_id, scene))
        composite.SetForegroundVolumeID(_if_present(self.foreground_id, scene))
        composite.SetForegroundOpacity(self.foreground_opacity)
        composite.SetCompositing(self.compositing)
        composite.SetClipToBackgroundVolume(self.clipped)


@dataclass(frozen=True)
class _Place:
    """The position of one slice view in the world."""

    slice_to_ras: Any
    field_of_view: tuple[float, float, float]
    origin: tuple[float, float, float]

    @classmethod
    def of(cls, slice_node: Any) -> _Place:
        matrix = vtk.vtkMatrix4x4()
        matrix.DeepCopy(slice_node.GetSliceToRAS())
        return cls(matrix, tuple(slice_node.GetFieldOfView()), tuple(slice_node.GetXYZOrigin()))

    def put_back(self, slice_node: Any) -> None:
        slice_node.GetSliceToRAS().DeepCopy(self.slice_to_ras)
        slice_node.SetFieldOfView(*self.field_of_view)
        slice_node.SetXYZOrigin(*self.origin)
        slice_node.UpdateMatrices()


class BorrowedViews:
    """Borrows slice views of a scene, and restores layout, layers and position on `give_back`.

    That also happens when the scene is about to close, when a needed node is about to be removed, and when the views
    are borrowed again. Only what was changed is restored; the layer of a removed volume stays empty. Nodes created
    for the display are removed from the scene.

    Args:
        names: layout names of slice views. If the layout shows none of them, it becomes Four-Up temporarily.
        needed: nodes that the display depends on.
        on_given_back: called once, after everything is restored.

    Raises:
        BridgeError: a node of `needed` is not in a scene, or there is no view of that name.
    """

    def __init__(
        self,
        names: Sequence[str],
        needed: Sequence[Any],
        on_given_back: Callable[[], None] = lambda: None,
    ) -> None:
        self._scene = _common_scene(needed)
        self._composites = {name: _view_node(self._scene, "vtkMRMLSliceCompositeNode", name) for name in names}
        self._slice_nodes = {name: _view_node(self._scene, "vtkMRMLSliceNode", name) for name in names}
        self._scene.InvokeEvent(_TAKE_OVER_EVENT)
        _common_scene(needed)  # the nodes of the previous display were removed with it
        self._layers = {name: _Layers.of(composite) for name, composite in self._composites.items()}
        self._places: dict[str, _Place] = {}
        self._temporary: list[Any] = []
        self._needed = list(needed)
        self._on_given_back = on_given_back
        self._layout = self._make_visible()
        self._observers: list[tuple[Any, int]] = []
        self.observe(self._scene, slicer.vtkMRMLScene.StartCloseEvent, self._on_end)
        self.observe(self._scene, _TAKE_OVER_EVENT, self._on_end)
        self.observe(self._scene, slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, self._on_node_removed)

    @property
    def held(self) -> bool:
        """Whether the views are still borrowed."""
        return bool(self._observers)

    def show(self, background: Any, foreground: Any | None, opacity: float, *, clipped: bool = True) -> None:
        """Blend two volumes, and centre views that miss the background on it.

        Args:
            background: volume node.
            foreground: volume node, None for none.
            opacity: of the foreground, 0 to 1.
            clipped: hide the foreground outside the background.
        """
        for name, composite in self._composites.items():
            composite.SetBackgroundVolumeID(background.GetID())
            composite.SetForegroundVolumeID(foreground.GetID() if foreground else None)
            composite.SetForegroundOpacity(opacity)
            composite.SetCompositing(slicer.vtkMRMLSliceCompositeNode.Alpha)
            composite.SetClipToBackgroundVolume(clipped)
            if not _looks_at(self._slice_nodes[name], background):
                self._fit(name)

    def require(self, *nodes: Any) -> None:
        """Also give the views back when one of these nodes is removed."""
        self._needed += nodes

    def observe(self, subject: Any, event: int | str, callback: Callable[..., None]) -> None:
        """Call back on an event for as long as the views are borrowed."""
        self._observers.append((subject, subject.AddObserver(event, callback)))

    def set_opacity(self, opacity: float) -> None:
        """Set the opacity of the foreground, 0 to 1."""
        for composite in self._composites.values():
            composite.SetForegroundOpacity(opacity)

    def add_temporary(self, node: Any) -> Any:
        """Return a new node for the display: not saved, and removed when the views are given back.

        A volume gets its display node here.
        """
        node.SaveWithSceneOff()
        self._scene.AddNode(node)
        if node.IsA("vtkMRMLVolumeNode"):
            node.CreateDefaultDisplayNodes()
            node.GetDisplayNode().SaveWithSceneOff()
        self._temporary.append(node)
        return node

    def remove_temporary(self, node: Any) -> None:
        """Remove a node of the display, with its display nodes, before the views are given back."""
        self._temporary.remove(node)
        if not self._scene.IsNodePresent(node):
            return
        for index in reversed(range(node.GetNumberOfDisplayNodes() if node.IsA("vtkMRMLDisplayableNode") else 0)):
            if node.GetNthDisplayNode(index):
                self._scene.RemoveNode(node.GetNthDisplayNode(index))
        self._scene.RemoveNode(node)

    def give_back(self) -> None:
        """Restore everything; a second call does nothing."""
        if not self.held:
            return
        observers, self._observers = self._observers, []
        for subject, observer in observers:
            subject.RemoveObserver(observer)
        for name, layers in self._layers.items():
            if self._scene.IsNodePresent(self._composites[name]):
                layers.put_back(self._composites[name], self._scene)
        if self._layout is not None:
            _layout_node(self._scene).SetViewArrangement(self._layout)
        for name, place in self._places.items():
            if self._scene.IsNodePresent(self._slice_nodes[name]):
                place.put_back(self._slice_nodes[name])
        for node in reversed(list(self._temporary)):
            self.remove_temporary(node)
        self._on_given_back()

    def _make_visible(self) -> int | None:
        """Show the views if the layout has none of them; return the previous layout, None if unchanged."""
        layout = _layout_node(self._scene)
        if layout is None or any(node.IsMappedInLayout() for node in self._slice_nodes.values()):
            return None
        before = layout.GetViewArrangement()
        layout.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
        return before

    def _fit(self, name: str) -> None:
        logic = slicer.app.applicationLogic().GetSliceLogicByLayoutName(name)
        if logic is not None:
            self._places.setdefault(name, _Place.of(self._slice_nodes[name]))
            logic.FitSliceToBackground()

    def _on_end(self, _caller: Any, _event: str) -> None:
        self.give_back()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node_removed(self, _caller: Any, _event: str, node: Any) -> None:
        if node in self._temporary:
            self._temporary.remove(node)  # the scene is already removing it
        elif node not in self._needed:
            return
        self.give_back()


def _common_scene(nodes: Sequence[Any]) -> Any:
    for node in nodes:
        if node is None or node.GetScene() is None:
            name = "a volume" if node is None else f"'{node.GetName()}'"
            msg = f"Cannot show {name}: it is not in the scene. Choose a node that is loaded."
            raise BridgeError(msg)
    return nodes[0].GetScene()


def _view_node(scene: Any, class_name: str, view: str) -> Any:
    for index in range(scene.GetNumberOfNodesByClass(class_name)):
        node = scene.GetNthNodeByClass(index, class_name)
        if node.GetLayoutName() == view:
            return node
    msg = f"There is no slice view '{view}'; choose a layout that has it."
    raise BridgeError(msg)


def _layout_node(scene: Any) -> Any | None:
    return scene.GetFirstNodeByClass("vtkMRMLLayoutNode")


def _if_present(node_id: str | None, scene: Any) -> str | None:
    return node_id if node_id and scene.GetNodeByID(node_id) else None


def _looks_at(slice_node: Any, volume: Any) -> bool:
    """Whether the centre of a slice view lies in the box around a volume, RAS mm."""
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    centre = [slice_node.GetSliceToRAS().GetElement(axis, 3) for axis in range(3)]
    return all(bounds[2 * axis] <= centre[axis] <= bounds[2 * axis + 1] for axis in range(3))
