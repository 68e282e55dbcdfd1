"""Sequences of volumes: found from any node that stands for one, and recorded as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import slicer
import slicer.util
import vtk

from ..errors import BridgeError
from ..nodes.grids import VoxelGrid, grid_of
from ..nodes.spaces import chain, snapshot, to_world
from ..nodes.volumes import check_scalar_volume, grid_in_world
from ..scene.stamps import voxels_stamp


@dataclass(frozen=True)
class Browsed:
    """A sequence, and the browser that shows it, if any.

    Attributes:
        sequence: sequence node.
        browser: sequence browser node, or None.
        proxy: the node that the browser shows the selected item in, or None.
    """

    sequence: Any
    browser: Any
    proxy: Any

    @classmethod
    def of(cls, node: Any) -> Browsed:
        """Return the sequence that a node is, browses or shows.

        Args:
            node: a sequence node, a sequence browser node, or a volume that a browser shows.

        Raises:
            BridgeError: it is none of these, or several volumes at different places show the sequence.
        """
        if node is None:
            msg = "Choose a sequence, or a volume that a sequence browser shows."
            raise BridgeError(msg)
        if node.IsA("vtkMRMLSequenceBrowserNode"):
            sequence = node.GetMasterSequenceNode()
            if sequence is None:
                msg = f"The sequence browser '{node.GetName()}' has no sequence; choose the sequence itself."
                raise BridgeError(msg)
            return cls(sequence, node, node.GetProxyNode(sequence))
        if not node.IsA("vtkMRMLSequenceNode"):
            for browser in _browsers(node.GetScene()):
                if (sequence := browser.GetSequenceNode(node)) is not None:
                    return cls(sequence, browser, node)
            msg = f"'{node.GetName()}' is not a sequence, and no sequence browser shows one in it; choose a sequence."
            raise BridgeError(msg)
        browsers = [
            each for each in _browsers(node.GetScene()) if each.IsSynchronizedSequenceNodeID(node.GetID(), True)
        ]
        shown = [(browser, browser.GetProxyNode(node)) for browser in browsers]
        shown.sort(key=lambda pair: pair[1] is None)
        if len({proxy.GetTransformNodeID() for _, proxy in shown if proxy is not None}) > 1:
            msg = (
                f"Several volumes under different transforms show the sequence '{node.GetName()}'; choose one of "
                "these volumes instead."
            )
            raise BridgeError(msg)
        return cls(node, *(shown[0] if shown else (None, None)))


def checked_time_points(browsed: Browsed) -> tuple[Any, ...]:
    """Return the volumes of a sequence, in its order.

    Raises:
        BridgeError: it has fewer than two items, one is not a scalar volume, or a parent changes over time.
    """
    sequence, count = browsed.sequence, browsed.sequence.GetNumberOfDataNodes()
    name = sequence.GetName()
    if count < 2:
        msg = f"The sequence '{name}' has fewer than two time points; choose a sequence of volumes over time."
        raise BridgeError(msg)
    frames = tuple(sequence.GetNthDataNode(index) for index in range(count))
    if not all(_is_intensities(frame) for frame in frames):
        msg = f"The sequence '{name}' does not hold scalar volumes; choose a sequence of volumes over time."
        raise BridgeError(msg)
    for index, frame in enumerate(frames):
        check_scalar_volume(frame, f"time point {index} of '{name}',")
    for above in chain(_parent_of(browsed)):
        if any(browser.GetSequenceNode(above) is not None for browser in _browsers(sequence.GetScene())):
            msg = (
                f"The transform '{above.GetName()}' above '{browsed.proxy.GetName()}' is itself shown by a "
                "sequence browser, so that it differs from one time point to the next; move the volume out of it "
                "first."
            )
            raise BridgeError(msg)
    return frames


def _parent_of(browsed: Browsed) -> Any:
    """Return the transform node above the volume that shows a sequence, or None."""
    return None if browsed.proxy is None else browsed.proxy.GetParentTransformNode()


@dataclass(frozen=True)
class SequenceState:
    """A sequence of volumes as it was, under the transforms above the volume that shows it.

    Attributes:
        browsed: the sequence and what shows it.
        frames: its volumes, in its order.
        grids: of each.
        index_values: of each.
        parent: transform node above all frames, or None.
        to_world: from the coordinates of the frames to the world.
        stamps: of the voxels of each.
    """

    browsed: Browsed
    frames: tuple[Any, ...]
    grids: tuple[VoxelGrid, ...]
    index_values: tuple[str, ...]
    parent: Any
    to_world: vtk.vtkAbstractTransform
    stamps: tuple[Any, ...]

    @classmethod
    def of(cls, browsed: Browsed) -> SequenceState:
        """Record the current state of a sequence.

        Raises:
            BridgeError: it has fewer than two items, one is not a scalar volume, or a parent changes over time.
        """
        frames = checked_time_points(browsed)
        parent = _parent_of(browsed)
        sequence = browsed.sequence
        return cls(
            browsed=browsed,
            frames=frames,
            grids=tuple(grid_of(frame) for frame in frames),
            index_values=tuple(sequence.GetNthIndexValue(index) for index in range(len(frames))),
            parent=parent,
            to_world=snapshot(to_world(parent)),
            stamps=tuple(voxels_stamp(frame.GetImageData()) for frame in frames),
        )

    def title(self, index: int) -> str:
        """Return what a frame is called in messages: its number from 0, and its index value with its unit."""
        return f"Time point {_title(index, self.index_values[index], self.browsed.sequence.GetIndexUnit())}"

    def place_of_results(self, reference: int) -> tuple[VoxelGrid, Any]:
        """Return the grid of results on the voxels of a frame, and the parent to put them under.

        Under a nonlinear or shearing parent the frames were resampled for the engine: then it is a grid in the world.
        """
        grid = self.grids[reference]
        world, only_moved = grid_in_world(grid, self.to_world)
        return (grid, self.parent) if only_moved else (world, None)

    def changes(self) -> list[str]:
        """Return warnings about changes of the sequence since then."""
        sequence = self.browsed.sequence
        now = [sequence.GetNthDataNode(index) for index in range(sequence.GetNumberOfDataNodes())]
        if tuple(voxels_stamp(frame.GetImageData()) for frame in now) == self.stamps:
            return []
        return [
            f"The sequence '{sequence.GetName()}' was edited during the registration; the result is made from its "
            "volumes at the start."
        ]


def sequence_shown_in(volume: Any) -> Any:
    """Return the sequence of several items that a browser shows in a volume, or None."""
    for browser in _browsers(volume.GetScene()):
        sequence = browser.GetSequenceNode(volume)
        if sequence is not None and sequence.GetNumberOfDataNodes() > 1:
            return sequence
    return None


def time_points(node: Any) -> list[str]:
    """Return what each time point of a sequence is called: its number from 0, and its index value with its unit.

    Args:
        node: a sequence node, or a volume that a browser shows; none for any other node.
    """
    sequence = node if node.IsA("vtkMRMLSequenceNode") else sequence_shown_in(node)
    count = sequence.GetNumberOfDataNodes() if sequence is not None else 0
    return [_title(index, sequence.GetNthIndexValue(index), sequence.GetIndexUnit()) for index in range(count)]


def _title(index: int, value: str, unit: str | None) -> str:
    return f"{index} ({' '.join(part for part in (value, unit) if part)})"


def _browsers(scene: Any) -> list[Any]:
    return list(slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode", scene)) if scene is not None else []


def _is_intensities(node: Any) -> bool:
    return node is not None and node.IsA("vtkMRMLScalarVolumeNode") and not node.IsA("vtkMRMLLabelMapVolumeNode")
