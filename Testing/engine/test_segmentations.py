"""Segmentation files: layers, names and fields as 3D Slicer means them, of this and of older versions."""

import dataclasses
import json

import numpy as np
import pytest
import SimpleITK as sitk
from volumes import assert_readable, empty_grid, points_of, rigid_transform

from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.io.paired_labels import paired_labels
from FoundationRegistrationLib.io.segmentation_files import read_segmentation
from FoundationRegistrationLib.io.transforms import write_transform

GRID = sitk.Shrink(empty_grid("oblique"), [2, 2, 2])
BALLS = {"tumour": ((6.0, -4.0, 8.0), 12.0), "node": ((-14.0, 8.0, -6.0), 9.0), "margin": ((6.0, -4.0, 8.0), 18.0)}


def inside(name, grid=GRID):
    center, radius = BALLS[name]
    depth = np.linalg.norm(points_of(grid) - center, axis=1)
    return (depth < radius).reshape(grid.GetSize()[::-1])


def image_of(array, grid=GRID):
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(grid)
    return image


def write(path, layers, segments):
    """Write layers (label maps) and the fields of each segment."""
    image = sitk.Compose(layers) if len(layers) > 1 else sitk.Image(layers[0])
    for number, fields in enumerate(segments):
        for key, value in fields.items():
            image.SetMetaData(f"Segment{number}_{key}", str(value))
    sitk.WriteImage(image, str(path), useCompression=True)
    return path


def labelled(path, values):
    """One layer with a label for each name."""
    array = np.zeros(GRID.GetSize()[::-1], np.uint8)
    for name, value in values.items():
        array[inside(name)] = value
    fields = [{"ID": name, "Name": name, "LabelValue": value, "Layer": 0} for name, value in values.items()]
    return write(path, [image_of(array)], fields)


def layered(path, names, old=False):
    """A layer for each name; old versions of Slicer say neither layer nor value."""
    layers = [image_of(inside(name).astype(np.uint8)) for name in names]
    fields = [
        {"ID": name, "Name": name, **({} if old else {"LabelValue": 1, "Layer": number})}
        for number, name in enumerate(names)
    ]
    return write(path, layers, fields)


def masks(paired):
    """What stands for each name on the two sides."""
    names = {value: name for name, value in paired.values.items()}
    found = {name: [None, None] for name in names.values()}
    for pair in paired.pairs:
        for side, image in enumerate(pair):
            array = sitk.GetArrayFromImage(image)
            for value in np.unique(array[array != 0]).tolist():
                found[names[value]][side] = array == value
    return found


@pytest.mark.parametrize("seed", range(12))
def test_structures_are_paired_by_name_in_any_order_label_or_layer(tmp_path, seed):
    rng = np.random.default_rng(seed)
    sides = []
    for side in ("fixed", "moving"):
        path = tmp_path / f"{side}.seg.nrrd"
        if rng.random() < 0.5:
            names = rng.permutation(list(BALLS)).tolist()
            sides.append(read_segmentation(layered(path, names, old=rng.random() < 0.5), side, []))
        else:
            names = rng.permutation(["tumour", "node"]).tolist()
            values = dict(zip(names, rng.choice(np.arange(1, 9), 2, replace=False).tolist(), strict=True))
            sides.append(read_segmentation(labelled(path, values), side, []))
    paired = paired_labels(*sides, [])
    found = masks(paired)
    for name in ("tumour", "node"):
        for mask in found[name]:
            np.testing.assert_array_equal(mask, inside(name))
    for mask, segmentation in zip(found.get("margin", ()), sides, strict=False):
        assert (mask is not None) == segmentation.overlaps


def test_overlapping_layers_as_a_mask_are_all_that_is_marked(tmp_path):
    mask = read_segmentation(layered(tmp_path / "m.seg.nrrd", list(BALLS), old=True), "fixed mask", []).label_map()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), inside("margin") | inside("node"))


