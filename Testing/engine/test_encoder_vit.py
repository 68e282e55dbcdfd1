"""DINOv2, DINOv3 and MedCLIP-SAM against references written here from the papers' published forward passes."""

import math
from types import SimpleNamespace

import checkpoints
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F

from FoundationRegistrationLib.encoders import build_encoder, encoder_info, encoders
from FoundationRegistrationLib.encoders.dinov2 import _input_size
from FoundationRegistrationLib.errors import SettingsError, WeightsError
from FoundationRegistrationLib.settings import Settings
from FoundationRegistrationLib.weights import accept_license

CPU = torch.device("cpu")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def slices(count=2, side=90):
    return torch.rand(count, side, side, generator=torch.Generator().manual_seed(1))


def relative_error(found, expected):
    return float((found - expected).norm() / expected.norm())


def resized(images, size, statistics):
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in statistics)
    pixels = F.interpolate(images[:, None], size=(size, size), mode="bilinear", antialias=True)
    return (pixels.expand(-1, 3, -1, -1) - mean) / deviation


# ---- the reference: a vision transformer as the papers publish it ----


def patches(state, images):
    kernel = state["patch_embed.proj.weight"]
    tokens = F.conv2d(images, kernel, state["patch_embed.proj.bias"], stride=kernel.shape[-1])
    return tokens.flatten(2).transpose(1, 2)


def norm(state, name, tokens, epsilon):
    return F.layer_norm(tokens, tokens.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], epsilon)


def linear(state, name, tokens):
    return F.linear(tokens, state[f"{name}.weight"], state.get(f"{name}.bias"))


def transformer(state, tokens, heads, epsilon, rotate=lambda x: x):
    """All blocks: attention and MLP with residuals, scaled by layer where the checkpoint has the scales."""
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    for index in range(depth):
        block = f"blocks.{index}"
        qkv = linear(state, f"{block}.attn.qkv", norm(state, f"{block}.norm1", tokens, epsilon))
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=-1))
        weights = (rotate(q) @ rotate(k).transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1)
        mixed = linear(state, f"{block}.attn.proj", (weights @ v).transpose(1, 2).flatten(2))
        tokens = tokens + state.get(f"{block}.ls1.gamma", 1.0) * mixed
        hidden = F.gelu(linear(state, f"{block}.mlp.fc1", norm(state, f"{block}.norm2", tokens, epsilon)))
        tokens = tokens + state.get(f"{block}.ls2.gamma", 1.0) * linear(state, f"{block}.mlp.fc2", hidden)
    return tokens


def as_grid(tokens, special):
    side = math.isqrt(tokens.shape[1] - special)
    return tokens[:, special:].transpose(1, 2).unflatten(-1, (side, side))


def dinov2_reference(state, images, heads):
    """x_norm_patchtokens; positions are interpolated by scale, with the offset 0.1, unless there are registers."""
    registers = state.get("register_tokens")
    width, side = state["cls_token"].shape[-1], images.shape[-1] // 14
    tokens = torch.cat([state["cls_token"].expand(len(images), -1, -1), patches(state, images)], dim=1)
    positions = state["pos_embed"]
    if side != 37:
        grid = positions[:, 1:].reshape(1, 37, 37, width).permute(0, 3, 1, 2)
        how = (
            {"size": (side, side), "antialias": True}
            if registers is not None
            else {"scale_factor": (side + 0.1) / 37}
        )
        grid = F.interpolate(grid, mode="bicubic", **how)
        positions = torch.cat([positions[:, :1], grid.permute(0, 2, 3, 1).reshape(1, -1, width)], dim=1)
    tokens = tokens + positions
    special = 1
    if registers is not None:
        tokens = torch.cat([tokens[:, :1], registers.expand(len(images), -1, -1), tokens[:, 1:]], dim=1)
        special = 5
    return as_grid(norm(state, "norm", transformer(state, tokens, heads, 1e-6), 1e-6), special)


