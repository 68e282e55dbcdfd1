"""Torch as it computes when nothing was set: with gradients, without autocast, float32 in all its digits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch


@contextmanager
def plain_torch() -> Iterator[None]:
    """Let torch compute as it does when nothing was set, and leave what the caller set as it was.

    Callers may be in the middle of an inference or a training of their own: without gradients, in mixed precision,
    with another default type or device. The default type, and what float32 means, are one for the whole process.
    """
    with ExitStack() as settings:
        settings.enter_context(torch.inference_mode(mode=False))
        settings.enter_context(torch.enable_grad())
        settings.enter_context(torch.autocast("cpu", enabled=False))
        if torch.cuda.is_available():
            settings.enter_context(torch.autocast("cuda", enabled=False))
        if torch.backends.mps.is_available():
            settings.enter_context(torch.autocast("mps", enabled=False))
        if torch.get_default_device().type != "cpu":  # the context costs a call of Python for every operation
            settings.enter_context(torch.device("cpu"))
        settings.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        settings.enter_context(full_float32())
        yield


@contextmanager
def full_float32() -> Iterator[None]:
    """Multiply and convolve float32 in its own precision, not in TensorFloat-32 or bfloat16; restore it after.

    GPUs of NVIDIA convolve in TensorFloat-32 unless told not to; it keeps three of the seven digits.
    """
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in _float32_switches()]
    try:
        for owner, name, full in _float32_switches():
            setattr(owner, name, full)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def _float32_switches() -> list[tuple[Any, str, Any]]:
    """Return what decides about float32 (object, attribute, value for full precision); torch 2.9 has other names.

    The two kinds must not be mixed: torch refuses to read the older ones once the newer ones were set otherwise.
    """
    backends: Any = torch.backends
    if hasattr(backends.cudnn, "conv"):
        places = [backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv]
        return [(place, "fp32_precision", "ieee") for place in places]
    return [(backends.cuda.matmul, "allow_tf32", False), (backends.cudnn, "allow_tf32", False)]