@pytest.mark.parametrize(
    ("fixed", "moving", "words"),
    [
        (("a", "a"), ("a", "b"), "two segments named 'a'"),
        (("a", ""), ("a", "b"), "without a name"),
        (("a", "b"), ("c", "d"), "share no name"),
    ],
)
def test_names_that_cannot_pair_are_refused(tmp_path, fixed, moving, words):
    sides = []
    for side, names in (("fixed", fixed), ("moving", moving)):
        array = np.zeros(GRID.GetSize()[::-1], np.uint8)
        array[2:5], array[6:9] = 1, 2
        fields = [{"ID": "x", "Name": name, "LabelValue": n, "Layer": 0} for n, name in enumerate(names, start=1)]
        path = write(
            tmp_path / f"{side}.seg.nrrd",
            [image_of(array)],
            [{k: v for k, v in f.items() if v != ""} for f in fields],
        )
        sides.append(read_segmentation(path, side, []))
    with pytest.raises(InputError, match=words) as error:
        paired_labels(*sides, [])
    assert_readable(error)


def test_names_that_differ_in_case_and_blanks_belong_together_unless_another_is_the_same(tmp_path):
    def read(side, values):
        return read_segmentation(labelled(tmp_path / f"{side}.seg.nrrd", values), side, [])

    # `labelled` draws a ball by its name, so the segments are renamed afterwards.
    def renamed(segmentation, names):
        segments = [
            dataclasses.replace(each, fields={**each.fields, "Name": names[each.name]})
            for each in segmentation.segments
        ]
        return dataclasses.replace(segmentation, segments=tuple(segments))

    fixed = renamed(read("fixed", {"tumour": 1, "node": 2}), {"tumour": "Left breast", "node": "Lesion"})
    moving = read("moving", {"tumour": 4, "node": 3})
    messages = []
    paired = paired_labels(fixed, renamed(moving, {"tumour": "left  BREAST ", "node": "Lesion"}), messages)
    assert set(paired.values) == {"Left breast", "Lesion"}
    for mask, name in zip(paired.moving.masks().values(), ("tumour", "node"), strict=True):
        np.testing.assert_array_equal(sitk.GetArrayFromImage(mask) != 0, inside(name))
    assert messages == ["Paired although their names are spelt differently: 'left  BREAST ' with 'Left breast'."]
    paired = paired_labels(fixed, renamed(moving, {"tumour": "lesion ", "node": "Lesion"}), [])
    assert set(paired.values) == {"Left breast", "Lesion", "lesion "}


def test_names_on_one_side_only_are_said(tmp_path):
    named = read_segmentation(labelled(tmp_path / "a.seg.nrrd", {"tumour": 2, "node": 5}), "fixed", [])
    plain = np.where(inside("tumour"), 2, 0).astype(np.uint8)
    sitk.WriteImage(image_of(plain), str(tmp_path / "b.nii.gz"))
    messages = []
    paired = paired_labels(named, read_segmentation(tmp_path / "b.nii.gz", "moving", []), messages)
    [(fixed, moving)] = paired.pairs
    assert set(np.unique(sitk.GetArrayFromImage(fixed))) == {0, 2, 5}
    np.testing.assert_array_equal(sitk.GetArrayFromImage(moving), plain)
    assert "label values" in messages[0]
    overlapping = read_segmentation(layered(tmp_path / "c.seg.nrrd", list(BALLS)), "fixed", [])
    with pytest.raises(InputError, match=r"give a \.seg\.nrrd for both"):
        paired_labels(overlapping, read_segmentation(tmp_path / "b.nii.gz", "moving", []), [])