def dinov3_reference(state, images, heads):
    """x_norm_patchtokens; patch tokens are rotated by their position in -1..1, the others are not."""
    side = images.shape[-1] // 16
    special = [state["cls_token"], state["storage_tokens"]]
    tokens = torch.cat([*(t.expand(len(images), -1, -1) for t in special), patches(state, images)], dim=1)
    middle = 2 * (torch.arange(side) + 0.5) / side - 1
    place = torch.stack(torch.meshgrid(middle, middle, indexing="ij"), dim=-1).reshape(-1, 2, 1)
    angles = (2 * math.pi * place / state["rope_embed.periods"]).flatten(1).repeat(1, 2)

    def rotate(x):
        fixed, free = x[:, :, :5], x[:, :, 5:]
        one, other = free.chunk(2, dim=-1)
        turned = torch.cat([-other, one], dim=-1)
        return torch.cat([fixed, free * angles.cos() + turned * angles.sin()], dim=2)

    return as_grid(norm(state, "norm", transformer(state, tokens, heads, 1e-5, rotate), 1e-5), 5)


def biomedclip_reference(state, images):
    """The tokens of the last block, before the final normalisation (the last hidden state)."""
    state = {n.removeprefix("visual.trunk."): t for n, t in state.items() if n.startswith("visual.trunk.")}
    tokens = torch.cat([state["cls_token"].expand(len(images), -1, -1), patches(state, images)], dim=1)
    return as_grid(transformer(state, tokens + state["pos_embed"], 12, 1e-6), 1)


# ---- DINOv2 ----


