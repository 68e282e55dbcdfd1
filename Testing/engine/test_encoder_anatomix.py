"""anatomix from checkpoints of the published names and shapes, and 3D networks in windows."""

import dataclasses
from types import SimpleNamespace

import checkpoints
import numpy as np
import pytest
import SimpleITK as sitk
import torch
import torch.nn.functional as F
from small_runs import SPACING_MM, array_of, small_pair
from volumes import noise

from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.convex_adam.method import stages_of
from FoundationRegistrationLib.encoders import build_encoder, encoder_info
from FoundationRegistrationLib.encoders.mind import MindEncoder
from FoundationRegistrationLib.encoders.networks.unet3d import Architecture, UNet3d
from FoundationRegistrationLib.encoders.own import info_of
from FoundationRegistrationLib.errors import RegistrationCancelledError, WeightsError
from FoundationRegistrationLib.features import EncoderSource, extract_features, pool
from FoundationRegistrationLib.features.windows import features_in_windows
from FoundationRegistrationLib.pipeline.deformation.working_grid import grid_bytes
from FoundationRegistrationLib.runtime.progress import Progress
from FoundationRegistrationLib.spatial.grids import WorkingGrid

CPU = torch.device("cpu")
QUIET = Progress({})
CONVOLUTIONS = {"anatomix": checkpoints.ANATOMIX, "anatomix-dev": checkpoints.ANATOMIX_DEV}


def saved(folder, name, prefix=""):
    """The folder with a random checkpoint under the publisher's name, and its tensors."""
    state = checkpoints.anatomix(CONVOLUTIONS[name])
    torch.save({prefix + key: value for key, value in state.items()}, folder / f"{name}.pth")
    return state


def built(folder, name):
    return build_encoder(Settings(encoder=name, weights=str(folder)), CPU)


def small_network(levels):
    """A small U-Net with the random weights that torch gives a new one."""
    torch.manual_seed(0)
    return UNet3d(Architecture(width=4, features=3, levels=levels, instance_norm=False)).eval()


# ---- the published networks ----


def padded(values, mode):
    """Values (C, z, y, x) with one more voxel on each side."""
    return torch.from_numpy(np.pad(values.numpy(), [(0, 0), (1, 1), (1, 1), (1, 1)], mode=mode))


def doubled(values, trilinear):
    """Values (C, z, y, x) at twice the resolution: repeated, or from voxel centre to voxel centre."""
    for axis in (1, 2, 3):
        size = values.shape[axis]
        inner = torch.arange(1, size + 1)
        edged = padded(values, "edge").narrow(axis, 0, size + 2)
        for other in {1, 2, 3} - {axis}:
            edged = edged.narrow(other, 1, values.shape[other])
        near, far = (0.75, 0.25) if trilinear else (1.0, 0.0)
        low, high = (near * values + far * edged.index_select(axis, inner + step) for step in (-1, 1))
        values = torch.stack([low, high], axis + 1).flatten(axis, axis + 1)
    return values


def reference(state, volume, levels, dev):
    """The published network from its tensors, step by step; volume (z, y, x) that the levels divide."""
    number = 0

    def convolution(values):
        bias = state.get(f"model.{number}.bias")
        return F.conv3d(padded(values, "reflect")[None], state[f"model.{number}.weight"], bias)[0]

    def block(values):
        nonlocal number
        values = convolution(values)
        if dev:
            mean, variance = values.mean((1, 2, 3)), values.var((1, 2, 3), unbiased=False)
            weight, bias, epsilon = torch.ones_like(mean), torch.zeros_like(mean), 1e-2
        else:
            keys = ("running_mean", "running_var", "weight", "bias")
            mean, variance, weight, bias = (state[f"model.{number + 1}.{key}"] for key in keys)
            epsilon = 1e-5
        scale = weight / (variance + epsilon).sqrt()
        number += 3
        return (values * scale[:, None, None, None] + (bias - mean * scale)[:, None, None, None]).relu()

    values, skipped = block(volume[None]), []
    for _ in range(levels):
        values = block(block(values))
        skipped.append(values)
        parts = torch.stack([values[:, z::2, y::2, x::2] for z in (0, 1) for y in (0, 1) for x in (0, 1)])
        values = parts.mean(0) if dev else parts.amax(0)
        number += 1
    values = block(block(values))
    for _ in range(levels):
        number += 1
        values = block(block(torch.cat([skipped.pop(), doubled(values, dev)])))
    return convolution(values)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("name", "levels", "shape"), [("anatomix", 4, (37, 48, 20)), ("anatomix-dev", 5, (64, 50, 9))]
)
def test_features_are_those_of_the_published_network_for_any_size(tmp_path, name, levels, shape):
    state = saved(tmp_path, name)
    volume, encoder, info = noise(0, *shape), built(tmp_path, name), encoder_info(name)
    found = encoder.encode(volume[None])
    side = 2**levels
    missing = [max(-size % side, 2 * side - size) for size in shape]
    extended = torch.from_numpy(np.pad(volume.numpy(), [(0, size) for size in missing], mode="edge"))
    expected = reference(state, extended, levels, dev="dev" in name)[:, : shape[0], : shape[1], : shape[2]]
    expected = expected / expected.norm(dim=0) if "dev" in name else 0.1 * expected
    assert found.shape == (1, info.channels, *shape)
    assert float(expected.std()) > 0.001
    assert float((found[0] - expected).abs().max() / expected.abs().max()) < 1e-4
    assert len(encoder.weights_sha256) == 64