@pytest.mark.parametrize("shift", [(3, 2, 1), (-4, 0, 2), (0, 0, 0)])
def test_a_part_is_put_on_the_grid_of_its_volume(tmp_path, shift):
    """Also where the part reaches beyond the volume: that is said."""
    labels = read_segmentation(labelled(tmp_path / "a.seg.nrrd", {"tumour": 1, "node": 2}), "fixed mask", [])
    whole = sitk.Image([size + 5 for size in GRID.GetSize()], sitk.sitkInt16)
    whole.SetSpacing(GRID.GetSpacing())
    whole.SetDirection(GRID.GetDirection())
    whole.SetOrigin(GRID.TransformContinuousIndexToPhysicalPoint([-float(step) for step in shift]))
    messages = []
    placed = labels.on_grid_of(whole, "fixed mask", messages).label_map()
    assert placed.GetSize() == whole.GetSize()
    expected = {1: inside("tumour") & ~inside("node"), 2: inside("node")}
    index = [np.argwhere(mask)[:, ::-1] + shift for mask in expected.values()]
    for value, places in zip(expected, index, strict=True):
        kept = places[(places >= 0).all(axis=1)]
        assert (sitk.GetArrayFromImage(placed) == value).sum() == len(kept)
        assert all(placed.GetPixel(place) == value for place in kept[::50].tolist())
    lost = sum((places < 0).any(axis=1).sum() for places in index)
    assert messages == (
        [f"{lost} voxels of the fixed mask lie outside its volume and are discarded."] if lost else []
    )


def test_another_grid_is_left_as_it_is(tmp_path):
    labels = read_segmentation(labelled(tmp_path / "a.seg.nrrd", {"tumour": 1}), "fixed mask", [])
    assert labels.on_grid_of(empty_grid("RAS"), "fixed mask", []) is labels


def test_names_are_said_where_the_file_cannot_keep_them(tmp_path, capsys):
    write_transform(rigid_transform(), tmp_path / "transform.h5")
    write_transform(rigid_transform().GetInverse(), tmp_path / "inverse.h5")
    sitk.WriteImage(GRID, str(tmp_path / "reference.nrrd"))
    command = ["apply", str(tmp_path), "--reference", str(tmp_path / "reference.nrrd"), "--labels"]
    flat, over = labelled(tmp_path / "f.seg.nrrd", {"tumour": 4}), layered(tmp_path / "o.seg.nrrd", list(BALLS))
    assert main([*command, str(flat), "--output", str(tmp_path / "f.nii.gz")]) == 0
    assert "4 = tumour" in capsys.readouterr().err
    assert main([*command, str(over), "--output", str(tmp_path / "o.nii.gz")]) == 2
    assert ".seg.nrrd" in capsys.readouterr().err
    assert not (tmp_path / "o.nii.gz").exists()
    assert main([*command, str(over), "--output", str(tmp_path / "carried.seg.nrrd")]) == 0
    assert b"kinds: list domain domain domain" in (tmp_path / "carried.seg.nrrd").read_bytes()
    again = read_segmentation(tmp_path / "carried.seg.nrrd", "label map", [])
    assert [(segment.name, segment.layer) for segment in again.segments] == [
        (name, n) for n, name in enumerate(BALLS)
    ]


def test_the_same_labels_and_names_give_the_same_figures(tmp_path, capsys):
    """Overlapping segments are measured one by one; the same structures in one layer give the same numbers."""
    write_transform(rigid_transform(), tmp_path / "transform.h5")
    command = ["evaluate", str(tmp_path), "--json", "--fixed-labels"]
    flat, over = (
        labelled(tmp_path / "f.seg.nrrd", {"node": 3, "tumour": 7}),
        layered(tmp_path / "o.seg.nrrd", list(BALLS)),
    )
    figures = []
    for fixed in (flat, over):
        assert main([*command, str(fixed), "--moving-labels", str(flat)]) == 0
        rows = json.loads(capsys.readouterr().out)["labels"]["labels"]
        figures.append({row["name"]: row["dice_after"] for row in rows})
    assert figures[0] == {name: figures[1][name] for name in ("tumour", "node")}
    assert figures[1]["margin"] == 0.0
    assert 0.2 < figures[0]["tumour"] < 0.95
