"""Runs whose answer is known: everything is affine, so that numpy says where each point belongs.

The engine is replaced by `known_engine.py`, which copies a prepared result; nodes, job and take-over are real.
"""

import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import vtk
from FoundationRegistrationBridge.nodes.grids import array_of, image_from_array, matrix_of
from FoundationRegistrationBridge.run.job import JobInputs, RegistrationJob
from scipy.ndimage import gaussian_filter, map_coordinates

FLIP4 = np.diag([-1.0, -1.0, 1.0, 1.0])


def rigid(rng, degrees=20.0, shift=8.0):
    """A (4, 4) rigid matrix, RAS."""
    turn = sitk.Euler3DTransform((0, 0, 0), *np.radians(rng.uniform(-degrees, degrees, 3)).tolist())
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(turn.GetMatrix(), (3, 3))
    matrix[:3, 3] = rng.uniform(-shift, shift, 3)
    return matrix


def at(matrix, points):
    """(N, 3) points mapped by a (4, 4) matrix."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def set_matrix(node, matrix):
    """Let a transform node be a (4, 4) matrix, to its parent."""
    node.SetMatrixTransformToParent(matrix_of(matrix))


def transform(scene, name, matrix, parent=None):
    """A linear transform node."""
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode", name)
    set_matrix(node, matrix)
    node.SetAndObserveTransformNodeID(parent.GetID() if parent else None)
    return node


def world(node):
    """The (4, 4) matrix from the coordinates below a transform node, or None, to the world, by multiplication."""
    matrix = np.eye(4)
    while node is not None:
        own = vtk.vtkMatrix4x4()
        assert node.GetMatrixTransformToParent(own)
        matrix = array_of(own) @ matrix
        node = node.GetParentTransformNode()
    return matrix


def volume(scene, name, rng, parent=None):
    """A small volume of smooth values on an oblique, anisotropic grid."""
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    size = rng.integers(9, 13, 3)
    node.SetAndObserveImageData(image_from_array(smooth(rng, size)))
    grid = rigid(rng) @ np.diag([*rng.uniform(2.0, 4.0, 3), 1.0])
    grid[:3, 3] -= grid[:3, :3] @ (size[::-1] / 2)
    node.SetIJKToRASMatrix(matrix_of(grid))
    node.SetAndObserveTransformNodeID(parent.GetID() if parent else None)
    return node


def smooth(rng, size):
    return (1000.0 * gaussian_filter(rng.normal(size=size), 1.5)).astype(np.float32)


def ijk_to_ras(node):
    """The (4, 4) matrix from indices (i, j, k) to RAS of a volume node."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return array_of(matrix)


def points_node(scene, name, points, parent=None):
    """Landmarks."""
    node = scene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    for point in points:
        node.AddControlPoint(vtk.vtkVector3d(point))
    node.SetAndObserveTransformNodeID(parent.GetID() if parent else None)
    return node


def in_world(node):
    """Where the landmarks of a node are in the world."""
    found = [[0.0] * 3 for _ in range(node.GetNumberOfControlPoints())]
    for number, point in enumerate(found):
        node.GetNthControlPointPositionWorld(number, point)
    return np.array(found)


def resampled(values, from_index, to_index, size):
    """Values (k, j, i), linear between voxels, on another grid, and where that is well inside; both to the world.

    Args:
        values: voxels.
        from_index: (4, 4) from their indices to the world.
        to_index: (4, 4) from indices of the result to the world in which `from_index` puts the values.
        size: (k, j, i) of the result.
    """
    indices = np.stack(np.meshgrid(*(np.arange(n) for n in size), indexing="ij"), -1).reshape(-1, 3)[:, ::-1]
    positions = at(np.linalg.inv(from_index) @ to_index, indices)[:, ::-1]
    inside = np.all((positions > 0.01) & (positions < np.array(values.shape) - 1.01), axis=1)
    found = map_coordinates(values, positions.T, order=1, mode="nearest")
    return found.reshape(size), inside.reshape(size)


def write_result(folder, fixed_to_moving):
    """Leave in a folder what the engine would have left, for a (4, 4) matrix from fixed to moving points, RAS."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, matrix in (("transform", fixed_to_moving), ("inverse", np.linalg.inv(fixed_to_moving))):
        affine = sitk.AffineTransform(3)
        lps = FLIP4 @ matrix @ FLIP4
        affine.SetMatrix(lps[:3, :3].ravel().tolist())
        affine.SetTranslation(lps[:3, 3].tolist())
        sitk.WriteTransform(affine, str(folder / f"{name}.h5"))
    report = {
        "verdict": {"level": "good", "reasons": []},
        "messages": ["The engine's own."],
        "settings": {"encoder": "mind"},
        "metrics": {"jacobian": {"folded_percent": 0.0}, "inverse_error_mm": {"mean": 0.0, "max": 0.0}},
    }
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")


def known_python(folder, result):
    """A program to be given as the Python of a job: once the file `go` is in `folder`, it copies a result."""
    program = folder / "known_engine"
    engine = Path(__file__).with_name("known_engine.py")
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -S -E '{engine}' '{result}' '{folder}/go' \"$@\"\n")
    program.chmod(0o755)
    return program


def run_known(folder, fixed_to_moving, scene, between=(), **inputs):
    """Run a job with a known answer, do things to the scene meanwhile, and return the job when it has ended.

    Args:
        folder: of this run.
        fixed_to_moving: (4, 4) RAS, in the world.
        scene: where the nodes are.
        between: called one after the other while the engine works, with polls in between.
        inputs: of `JobInputs`.
    """
    write_result(folder / "prepared", fixed_to_moving)
    (folder / "go").unlink(missing_ok=True)
    job = RegistrationJob(JobInputs(**inputs), scene, python=known_python(folder, folder / "prepared"))
    job.start()
    for act in between:
        job.poll()
        act()
    (folder / "go").touch()
    while job.poll():
        pass
    return job
