"""Whether a mask marks anything is known without resampling it: label maps, segments of one layer, surfaces."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from FoundationRegistrationBridge.nodes.grids import array_from_image
from FoundationRegistrationBridge.nodes.masks import marks_nothing
from nodes import segmentation_node, volume_node
from volumes import empty_grid


@pytest.fixture
def three(scene):
    """A segmentation of three segments in one layer, the second of which was erased."""
    image = sitk.Cast(empty_grid("oblique"), sitk.sitkUInt8)
    for label in (1, 2, 3):
        image[label, 1, 1] = label
    node = segmentation_node(scene, image, {1: "first", 2: "second", 3: "third"})
    segmentation = node.GetSegmentation()
    assert segmentation.GetNumberOfLayers() == 1
    second = segmentation.GetSegment(segment_of(node, "second"))
    array = array_from_image(second.GetRepresentation("Binary labelmap"))
    array[array == second.GetLabelValue()] = 0
    return node


def segment_of(node, name):
    return node.GetSegmentation().GetSegmentIdBySegmentName(name)


def test_segments_of_one_layer_are_told_apart(three):
    names = ("first", "second", "third")
    assert [marks_nothing((three, segment_of(three, name))) for name in names] == [False, True, False]
    assert not marks_nothing(three)
    for name in ("first", "third"):
        three.GetSegmentation().RemoveSegment(segment_of(three, name))
    assert marks_nothing(three)


def test_surface_marks_something(scene):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.GetSegmentation().SetSourceRepresentationName("Closed surface")
    ball = vtk.vtkSphereSource()
    ball.Update()
    node.AddSegmentFromClosedSurfaceRepresentation(vtk.vtkPolyData(), "nothing", [1.0, 0.0, 0.0], "nothing")
    assert marks_nothing(node)
    node.AddSegmentFromClosedSurfaceRepresentation(ball.GetOutput(), "ball", [1.0, 0.0, 0.0], "ball")
    assert not marks_nothing(node) and marks_nothing((node, "nothing")) and not marks_nothing((node, "ball"))


def test_label_map(scene):
    zeros = sitk.GetImageFromArray(np.zeros((3, 4, 5), np.uint8))
    assert marks_nothing(volume_node(scene, zeros, "zeros", "vtkMRMLLabelMapVolumeNode"))
    assert marks_nothing(slicer.vtkMRMLLabelMapVolumeNode())
    zeros[1, 1, 1] = 7
    assert not marks_nothing(volume_node(scene, zeros, "one voxel", "vtkMRMLLabelMapVolumeNode"))
