"""SAM and its relatives: the same features as `segment_anything` gives, from the official checkpoints, faster.

Relative positions and absolute ones are random here; they are zero in a new network, and then errors would not show.
"""

import dataclasses
import sys
from functools import partial

import checkpoints
import pytest
import torch
import torch.nn.functional as F
from segment_anything.modeling.image_encoder import ImageEncoderViT, window_partition, window_unpartition
from torch import nn

from FoundationRegistrationLib.encoders import build_encoder, encoder_info
from FoundationRegistrationLib.encoders.networks.sam import image_features
from FoundationRegistrationLib.errors import SettingsError, WeightsError
from FoundationRegistrationLib.settings import Settings
from FoundationRegistrationLib.weights import catalogue

CPU = torch.device("cpu")
MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1) / 255
DEVIATION = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1) / 255


def official(size, **changes):
    """The network of `segment_anything` with random values; by default ViT-B."""
    choice = {"embed_dim": 768, "depth": 12, "num_heads": 12, "global_attn_indexes": (2, 5, 8, 11), **changes}
    with torch.device("meta"):
        network = ImageEncoderViT(
            img_size=size,
            use_rel_pos=choice.pop("use_rel_pos", True),
            window_size=14,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            **choice,
        )
    network = network.to_empty(device="cpu")
    state = {name: checkpoints.values(name, tuple(t.shape)) for name, t in network.state_dict().items()}
    gain = (768 / choice["embed_dim"]) ** 0.5  # narrow layers need larger weights to do as much
    network.load_state_dict({name: gain * t if ".attn.qkv.weight" in name else t for name, t in state.items()})
    return network.eval().requires_grad_(False)


def resized(images, size, mean=MEAN, deviation=DEVIATION):
    """Slices as the network sees them."""
    pixels = F.interpolate(images[:, None], size=(size, size), mode="bilinear", antialias=True)
    return (pixels.expand(-1, 3, -1, -1) - mean) / deviation


