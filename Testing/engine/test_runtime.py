"""What a run is computed on: the meaning of float32, memory at its peak, the names of devices on the command line."""

import numpy as np
import pytest
import torch
from pretended_device import MPS_OPERATIONS, pretended
from volumes import empty_grid, noise, smooth_warp, volume

from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.cli.main import main
from FoundationRegistrationLib.convex_adam.adam import Course
from FoundationRegistrationLib.encoders import encoder_info
from FoundationRegistrationLib.features import EncoderSource
from FoundationRegistrationLib.features.encoding import SliceRunner
from FoundationRegistrationLib.features.slices import Square
from FoundationRegistrationLib.runtime.device import Runtime
from FoundationRegistrationLib.runtime.guards import full_float32
from FoundationRegistrationLib.spatial.windows import max_around

FULL = {"ieee", False}


def switches():
    """What decides about float32 on GPUs, whatever the version of torch."""
    backends = torch.backends
    if hasattr(backends.cudnn, "conv"):
        return backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision
    return backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32


@pytest.fixture(params=["highest", "high", "medium"])
def chosen(request):
    """The caller has chosen how float32 is multiplied."""
    usual = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision(usual)


def test_float32_is_float32_and_afterwards_what_the_caller_chose(chosen):
    before = switches()
    assert set(before) - FULL, "else there would be nothing to change"
    with full_float32():
        assert set(switches()) <= FULL
    with pytest.raises(RuntimeError, match="on the way"), full_float32():
        msg = "on the way"
        raise RuntimeError(msg)
    assert switches() == before
    assert torch.get_float32_matmul_precision() == chosen


def test_a_run_computes_in_full_float32():
    seen = []

    class Watching:
        def encode(self, images):
            seen.append(switches())
            return torch.nn.functional.avg_pool2d(images[:, None], 8)

    pair = volume(empty_grid("oblique"), smooth_warp), volume(empty_grid("sagittal", (3, -2, 4)))
    before = switches()
    quick = {"iterations": 0, "fluid_iterations": 0, "initialization": "none"}
    register(*pair, Settings(device="cpu", working_spacing_mm=6.0, grid_spacing=4, **quick), encoder=Watching())
    assert {value for each in seen for value in each} <= FULL
    assert switches() == before


class Counter:
    """What torch counts of the memory of a CUDA device."""

    def __init__(self):
        self.allocated = self.peak = 0

    def use(self, bytes_at_once, kept=0):
        self.peak = max(self.peak, self.allocated + bytes_at_once)
        self.allocated += kept

    def reset(self, device):
        self.peak = self.allocated


@pytest.fixture
def counter(monkeypatch):
    counter = Counter()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: counter.allocated)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: counter.peak)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", counter.reset)
    return counter


def test_the_peak_is_that_of_the_run_though_a_part_of_it_is_measured_alone(counter):
    counter.use(900, kept=50)  # before the run
    runtime = Runtime.start("cuda")
    assert runtime.device == torch.device("cuda", 1), "the device that is current"
    counter.use(400, kept=100)
    nothing, taken = runtime.taken_by(lambda: counter.use(30))
    assert (nothing, taken) == (None, 30)
    assert runtime.peak_bytes()["device"] == 450
    counter.use(700)
    assert runtime.peak_bytes()["device"] == 850


@pytest.mark.parametrize("wrong", ["tpu", "cuda:x", "cuda:", "cuda:-1", "cpu:0", "cuda:1234"])
def test_the_command_line_says_which_devices_there_may_be(wrong, tmp_path, capsys):
    output = tmp_path / "out"
    given = ["register", str(tmp_path / "a.nii"), str(tmp_path / "b.nii"), "--output", str(output), "--device", wrong]
    assert main(given) == 2
    said = capsys.readouterr().err
    assert f"device is '{wrong}'; choose one of: auto, cpu, cuda, mps, or one such as cuda:1." in said
    assert not output.exists()


def test_a_gpu_of_several_is_named_by_its_number():
    assert Settings(device="cuda:12").device == "cuda:12"
    assert Settings.from_dict(Settings(device="cuda:0").to_dict()).device == "cuda:0"


def test_bfloat16_becomes_float16_on_apples_devices_and_that_is_said(monkeypatch):
    """Torch 2.5 would go on in float32 there, and the record would name bfloat16."""
    info, settings, there = encoder_info("efficientnet-lite0"), Settings(input_size=64), torch.device("mps", 0)
    with pretended(monkeypatch, "mps", MPS_OPERATIONS):
        source = EncoderSource(info, lambda device: info.build(settings, device), "weights")
        runner = SliceRunner(source, Runtime(there), "bfloat16")
        (tokens,) = runner.tokens(noise(1, 1, 40, 40).to(there), [0], Square(0, 0, 40))
    assert (runner.precision, tokens.dtype) == ("float16", torch.float16)
    assert "float16" in runner.messages[0]


def test_windows_find_the_largest_at_the_edge_too():
    """Against the definition, on a grid narrower than the window along one axis."""
    values = np.random.default_rng(0).normal(size=(2, 3, 7, 5)).astype(np.float32)
    found = max_around(torch.from_numpy(values), 3).numpy()
    for z, y, x in np.ndindex(3, 7, 5):
        near = values[:, max(0, z - 3) : z + 4, max(0, y - 3) : y + 4, max(0, x - 3) : x + 4]
        np.testing.assert_array_equal(found[:, z, y, x], near.max((1, 2, 3)))


def test_what_a_gpu_does_after_convergence_until_the_host_looks_does_not_count(monkeypatch):
    with pretended(monkeypatch):
        course = Course(40, torch.zeros(3, 2, 2, 2).to("cuda:1"), tolerance=0.01)
        kept, made = [], 0
        while not course.is_over() or not made:
            # Nothing changes from the fourth iteration on; far less after the convergence, which is at the 23rd.
            energy = 5.0 - made if made < 3 else 2.0
            kept.append(course.add(energy if made < 24 else 0.5).to("cpu"))
            made += 1
        assert made == 30, "it looks once in ten iterations"
        assert course.energies()[:4] == (5.0, 4.0, 3.0, 2.0)
        assert len(course.energies()) < 25
        assert [index for index, flag in enumerate(kept) if flag] == [0, 1, 2, 3]