@torch.inference_mode()
def test_names_saved_from_a_compiled_network_load(tmp_path):
    volume = noise(0, 1, 32, 32, 32)
    saved(tmp_path, "anatomix")
    expected = built(tmp_path, "anatomix").encode(volume)
    saved(tmp_path, "anatomix", prefix="_orig_mod.")
    assert torch.equal(built(tmp_path, "anatomix").encode(volume), expected)


def test_weights_of_the_other_network_are_refused(tmp_path):
    saved(tmp_path, "anatomix")
    settings = Settings(encoder="anatomix-dev", weights=str(tmp_path / "anatomix.pth"))
    with pytest.raises(WeightsError, match=r"'anatomix-dev'.*a 3D U-Net like anatomix, 16 channels wide"):
        build_encoder(settings, CPU)


@torch.inference_mode()
def test_mind_comes_first_then_anatomix(tmp_path):
    saved(tmp_path, "anatomix")
    volume = noise(0, 1, 32, 40, 32)
    settings = Settings(encoder="anatomix-mind", weights=str(tmp_path), mind_radius=2, mind_dilation=1)
    found = build_encoder(settings, CPU).encode(volume)
    assert found.shape[1] == encoder_info("anatomix-mind").channels
    torch.testing.assert_close(found[:, :12], MindEncoder(2, 1).encode(volume))
    torch.testing.assert_close(found[:, 12:], built(tmp_path, "anatomix").encode(volume))


@torch.inference_mode()
def test_features_move_with_the_volume():
    """By as many voxels as the network joins at its lowest resolution, away from the borders."""
    network, volume, margin = small_network(levels=2), noise(0, 1, 1, 80, 80, 80), 32
    features, later = network(volume), network(volume.roll((4, -8, 4), (2, 3, 4)))
    inside = (..., *[slice(margin, -margin)] * 3)
    spread = float(features[inside].std())
    assert spread > 0
    assert float((features.roll((4, -8, 4), (2, 3, 4)) - later)[inside].abs().max()) < 1e-3 * spread


# ---- windows ----


class Recorded:
    """An encoder that returns intensities and their squares, and writes down the shapes it gets."""

    reach = 1
    window = 16
    weights_sha256 = None

    def __init__(self):
        self.shapes = []

    def encode(self, images):
        self.shapes.append(tuple(images.shape[1:]))
        return torch.stack([images[0], images[0] ** 2])[None]


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("shape", [(40, 17, 33), (16, 5, 64), (15, 31, 32)])
def test_windows_cover_the_volume_and_blend_to_what_the_whole_gives(factor, shape):
    volume, encoder = noise(0, *shape), Recorded()
    found = features_in_windows(encoder, encoder.window, volume, factor, QUIET, 0.0)
    torch.testing.assert_close(found, pool(torch.stack([volume, volume**2]), factor))
    assert max(max(each) for each in encoder.shapes) <= encoder.window


def test_windows_give_nearly_the_features_of_the_whole_volume():
    """The network sees 12 voxels far; what it misses beyond the border of a window has little weight there."""
    network, volume = small_network(levels=1), noise(0, 80, 48, 72)
    encoder = SimpleNamespace(encode=lambda images: network(images[None]))
    found = features_in_windows(encoder, 48, volume, 2, QUIET, 0.0)
    with torch.inference_mode():
        expected = pool(network(volume[None, None])[0], 2)
    assert float((found - expected).abs().max()) < 0.05 * float(expected.std())


def test_a_run_can_be_cancelled_between_windows():
    encoder = Recorded()
    progress = Progress({}, cancelled=lambda: len(encoder.shapes) == 3)
    with pytest.raises(RegistrationCancelledError):
        features_in_windows(encoder, 8, noise(0, 32, 8, 8), 2, progress, 0.0)
    assert len(encoder.shapes) == 3


def test_an_encoder_of_your_own_is_applied_in_the_windows_it_asks_for():
    encoder = Recorded()
    volume, mask = noise(0, 24, 24, 24), torch.ones(24, 24, 24)
    source = EncoderSource(info_of(encoder, CPU), lambda device: encoder)
    found = extract_features(source, volume, volume, mask, mask, Settings(encoder="own"), QUIET)
    assert found.fixed.shape == (2, 12, 12, 12)
    assert len(encoder.shapes) > 16
    assert set(encoder.shapes) == {(16, 16, 16)}


def test_the_memory_of_a_window_is_counted_once_and_no_more_than_the_volume():
    settings = dataclasses.replace(Settings(slice_gap=1), fluid_iterations=0)
    info = encoder_info("anatomix")
    without = dataclasses.replace(info, window_voxel_bytes=0.0)
    for side, windows in ((32, 32**3), (256, 128**3)):
        grid = WorkingGrid((0.0, 0.0, 0.0), 1.0, (side, side, side))
        more, less = (grid_bytes(grid, settings, [each], stages_of(settings)) for each in (info, without))
        assert more - less == pytest.approx(windows * info.window_voxel_bytes)


# ---- the preset ----


def test_the_preset_runs_from_file_to_transform(tmp_path):
    saved(tmp_path, "anatomix")
    settings = Settings.from_preset(
        "anatomix",
        weights=str(tmp_path),
        device="cpu",
        initialization="none",
        working_spacing_mm=2 * SPACING_MM,
        iterations=3,
        feature_cache_gb=0.0,
    )
    fixed, moving = small_pair()
    result = register(fixed, moving, settings, keep_intermediate=True)
    assert result.warped.GetSize() == fixed.GetSize()
    assert np.isfinite(array_of(result.displacement)).all()
    assert result.intermediate.features["anatomix-mind"][0].array.shape[-1] == 28
    assert result.record["weights_sha256"]["anatomix-mind"]
    assert sitk.GetArrayViewFromImage(result.displacement).any()
