"""The phantoms in the Sample Data module. That module is Slicer's; a fake records what is registered with it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import slicer


class SampleDataLogic:
    """The calls of Slicer 5.10; later ones also name the category."""

    def __init__(self) -> None:
        self.sources: list[dict[str, Any]] = []

    def registerCustomSampleDataSource(self, **source: Any) -> None:
        assert len(source["uris"]) and len(source["fileNames"])  # Slicer refuses a source without them
        self.sources.append(source)


@pytest.fixture
def registered(module: Any, scene: Any, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    sample_data = ModuleType("SampleData")
    sample_data.SampleDataLogic = SampleDataLogic()
    monkeypatch.setitem(sys.modules, "SampleData", sample_data)
    slicer.app.startupCompleted.emit()
    return sample_data.SampleDataLogic.sources


def test_a_phantom_for_each_task_is_offered_once_slicer_has_started(registered: list[dict[str, Any]]) -> None:
    from FoundationRegistrationLib.phantom import TASKS

    assert [source["uris"] for source in registered] == [f"phantom:{task}" for task in TASKS]


def test_phantom_lies_where_its_landmarks_say(module: Any, scene: Any) -> None:
    """Volumes, structures and landmarks agree: the organ's centre of mass is the same by voxels and by segment."""
    from FoundationRegistrationBridge.nodes.grids import grid_of
    from FoundationRegistrationPanel.sample_data import add_phantom

    from FoundationRegistrationLib.phantom import make_phantom

    nodes = add_phantom("longitudinal", spacing_mm=8.0)  # the fixed volume is stored sagittally
    case = make_phantom("longitudinal", spacing_mm=8.0, difficulty="easy")
    for side in ("fixed", "moving"):
        image = getattr(case, side)
        corner = np.array(image.GetSize()) - 1
        expected = np.array(image.TransformIndexToPhysicalPoint(corner.tolist())) * (-1, -1, 1)
        np.testing.assert_allclose(grid_of(nodes[side]).ras(corner[None])[0], expected, atol=1e-6)
        point = nodes[f"{side}_points"].GetNthControlPointPosition(3)
        np.testing.assert_allclose(point, getattr(case, f"{side}_landmarks")[3] * (-1, -1, 1), atol=1e-6)

        segmentation = nodes[f"{side}_labels"].GetSegmentation()
        organ = slicer.vtkOrientedImageData()
        nodes[f"{side}_labels"].GetBinaryLabelmapRepresentation(
            segmentation.GetSegmentIdBySegmentName("organ"), organ
        )
        bounds = np.zeros(6)
        organ.GetBounds(bounds)
        inside = np.argwhere(np.transpose(_mask(case, side, "organ"), (2, 1, 0)))
        voxels = np.array([image.TransformIndexToPhysicalPoint(index.tolist()) for index in inside]) * (-1, -1, 1)
        assert (voxels.min(0) >= bounds[::2] - 8.0).all() and (voxels.max(0) <= bounds[1::2] + 8.0).all()


def _mask(case: Any, side: str, name: str) -> np.ndarray:
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(getattr(case, f"{side}_labels")[name])
