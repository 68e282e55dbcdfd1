"""Whatever is done to the scene during a run, the result is made of what was given, or the run ends in words."""

import numpy as np
import pytest
import slicer
from FoundationRegistrationBridge.errors import BridgeError
from FoundationRegistrationBridge.follow.apply import apply_transform
from FoundationRegistrationBridge.nodes.grids import array_from_image, image_from_array, matrix_of
from known_run import (
    at,
    ijk_to_ras,
    in_world,
    points_node,
    resampled,
    rigid,
    run_known,
    set_matrix,
    smooth,
    transform,
    volume,
    world,
)

SEQUENCES = 120
CLOSE_MM = 0.02


class Case:
    """A pair under parents, what follows it, and where everything was at the start."""

    def __init__(self, scene, seed):
        self.rng = rng = np.random.default_rng(seed)
        self.scene = scene
        self.couch = transform(scene, "couch", rigid(rng)) if rng.random() < 0.4 else None
        self.table = transform(scene, "table", rigid(rng), self.couch) if rng.random() < 0.6 else None
        self.patient = transform(scene, "patient", rigid(rng), self.couch) if rng.random() < 0.5 else None
        self.own = transform(scene, "PET table", rigid(rng))
        self.fixed = volume(scene, "fixed", rng, self.patient)
        self.moving = volume(scene, "moving", rng, self.table)
        self.beside = points_node(scene, "beside", rng.uniform(-9, 9, (3, 3)), self.table)
        self.apart = points_node(scene, "apart", rng.uniform(-9, 9, (3, 3)), self.own)
        self.output = scene.AddNewNodeByClass("vtkMRMLTransformNode", "out") if rng.random() < 0.5 else None
        self.answer = rigid(rng)
        self.values = array_from_image(self.moving.GetImageData()).copy()
        self.size = array_from_image(self.fixed.GetImageData()).shape
        self.fixed_grid, self.moving_grid = ijk_to_ras(self.fixed), ijk_to_ras(self.moving)
        self.fixed_world, self.moving_world = world(self.patient), world(self.table)
        self.fate = set()

    def edits(self):
        sides = (("moving", self.moving), ("fixed", self.fixed))
        parents = [node for node in (self.couch, self.table, self.patient) if node]
        yield from ((f"scroll {side}", self.scroll, node) for side, node in sides)
        yield from ((f"overwrite {side}", self.overwrite, node) for side, node in sides)
        yield from ((f"center {side}", self.center, node) for side, node in sides)
        yield from ((f"crop {side}", self.crop, node) for side, node in sides)
        yield from ((f"harden {side}", self.harden, node) for side, node in sides)
        yield from ((f"take out {side}", self.take_out, node) for side, node in sides)
        yield from ((f"put elsewhere {side}", self.put_elsewhere, node) for side, node in sides)
        yield from ((f"rename {node.GetName()}", lambda each: each.SetName("renamed"), node) for _, node in sides)
        yield from ((f"move {node.GetName()}", self.move, node) for node in parents)
        yield from ((f"raise {node.GetName()}", self.put_elsewhere, node) for node in parents)
        yield from ((f"remove {node.GetName()}", self.remove, node) for node in (self.table, self.patient) if node)
        if self.output is not None:
            yield "output edited", self.move, self.output
            yield "output used", self.use, self.output

    def scroll(self, node):
        node.SetAndObserveImageData(image_from_array(smooth(self.rng, array_from_image(node.GetImageData()).shape)))

    def overwrite(self, node):
        array_from_image(node.GetImageData())[2:5] = 7.0  # and nobody is told

    def center(self, node):
        matrix = ijk_to_ras(node)
        matrix[:3, 3] = -matrix[:3, :3] @ np.array(node.GetImageData().GetDimensions()) / 2 + [0.0, 31.0, 0.0]
        node.SetIJKToRASMatrix(matrix_of(matrix))

    def crop(self, node):
        values, matrix = array_from_image(node.GetImageData())[1:-1, 2:, :-1].copy(), ijk_to_ras(node)
        matrix[:3, 3] = at(matrix, np.array([[0.0, 2.0, 1.0]]))[0]
        node.SetAndObserveImageData(image_from_array(values))
        node.SetIJKToRASMatrix(matrix_of(matrix))

    def harden(self, node):
        slicer.modules.transforms.logic().hardenTransform(node)

    def take_out(self, node):
        node.SetAndObserveTransformNodeID(None)

    def put_elsewhere(self, node):
        node.SetAndObserveTransformNodeID(transform(self.scene, "elsewhere", rigid(self.rng)).GetID())

    def move(self, node):
        set_matrix(node, rigid(self.rng))

    def use(self, node):
        self.apart.SetAndObserveTransformNodeID(node.GetID())

    def remove(self, node):
        self.scene.RemoveNode(node)

    def moved_world(self):
        """From the world of the start, where the moving volume was, to where the registration has to bring it now."""
        fixed_moved = world(self.patient) @ np.linalg.inv(self.fixed_world)
        return fixed_moved @ np.linalg.inv(self.answer)


