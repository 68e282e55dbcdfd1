"""A result in a notebook: it shows itself, is saved as the command saves it, and carries what belongs to it."""

import base64
import dataclasses
import json
import logging
import os
import re
from html.parser import HTMLParser

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from faults import largest_file
from volumes import (
    assert_readable,
    body_depth,
    body_points,
    empty_grid,
    on_grid,
    points_of,
    rigid_motion,
    rigid_transform,
    smooth_warp,
    through,
    volume,
)

from FoundationRegistrationLib import (
    InputError,
    OutputError,
    Settings,
    array_from_volume,
    evaluate_label_maps,
    read_volume,
    register,
)
from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.io.landmark_files import write_points
from FoundationRegistrationLib.io.landmarks import Landmarks
from FoundationRegistrationLib.pipeline.assessment.verdict import Verdict

COARSE = ("--encoder", "mind", "--working-spacing-mm", "5", "--iterations", "10", "--fluid-iterations", "0")
COARSE += ("--device", "cpu", "--feature-cache-gb", "0", "--progress", "none")
SETTINGS = Settings(
    encoder="mind", device="cpu", working_spacing_mm=5.0, iterations=10, fluid_iterations=0,
    feature_cache_gb=0.0,
)  # fmt: skip


def motion(points):
    return rigid_motion(smooth_warp(points))


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A pair in files with a mask, labels, landmarks and the start that brings it near."""
    folder = tmp_path_factory.mktemp("case")
    grids = {"fixed": empty_grid("oblique"), "moving": empty_grid("sagittal", (3, -2, 4))}
    points = {"fixed": body_points(motion)[::20]}
    points["moving"] = motion(points["fixed"])
    for side, grid in grids.items():
        sitk.WriteImage(volume(grid, motion if side == "fixed" else None), str(folder / f"{side}.nii.gz"))
        anatomical = points_of(grid) if side == "moving" else motion(points_of(grid))
        inner = np.uint8(body_depth(anatomical) > 6.0) + np.uint8(body_depth(anatomical) > 14.0)
        sitk.WriteImage(on_grid(inner, grid), str(folder / f"{side}_labels.nrrd"))
        write_points(folder / f"{side}.mrk.json", Landmarks(("",) * len(points[side]), points[side]))
    mask = sitk.Cast(read_volume(folder / "fixed.nii.gz") > 50.0, sitk.sitkUInt8)
    sitk.WriteImage(mask, str(folder / "mask.nrrd"))
    sitk.WriteTransform(rigid_transform(), str(folder / "rigid.tfm"))
    return folder


@pytest.fixture(scope="module")
def result(case):
    return register(
        read_volume(case / "fixed.nii.gz"),
        read_volume(case / "moving.nii.gz"),
        SETTINGS,
        fixed_mask=sitk.ReadImage(str(case / "mask.nrrd")),
        initial_transform=sitk.ReadTransform(str(case / "rigid.tfm")),
        preview_features=True,
    )


def known(case):
    """Labels and landmarks as the result takes them: an image, one of nibabel, points, an array of points."""
    moving = sitk.ReadImage(str(case / "moving_labels.nrrd"))
    fixed_points = body_points(motion)[::20]
    return {
        "fixed_labels": sitk.ReadImage(str(case / "fixed_labels.nrrd")),
        "moving_labels": nibabel.Nifti1Image(*array_from_volume(sitk.Cast(moving, sitk.sitkFloat32))),
        "fixed_landmarks": Landmarks(("",) * len(fixed_points), fixed_points),
        "moving_landmarks": motion(fixed_points),
    }


def command(case, output, *options):
    start = ["register", str(case / "fixed.nii.gz"), str(case / "moving.nii.gz"), "--output", str(output)]
    return main([*start, *map(str, options)])


def report_of(folder):
    return json.loads((folder / "report.json").read_text("utf-8"))


def test_save_writes_what_the_command_writes(case, result, tmp_path):
    ours, theirs = tmp_path / "python", tmp_path / "command"
    result.save(ours, **known(case), maps=True)
    options = ["--fixed-mask", case / "mask.nrrd", "--initial-transform", case / "rigid.tfm", "--maps"]
    for side in ("fixed", "moving"):
        options += [
            f"--{side}-labels",
            case / f"{side}_labels.nrrd",
            f"--{side}-landmarks",
            case / f"{side}.mrk.json",
        ]
    assert command(case, theirs, *COARSE, *options, "--feature-preview") == 0
    names = {path.name for path in theirs.iterdir()}
    assert {path.name for path in ours.iterdir()} == names
    assert len(names) == 10
    for name in names - {"report.json", "overview.png"}:
        if name.endswith(".h5"):
            forward, other = (sitk.ReadTransform(str(folder / name)) for folder in (ours, theirs))
            points = body_points(motion)
            np.testing.assert_allclose(through(forward, points), through(other, points), rtol=0, atol=1e-9)
        else:
            assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    pictures = [sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "overview.png"))) for folder in (ours, theirs)]
    assert pictures[0].shape == pictures[1].shape
    assert np.mean(pictures[0] != pictures[1]) < 0.01  # the seconds it took
    saved, written = report_of(ours), report_of(theirs)
    assert list(saved) == list(written)
    for key in set(written) - {"made", "timings_seconds", "peak_memory_bytes", "inputs", "evaluation", "start"}:
        assert saved[key] == written[key], key
    assert saved["evaluation"]["labels"] == written["evaluation"]["labels"]
    assert saved["evaluation"]["labels"]["mean_dice_after"] > 0.8
    for stage in ("before", "after"):
        errors = (report["evaluation"]["landmarks"][f"tre_mm_{stage}"]["each"] for report in (saved, written))
        np.testing.assert_allclose(*errors, atol=1e-3)  # the file holds a few digits
    for role in ("fixed", "moving", "fixed_mask"):
        assert saved["inputs"][role]["content_sha256"] == written["inputs"][role]["content_sha256"], role
    assert saved["start"]["matrix"] == written["start"]["matrix"]
    assert saved["start"]["kind"] == written["start"]["kind"] == "given transform"


def test_a_saved_run_is_repeated_by_the_command_and_another_volume_is_noticed(case, result, tmp_path, capsys):
    result.save(tmp_path / "saved")
    again = ("--settings", tmp_path / "saved" / "report.json", "--fixed-mask", case / "mask.nrrd")
    assert command(case, tmp_path / "again", *again, "--progress", "none") == 0
    assert "does not repeat" not in capsys.readouterr().err
    points = body_points(motion)
    repeated = sitk.ReadTransform(str(tmp_path / "again" / "transform.h5"))
    np.testing.assert_allclose(through(repeated, points), through(result.transform, points), rtol=0, atol=1e-6)
    other = ["register", str(case / "fixed.nii.gz"), str(case / "fixed.nii.gz"), "--output", str(tmp_path / "other")]
    assert main([*other, *map(str, again), "--progress", "none"]) == 0
    assert "the moving differs." in capsys.readouterr().err


def test_save_replaces_an_earlier_run_and_keeps_what_is_not_of_it(result, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "jacobian.nii.gz").write_text("of an earlier run")
    result.save(str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {
        "transform.h5", "inverse.h5", "initial_transform.h5", "warped.nii.gz", "features_fixed.nii.gz",
        "features_moving.nii.gz", "report.json", "overview.png", "notes.txt",
    }  # fmt: skip
    warped = read_volume(tmp_path / "warped.nii.gz")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(warped), sitk.GetArrayFromImage(result.warped))


def refusals(case):
    given = known(case)
    fixed, moving = given["fixed_labels"], given["moving_labels"]
    return {
        "fixed_labels and moving_labels": {"fixed_labels": fixed},
        "fixed_landmarks and moving_landmarks": {"moving_landmarks": given["moving_landmarks"]},
        "grid of the moving": {"fixed_labels": fixed, "moving_labels": fixed},
        "is empty": {"fixed_labels": fixed * 0, "moving_labels": moving},
        "fractions": {"fixed_labels": sitk.Cast(fixed, sitk.sitkFloat32) * 0.4, "moving_labels": moving},
        "read_volume": {"fixed_labels": str(case / "fixed_labels.nrrd"), "moving_labels": moving},
        "N, 3": {"fixed_landmarks": np.zeros((4, 2)), "moving_landmarks": np.zeros((4, 2))},
        "paired": {"fixed_landmarks": np.zeros((4, 3)), "moving_landmarks": np.zeros((5, 3))},
    }


def test_what_cannot_be_measured_is_refused_before_anything_is_written(case, result, tmp_path):
    for word, given in refusals(case).items():
        with pytest.raises(InputError, match=word) as error:
            result.save(tmp_path / "result", **given)
        assert_readable(error)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused(result, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError):
        result.save(tmp_path / "file" / "folder")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
@pytest.mark.parametrize("limit", [0, 3000, 60000])
def test_a_full_disk_leaves_the_earlier_run_whole(result, tmp_path, limit, capfd):
    (tmp_path / "report.json").write_text("of an earlier run")
    with largest_file(limit), pytest.raises(OutputError):
        result.save(tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("report.json", "of an earlier run")]


class Shown(HTMLParser):
    """Elements in their order, and the text in them."""

    def __init__(self, page):
        super().__init__()
        self.seen, self.open = [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.seen.append(("text", data))

    def texts(self, tag):
        return [text for (name, _), (kind, text) in zip(self.seen, self.seen[1:], strict=False) if name == tag]


def test_a_notebook_shows_verdict_and_messages_then_figures_then_the_overview(result, tmp_path):
    messages = ("Spacing of <b> & 'c' is in doubt.", "A lesser note.")
    verdict = Verdict("check", ("It is <i>odd</i>.",))
    result = dataclasses.replace(result, messages=messages, verdict=verdict)
    shown = Shown(result._repr_html_())
    tags = [tag for tag, _ in shown.seen if tag in ("ul", "table", "img")]
    assert tags == ["ul", "table", "img"]
    assert "".join(text for tag, text in shown.seen if tag == "text").startswith(
        "".join(["Verdict: check", *verdict.reasons, *messages])
    )
    figures = dict(zip(shown.texts("th"), shown.texts("td"), strict=True))
    expected, folded = result.metrics["expected_error"], result.metrics["jacobian"]["folded_percent"]
    assert figures["expected error"].startswith(f"{expected['median_mm']:.1f} mm median")
    assert figures["folded"].startswith(f"{folded:.3f} %")
    source = next(attributes["src"] for tag, attributes in shown.seen if tag == "img")
    result.save(tmp_path)
    picture = base64.b64decode(re.fullmatch(r"data:image/png;base64,(.*)", source)[1], validate=True)
    assert picture == (tmp_path / "overview.png").read_bytes()


def test_without_messages_no_empty_list_is_shown(result):
    shown = Shown(dataclasses.replace(result, messages=(), verdict=Verdict("good"))._repr_html_())
    assert [tag for tag, _ in shown.seen if tag in ("ul", "table", "img")] == ["table", "img"]


def test_a_result_prints_as_one_short_line(result):
    line = repr(dataclasses.replace(result, messages=("one", "two")))
    assert re.fullmatch(r"<RegistrationResult: good, preset default, encoder mind, messages: 2>", line)
    assert len(line) < 150


def test_results_can_be_compared_and_kept_in_sets(result):
    other = dataclasses.replace(result)
    assert [other, result].index(result) == 1
    assert len({result, other, result}) == 2


@pytest.mark.parametrize(("space", "signs"), [("RAS", (-1, -1, 1)), ("LPS", (1, 1, 1))])
def test_the_displacement_array_leads_from_fixed_to_moving_points(result, space, signs):
    array, affine = result.displacement_array(space)
    assert array.shape == (*result.displacement.GetSize(), 3)
    for index in np.random.default_rng(1).integers(array.shape[:3], size=(20, 3)).tolist():
        start = (affine @ (*index, 1))[:3]
        there = result.transform.TransformPoint((start * signs).tolist())
        np.testing.assert_allclose(start + array[tuple(index)], np.multiply(there, signs), rtol=0, atol=1e-6)
    with pytest.raises(InputError, match="'RAS' or 'LPS'"):
        result.displacement_array("RPI")


def test_points_go_to_either_side(result):
    fixed = body_points(motion)[::10]
    moving = result.transform_points(fixed, to="moving")
    np.testing.assert_allclose(moving, through(result.transform, fixed), rtol=0, atol=1e-9)
    before, after = (np.linalg.norm(points - motion(fixed), axis=1).mean() for points in (fixed, moving))
    assert after < 0.3 * before
    back = result.transform_points(moving, to="fixed")
    assert np.linalg.norm(back - fixed, axis=1).mean() < 0.1
    with pytest.raises(InputError, match="N, 3") as error:
        result.transform_points(fixed[:, :2], to="fixed")
    assert_readable(error)
    with pytest.raises(InputError, match="must be 'fixed' or 'moving'"):
        result.transform_points(fixed, to="forward")


def test_images_and_labels_go_to_either_side(case, result):
    warped = result.warp_image(nibabel.load(case / "moving.nii.gz"))
    assert warped.GetSize() == result.fixed.GetSize()
    np.testing.assert_allclose(
        sitk.GetArrayFromImage(warped), sitk.GetArrayFromImage(result.warped), rtol=0, atol=1e-3
    )
    labels = {side: sitk.ReadImage(str(case / f"{side}_labels.nrrd")) for side in ("fixed", "moving")}
    for to, source in (("fixed", "moving"), ("moving", "fixed")):
        carried = result.warp_labels(labels[source], to=to)
        assert carried.GetPixelID() == labels[source].GetPixelID()
        found, expected = (sitk.GetArrayFromImage(image) for image in (carried, labels[to]))
        assert set(np.unique(found)) == {0, 1, 2}
        both = np.count_nonzero((found > 0) & (expected > 0))
        assert 2 * both / (np.count_nonzero(found) + np.count_nonzero(expected)) > 0.85
    agreement = evaluate_label_maps(result.transform, labels["fixed"], labels["moving"])
    assert agreement["mean_dice_after"] > agreement["mean_dice_before"] + 0.1


def test_what_is_lost_on_the_way_is_logged(case, result, caplog):
    labels = sitk.ReadImage(str(case / "moving_labels.nrrd"))
    far = sitk.Image(labels)
    far.SetOrigin(np.add(labels.GetOrigin(), 30.0).tolist())
    with caplog.at_level(logging.WARNING):
        result.warp_labels(far)
    assert any("Cut off" in record.getMessage() for record in caplog.records)
    far.SetOrigin(np.add(labels.GetOrigin(), 3000.0).tolist())
    with pytest.raises(InputError, match="does not overlap"):
        result.warp_labels(far)


def test_what_is_in_doubt_of_a_file_is_logged(tmp_path, caplog):
    nibabel.save(nibabel.Nifti1Image(np.arange(60.0).reshape(3, 4, 5), None), tmp_path / "lost.nii")
    messages = []
    with caplog.at_level(logging.WARNING):
        read_volume(tmp_path / "lost.nii", "fixed", messages)
        assert not caplog.records
        read_volume(str(tmp_path / "lost.nii"))
    assert len(messages) == len(caplog.records) == 1
    assert messages[0].removeprefix("The fixed") == caplog.records[0].getMessage().removeprefix("The given")
