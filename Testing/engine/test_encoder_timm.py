"""Any backbone of timm: the features timm itself gives, from a file, with transformers and convolutions alike."""

import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from huggingface_hub import constants

from FoundationRegistrationLib.encoders import build_encoder, encoder_families, encoder_info
from FoundationRegistrationLib.errors import SettingsError, WeightsError
from FoundationRegistrationLib.settings import Settings

CPU = torch.device("cpu")
SMALL = {  # name: (stage taken, channels, tokens at the usual input size)
    "resnet10t": (2, 128, 22),
    "vit_tiny_patch16_224": (11, 192, 14),
    "swin_s3_tiny_224": (1, 192, 28),
    "tf_efficientnet_lite0": (2, 40, 28),
}


def random_weights(name, path):
    """timm's own file of a network with random values; returns the whole network, classifier included."""
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False).eval()
    state = {key: value.clone().contiguous() for key, value in network.state_dict().items()}
    safetensors.torch.save_file(state, path)
    return network


def expected_features(name, network, images, size):
    """The same stage by timm's own means, with the same values."""
    stage = SMALL[name][0]
    config = timm.get_pretrained_cfg(name)
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (config.mean, config.std))
    pixels = F.interpolate(images[:, None], size=(size, size), mode="bilinear", antialias=True)
    pixels = (pixels.expand(-1, 3, -1, -1) - mean) / deviation
    return network.forward_intermediates(pixels, indices=[stage], output_fmt="NCHW", intermediates_only=True)[0]


def slices():
    return torch.rand(2, 90, 90, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
@pytest.mark.parametrize("name", SMALL)
def test_features_are_those_timm_gives(tmp_path, name):
    path = tmp_path / "model.safetensors"
    network = random_weights(name, path)
    info = encoder_info(f"timm:{name}")
    assert (info.name, info.channels, info.tokens) == (f"timm:{name}", *SMALL[name][1:])
    encoder = build_encoder(Settings(encoder=f"timm:{name}", weights=str(path)), CPU)
    found = encoder.encode(slices())
    expected = expected_features(name, network, slices(), encoder.input_size)
    assert found.shape == expected.shape == (2, info.channels, info.tokens, info.tokens)
    assert (found - expected).norm() < 1e-3 * expected.norm()
    assert len(encoder.weights_sha256) == 64


@torch.inference_mode()
@pytest.mark.parametrize(("name", "size"), [("resnet10t", 96), ("vit_tiny_patch16_224", 96)])
def test_another_input_size_gives_other_tokens(tmp_path, name, size):
    path = tmp_path / "model.safetensors"
    random_weights(name, path)
    settings = Settings(encoder=f"timm:{name}", weights=str(path), input_size=size)
    found = build_encoder(settings, CPU).encode(slices())
    tokens = size // (8 if name == "resnet10t" else 16)
    assert found.shape == (2, SMALL[name][1], tokens, tokens)


def test_an_input_size_that_a_network_cannot_take_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    random_weights("vit_tiny_patch16_224", path)
    with pytest.raises(SettingsError, match=r"100.*96 or 112"):
        build_encoder(Settings(encoder="timm:vit_tiny_patch16_224", weights=str(path), input_size=100), CPU)


@pytest.mark.parametrize(
    ("name", "advice"), [("resnet10x", "resnet10t"), ("", "timm"), ("resnet18.nonsense", "resnet18")]
)
def test_a_name_that_timm_does_not_know_is_refused_with_near_ones(name, advice):
    with pytest.raises(SettingsError, match=f"'{name}'.*{advice}"):
        encoder_info(f"timm:{name}")


@pytest.mark.parametrize("given", ["resnet10t", "vit_tiny_patch16_224 without a block", "vit_small_patch16_224"])
def test_weights_of_another_network_are_refused(tmp_path, given):
    path = tmp_path / "model.safetensors"
    state = random_weights(given.split()[0], path).state_dict()
    if "without" in given:
        safetensors.torch.save_file({key: value for key, value in state.items() if "blocks.7." not in key}, path)
    with pytest.raises(WeightsError, match="vit_tiny_patch16_224") as caught:
        build_encoder(Settings(encoder="timm:vit_tiny_patch16_224", weights=str(path)), CPU)
    assert "\n" not in str(caught.value)


def test_nothing_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"timm:resnet18.*huggingface\.co/timm/resnet18.*--weights"):
        build_encoder(Settings(encoder="timm:resnet18"), CPU)
    assert not list(tmp_path.iterdir())


def test_the_family_is_in_the_registry():
    assert "timm:" in encoder_families()
    with pytest.raises(SettingsError, match="timm:NAME"):
        encoder_info("timn:resnet18")
