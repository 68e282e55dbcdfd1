"""Every path on devices that this machine need not have; see `pretended_device`."""

import itertools

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from pretended_device import MPS_OPERATIONS as ON_MPS
from pretended_device import MeetingDevicesError, NotOnMpsError, claimed, pretended
from volumes import body_points, empty_grid, noise, on_grid, points_of, smooth_warp, through, volume

from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.encoders import encoder_info
from FoundationRegistrationLib.errors import SettingsError
from FoundationRegistrationLib.features import EncoderSource, extract_features, pool
from FoundationRegistrationLib.features.encoding import SliceRunner
from FoundationRegistrationLib.features.slices import Square
from FoundationRegistrationLib.pipeline.initial_alignment.search import initial_alignment
from FoundationRegistrationLib.pipeline.preprocessing.prepared_volume import prepare
from FoundationRegistrationLib.runtime.device import Runtime, resolve_device
from FoundationRegistrationLib.runtime.progress import Progress
from FoundationRegistrationLib.settings import PRESETS
from FoundationRegistrationLib.spatial.lookup import looked_up, looked_up_gradient
from FoundationRegistrationLib.spatial.sampling import sample, sample_gradient, upsample

CUDA, MPS, CPU = torch.device("cuda", 1), torch.device("mps", 0), torch.device("cpu")
# One of each kind of network: name, pixels of the input that keep it small.
NETWORKS = [
    ("litemedsam", 0),
    ("efficientnet-lite0", 64),
    ("sam", 64),
    ("mri-core", 64),
    ("dinov2", 56),
    ("dinov2-vits14-reg", 56),
    ("dinov3", 64),
    ("medclip-sam", 64),
    ("timm:resnet10t", 64),
]
SMALL = {
    "encoder": "mind",
    "compressibility": 0.1,
    "working_spacing_mm": 6.0,
    "slice_gap": 24,
    "grid_spacing": 4,
    "iterations": 25,
    "fluid_iterations": 4,
    "initialization": "none",
    "feature_cache_gb": 0.0,
}


@pytest.fixture(scope="module")
def pair():
    return volume(empty_grid("oblique"), smooth_warp), volume(empty_grid("sagittal", (3, -2, 4)))


class TwoShades:
    """An encoder of slices that takes no time: intensities, and intensities of the neighbours."""

    weights_sha256 = "0" * 64

    def encode(self, images):
        averages = torch.nn.functional.avg_pool2d(images[:, None], 4)
        return torch.cat([averages, averages.roll(1, 2), averages.square()], dim=1)


# ---- the pretence itself ----


@pytest.mark.parametrize("device", [CUDA, MPS], ids=str)
@pytest.mark.parametrize(
    "fault",
    [
        lambda there: there + torch.ones(3),
        lambda there: there + torch.arange(3),
        lambda there: torch.stack([there, torch.zeros(3)]),
        lambda there: torch.nn.functional.linear(there, torch.ones(2, 3)),
        lambda there: torch.ones(3).add_(there),
        lambda there: there[torch.zeros(3, dtype=torch.int64)] + torch.from_numpy(np.ones(3, np.float32)),
        lambda there: (there * 2.0).numpy(),
        lambda there: np.asarray(there),
        lambda there: np.sqrt(there.reshape(1, 3)[0]),
    ],
)
def test_tensors_of_two_devices_do_not_meet(monkeypatch, device, fault):
    with pretended(monkeypatch, device.type), pytest.raises(MeetingDevicesError):
        fault(torch.ones(3).to(device))


def test_two_gpus_are_two_devices(monkeypatch):
    with pretended(monkeypatch), pytest.raises(MeetingDevicesError):
        torch.ones(3, device="cuda:0") + torch.ones(3, device="cuda:1")


def test_what_is_computed_on_a_device_stays_there_until_it_is_fetched(monkeypatch):
    with pretended(monkeypatch) as pretence:
        there = torch.ones(3, device=CUDA)
        results = [there + 1, there.flip(0), there[:2], *there.split(1), torch.zeros_like(there), there.new_zeros(2)]
        assert {result.device for result in results} == {CUDA}
        assert pretence.waits == []
        assert (there + 1).cpu().numpy().tolist() == [2.0, 2.0, 2.0]
        assert float(there.sum()) == 3.0
        assert pretence.waits == ["cpu", "__float__"]
    assert claimed(torch.ones(3)) == CPU