@pytest.mark.parametrize("seed", range(SEQUENCES))
def test_edits_during_a_run_change_nothing_or_are_said(scene, tmp_path, seed):
    case = Case(scene, seed)
    rng = case.rng
    choices = list(case.edits())
    chosen = [choices[number] for number in rng.choice(len(choices), rng.integers(1, 4), replace=False)]
    ends = any(name.startswith("remove") for name, *_ in chosen)
    job = run_known(
        tmp_path, case.answer, scene, [lambda do=do, node=node: do(node) for _, do, node in chosen],
        fixed=case.fixed, moving=case.moving, create_volume=True, output_transform=case.output,
    )  # fmt: skip
    if ends:
        assert "was removed during the registration" in job.error
        assert not [node for node in slicer.util.getNodes().values() if node.GetName().endswith("registered volume")]
        return
    assert job.error is None
    outputs = job.outputs

    registered = outputs.volume_node
    assert np.allclose(ijk_to_ras(registered), case.fixed_grid)
    assert registered.GetParentTransformNode() is case.patient
    expected, inside = resampled(
        case.values,
        case.moving_world @ case.moving_grid,
        case.answer @ case.fixed_world @ case.fixed_grid,
        case.size,
    )
    found = array_from_image(registered.GetImageData())
    assert found.shape == expected.shape
    assert inside.any()
    assert np.abs(found - expected)[inside].max() < 1.0

    said = " ".join(outputs.messages[:-1])
    assert outputs.messages[-1] == "The engine's own."
    for side, node in (("moving", case.moving), ("fixed", case.fixed)):
        names = {name for name, *_ in chosen}
        if names & {f"{edit} {side}" for edit in ("scroll", "overwrite", "center", "crop", "put elsewhere")}:
            assert f"'{node.GetName()}'" in said
    if {"output edited", "output used"} & {name for name, *_ in chosen}:
        assert outputs.transform_node is not case.output and "'out' was used otherwise" in said
    elif case.output is not None:
        assert outputs.transform_node is case.output

    # Followers: beside the moving volume, they go where it goes; from elsewhere, as it is in the world now.
    moved = case.moved_world()
    apart = in_world(case.apart)
    apply_transform([case.beside, case.apart], outputs.transform_node, case.fixed, mode="attach")
    beside = np.array([case.beside.GetNthControlPointPosition(number) for number in range(3)])
    assert np.abs(in_world(case.beside) - at(moved @ case.moving_world, beside)).max() < CLOSE_MM
    back = case.moving_world @ np.linalg.inv(world(case.table))
    assert np.abs(in_world(case.apart) - at(moved @ back, apart)).max() < CLOSE_MM

    check_moving(case, outputs.transform_node, moved)


def check_moving(case, node, moved):
    """The moving volume comes to lie right, or is refused where it is not where it was registered."""
    try:
        apply_transform([case.moving], node, case.fixed, mode="attach")
    except BridgeError as error:
        assert "is not where it was when it was registered" in str(error)
        where = world(case.moving.GetParentTransformNode()) @ ijk_to_ras(case.moving)
        along = world(case.table) @ case.moving_grid
        assert np.abs(where - along).max() > CLOSE_MM, "it was where it belonged"
        return
    where = world(case.moving.GetParentTransformNode()) @ ijk_to_ras(case.moving)
    offset = np.linalg.inv(moved @ case.moving_world @ case.moving_grid) @ where
    assert np.allclose(offset[:3, :3], np.eye(3), atol=1e-3)
    assert np.allclose(offset[:3, 3], offset[:3, 3].round(), atol=1e-2), "cropped, at most"
    assert set(offset[:3, 3].round()) <= {0.0, 1.0, 2.0, 3.0, 4.0}
