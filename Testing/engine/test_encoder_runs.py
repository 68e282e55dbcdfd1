"""Whole registrations with every encoder whose weights are not to be had here, from random official checkpoints.

What they give is of no use; that they run from file to transform, and say what they ran with, is.
"""

import dataclasses
import hashlib
import sys

import checkpoints
import numpy as np
import pytest
import safetensors.torch
import SimpleITK as sitk
import timm
import torch
from small_runs import small_pair

from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.encoders import encoder_info, encoders
from FoundationRegistrationLib.weights import accept_license, catalogue

# name: (maker of the checkpoint, pixels of the input)
RUNS = {
    "sam": (checkpoints.sam, 112),
    "sam-vit-l": (lambda: checkpoints.sam("vit_l"), 64),
    "medsam": (checkpoints.sam, 112),
    "sslsam": (lambda: checkpoints.sam_encoder(prefix="module."), 112),
    "mri-core": (checkpoints.mri_core, 112),
    "dinov2": (lambda: checkpoints.dinov2(384), 112),
    "dinov2-vits14-reg": (lambda: checkpoints.dinov2(384, registers=True), 112),
    "dinov2-vitb14": (lambda: checkpoints.dinov2(768), 112),
    "dinov2-vitb14-reg": (lambda: checkpoints.dinov2(768, registers=True), 112),
    "dinov2-vitl14": (lambda: checkpoints.dinov2(1024, depth=24), 56),
    "dinov2-vitl14-reg": (lambda: checkpoints.dinov2(1024, depth=24, registers=True), 56),
    "dinov3": (lambda: checkpoints.dinov3(384, 6), 112),
    "dinov3-vitb16": (lambda: checkpoints.dinov3(768, 12), 112),
    "medclip-sam": (checkpoints.biomedclip, 112),
    "anatomix": (checkpoints.anatomix, 0),
    "anatomix-mind": (checkpoints.anatomix, 0),
    "anatomix-dev": (lambda: checkpoints.anatomix(checkpoints.ANATOMIX_DEV), 0),
}
TOO_LARGE_HERE = {"sam-vit-h"}  # 2.5 GB; its names and shapes are tested with SAM's


@pytest.fixture(scope="module")
def pair():
    return small_pair()


@pytest.fixture(autouse=True)
def published(monkeypatch, tmp_path):
    """Licences are accepted, and random values may have the publishers' names, whose checksums they cannot have."""
    monkeypatch.setenv("FOUNDATION_REGISTRATION_CACHE", str(tmp_path / "cache"))
    accept_license("dinov3-vits16")
    entries = {name: dataclasses.replace(entry, checksum=None) for name, entry in catalogue().items()}
    monkeypatch.setattr(sys.modules["FoundationRegistrationLib.weights.catalogue"], "catalogue", lambda: entries)


def run(pair, name, weights, size):
    settings = Settings(
        encoder=name,
        weights=str(weights),
        input_size=size,
        device="cpu",
        precision="float32",
        initialization="none",
        working_spacing_mm=5.0,
        slice_gap=24,
        grid_spacing=4,
        iterations=2,
        feature_cache_gb=0.0,
    )
    return register(*pair, settings)


def test_every_encoder_with_a_checkpoint_is_run():
    with_files = {name for name, info in encoders().items() if info.weights}
    assert set(RUNS) | TOO_LARGE_HERE == with_files


@pytest.mark.parametrize("name", RUNS)
def test_it_registers_from_its_official_checkpoint(pair, tmp_path, name):
    make, size = RUNS[name]
    entry = catalogue()[encoder_info(name).weights[-1]]
    torch.save(make(), tmp_path / entry.filename)
    if name == "sslsam":
        torch.save(checkpoints.sam(), tmp_path / "sam_vit_b_01ec64.pth")
    result = run(pair, name, tmp_path, size)  # a folder with the publisher's file, as a hospital would keep it
    assert result.warped.GetSize() == pair[0].GetSize()
    assert np.isfinite(sitk.GetArrayViewFromImage(result.displacement)).all()
    assert np.isfinite(result.transform.TransformPoint((1.0, 2.0, 3.0))).all()
    explained = result.metrics["explained_variance"][name]
    if encoder_info(name).kind == "slice":
        assert len(explained) == encoder_info(name).components
        assert 0 < sum(explained) <= 1 + 1e-6
    digest = hashlib.sha256((tmp_path / entry.filename).read_bytes()).hexdigest()
    assert digest in result.record["weights_sha256"][name]


def test_a_backbone_of_timm_registers_from_its_file(pair, tmp_path):
    network = timm.create_model("resnet10t", pretrained=False)
    state = {key: value.clone().contiguous() for key, value in network.state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    result = run(pair, "timm:resnet10t", tmp_path, 0)
    assert np.isfinite(sitk.GetArrayViewFromImage(result.displacement)).all()
    assert result.record["settings"]["encoder"] == "timm:resnet10t"
