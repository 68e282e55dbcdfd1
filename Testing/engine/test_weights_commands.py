"""`foundation-registration weights` as a user or a program meets it."""

import argparse
import json
import subprocess
import sys

import pytest
import torch
from weight_server import serving

from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.cli.weights import add_weights_arguments, weights_command
from FoundationRegistrationLib.runtime.interruption import Interruption
from FoundationRegistrationLib.weights import WeightsEntry, catalogue

NAME = "dinov2-vits14"


@pytest.fixture(autouse=True)
def downloads(tmp_path, monkeypatch):
    monkeypatch.setenv("FOUNDATION_REGISTRATION_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FOUNDATION_REGISTRATION_WEIGHTS", raising=False)
    return tmp_path / "cache" / "weights"


@pytest.fixture
def present(downloads):
    """Weights that lie in the download folder."""
    downloads.mkdir(parents=True)
    path = downloads / catalogue()[NAME].filename
    torch.save({"weight": torch.zeros(3)}, path)
    return path


def run(*words):
    return main(["weights", *words])


def test_the_list_tells_what_is_there_and_how_to_get_the_rest(present, capsys):
    assert run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line for line in lines if not line.startswith(" ")}
    assert rows.keys() == catalogue().keys()
    assert "present" in rows[NAME]
    assert "download" in rows["sam-vit-b"]
    assert "by browser" in rows["mri-core"]
    assert "to be accepted" in rows["dinov3-vits16"]


def test_the_list_for_programs(present, capsys):
    assert run("list", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows[NAME]["path"] == str(present)
    assert rows["sam-vit-h"]["path"] is None
    assert rows["sam-vit-h"]["size_bytes"] > 2e9
    assert not rows["dinov3-vitb16"]["license_accepted"]


def test_the_list_needs_no_torch():
    program = "import sys; from FoundationRegistrationLib.cli.main import main; main(['weights', 'list'])"
    program += "; assert not {'torch', 'timm', 'SimpleITK', 'requests'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_path_tells_the_folder_and_the_file(present, downloads, capsys):
    assert run("path") == 0
    assert run("path", NAME) == 0
    assert capsys.readouterr().out.splitlines() == [str(downloads), str(present)]
    assert run("path", "sam-vit-b") == 2
    assert "weights download sam-vit-b" in capsys.readouterr().err


def test_verify_goes_through_all_that_is_there(present, downloads, capsys):
    assert run("verify") == 0
    assert str(present) in capsys.readouterr().out
    (downloads / "sam_vit_b_01ec64.pth").write_bytes(present.read_bytes())
    assert run("verify") == 2
    captured = capsys.readouterr()
    assert str(present) in captured.out
    assert "sam-vit-b" in captured.err
    assert run("verify", NAME, "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["path"] == str(present)
    assert run("verify", "sam-vit-h") == 2


def test_remove_deletes_and_says_so(present, capsys):
    assert run("remove", NAME) == 0
    assert str(present) in capsys.readouterr().out
    assert not present.exists()
    assert run("remove", NAME) == 0
    assert "nothing" in capsys.readouterr().out


@pytest.mark.parametrize("action", ["download", "verify", "remove", "path"])
def test_an_unknown_name_ends_with_2_and_the_names_there_are(action, capsys):
    assert run(action, "sam-vit-x") == 2
    error = capsys.readouterr().err
    assert "sam-vit-b" in error
    assert error.count("\n") == 1 or action == "download"


def test_a_licence_is_shown_and_accepted_on_the_command_line(downloads, capsys):
    assert run("download", "dinov3-vits16", "--progress", "none") == 2
    shown = capsys.readouterr().err
    assert "DINOv3 License" in shown
    assert "--accept-license" in shown
    assert run("download", "dinov3-vits16", "--progress", "none", "--accept-license") == 2
    assert "publisher's permission" in capsys.readouterr().err
    assert run("list") == 0
    assert "DINOv3 License, accepted" in capsys.readouterr().out


def test_errors_come_as_a_line_for_programs(capsys):
    assert run("download", "medclip-sam", "--progress", "json") == 2
    event = json.loads(capsys.readouterr().out)
    assert event["event"] == "error"
    assert "browser" in event["message"]


def test_a_download_prints_where_the_file_is(present, downloads, capsys):
    content = present.read_bytes()
    parser = argparse.ArgumentParser()
    add_weights_arguments(parser)
    with serving(content) as server, Interruption() as interruption:
        entry = WeightsEntry("net", "A net", "net.pth", server.url, "MIT", "https://example.org", "nobody")
        for words in (["download", "net"], ["path", "net"], ["verify", "net"], ["remove", "net"]):
            weights_command(parser.parse_args(words), lambda event: None, interruption, {"net": entry})
            assert str(downloads / "net.pth") in capsys.readouterr().out
    assert not (downloads / "net.pth").exists()
