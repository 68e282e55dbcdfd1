"""A registration that is known exactly, as the engine would have left it in the scene."""

import numpy as np
import SimpleITK as sitk
from FoundationRegistrationBridge.nodes.grids import map_points
from FoundationRegistrationBridge.nodes.spaces import composed, from_world, snapshot, to_world
from FoundationRegistrationBridge.scene.transforms import below, name_run, read_transform, world_registration
from nodes import FLIP, grid_node, image_of, linear_node, put_under, volume_node
from volumes import body_depth, empty_grid, field_transform, points_of, volume

KINDS = ("no parents", "linear", "grid")


def true_transform():
    """Fixed points to moving points in the world, LPS."""
    rigid = sitk.Euler3DTransform((0, 0, 0), 0.1, -0.05, 0.12, (4, -3, 2))
    transform = sitk.CompositeTransform([rigid, field_transform()])
    transform.FlattenTransform()
    return transform


class Registered:
    """Fixed and moving volume under parents of some kind, and the node of the registration between them."""

    def __init__(self, scene, folder, kind):
        self.fixed = volume_node(scene, empty_grid("anisotropic"), "fixed")
        self.moving = volume_node(scene, volume(empty_grid("oblique")), "moving")
        if kind != "no parents":
            put_under(self.fixed, linear_node(scene, "patient", angle=-12.0))
            put_under(self.moving, linear_node(scene, "table", angle=15.0))
        if kind == "grid":
            put_under(self.moving.GetParentTransformNode(), grid_node(scene))
        sitk.WriteTransform(true_transform(), str(folder / "transform.h5"))
        self.parent = self.moving.GetParentTransformNode()
        self.node = below(snapshot(to_world(self.parent)), read_transform(folder / "transform.h5"))
        self.node.SetName("registration")
        scene.AddNode(self.node)
        self.node.SetAndObserveTransformNodeID(self.parent.GetID() if self.parent else None)
        name_run(self.node, self.fixed, self.moving)

    def beside_moving(self, node):
        """Put a node under the parent of the moving volume."""
        node.SetAndObserveTransformNodeID(self.moving.GetTransformNodeID())
        return node

    def origins(self, parent):
        """Where, LPS in the coordinates below `parent`, each voxel of the fixed volume comes from."""
        fixed_to_moving = composed(
            to_world(self.fixed.GetParentTransformNode()), world_registration(self.node), from_world(parent)
        )
        return map_points(fixed_to_moving, points_of(image_of(self.fixed)) * FLIP) * FLIP

    def on_fixed(self, values):
        """One value a voxel of the fixed volume as an array (k, j, i)."""
        return np.asarray(values).reshape(image_of(self.fixed).GetSize()[::-1])


def halves(points):
    """1 in one half of the body, 2 in the other, 0 outside."""
    return np.where(body_depth(points) > 0, np.where(points[:, 0] > 3.0, 2, 1), 0).astype(np.int16)
