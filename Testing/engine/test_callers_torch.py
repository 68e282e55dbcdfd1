"""A registration does not depend on what its caller set in torch, and leaves that as it was."""

from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from small_runs import small_pair

from FoundationRegistrationLib import Settings, register
from FoundationRegistrationLib.errors import InputError

QUICK = Settings(
    encoder="mind",
    device="cpu",
    working_spacing_mm=4.0,
    grid_spacing=4,
    iterations=6,
    fluid_iterations=4,
    initialization="none",
    feature_cache_gb=0.0,
)


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def default_device(device):
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


AROUND = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "float16": lambda: default_dtype(torch.float16),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "meta": lambda: default_device("meta"),
    "device context": lambda: torch.device("meta"),
}


def state():
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        (torch.ones(2, 2, device="cpu") @ torch.ones(2, 2, device="cpu")).dtype,  # tells of autocast
        torch.get_default_dtype(),
        torch.empty(0).device,
    )


@pytest.fixture(scope="module")
def pair():
    return small_pair()


@pytest.fixture(scope="module")
def plain(pair):
    return sitk.GetArrayFromImage(register(*pair, QUICK).displacement)


@pytest.mark.parametrize("names", [*[(name,) for name in AROUND], ("inference_mode", "autocast", "float64", "meta")])
def test_the_same_is_found_whatever_the_caller_set(names, pair, plain):
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(AROUND[name]())
        before = state()
        result = register(*pair, QUICK)
        with pytest.raises(InputError):
            register(pair[0], pair[1] * 0, QUICK)
        assert state() == before
    np.testing.assert_array_equal(sitk.GetArrayFromImage(result.displacement), plain)
