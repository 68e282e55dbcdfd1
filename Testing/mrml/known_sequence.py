"""Sequences of volumes, and runs on them whose answer is known."""

import json

import numpy as np
import SimpleITK as sitk
import slicer
from FoundationRegistrationBridge.series.job import SequenceInputs, SequenceJob
from known_run import FLIP4, known_python, write_result
from nodes import volume_node


def scroll(browser, item):
    """Select an item of a browser, and let Slicer show it."""
    browser.SetSelectedItemNumber(item)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)


def sequence_of(scene, images, values=None, name="DCE"):
    """A sequence of volumes with times in seconds."""
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    sequence.SetIndexName("time")
    sequence.SetIndexUnit("s")
    for image, value in zip(images, values or [f"{60.5 * index:g}" for index in range(len(images))], strict=True):
        node = volume_node(scene, image, "item")
        sequence.SetDataNodeAtValue(node, value)
        helper = node.GetDisplayNode()
        scene.RemoveNode(node)
        scene.RemoveNode(helper)
    return sequence


def browser_of(sequence):
    """A browser of a sequence, at its first item, and the volume that it shows."""
    browser = sequence.GetScene().AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    scroll(browser, 0)
    return browser, browser.GetProxyNode(sequence)


def run_known_sequence(folder, scene, frames, corrected, between=(), **inputs):
    """Run a job with a known answer, do things to the scene meanwhile, and return the job when it has ended.

    Args:
        folder: of this run.
        scene: where the nodes are.
        frames: state and (4, 4) matrix from reference to frame points, RAS in the world, of each.
        corrected: SimpleITK images, in the world.
        between: called one after the other while the engine works, with polls in between.
        inputs: of `SequenceInputs`.
    """
    prepared = folder / "prepared"
    (prepared / "series").mkdir(parents=True)
    entries = []
    for index, ((state, matrix), image) in enumerate(zip(frames, corrected, strict=True)):
        write_result(prepared / f"frame_{index:02d}", matrix)
        sitk.WriteImage(image, str(prepared / "series" / f"frame_{index:04d}.nrrd"))
        entries.append({"folder": f"frame_{index:02d}", "state": state})
    report = {"series": {"corrected": "series"}, "frames": entries, "messages": ["The engine's own."]}
    (prepared / "report.json").write_text(json.dumps(report), encoding="utf-8")
    job = SequenceJob(SequenceInputs(**inputs), scene, python=known_python(folder, prepared))
    job.start()
    for act in between:
        job.poll()
        act(job)
    (folder / "go").touch()
    while job.poll():
        pass
    return job


def moved_image(image, matrix):
    """An image moved by a (4, 4) rigid matrix, RAS."""
    lps = FLIP4 @ matrix @ FLIP4
    result = sitk.Image(image)
    result.SetOrigin((lps[:3, :3] @ image.GetOrigin() + lps[:3, 3]).tolist())
    result.SetDirection((lps[:3, :3] @ np.reshape(image.GetDirection(), (3, 3))).ravel().tolist())
    return result
