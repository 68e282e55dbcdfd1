"""Encoding within the memory of a device, and in half precision where that is exact enough."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from FoundationRegistrationLib.errors import InputError
from FoundationRegistrationLib.features import EncoderSource, encoding, extract_features
from FoundationRegistrationLib.features.encoding import SliceRunner, component_error
from FoundationRegistrationLib.features.slices import Square
from FoundationRegistrationLib.runtime.device import Runtime, is_out_of_memory
from FoundationRegistrationLib.runtime.progress import Progress
from FoundationRegistrationLib.settings import Settings

CPU = torch.device("cpu")


def noise(seed, *shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


class SmallDevice:
    """A fake encoder on a device that holds a few slices: beyond them it raises what torch raises."""

    weights_sha256 = None
    reach = 0

    def __init__(self, most, error=torch.cuda.OutOfMemoryError):
        self.most = most
        self.error = error
        self.batches = []

    def encode(self, images):
        self.batches.append(len(images))
        if len(images) > self.most:
            msg = "DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."
            raise self.error(msg)
        return torch.stack([images, images.square()], dim=1)


def source_of(build):
    return EncoderSource(SimpleNamespace(kind="slice", components=2, channels=2, name="fake"), build, "weights")


def all_tokens(runner, volume, slices):
    return torch.cat(list(runner.tokens(volume, slices, Square(0, 0, volume.shape[1]))))


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError, RuntimeError, MemoryError])
def test_running_out_of_memory_halves_the_batch_and_says_so(error):
    volume, slices = noise(0, 9, 8, 8), [0, 2, 3, 5, 8]
    encoder = SmallDevice(1, error)
    runner = SliceRunner(source_of(lambda device: encoder), Runtime(CPU), "auto")
    found = all_tokens(runner, volume, slices)
    assert torch.equal(found, torch.stack([volume[slices], volume[slices].square()], dim=1))
    assert encoder.batches == [2, 1, 1, 1, 1, 1]
    assert len(runner.messages) == 1
    assert "out of memory" in runner.messages[0]


def test_the_user_reads_of_it_in_the_messages_of_the_features():
    volumes = [noise(seed, 5, 8, 8) for seed in (0, 1)]
    encoder = SmallDevice(1)
    masks = [torch.ones(5, 8, 8)] * 2
    result = extract_features(
        source_of(lambda device: encoder), *volumes, *masks, Settings(slice_gap=1), Progress({"encoding": 1.0})
    )
    assert any("out of memory" in message for message in result.messages)


def test_a_device_too_small_for_one_slice_gives_the_rest_to_the_cpu():
    """The "meta" device of torch stands for an accelerator that has no memory left."""
    volume, slices = noise(0, 6, 8, 8), [0, 1, 2, 3, 5]
    made = []

    def build(device):
        made.append(device.type)
        return SmallDevice(0 if device.type == "meta" else 10)

    runner = SliceRunner(source_of(build), Runtime(torch.device("meta")), "auto")
    found = all_tokens(runner, volume, slices)
    assert torch.equal(found[:, 0], volume[slices])
    assert made == ["meta", "cpu"]
    assert "CPU" in runner.messages[-1]


def test_a_cpu_too_small_for_one_slice_is_a_clear_error():
    runner = SliceRunner(source_of(lambda device: SmallDevice(0)), Runtime(CPU), "auto")
    with pytest.raises(InputError, match="smaller --input-size") as error:
        all_tokens(runner, noise(0, 3, 8, 8), [0, 1])
    assert "\n" not in str(error.value)


def test_other_errors_are_not_mistaken_for_a_lack_of_memory():
    class Broken(SmallDevice):
        def encode(self, images):
            msg = "mat1 and mat2 shapes cannot be multiplied"
            raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="mat1"):
        all_tokens(SliceRunner(source_of(lambda device: Broken(1)), Runtime(CPU), "auto"), noise(0, 2, 8, 8), [0])


class Linear:
    """A slice encoder of one random layer on 4 x 4 patches, whose output has a common offset."""

    weights_sha256 = None
    reach = 0

    def __init__(self, offset):
        self.weight = noise(5, 12, 16) - 0.5
        self.offset = offset

    def encode(self, images):
        patches = torch.nn.functional.unfold(images[:, None], 4, stride=4).transpose(1, 2)
        tokens = torch.nn.functional.linear(patches, self.weight, torch.full((12,), self.offset))
        rows = images.shape[1] // 4
        return tokens.transpose(1, 2).unflatten(2, (rows, rows))


@pytest.fixture
def halves(monkeypatch):
    """A CPU that claims units for bfloat16; torch computes it on any CPU, only slowly."""
    monkeypatch.setattr(encoding, "fast_half_precision", lambda device: torch.bfloat16)


def chosen(offset, precision="auto"):
    runner = SliceRunner(source_of(lambda device: Linear(offset)), Runtime(CPU), precision)
    runner.choose_precision(noise(0, 32, 32), lambda tokens: torch.ones(tokens, dtype=torch.bool), 3)
    return runner


def test_half_precision_is_taken_where_it_is_exact_enough(halves):
    runner = chosen(0.0)
    assert runner.precision == "bfloat16"
    assert runner.messages == []
    assert runner.one(noise(1, 32, 32)).dtype == torch.bfloat16


def test_half_precision_that_spoils_the_components_is_refused_with_a_message(halves):
    runner = chosen(500.0)
    assert runner.precision == "float32"
    assert "float32" in runner.messages[0]
    assert "%" in runner.messages[0]
    assert runner.one(noise(1, 32, 32)).dtype == torch.float32


def test_a_later_slice_that_overflows_is_encoded_in_float32(monkeypatch):
    monkeypatch.setattr(encoding, "fast_half_precision", lambda device: torch.float16)
    runner = chosen(0.0)
    assert runner.precision == "float16"
    bright = 1e6 * noise(1, 32, 32)
    torch.testing.assert_close(runner.one(bright), Linear(0.0).encode(bright[None])[0])
    assert runner.precision == "float32"
    assert "overflows" in runner.messages[-1]


def test_a_device_without_fast_half_precision_stays_in_float32(monkeypatch):
    monkeypatch.setattr(encoding, "fast_half_precision", lambda device: None)
    assert chosen(0.0).precision == "float32"


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_precision_that_is_asked_for_is_obeyed_and_recorded(halves, precision):
    volumes = [noise(seed, 5, 32, 32) for seed in (0, 1)]
    masks = [torch.ones(5, 32, 32)] * 2
    settings = Settings(precision=precision, slice_gap=1)
    result = extract_features(
        source_of(lambda device: Linear(500.0)), *volumes, *masks, settings, Progress({"encoding": 1.0})
    )
    assert result.precision == precision
    assert result.fixed.dtype == torch.float32


def test_the_error_of_components_is_relative_to_their_spread():
    exact = noise(0, 6, 9, 9)
    inside = torch.ones(9, 9, dtype=torch.bool)
    assert component_error(exact, exact, inside, 4) == pytest.approx(0, abs=1e-6)
    centre = exact.mean(dim=(1, 2), keepdim=True)
    assert component_error(exact, exact + 0.02 * (exact - centre), inside, 6) == pytest.approx(0.02, rel=1e-3)
    inside[:, :4] = False
    other = torch.where(inside, exact, 7.0)
    assert component_error(exact, other, inside, 4) == pytest.approx(0, abs=1e-6), "what is outside does not count"
    assert np.isfinite(
        component_error(torch.ones(3, 4, 4), torch.ones(3, 4, 4), torch.ones(4, 4, dtype=torch.bool), 2)
    )


def test_the_error_of_a_machine_without_enough_memory_is_recognised():
    with pytest.raises(RuntimeError) as error:
        torch.empty(10**15)
    assert is_out_of_memory(error.value)
    assert not is_out_of_memory(RuntimeError("The size of tensor a (2) must match"))
