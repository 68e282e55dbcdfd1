"""The examples of the page *Slicer's Python console* do what they say."""

import re
import sys
from pathlib import Path

import numpy as np
import slicer

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("Testing/engine", "Testing/mrml", "FoundationRegistration")]

import SimpleITK as sitk  # noqa: E402
from known_sequence import browser_of, sequence_of  # noqa: E402
from nodes import segmentation_node, volume_node  # noqa: E402
from volumes import body_depth, empty_grid, on_grid, points_of, smooth_warp, volume  # noqa: E402


def test_console_examples(module, scene, tmp_path, monkeypatch, capsys):
    fixed, moving = empty_grid("oblique"), empty_grid("anisotropic")
    images = {"today": volume(fixed, smooth_warp), "last year": volume(moving), "two years ago": volume(moving)}
    for name, image in images.items():
        volume_node(scene, image, name)
        sitk.WriteImage(image, str(tmp_path / f"{name}.nrrd"))
    for name, grid, points in (
        ("tumour today", fixed, smooth_warp(points_of(fixed))),
        ("tumour last year", moving, points_of(moving)),
    ):
        segmentation_node(scene, on_grid((body_depth(points) > 12.0).astype(np.uint8), grid), {1: "tumour"}, name)
    browser_of(sequence_of(scene, [volume(moving), volume(moving, smooth_warp)]))
    (tmp_path / "cohort.csv").write_text("fixed,moving,name\ntoday.nrrd,last year.nrrd,Ada\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "Resources/Documentation/pages/console.md").read_text(encoding="utf-8")

    names = {}
    for example in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(example, "console.md", "exec"), names)

    said = capsys.readouterr().out
    assert names["transform"] is names["lastYear"].GetParentTransformNode()
    warped = slicer.util.getNode("last year to today: registered volume")
    assert warped.GetImageData().GetDimensions() == fixed.GetSize()
    table = {tuple(re.findall(r"'([^']*)'", line)) for line in said.splitlines() if line.startswith("[")}
    dice = next(row for row in table if row[:2] == ("Dice", "tumour"))
    assert float(dice[2]) < float(dice[3])
    assert "mind {'mean':" in said
    assert "Ada" in said
    assert (tmp_path / "cohort_results" / "Ada" / "transform.h5").is_file()
    browser = names["outputs"].browser_node
    assert browser.GetProxyNode(names["registered"]).GetName() == "DCE registered"
    assert "['reference', 'registered']" in said
    assert names["subtraction"].GetName() == "DCE registered subtraction, time point 1 (60.5 s)"
    columns = [names["table"].GetColumnName(index) for index in range(names["table"].GetNumberOfColumns())]
    assert columns == ["Time (s)", "tumour, as acquired", "tumour, registered"]
    assert names["job"].cancelled
    assert said.rstrip().endswith("cancelled")
