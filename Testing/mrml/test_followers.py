"""Attach, resample, harden, edit, move and undo in any order: nothing is carried twice, nothing of a user's lost."""

import numpy as np
import pytest
import slicer
import vtk
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.follow.apply import apply_transform
from FoundationRegistrationBridge.nodes.grids import map_points
from FoundationRegistrationBridge.scene.carried import carried_to_world, uncarried_to_world
from FoundationRegistrationBridge.scene.transforms import name_run
from known_run import at, ijk_to_ras, in_world, points_node, rigid, set_matrix, transform, volume, world

SEQUENCES = 120
STEPS = 12
CLOSE_MM = 0.05


class Follower:
    """A node, and by numpy alone where its anatomy lies without the registration and where it has to go."""

    def __init__(self, node, parent):
        self.node, self.parent = node, parent
        self.place = None  # relative to the moving volume's parent, once attached
        self.hardened = None  # the matrix from its first own coordinates to the world, once hardened
        self.first = self.own()

    def own(self):
        if self.node.IsA("vtkMRMLMarkupsNode"):
            count = self.node.GetNumberOfControlPoints()
            return np.array([self.node.GetNthControlPointPosition(number) for number in range(count)])
        return at(ijk_to_ras(self.node), np.array([[0.0, 0, 0], [5, 0, 0], [0, 5, 0], [0, 0, 5]]))

    def now(self):
        return map_points(carried_to_world_of_parent(self.node), self.own())


def carried_to_world_of_parent(node):
    found = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(node.GetParentTransformNode(), None, found)
    return found


class Story:
    """Random acts of the product and of a user, with what must be true after each."""

    def __init__(self, scene, seed):
        self.rng = rng = np.random.default_rng(seed)
        self.scene = scene
        self.table = transform(scene, "table", rigid(rng)) if rng.random() < 0.6 else None
        self.own = transform(scene, "own", rigid(rng))
        self.fixed = volume(scene, "fixed", rng)
        self.moving = volume(scene, "moving", rng, self.table)
        self.node = transform(scene, "registration", rigid(rng), self.table)
        name_run(self.node, self.fixed, self.moving)
        self.followers = [
            Follower(points_node(scene, "clips", rng.uniform(-9, 9, (4, 3)), self.table), self.table),
            Follower(points_node(scene, "marks", rng.uniform(-9, 9, (4, 3)), self.own), self.own),
            Follower(volume(scene, "PET", rng, self.own), self.own),
            Follower(self.moving, self.table),
        ]
        self.undos = []

    def expected(self, follower):
        """Where the anatomy of a follower has to be, carried."""
        if follower.hardened is not None:
            return at(follower.hardened, follower.first)
        return at(world(self.node) @ self.into(follower), follower.first)

    def into(self, follower):
        if follower.place is not None:
            return follower.place
        return np.linalg.inv(world(self.table)) @ world(follower.parent)

    def act(self):
        acts = (self.attach, self.attach, self.resample, self.harden, self.undo, self.undo, self.raise_registration,
                self.move_table, self.move_own, self.edit_copy)  # fmt: skip
        acts[self.rng.integers(len(acts))](self.followers[self.rng.integers(len(self.followers))])

    def still_known(self, follower):
        """Whether the registration brings things where it did when a node was hardened."""
        return np.allclose(follower.hardened, world(self.node) @ follower.place, atol=1e-6)

    def attach(self, follower):
        if follower.hardened is not None:
            with pytest.raises(BridgeError, match=r"was (already )?transformed|not where it was|has changed since"):
                apply_transform([follower.node], self.node, self.fixed, mode="attach")
            return
        place = self.into(follower)
        attached = follower.place is not None
        self.undos.append(
            ("attach", follower, attached, apply_transform([follower.node], self.node, self.fixed, mode="attach"))
        )
        follower.place = place

    def resample(self, follower):
        if follower.hardened is not None:
            with pytest.raises(BridgeError, match=r"was (already )?transformed|not where it was|has changed since"):
                apply_transform([follower.node], self.node, self.fixed, mode="resample")
            return
        undo = apply_transform([follower.node], self.node, self.fixed, mode="resample")
        copy = undo.created[0]
        assert copy.GetParentTransformNode() is None
        if copy.IsA("vtkMRMLMarkupsNode"):
            assert np.abs(in_world(copy) - self.expected(follower)).max() < CLOSE_MM
        points = np.array([[1.0, 2, 3], [9, -4, 2]])
        assert np.array_equal(map_points(carried_to_world(copy, self.node), points), points)
        for mode in ("attach", "resample"):
            with pytest.raises(BridgeError, match=r"was (already )?transformed"):
                apply_transform([copy], self.node, self.fixed, mode=mode)
        self.undos.append(("resample", copy, False, undo))

    def harden(self, follower):
        if follower.place is None or follower.hardened is not None:
            return
        follower.hardened = world(self.node) @ follower.place
        follower.node.HardenTransform()

    def edit_copy(self, _follower):
        for number, (kind, copy, _edited, undo) in enumerate(self.undos):
            if kind == "resample" and self.scene.IsNodePresent(copy):
                change = self.rng.integers(3)
                if change == 0:
                    copy.SetName(f"final {number}")
                elif change == 1:
                    copy.SetAndObserveTransformNodeID(self.own.GetID())
                elif copy.IsA("vtkMRMLMarkupsNode"):
                    copy.SetNthControlPointPosition(0, 1.0, 2.0, 3.0)
                else:
                    slicer.util.arrayFromVolume(copy)[3] = -5.0
                self.undos[number] = (kind, copy, True, undo)
                return

    def raise_registration(self, _follower):
        """Put the registration under another linear transform than before."""
        self.node.SetAndObserveTransformNodeID(transform(self.scene, "above", rigid(self.rng)).GetID())

    def move_table(self, _follower):
        if self.table is not None:
            set_matrix(self.table, rigid(self.rng))

    def move_own(self, _follower):
        set_matrix(self.own, rigid(self.rng))

    def undo(self, _follower):
        if not self.undos:
            return
        kind, what, before, undo = self.undos.pop()
        if kind == "resample":
            present = self.scene.IsNodePresent(what)
            words = undo.undo()
            assert present and bool(self.scene.IsNodePresent(what)) == before
            assert bool(words) == before
        elif what.hardened is not None:
            where = what.now()
            words = undo.undo()
            assert before or "hardened since" in words[0]
            assert np.abs(what.now() - where).max() < CLOSE_MM
        else:
            assert undo.undo() == []
            if not before:
                what.place = None
                assert what.node.GetParentTransformNode() is what.parent
        assert undo.undo() == []

    def check(self):
        for follower in self.followers:
            if follower.hardened is not None and not self.still_known(follower):
                with pytest.raises(BridgeError, match=r"not where it was|has changed since"):
                    carried_to_world(follower.node, self.node)
                continue
            expected = self.expected(follower)
            found = map_points(carried_to_world(follower.node, self.node), follower.own())
            assert np.abs(found - expected).max() < CLOSE_MM
            if follower.place is not None:
                assert np.abs(follower.now() - expected).max() < CLOSE_MM
            back = map_points(uncarried_to_world(follower.node, self.node), follower.own())
            if follower.hardened is None:
                assert np.abs(back - at(world(self.table) @ self.into(follower), follower.first)).max() < CLOSE_MM


@pytest.mark.parametrize("seed", range(SEQUENCES))
def test_any_order_of_following_hardening_and_undoing(scene, seed):
    story = Story(scene, seed)
    for _ in range(STEPS):
        story.act()
        story.check()