def noise(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Writes a checkpoint once and returns its path."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def save(name, make):
        path = folder / name
        if not path.exists():
            torch.save(make(), path)
        return path

    return save


@torch.inference_mode()
@pytest.mark.parametrize(
    ("size", "batch", "changes"),
    [
        (1024, 1, {"embed_dim": 96, "num_heads": 3, "depth": 2, "global_attn_indexes": (1,)}),
        (1024, 1, {"embed_dim": 768, "num_heads": 12, "depth": 1, "global_attn_indexes": ()}),
        (480, 2, {"embed_dim": 64, "num_heads": 2, "depth": 4, "global_attn_indexes": (1, 3)}),
        (224, 3, {"embed_dim": 64, "num_heads": 2, "depth": 2, "global_attn_indexes": (1,)}),
        (160, 2, {"embed_dim": 64, "num_heads": 2, "depth": 2, "global_attn_indexes": ()}),
        (480, 1, {"embed_dim": 64, "num_heads": 2, "depth": 2, "use_rel_pos": False}),
    ],
    ids=[
        "full size",
        "ViT-B windows",
        "batch, padded windows",
        "whole windows",
        "less than a window",
        "no positions",
    ],
)
def test_features_equal_those_of_segment_anything(size, batch, changes):
    network = official(size, **changes)
    images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(2))
    expected = network(images)
    found = image_features(network, images)
    assert found.shape == expected.shape == (batch, 256, size // 16, size // 16)
    assert relative_error(found, expected) < 1e-4


@torch.inference_mode()
def test_positions_matter_to_these_features():
    """What the test above could not see, if the positions were zero."""
    network = official(480, embed_dim=64, num_heads=2, depth=2, global_attn_indexes=(1,))
    images = torch.randn(1, 3, 480, 480, generator=torch.Generator().manual_seed(2))
    before = image_features(network, images)
    for block in network.blocks:
        block.attn.rel_pos_w.data = block.attn.rel_pos_w.flip(0)
    assert relative_error(image_features(network, images), before) > 1e-2


@torch.inference_mode()
def test_half_precision_gives_nearly_the_same():
    network = official(480, embed_dim=64, num_heads=2, depth=2, global_attn_indexes=(1,))
    images = torch.randn(1, 3, 480, 480, generator=torch.Generator().manual_seed(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = image_features(network, images)
    assert relative_error(found.float(), image_features(network, images)) < 0.03


def official_at(size, state):
    """ViT-B of `segment_anything` for another size, loaded with a published state of 1024 pixels.

    Its code interpolates the tables of relative positions by itself.
    """
    network = official(size)
    positions = state["pos_embed"].permute(0, 3, 1, 2)
    resampled = F.interpolate(positions, size=(size // 16, size // 16), mode="bilinear").permute(0, 2, 3, 1)
    tables = {name: tensor for name, tensor in state.items() if ".rel_pos_" in name}
    for name, table in tables.items():
        owner, attribute = name.rsplit(".", 1)
        setattr(network.get_submodule(owner), attribute, nn.Parameter(table.clone(), requires_grad=False))
    network.load_state_dict({**state, "pos_embed": resampled}, strict=True)
    return network


@pytest.fixture(scope="module")
def encoder_state():
    state = checkpoints.sam()
    return {n.removeprefix("image_encoder."): t for n, t in state.items() if n.startswith("image_encoder.")}


@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "statistics", "form"),
    [
        ("sam", (MEAN, DEVIATION), "whole"),
        ("sam", (MEAN, DEVIATION), "several devices"),
        ("sam", (MEAN, DEVIATION), "encoder alone"),
        ("medsam", (0.0, 1.0), "whole"),
    ],
)
def test_official_checkpoints_give_the_official_features(saved, encoder_state, name, statistics, form):
    forms = {
        "whole": checkpoints.sam,
        "several devices": lambda: {"model": {f"module.{n}": t for n, t in checkpoints.sam().items()}, "epoch": 7},
        "encoder alone": lambda: encoder_state,
    }
    path = saved(f"{form}.pth", forms[form])
    encoder = build_encoder(Settings(encoder=name, weights=str(path), input_size=240), CPU)
    images = noise(1, 90, 90)
    expected = official_at(240, encoder_state)(resized(images, 240, *statistics))
    found = encoder.encode(images)
    assert found.shape == (1, 256, 15, 15)
    assert relative_error(found, expected) < 1e-3
    assert len(encoder.weights_sha256) == 64


@pytest.fixture
def any_checksum(monkeypatch):
    """Random values cannot have the publisher's checksum; that it is checked is tested with the weights."""
    entries = {name: dataclasses.replace(entry, checksum=None) for name, entry in catalogue().items()}
    monkeypatch.setattr(sys.modules["FoundationRegistrationLib.weights.catalogue"], "catalogue", lambda: entries)


@torch.inference_mode()
@pytest.mark.usefixtures("any_checksum")
def test_sslsam_is_its_encoder_loaded_over_sam(saved, encoder_state):
    """Its checkpoint lacks the neck, which stays SAM's, and has a decoder, which is not used."""
    own = {name: tensor for name, tensor in checkpoints.sam_encoder().items() if "neck" not in name}
    prefixed = {f"module.{name}": tensor for name, tensor in own.items()}
    path = saved("sslsam.pth", lambda: {**prefixed, "module.decoder_pred.weight": torch.zeros(3, 2)})
    saved("sam_vit_b_01ec64.pth", checkpoints.sam)
    settings = Settings(encoder="sslsam", weights=str(path), input_size=240)
    images = noise(1, 90, 90)
    expected = official_at(240, {**encoder_state, **own})(resized(images, 240))
    assert relative_error(build_encoder(settings, CPU).encode(images), expected) < 1e-3
    alone = official_at(240, encoder_state)(resized(images, 240))
    assert relative_error(expected, alone) > 0.1


@pytest.mark.usefixtures("any_checksum")
def test_sslsam_without_sam_beside_it_says_what_is_missing(tmp_path, saved):
    path = saved("sslsam.pth", lambda: checkpoints.sam_encoder(prefix="module."))
    alone = tmp_path / "sslsam.pth"
    alone.write_bytes(path.read_bytes())
    with pytest.raises(WeightsError, match="sam-vit-b"):
        build_encoder(Settings(encoder="sslsam", weights=str(alone), input_size=240), CPU)


def mri_core_reference(state, images):
    """MRI-CORE as its code runs it: no relative positions, windows cut before the normalisation, no neck."""
    network = official(images.shape[-1], use_rel_pos=False)
    state = {name.removeprefix("backbone."): tensor for name, tensor in state.items()}
    side = images.shape[-1] // 16
    positions = state["pos_embed"][:, 1:].reshape(1, 14, 14, 768).permute(0, 3, 1, 2)
    tokens = F.conv2d(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=16)
    tokens = tokens + F.interpolate(positions, size=(side, side), mode="bilinear")
    tokens = tokens.permute(0, 2, 3, 1)
    for index, block in enumerate(network.blocks):
        own = {n.removeprefix(f"blocks.0.{index}."): t for n, t in state.items() if f"blocks.0.{index}." in n}
        block.load_state_dict({name.replace("fc", "lin"): tensor for name, tensor in own.items()})
        if block.window_size:
            windows, padded = window_partition(tokens, block.window_size)
            mixed = window_unpartition(block.attn(block.norm1(windows)), block.window_size, padded, (side, side))
        else:
            mixed = block.attn(block.norm1(tokens))
        tokens = tokens + mixed
        tokens = tokens + block.mlp(block.norm2(tokens))
    return tokens.permute(0, 3, 1, 2)


@torch.inference_mode()
@pytest.mark.parametrize("size", [224, 320])
def test_mri_core_runs_as_its_code_does(saved, size):
    path = saved("MRI_CORE_vitb.pth", checkpoints.mri_core)
    encoder = build_encoder(Settings(encoder="mri-core", weights=str(path), input_size=size), CPU)
    images = noise(1, 70, 70)
    expected = mri_core_reference(checkpoints.mri_core()["teacher"], resized(images, size, 0.0, 1.0))
    found = encoder.encode(images)
    assert found.shape == (1, 768, size // 16, size // 16)
    assert relative_error(found, expected) < 1e-3


@pytest.mark.parametrize("name", ["sam", "mri-core"])
def test_weights_of_another_network_are_named(saved, name):
    path = saved("dinov2.pth", lambda: checkpoints.dinov2(384))
    with pytest.raises(WeightsError, match=f"'{encoder_info(name).weights[0]}'.*ViT-S/14"):
        build_encoder(Settings(encoder=name, weights=str(path), input_size=160), CPU)


@pytest.mark.usefixtures("any_checksum")
def test_another_network_given_as_sslsam_is_named(saved):
    saved("sam_vit_b_01ec64.pth", checkpoints.sam)
    path = saved("dinov2.pth", lambda: checkpoints.dinov2(384))
    with pytest.raises(WeightsError, match=r"'sslsam'.*ViT-S/14"):
        build_encoder(Settings(encoder="sslsam", weights=str(path), input_size=160), CPU)


def test_an_input_that_does_not_divide_into_tokens_is_refused(saved):
    with pytest.raises(SettingsError, match=r"1000.*'sam'.*992 or 1008"):
        build_encoder(Settings(encoder="sam", input_size=1000), CPU)


@pytest.mark.parametrize("name", ["sam-vit-l", "sam-vit-h"])
def test_larger_networks_have_the_names_and_shapes_of_the_official_ones(name):
    from FoundationRegistrationLib.encoders.sam import _random_network

    variant = encoder_info(name).build.keywords["variant"]
    with torch.device("meta"):
        network = _random_network(1024, variant)
    expected = {
        n.removeprefix("image_encoder."): t.shape
        for n, t in checkpoints.sam(name.removeprefix("sam-").replace("-", "_")).items()
        if n.startswith("image_encoder.")
    }
    assert {n: t.shape for n, t in network.state_dict().items()} == expected
    windows = [block.window_size for block in network.blocks]
    every = len(windows) // 4
    assert [index for index, side in enumerate(windows) if side == 0] == list(range(every - 1, len(windows), every))