HUGGING_FACE_DINOV2 = (
    (r"(cls_token|mask_token|register_tokens)", r"embeddings.\1"),
    (r"pos_embed", "embeddings.position_embeddings"),
    (r"patch_embed\.proj\.(\w+)", r"embeddings.patch_embeddings.projection.\1"),
    (r"blocks\.(\d+)\.attn\.q\.(\w+)", r"encoder.layer.\1.attention.attention.query.\2"),
    (r"blocks\.(\d+)\.attn\.k\.(\w+)", r"encoder.layer.\1.attention.attention.key.\2"),
    (r"blocks\.(\d+)\.attn\.v\.(\w+)", r"encoder.layer.\1.attention.attention.value.\2"),
    (r"blocks\.(\d+)\.attn\.proj\.(\w+)", r"encoder.layer.\1.attention.output.dense.\2"),
    (r"blocks\.(\d+)\.ls(\d)\.gamma", r"encoder.layer.\1.layer_scale\2.lambda1"),
    (r"blocks\.(\d+)\.(norm\d|mlp\.fc\d)\.(\w+)", r"encoder.layer.\1.\2.\3"),
    (r"norm\.(\w+)", r"layernorm.\1"),
)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "width", "heads", "size"),
    [
        ("dinov2", 384, 6, 280),
        ("dinov2", 384, 6, 518),
        ("dinov2-vits14-reg", 384, 6, 280),
        ("dinov2-vitb14", 768, 12, 154),
        ("dinov2-vitb14-reg", 768, 12, 154),
    ],
)
def test_dinov2_gives_the_patch_tokens_of_the_published_forward(tmp_path, name, width, heads, size):
    state = checkpoints.dinov2(width, registers=name.endswith("-reg"))
    path = tmp_path / "dinov2.pth"
    torch.save(state, path)
    encoder = build_encoder(Settings(encoder=name, weights=str(path), input_size=size), CPU)
    images = slices(1)
    expected = dinov2_reference(state, resized(images, size, IMAGENET), heads)
    found = encoder.encode(images)
    assert found.shape == (1, width, size // 14, size // 14)
    assert relative_error(found, expected) < 1e-3


@torch.inference_mode()
def test_the_two_ways_to_interpolate_positions_differ_by_more_than_the_test_allows():
    state = checkpoints.dinov2(384, registers=True)
    images = resized(slices(1), 154, IMAGENET)
    grid = state["pos_embed"][:, 1:].unflatten(1, (37, 37)).permute(0, 3, 1, 2)
    by_scale = F.interpolate(grid, scale_factor=11.1 / 37, mode="bicubic")
    by_size = F.interpolate(grid, size=(11, 11), mode="bicubic", antialias=True)
    assert relative_error(by_scale, by_size) > 0.05
    moved = {**state, "pos_embed": state["pos_embed"] + 0.05 * state["pos_embed"].roll(1, dims=1)}
    assert relative_error(dinov2_reference(moved, images, 6), dinov2_reference(state, images, 6)) > 1e-3


@torch.inference_mode()
@pytest.mark.parametrize("name", ["dinov2-vitl14-reg"])
def test_large_dinov2_loads_its_official_checkpoint(tmp_path, name):
    state = checkpoints.dinov2(1024, depth=24, registers=name.endswith("-reg"))
    path = tmp_path / "dinov2.pth"
    torch.save(state, path)
    encoder = build_encoder(Settings(encoder=name, weights=str(path), input_size=56), CPU)
    images = slices(1)
    expected = dinov2_reference(state, resized(images, 56, IMAGENET), 16)
    assert relative_error(encoder.encode(images), expected) < 1e-3


@torch.inference_mode()
@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("name", ["dinov2", "dinov2-vits14-reg"])
def test_dinov2_from_hugging_face_is_the_same_network(tmp_path, name, form):
    state = checkpoints.dinov2(384, registers=name.endswith("-reg"))
    renamed = checkpoints.as_hugging_face(state, HUGGING_FACE_DINOV2)
    assert len(renamed) == len(state) + 12 * 2 * 2
    torch.save(state, tmp_path / "official.pth")
    save = safetensors.torch.save_file if form == "safetensors" else torch.save
    save(renamed, tmp_path / f"model.{form}")
    images = slices(1)
    features = []
    for filename in ("official.pth", f"model.{form}"):
        settings = Settings(encoder=name, weights=str(tmp_path / filename), input_size=154)
        features.append(build_encoder(settings, CPU).encode(images))
    assert torch.equal(*features)


def with_patches_of(size, state, prefix=""):
    """A checkpoint of the same network but for the size of its patches, to which no kernel may be interpolated."""
    name = f"{prefix}patch_embed.proj.weight"
    return {**state, name: checkpoints.values(name, (*state[name].shape[:2], size, size))}


@pytest.mark.parametrize(
    ("name", "state", "seen"),
    [
        ("dinov2", lambda: checkpoints.dinov2(768), "ViT-B/14"),
        ("dinov2", lambda: checkpoints.dinov2(384, registers=True), "'reg"),
        ("dinov2-vits14-reg", lambda: checkpoints.dinov2(384), "'reg_token' is missing"),
        ("dinov2", lambda: checkpoints.dinov3(384, 6), "DINOv3|ViT-S/16"),
        ("dinov3", lambda: checkpoints.dinov2(384), "ViT-S/14"),
        ("dinov3-vitb16", lambda: checkpoints.dinov3(384, 6), "ViT-S/16"),
        ("medclip-sam", lambda: checkpoints.dinov2(768), "ViT-B/14"),
        ("medclip-sam", checkpoints.sam, "SAM"),
        ("medclip-sam", lambda: with_patches_of(32, checkpoints.biomedclip(), "visual.trunk."), "ViT-B/32"),
        ("dinov2-vits14-reg", lambda: with_patches_of(16, checkpoints.dinov2(384, registers=True)), "ViT-S/16"),
        ("dinov3", lambda: with_patches_of(14, checkpoints.dinov3(384, 6)), "ViT-S/14"),
    ],
)
def test_weights_of_another_network_are_named(tmp_path, name, state, seen):
    path = tmp_path / "other.pth"
    torch.save(state(), path)
    size = 112 if encoder_info(name).tokens == 128 else 64
    with pytest.raises(WeightsError, match=f"'{encoder_info(name).weights[0]}'.*({seen})") as caught:
        build_encoder(Settings(encoder=name, weights=str(path), input_size=size), CPU)
    assert "\n" not in str(caught.value)


def error_beside_timm(folder, name, model, size, **options):
    """How far the features of timm's own file are from those of its network with 5 tokens before the patches."""
    import timm

    network = timm.create_model(model, pretrained=False, **options).eval()
    network.load_state_dict({n: checkpoints.values(n, tuple(t.shape)) for n, t in network.state_dict().items()})
    path = folder / "model.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    encoder = build_encoder(Settings(encoder=name, weights=str(path), input_size=size), CPU)
    images = slices(1)
    expected = as_grid(network.forward_features(resized(images, size, IMAGENET)), 5)
    return relative_error(encoder.encode(images), expected)


@torch.inference_mode()
def test_dinov2_with_registers_from_timm_is_the_same_network(tmp_path):
    """timm publishes it with the position of the class token added to that, and the registers by another name."""
    assert error_beside_timm(tmp_path, "dinov2-vits14-reg", "vit_small_patch14_reg4_dinov2", 154, img_size=154) < 1e-3


class MpsDevice:
    """Stands in for an Apple GPU, which this test does not need to have."""

    type = "mps"


@pytest.mark.parametrize(
    ("name", "memory", "device", "size"),
    [
        ("dinov2", 64e9, CPU, 1792),
        ("dinov2", 1e9, CPU, 1344),
        ("dinov2", 1e6, CPU, 518),
        ("dinov2-vitl14", 4e9, CPU, 1568),
        ("dinov2", 16e9, MpsDevice(), 1344),
    ],
)
def test_dinov2_takes_the_largest_input_that_memory_allows(monkeypatch, name, memory, device, size):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=memory))
    assert _input_size(Settings(encoder=name), device, encoder_info(name).build.keywords["variant"]) == size


