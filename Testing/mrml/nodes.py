"""Nodes for the tests, made from SimpleITK images and functions of points, and what to compare them by."""

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from FoundationRegistrationBridge.nodes.grids import array_from_image, grid_of, image_from_array, matrix_of

FLIP = np.array([-1.0, -1.0, 1.0])


def volume_node(scene, image, name="volume", class_name="vtkMRMLScalarVolumeNode"):
    """Volume node of a SimpleITK image: LPS becomes RAS."""
    node = scene.AddNewNodeByClass(class_name, name)
    node.SetAndObserveImageData(image_from_array(sitk.GetArrayFromImage(image)))
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    matrix[:3, 3] = image.GetOrigin()
    node.SetIJKToRASMatrix(matrix_of(np.diag([*FLIP, 1.0]) @ matrix))
    node.CreateDefaultDisplayNodes()
    return node


def image_of(node):
    """SimpleITK image of a volume node, its parents left out."""
    voxel_grid = grid_of(node)
    array = array_from_image(node.GetImageData())
    image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
    image.SetSpacing(voxel_grid.spacing.tolist())
    image.SetDirection((FLIP[:, None] * voxel_grid.ijk_to_ras[:3, :3] / voxel_grid.spacing).ravel().tolist())
    image.SetOrigin((FLIP * voxel_grid.ijk_to_ras[:3, 3]).tolist())
    return image


def segmentation_node(scene, image, names, name="segmentation"):
    """Segmentation of a label image; `names` by label."""
    labelmap = volume_node(scene, image, "labels", "vtkMRMLLabelMapVolumeNode")
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labelmap, node)
    segmentation = node.GetSegmentation()
    for segment_id in segmentation.GetSegmentIDs():
        segment = segmentation.GetSegment(segment_id)
        segment.SetName(names[segment.GetLabelValue()])
    scene.RemoveNode(labelmap)
    return node


def linear_node(scene, name="linear", angle=25.0, axis=(1, 2, 3), shift=(12.0, -8.0, 5.0), scale=(1.0, 1.0, 1.0)):
    """Transform node; `scale` acts on the moved points, so that unequal ones shear an oblique volume."""
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", name)
    transform = vtk.vtkTransform()
    transform.Scale(*scale)
    transform.Translate(*shift)
    transform.RotateWXYZ(angle, *axis)
    node.SetMatrixTransformToParent(transform.GetMatrix())
    return node


def grid_node(scene, name="grid", amplitude=5.0, reach=160.0, step=10.0):
    """Transform node with a smooth, large grid transform, FromParent, fading out at its border."""
    axis = np.arange(-reach, reach + 0.1, step)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    fade = np.prod([np.cos(np.pi * a / (2.2 * reach)) for a in (x, y, z)], axis=0)
    field = (
        np.stack([np.sin(y / 35.0), np.cos(z / 40.0), np.sin((x + y) / 45.0)], axis=-1)
        * (amplitude * fade)[..., None]
    )
    image = image_from_array(field)
    image.SetOrigin(-reach, -reach, -reach)
    image.SetSpacing(step, step, step)
    grid = slicer.vtkOrientedGridTransform()
    grid.SetDisplacementGridData(image)
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", name)
    node.SetAndObserveTransformFromParent(grid)
    return node


def put_under(node, *parents):
    """Put a node under the first transform node, that under the second, and so on."""
    for child, parent in zip((node, *parents[:-1]), parents, strict=True):
        child.SetAndObserveTransformNodeID(parent.GetID())
    return node


def dice(a, b):
    """Dice coefficient of two masks."""
    a, b = np.asarray(a) != 0, np.asarray(b) != 0
    return 2.0 * (a & b).sum() / (a.sum() + b.sum())


def state(scene):
    """All that a user could notice of a scene: nodes, names, attributes, references, data and transforms."""
    rows = {}
    for index in range(scene.GetNumberOfNodes()):
        node = scene.GetNthNode(index)
        roles = [node.GetNthNodeReferenceRole(n) for n in range(node.GetNumberOfNodeReferenceRoles())]
        rows[node.GetID()] = {
            "class": node.GetClassName(),
            "name": node.GetName(),
            "attributes": {name: node.GetAttribute(name) for name in node.GetAttributeNames()},
            "references": {
                role: [node.GetNthNodeReferenceID(role, n) for n in range(node.GetNumberOfNodeReferences(role))]
                for role in roles
                if node.GetNumberOfNodeReferences(role)
            },
            "modified": node.GetMTime(),
            "content": _content_modified(node),
        }
    return rows


def _content_modified(node):
    if node.IsA("vtkMRMLVolumeNode") and node.GetImageData():
        return node.GetImageData().GetMTime()
    if node.IsA("vtkMRMLTransformNode"):
        return node.GetTransformToWorldMTime()
    if node.IsA("vtkMRMLSegmentationNode"):
        return node.GetSegmentation().GetMTime()
    return None