@pytest.mark.parametrize(
    "fault",
    [
        lambda there: torch.nn.functional.avg_pool3d(there[None], 2),
        lambda there: torch.nn.functional.max_pool3d(there[None], 2),
        lambda there: torch.nn.functional.grid_sample(
            there[None], there.new_zeros(1, 1, 1, 1, 3), align_corners=False
        ),
        lambda there: there.double(),
        lambda there: torch.zeros(3, dtype=torch.float64, device=there.device),
    ],
)
def test_what_apple_lacks_is_refused(monkeypatch, fault):
    with pretended(monkeypatch, "mps", ON_MPS), pytest.raises(NotOnMpsError):
        fault(torch.ones(1, 4, 4, 4).to(MPS))


# ---- every path ----


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "pixels"), NETWORKS)
def test_networks_keep_to_their_device(monkeypatch, name, pixels, precision):
    info, settings = encoder_info(name), Settings(encoder=name, input_size=pixels)
    build = info.build_untrained or info.build
    for device in (CUDA, MPS) if precision == "float32" and pixels else (CUDA,):
        with pretended(monkeypatch, device.type, ON_MPS if device == MPS else None):
            source = EncoderSource(info, lambda where: build(settings, where), "weights")
            runner = SliceRunner(source, Runtime(device), precision)
            (tokens,) = runner.tokens(noise(1, 1, 40, 40).to(device), [0], Square(0, 0, 40))
        assert runner.device == device
        assert tokens.isfinite().all()


@pytest.mark.parametrize("name", ["anatomix-dev", "anatomix-mind"])
def test_3d_networks_keep_to_their_device(monkeypatch, name):
    info, settings = encoder_info(name), Settings(encoder=name)
    with pretended(monkeypatch):
        source = EncoderSource(info, lambda where: info.build_untrained(settings, where), "weights")
        volume, mask = noise(1, 20, 24, 16).to(CUDA), torch.ones(20, 24, 16).to(CUDA)
        found = extract_features(source, volume, volume, mask, mask, settings, Progress({}))
        assert found.fixed.device == CUDA
    assert found.fixed.shape == (info.channels, 10, 12, 8)
    assert found.fixed.isfinite().all()


@pytest.mark.parametrize("preset", [*PRESETS])
def test_presets_keep_to_their_device(monkeypatch, pair, preset):
    settings = Settings.from_preset(preset, **SMALL, device="cuda:1")
    with pretended(monkeypatch):
        result = register(*pair, settings, preview_features=True, keep_intermediate=True)
    assert result.record["device"] == "cuda:1 (Pretended)"
    assert np.isfinite(sitk.GetArrayFromImage(result.displacement)).all()


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_slices_lesions_masks_preview_and_cache_keep_to_their_device(monkeypatch, pair, kind, tmp_path):
    monkeypatch.setenv("FOUNDATION_REGISTRATION_CACHE", str(tmp_path))
    fixed, moving = pair
    points = points_of(fixed)
    lesion = on_grid((np.linalg.norm(points, axis=-1) < 12.0).astype(np.uint8), fixed)
    mask = on_grid((np.abs(points).max(-1) < 30.0).astype(np.uint8), fixed)
    settings = Settings(**{**SMALL, "slice_gap": 2, "iterations": 2, "feature_cache_gb": 1.0}, device=kind)
    given = {"encoder": TwoShades(), "fixed_lesion": lesion, "fixed_mask": mask, "preview_features": True}
    with pretended(monkeypatch, kind, ON_MPS if kind == "mps" else None):
        runs = [register(fixed, moving, settings, **given) for _ in range(2)]
    assert [run.metrics["features_from_cache"] for run in runs] == [False, True]
    for run in runs:
        assert run.record["device"].startswith(kind)
        assert any("is untested" in message for message in run.messages) == (kind == "mps")


def test_two_encoders_keep_to_their_device(monkeypatch, pair):
    settings = {**SMALL, "detail_encoder": "litemedsam", "precision": "float32", "slice_gap": 48, "iterations": 2}
    with pretended(monkeypatch):
        result = register(*pair, Settings(**settings, device="cuda"))
    assert set(result.metrics["encoded_slices"]) == {"mind", "litemedsam"}


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_a_device_finds_what_the_cpu_finds(monkeypatch, pair, kind):
    settings = Settings(**SMALL)
    expected = register(*pair, settings)
    with pretended(monkeypatch, kind, ON_MPS if kind == "mps" else None):
        found = register(*pair, Settings(**SMALL, device=kind))
    fields = [sitk.GetArrayFromImage(result.deformation) for result in (expected, found)]
    np.testing.assert_allclose(*fields, atol=6.0 * (1e-4 if kind == "cuda" else 1e-2))
    assert found.metrics["adam_iterations"] == expected.metrics["adam_iterations"]