@pytest.mark.parametrize(("name", "size"), [("dinov2", 500), ("dinov3", 500), ("medclip-sam", 230)])
def test_an_input_that_does_not_divide_into_tokens_is_refused(name, size):
    with pytest.raises(SettingsError, match=f"{size}.*'{name}'"):
        build_encoder(Settings(encoder=name, input_size=size), CPU)


@pytest.mark.parametrize("name", [name for name, info in encoders().items() if info.weights])
def test_without_weights_one_line_says_how_to_get_them(monkeypatch, tmp_path, name):
    for variable in ("FOUNDATION_REGISTRATION_WEIGHTS", "FOUNDATION_REGISTRATION_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path))
    with pytest.raises(WeightsError, match=encoder_info(name).weights[0]) as caught:
        build_encoder(Settings(encoder=name, input_size=112), CPU)
    assert "\n" not in str(caught.value)


# ---- DINOv3 ----


HUGGING_FACE_DINOV3 = (
    (r"(cls_token|mask_token)", r"embeddings.\1"),
    (r"storage_tokens", "embeddings.register_tokens"),
    (r"patch_embed\.proj\.(\w+)", r"embeddings.patch_embeddings.\1"),
    (r"blocks\.(\d+)\.attn\.([qv])\.(\w+)", r"layer.\1.attention.\2_proj.\3"),
    (r"blocks\.(\d+)\.attn\.k\.weight", r"layer.\1.attention.k_proj.weight"),
    (r"blocks\.(\d+)\.attn\.proj\.(\w+)", r"layer.\1.attention.o_proj.\2"),
    (r"blocks\.(\d+)\.ls(\d)\.gamma", r"layer.\1.layer_scale\2.lambda1"),
    (r"blocks\.(\d+)\.mlp\.fc1\.(\w+)", r"layer.\1.mlp.up_proj.\2"),
    (r"blocks\.(\d+)\.mlp\.fc2\.(\w+)", r"layer.\1.mlp.down_proj.\2"),
    (r"blocks\.(\d+)\.(norm\d)\.(\w+)", r"layer.\1.\2.\3"),
    (r"norm\.(\w+)", r"norm.\1"),
)


@pytest.fixture
def license_accepted(monkeypatch, tmp_path):
    monkeypatch.setenv("FOUNDATION_REGISTRATION_CACHE", str(tmp_path / "cache"))
    accept_license("dinov3-vits16")


@torch.inference_mode()
@pytest.mark.usefixtures("license_accepted")
@pytest.mark.parametrize(
    ("name", "width", "heads", "size"), [("dinov3", 384, 6, 320), ("dinov3-vitb16", 768, 12, 160)]
)
def test_dinov3_gives_the_patch_tokens_of_the_published_forward(tmp_path, name, width, heads, size):
    state = checkpoints.dinov3(width, heads)
    path = tmp_path / "dinov3.pth"
    torch.save(state, path)
    encoder = build_encoder(Settings(encoder=name, weights=str(path), input_size=size), CPU)
    images = slices(1)
    expected = dinov3_reference(state, resized(images, size, IMAGENET), heads)
    found = encoder.encode(images)
    assert found.shape == (1, width, size // 16, size // 16)
    assert relative_error(found, expected) < 1e-3


@torch.inference_mode()
@pytest.mark.usefixtures("license_accepted")
def test_dinov3_from_hugging_face_is_the_same_network(tmp_path):
    """Up to the periods of its positions, which Hugging Face does not round to bfloat16."""
    state = checkpoints.dinov3(384, 6)
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(checkpoints.as_hugging_face(state, HUGGING_FACE_DINOV3), path)
    encoder = build_encoder(Settings(encoder="dinov3", weights=str(path), input_size=160), CPU)
    images = slices(1)
    exact = {**state, "rope_embed.periods": 100.0 ** (torch.arange(16) / 16)}
    expected = dinov3_reference(exact, resized(images, 160, IMAGENET), 6)
    assert relative_error(encoder.encode(images), expected) < 1e-3


@torch.inference_mode()
@pytest.mark.usefixtures("license_accepted")
def test_dinov3_within_another_model_is_the_same_network_with_its_own_periods(tmp_path):
    state = checkpoints.dinov3(384, 6)
    features = []
    for prefix in ("", "model."):
        path = tmp_path / "dinov3.pth"
        torch.save({prefix + name: tensor for name, tensor in state.items()}, path)
        settings = Settings(encoder="dinov3", weights=str(path), input_size=64)
        features.append(build_encoder(settings, CPU).encode(slices(1)))
    assert torch.equal(*features)


@torch.inference_mode()
@pytest.mark.usefixtures("license_accepted")
def test_dinov3_from_timm_is_the_same_network(tmp_path):
    """timm publishes it without the biases of queries and values."""
    assert error_beside_timm(tmp_path, "dinov3", "vit_small_patch16_dinov3", 160) < 1e-3


# ---- MedCLIP-SAM ----


HUGGING_FACE_CLIP = (
    (r"visual\.trunk\.patch_embed\.proj\.(\w+)", r"vision_model.embeddings.patch_embedding.\1"),
    (r"visual\.trunk\.blocks\.(\d+)\.norm(\d)\.(\w+)", r"vision_model.encoder.layers.\1.layer_norm\2.\3"),
    (r"visual\.trunk\.blocks\.(\d+)\.attn\.([qkv])\.(\w+)", r"vision_model.encoder.layers.\1.self_attn.\2_proj.\3"),
    (r"visual\.trunk\.blocks\.(\d+)\.attn\.proj\.(\w+)", r"vision_model.encoder.layers.\1.self_attn.out_proj.\2"),
    (r"visual\.trunk\.blocks\.(\d+)\.mlp\.(fc\d)\.(\w+)", r"vision_model.encoder.layers.\1.mlp.\2.\3"),
    (r"visual\.trunk\.norm\.(\w+)", r"vision_model.post_layernorm.\1"),
    (r"text\.proj\.0\.(\w+)", r"text_projection.fc1.\1"),
)


def as_medclip_sam(state):
    """The published file: names of Hugging Face's CLIP, class token and positions without their first axes."""
    return {
        **checkpoints.as_hugging_face(state, HUGGING_FACE_CLIP),
        "vision_model.embeddings.class_embedding": state["visual.trunk.cls_token"].flatten().clone(),
        "vision_model.embeddings.position_embedding.weight": state["visual.trunk.pos_embed"][0].clone(),
        "text_model.embeddings.token_embedding.weight": torch.zeros(10, 768),
    }


@torch.inference_mode()
@pytest.mark.parametrize("form", ["open_clip", "fine-tuned", "Hugging Face"])
def test_medclip_sam_gives_the_tokens_of_the_last_block(tmp_path, form):
    state = checkpoints.biomedclip()
    path = tmp_path / "weights.bin"
    forms = {
        "open_clip": lambda: state,
        "fine-tuned": lambda: {"state_dict": {f"module.{n}": t for n, t in state.items()}, "epoch": 3},
        "Hugging Face": lambda: as_medclip_sam(state),
    }
    torch.save(forms[form](), path)
    encoder = build_encoder(Settings(encoder="medclip-sam", weights=str(path)), CPU)
    images = slices()
    expected = biomedclip_reference(state, resized(images, 224, CLIP))
    found = encoder.encode(images)
    assert found.shape == (2, 768, 14, 14)
    assert relative_error(found, expected) < 1e-3
