"""Landmark files: every format, both coordinate systems, and what a user may get wrong."""

import json

import numpy as np
import pytest

from FoundationRegistrationLib.errors import InputError, OutputError
from FoundationRegistrationLib.io.landmark_files import read_points, write_points
from FoundationRegistrationLib.io.landmarks import Landmarks, paired

POINTS = np.array([[1.5, -2.25, 3.0], [1 / 3, 1e-7, -400.0], [-7.0, 8.0, 9.5]])
NAMES = ("nipple, left", 'the "dark" one', "")
LANDMARKS = Landmarks(NAMES, POINTS)
ALL = pytest.mark.parametrize("extension", [".csv", ".fcsv", ".mrk.json"])
COLUMNS = "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"


def file(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def markups(tmp_path, points, name="points.mrk.json", **properties):
    markup = {"type": "Fiducial", "controlPoints": points, **properties}
    return file(tmp_path, name, json.dumps({"@schema": "…/markups-schema-v1.0.3.json#", "markups": [markup]}))


# ---- round trips ----


@ALL
def test_what_is_written_is_read_back_exactly(tmp_path, extension):
    path = tmp_path / f"my points.v2{extension}"
    write_points(path, LANDMARKS)
    again = read_points(path)
    assert again.names == NAMES
    assert np.array_equal(again.points, POINTS)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@ALL
def test_a_line_break_in_a_name_does_not_break_the_file(tmp_path, extension):
    path = tmp_path / f"points{extension}"
    write_points(path, Landmarks(("# first\nline", "b"), POINTS[:2]))
    assert np.array_equal(read_points(path).points, POINTS[:2])


def test_the_files_say_that_they_are_lps(tmp_path):
    for extension in (".csv", ".fcsv", ".mrk.json"):
        write_points(tmp_path / f"p{extension}", LANDMARKS)
    fcsv = (tmp_path / "p.fcsv").read_text().splitlines()
    assert fcsv[0].startswith("# Markups fiducial file version = ")
    assert fcsv[1:3] == ["# CoordinateSystem = LPS", COLUMNS]
    assert all(len(line.split(",")) == 14 for line in fcsv[4:])
    content = json.loads((tmp_path / "p.mrk.json").read_text())
    assert content["@schema"].endswith("markups-schema-v1.0.3.json#")
    assert content["markups"][0]["coordinateSystem"] == "LPS"
    assert content["markups"][0]["coordinateUnits"] == "mm"
    assert content["markups"][0]["controlPoints"][0]["position"] == [1.5, -2.25, 3.0]
    assert (tmp_path / "p.csv").read_text().splitlines()[1].endswith(",LPS")


# ---- CSV ----


@pytest.mark.parametrize(
    "text",
    [
        "1.5,-2.25,3\n-7,8,9.5\n",
        "x,y,z\n1.5,-2.25,3\n-7,8,9.5\n",
        "\ufeffLabel;Z;Y;X\r\na;3;-2.25;1.5\r\n\r\nb;9.5;8;-7\r\n",
        "# made by hand\nname\tx\ty\tz\na\t1.5\t-2.25\t3\nb\t-7\t8\t9.5\n",
        "label,r,a,s,defined\na,-1.5,2.25,3,1\nnot placed,0,0,0,0\nb,7,-8,9.5,1\n",
        "label,l,p,s\na,1.5,-2.25,3\nb,-7,8,9.5\n",
        "x,y,z,space\n-1.5,2.25,3,RAS\n7,-8,9.5,ras\n",
        "# CoordinateSystem = RAS\nx,y,z,name\n-1.5,2.25,3,a\n7,-8,9.5,b\n",
        "# coordinate system: RAS\n-1.5,2.25,3\n7,-8,9.5\n",
        "x,y,z,coordinateSystem\n-1.5,2.25,3,RAS\n7,-8,9.5,RAS\n",
        "id\tx\ty\tz\n\t1.5\t-2.25\t3\n2\t-7\t8\t9.5\n",
        'x,y,z,remark\n1.5,-2.25,3,"a quote that is not closed\n-7,8,9.5,\n',
    ],
)
def test_csv_variants_give_the_same_lps_points(tmp_path, text):
    points = read_points(file(tmp_path, "points.csv", text))
    assert np.array_equal(points.points, POINTS[[0, 2]])
    assert points.names in (("a", "b"), ("", ""))


# ---- fcsv ----


@pytest.mark.parametrize(
    ("version", "space", "in_ras"),
    [
        ("4.10", "0", True),
        ("4.10", "1", False),
        ("4.11", "RAS", True),
        ("5.6", "LPS", False),
        ("5.6", None, True),
    ],
)
def test_fcsv_coordinate_system_is_honoured(tmp_path, version, space, in_ras):
    header = [f"# Markups fiducial file version = {version}"]
    header += [f"# CoordinateSystem = {space}"] if space else []
    rows = [
        "vtkMRMLMarkupsFiducialNode_0,10,20,30,0,0,0,1,1,1,0,F-1,,vtkMRMLScalarVolumeNode1",
        '2,-1,-2,-3,0,0,0,1,1,1,0,"a, b",,',
    ]
    points = read_points(file(tmp_path, "p.fcsv", "\n".join([*header, COLUMNS, *rows]) + "\n"))
    sign = np.array([-1, -1, 1]) if in_ras else 1
    assert np.array_equal(points.points, np.array([[10.0, 20, 30], [-1, -2, -3]]) * sign)
    assert points.names == ("F-1", "a, b")


def test_fcsv_of_slicer_5_leaves_out_points_that_were_not_placed(tmp_path):
    rows = ["1,1,2,3,0,0,0,1,1,1,0,A,,,2,0", "2,0,0,0,0,0,0,1,1,1,0,B,,,0,0"]
    text = "\n".join(["# CoordinateSystem = LPS", COLUMNS, *rows])
    assert read_points(file(tmp_path, "p.fcsv", text)).names == ("A",)


def test_fcsv_of_slicer_3_has_other_columns(tmp_path):
    text = "# columns = label,x,y,z,sel,vis\nliver,1,2,3,1,1\n"
    points = read_points(file(tmp_path, "p.fcsv", text))
    assert points.names == ("liver",)
    assert np.array_equal(points.points, [[-1, -2, 3]])


# ---- mrk.json ----


@pytest.mark.parametrize(("space", "sign"), [("LPS", 1), ("RAS", (-1, -1, 1))])
def test_markups_in_either_space(tmp_path, space, sign):
    path = markups(
        tmp_path,
        [
            {"label": "a", "position": [10, 20, 30], "positionStatus": "defined"},
            {"label": "unset", "position": "", "positionStatus": "undefined"},
            {"label": "hover", "position": [1, 1, 1], "positionStatus": "preview"},
            {"label": "b", "position": [1, 2, 3]},
        ],
        coordinateSystem=space,
    )
    points = read_points(path)
    assert points.names == ("a", "b")
    assert np.array_equal(points.points, np.array([[10.0, 20, 30], [1, 2, 3]]) * sign)


# ---- mistakes ----


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.csv", "", "no point"),
        ("p.csv", "x,y,z\n", "no point"),
        ("p.csv", "x,y,z\n1,2,three\n", "line 2"),
        ("p.csv", "x,y,z\n1,2\n", "line 2"),
        ("p.csv", "x,y,z\n1,2,nan\n", "not three numbers"),
        ("p.csv", "1,2,3\n1,2\n", "line 2"),
        ("p.csv", "1;2,5;3\n", "decimal point"),
        ("p.csv", "x,y,z\n1,5,2,5,3,5\n", "line 2 has more cells .* decimal point"),
        ("p.csv", "x,y,z,name\n1,2,3,tumour, left\n", "line 2 has more cells .* quotation marks"),
        ("p.csv", "x,y,z,X\n1,2,3,4\n", "column x twice"),
        ("p.fcsv", "# CoordinateSystem = LPS\n1,1,5,2,5,3,5,0,0,0,1,1,1,0,A,,\n", "line 2 has more cells"),
        ("p.csv", "a,b,c\n1,2,3\n", "no columns x, y, z"),
        ("p.csv", "x,y,z,space\n1,2,3,LPS\n1,2,3,RAS\n", "mixes"),
        ("p.csv", "x,y,z,space\n1,2,3,MNI\n", "LPS or RAS"),
        ("p.csv", "# CoordinateSystem = RAS\nx,y,z,space\n1,2,3,LPS\n", "mixes"),
        ("p.csv", f"x,y,z,name\n1,2,3,{'n' * 140_000}\n", "cannot be read"),
        ("p.fcsv", "# CoordinateSystem = LPS\n", "no point"),
        ("p.fcsv", "# CoordinateSystem = IJK\n1,1,2,3\n", "'IJK'"),
        ("p.fcsv", "# CoordinateSystem = 0\n# CoordinateSystem = LPS\n1,1,2,3\n", "mixes"),
        ("p.fcsv", "# CoordinateSystem = 0\n1,1,two,3\n", "line 2"),
        ("p.mrk.json", "{not json", "not a Slicer markups file"),
        ("p.mrk.json", '{"points": []}', "not a Slicer markups file"),
        (
            "p.mrk.json",
            '{"markups": [{"type": "ROI", "controlPoints": [{"position": [1, 2, 3]}]}]}',
            "a region of interest",
        ),
        (
            "p.mrk.json",
            '{"markups": [{"type": "Line"}, {"type": "Plane", "controlPoints": []}]}',
            "holds a line and a plane, not points",
        ),
        ("p.txt", "1,2,3", r"use \.csv"),
        ("p.json", "{}", r"\.mrk\.json"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, name, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read_points(file(tmp_path, name, text))
    assert "\n" not in str(caught.value)


def test_half_a_character_in_a_name_is_replaced(tmp_path):
    point = {"label": "p\ud800", "position": [1.0, 2.0, 3.0]}
    text = json.dumps({"markups": [{"type": "Fiducial", "controlPoints": [point]}]})
    points = read_points(file(tmp_path, "p.mrk.json", text))
    assert points.names == ("p?",)
    write_points(tmp_path / "again.mrk.json", points)


@pytest.mark.parametrize("position", [[1, 2], "1,2,3", None, 5, [1, 2, "x"]])
def test_a_markup_position_that_is_not_three_numbers_is_refused(tmp_path, position):
    with pytest.raises(InputError, match="point 1"):
        read_points(markups(tmp_path, [{"label": "a", "position": position}]))


def test_markups_of_differing_or_unknown_space_or_unit_are_refused(tmp_path):
    point = {"label": "a", "position": [1, 2, 3]}
    with pytest.raises(InputError, match="'XYZ'"):
        read_points(markups(tmp_path, [point], coordinateSystem="XYZ"))
    with pytest.raises(InputError, match="mm"):
        read_points(markups(tmp_path, [point], coordinateUnits=["um", "UCUM", "micrometer"]))
    lists = [{"type": "Fiducial", "coordinateSystem": space, "controlPoints": [point]} for space in ("LPS", "RAS")]
    with pytest.raises(InputError, match="mixes"):
        read_points(file(tmp_path, "two.mrk.json", json.dumps({"markups": lists})))


def test_a_missing_or_binary_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.csv"):
        read_points(tmp_path / "nowhere.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InputError, match="UTF-8"):
        read_points(tmp_path / "binary.csv")


@ALL
def test_a_failed_write_leaves_nothing_behind(tmp_path, extension):
    taken = tmp_path / f"folder{extension}"
    taken.mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_points(taken, LANDMARKS)
    with pytest.raises(OutputError, match="existing folder"):
        write_points(tmp_path / "missing" / f"p{extension}", LANDMARKS)
    assert list(tmp_path.iterdir()) == [taken]
    assert list(taken.iterdir()) == []


def test_nothing_to_write_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no landmark"):
        write_points(tmp_path / "p.csv", Landmarks((), np.empty((0, 3))))


@pytest.mark.parametrize(
    ("names", "points"),
    [(("a",), [[0, 0, 0], [1, 1, 1]]), (("a",), [[0, 0]]), (("a",), [[0, 0, np.inf]]), (("a",), [0, 0, 0])],
)
def test_landmarks_check_their_shape(names, points):
    with pytest.raises(InputError):
        Landmarks(names, np.array(points))


# ---- pairs ----


def test_shared_names_decide_the_pairs_not_the_order(caplog):
    fixed = Landmarks(("a", "b", "c"), np.arange(9.0).reshape(3, 3))
    moving = Landmarks(("c", "x", "a", "y"), np.arange(12.0).reshape(4, 3) + 100)
    one, other = paired(fixed, moving)
    assert one.names == other.names == ("a", "c")
    assert np.array_equal(one.points, fixed.points[[0, 2]])
    assert np.array_equal(other.points, moving.points[[2, 0]])
    assert "b, x, y" in caplog.text


@pytest.mark.parametrize(
    ("fixed", "moving"),
    [
        (("", ""), ("a", "b")),
        (("F-1", "F-2"), ("M-1", "M-2")),
        (("a", "a"), ("a", "b")),
    ],
)
def test_without_shared_unique_names_the_order_decides(fixed, moving):
    one, other = paired(Landmarks(fixed, POINTS[:2]), Landmarks(moving, POINTS[1:]))
    assert np.array_equal(one.points, POINTS[:2])
    assert np.array_equal(other.points, POINTS[1:])


@ALL
def test_a_point_that_was_not_placed_keeps_its_place_in_the_order(tmp_path, extension):
    """Otherwise the second of three would be paired with the third of the other list."""
    texts = {
        ".csv": "x,y,z,name,defined\n{}",
        ".fcsv": f"# CoordinateSystem = LPS\n{COLUMNS}\n{{}}",
        ".mrk.json": '{{"markups": [{{"type": "Fiducial", "controlPoints": [{}]}}]}}',
    }
    rows = {
        ".csv": "{0},2,3,{1}-{0},{2:d}\n",
        ".fcsv": "{0},{0},2,3,0,0,0,1,1,1,0,{1}-{0},,,{2}\n",
        ".mrk.json": '{{"label": "{1}-{0}", "position": [{0}, 2, 3], "positionStatus": "{2}"}}',
    }
    status = {".csv": (0, 1), ".fcsv": (1, 2), ".mrk.json": ("undefined", "defined")}[extension]
    lists = []
    for side, placed in (("F", (1, 0, 1, 1, 0)), ("M", (1, 1, 1, 0, 0))):
        lines = [rows[extension].format(n, side, status[p]) for n, p in enumerate(placed, start=1)]
        text = texts[extension].format(("," if extension == ".mrk.json" else "").join(lines))
        lists.append(read_points(file(tmp_path, f"{side}{extension}", text)))
    fixed, moving = paired(*lists)
    assert fixed.points[:, 0].tolist() == moving.points[:, 0].tolist() == [1, 3]
    assert fixed.names == ("F-1", "F-3")


def test_names_that_contradict_the_order_are_not_overruled_by_it():
    fixed, moving = Landmarks(("a", "a", "b"), POINTS), Landmarks(("a", "b", "c"), POINTS)
    with pytest.raises(InputError, match="'b' is number 3 of the fixed and number 2 of the moving"):
        paired(fixed, moving)


def test_lists_that_cannot_be_paired_are_refused():
    with pytest.raises(InputError, match="3 fixed and 2 moving"):
        paired(LANDMARKS, Landmarks(("", ""), POINTS[:2]))
