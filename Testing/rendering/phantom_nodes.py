"""A PET-CT and MRI phantom as MRML nodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer
from mrml.nodes import volume_node

from FoundationRegistrationLib.phantom import PhantomCase


@dataclass(frozen=True)
class PhantomNodes:
    """Volume nodes, and centres of the lesion, RAS mm; `radius` is that of its farthest voxel in the MRI, mm."""

    fixed: Any
    moving: Any
    pet: Any
    fixed_lesion: np.ndarray
    moving_lesion: np.ndarray
    radius: float


def add_phantom(scene: Any, case: PhantomCase) -> PhantomNodes:
    """Add the volumes of a pair."""
    fixed_lesion, radius = lesion_of(case.fixed_labels["lesion"])
    moving_lesion, _ = lesion_of(case.moving_labels["lesion"])
    return PhantomNodes(
        volume_node(scene, case.fixed, "MRI"),
        volume_node(scene, case.moving, "CT"),
        volume_node(scene, case.pet, "PET"),
        fixed_lesion,
        moving_lesion,
        radius,
    )


def add_transform(scene: Any, transform: sitk.Transform, name: str, folder: Path) -> Any:
    """Add a transform that maps fixed to moving points (LPS), through a file: what is put under it becomes fixed."""
    path = folder / f"{name}.h5"
    sitk.WriteTransform(transform, str(path))
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", name)
    storage = slicer.vtkMRMLTransformStorageNode()
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    return node


def lesion_of(mask: sitk.Image) -> tuple[np.ndarray, float]:
    """Return centre (RAS mm) and radius (mm) of a mask."""
    index = np.argwhere(sitk.GetArrayViewFromImage(mask))[:, ::-1]
    points = np.array([mask.TransformIndexToPhysicalPoint(one.tolist()) for one in index])
    centre = points.mean(axis=0)
    return centre * (-1, -1, 1), float(np.linalg.norm(points - centre, axis=1).max())