@pytest.mark.parametrize(("kind", "model"), [("cuda", "affine"), ("mps", "rigid")])
def test_a_device_finds_the_initial_alignment_of_the_cpu(monkeypatch, pair, kind, model):
    fixed, moving = (prepare(each, "mr", "fixed") for each in pair)
    expected, messages = initial_alignment(fixed, moving, model, CPU, Progress({}))
    assert messages == []
    with pretended(monkeypatch, kind, ON_MPS if kind == "mps" else None):
        found, _ = initial_alignment(fixed, moving, model, torch.device(kind, 0), Progress({}))
    points = body_points()
    apart = np.linalg.norm(through(found, points) - through(expected, points), axis=1)
    assert apart.max() < (1e-3 if kind == "cuda" else 0.1)


@pytest.mark.parametrize("counted", ["iterations", "fluid_iterations"])
def test_the_host_waits_for_energies_once_in_ten_iterations(monkeypatch, pair, counted):
    waits = []
    for iterations in (20, 60):
        with pretended(monkeypatch) as pretence:
            changed = {counted: iterations, "convergence_tolerance": 0.0, "compressibility": 1.0}  # free of folds
            register(*pair, Settings(**{**SMALL, **changed}, device="cuda"))
        waits.append(len(pretence.waits))
    assert waits[1] - waits[0] <= 4 + 2


# ---- choosing a device ----


def test_a_gpu_is_chosen_by_its_number(monkeypatch):
    with pretended(monkeypatch):
        assert str(resolve_device("auto")) == str(resolve_device("cuda")) == "cuda:0"
        assert str(resolve_device("cuda:1")) == "cuda:1"
        with pytest.raises(SettingsError, match=r"'cuda:2' is not available here; use .*cuda:0, cuda:1, cpu"):
            resolve_device("cuda:2")


def test_macs_compute_on_the_cpu_unless_told_otherwise(monkeypatch):
    with pretended(monkeypatch, "mps"):
        assert str(resolve_device("auto")) == "cpu"
        assert resolve_device("mps").type == "mps"


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:x", "mps:1", "cuda: 1"])
def test_what_is_no_device_is_refused(name):
    with pytest.raises(SettingsError, match="device"):
        Settings(device=name)


# ---- what stands in for what Apple's devices lack ----


def positions_about(shape):
    """Positions inside, on nodes, on the edge and beyond it."""
    ends = torch.tensor(shape, dtype=torch.float32)[:, None]
    inside = torch.rand(3, 300, generator=torch.Generator().manual_seed(0)) * (ends + 3.0) - 2.0
    corners = torch.tensor(list(itertools.product(*((0, size - 1, size // 2) for size in shape)))).T.float()
    return torch.cat([inside, corners], dim=1)


@pytest.mark.parametrize("padding", ["border", "zeros"])
def test_the_look_up_by_indexing_is_that_of_grid_sample(padding):
    values, positions = noise(1, 2, 5, 7, 4), positions_about((5, 7, 4))
    torch.testing.assert_close(
        looked_up(values, positions, padding), sample(values, positions, padding), atol=2e-6, rtol=0
    )


def test_its_gradient_too():
    values, pull = noise(1, 2, 5, 7, 4), noise(2, 2, 300)
    positions = positions_about((5, 7, 4))[:, :300]
    expected = sample_gradient(values, positions, pull)
    torch.testing.assert_close(looked_up_gradient(values, positions, pull), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("factor", [2, 3, 9])
def test_pooling_and_upsampling_on_apple_are_those_of_the_cpu(monkeypatch, factor):
    values = noise(1, 3, 5, 7, 4)
    with pretended(monkeypatch, "mps", ON_MPS):
        pooled, finer = pool(values.to(MPS), factor).cpu(), upsample(values.to(MPS), factor, (9, 13, 8)).cpu()
    torch.testing.assert_close(pooled, pool(values, factor))
    torch.testing.assert_close(finer, upsample(values, factor, (9, 13, 8)))
