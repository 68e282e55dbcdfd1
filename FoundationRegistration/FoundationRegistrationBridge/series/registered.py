"""A registered contrast series: what it was made from, and its time points as the engine takes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..errors import BridgeError
from ..library import add_library_to_path
from ..nodes.grids import VoxelGrid, array_from_image, grid_of, sitk_image
from ..nodes.volumes import volume_in_world
from ..scene.transforms import RECORD
from .results import ORIGINAL_PARENT_ROLE, ORIGINAL_ROLE, ORIGINAL_SHOWN_ROLE, PARENT_ROLE, SHOWN_ROLE
from .sequences import Browsed, checked_time_points


@dataclass(frozen=True)
class RegisteredSeries:
    """The sequence that a registration of a series has made.

    Attributes:
        sequence: sequence node of the registered volumes.
        shown: the volume that its browser shows, whose parent transforms are those of all time points; or None.
        frames: the registered volumes, on one grid.
        times_s: time of each, s; None if their index is none of time.
    """

    sequence: Any
    shown: Any
    frames: tuple[Any, ...]
    times_s: tuple[float, ...] | None

    @classmethod
    def of(cls, node: Any) -> RegisteredSeries:
        """Return the registered series that a node is, browses or shows.

        Raises:
            BridgeError: it is not the result of the registration of a series.
        """
        add_library_to_path()
        from FoundationRegistrationLib.series.frames import are_times
        from FoundationRegistrationLib.series.nrrd import in_seconds

        browsed = Browsed.of(node)
        sequence = browsed.sequence
        if sequence.GetAttribute(RECORD) is None:
            msg = f"'{sequence.GetName()}' is not a registered series; register it first, then choose the result."
            raise BridgeError(msg)
        frames = checked_time_points(browsed)
        values = [sequence.GetNthIndexValue(index) for index in range(len(frames))]
        times = in_seconds(values, sequence.GetIndexUnit() or "")
        known = times if times is not None and are_times(times, len(frames)) else None
        return cls(sequence, browsed.proxy, frames, known)

    @property
    def name(self) -> str:
        """What products of the series are named after."""
        return (self.shown or self.sequence).GetName()

    @property
    def parent(self) -> Any:
        """Transform node above all time points, or None.

        Raises:
            BridgeError: it was removed, and so was the volume that showed them.
        """
        return _parent_of(self.sequence, SHOWN_ROLE, PARENT_ROLE, self.shown)

    def own_images(self, numbers: Sequence[int]) -> list[Any]:
        """Return some time points as SimpleITK images, below the parent."""
        return [
            sitk_image(array_from_image(self.frames[number].GetImageData()), grid_of(self.frames[number]))
            for number in numbers
        ]

    def world_images(self) -> tuple[list[Any], VoxelGrid]:
        """Return all time points as SimpleITK images in the world, and the grid that they are on."""
        return _in_world(self.frames, self.parent), volume_in_world(self.frames[0], self.parent)[1]

    def world_images_as_acquired(self) -> list[Any]:
        """Return all time points as they were acquired, as SimpleITK images in the world, each on its own grid.

        Raises:
            BridgeError: the original series was removed, has other time points now, or nothing tells where it lies.
        """
        original = self.sequence.GetNodeReference(ORIGINAL_ROLE)
        if original is None:
            msg = f"The series that '{self.name}' was made from is no longer in the scene; register it again."
            raise BridgeError(msg)
        shown = self.sequence.GetNodeReference(ORIGINAL_SHOWN_ROLE)
        frames = checked_time_points(Browsed(original, None, shown))
        if len(frames) != len(self.frames):
            msg = f"'{original.GetName()}' has other time points than when it was registered; register it again."
            raise BridgeError(msg)
        proxy = Browsed.of(original).proxy
        return _in_world(frames, _parent_of(self.sequence, ORIGINAL_SHOWN_ROLE, ORIGINAL_PARENT_ROLE, proxy))


def _parent_of(sequence: Any, shown_role: str, parent_role: str, proxy: Any) -> Any:
    """Return the transform node above the time points of a series, or None.

    It is that above the volume which showed them at the registration. If that was removed, a browser makes another
    one by itself, without a parent: then it is the parent that they had.

    Args:
        sequence: the registered sequence.
        shown_role: of its reference to that volume.
        parent_role: of that to the parent.
        proxy: the volume that shows them now, for a series that was under no transform; or None.

    Raises:
        BridgeError: the volume and the parent were removed.
    """
    shown = sequence.GetNodeReference(shown_role)
    name = sequence.GetAttribute(parent_role)
    if shown is None and name:
        parent = sequence.GetNodeReference(parent_role)
        if parent is None:
            msg = (
                f"The transform '{name}' and the volume that showed the time points under it were removed, so that "
                "nothing tells where they lie; register the series again."
            )
            raise BridgeError(msg)
        return parent
    shown = shown or proxy
    return shown.GetParentTransformNode() if shown is not None else None


def _in_world(frames: Sequence[Any], parent: Any) -> list[Any]:
    images = []
    for frame in frames:
        image, grid = volume_in_world(frame, parent)
        images.append(sitk_image(array_from_image(image), grid))
    return images


@contextmanager
def engine_words() -> Iterator[None]:
    """Raise what the engine refuses as an error of the bridge.

    Raises:
        BridgeError: in the words of the engine.
    """
    from FoundationRegistrationLib.errors import FoundationRegistrationError

    try:
        yield
    except FoundationRegistrationError as error:
        raise BridgeError(str(error)) from error
