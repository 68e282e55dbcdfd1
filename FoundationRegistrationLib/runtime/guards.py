"""Torch in its default state: with gradients, without autocast, float32 in full precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch


@contextmanager
def plain_torch() -> Iterator[None]:
    """Run the block with torch in its default state, and restore the caller's state afterwards.

    Callers may be in the middle of their own inference or training: without gradients, in mixed precision, with
    another default type or device. The default type and the float32 precision are global to the process.
    """
    with ExitStack() as settings:
        settings.enter_context(torch.inference_mode(mode=False))
        settings.enter_context(torch.enable_grad())
        settings.enter_context(torch.autocast("cpu", enabled=False))
        if torch.cuda.is_available():
            settings.enter_context(torch.autocast("cuda", enabled=False))
        if torch.backends.mps.is_available():
            settings.enter_context(torch.autocast("mps", enabled=False))
        if torch.get_default_device().type != "cpu":  # the context costs a Python call per operation
            settings.enter_context(torch.device("cpu"))
        settings.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        settings.enter_context(full_float32())
        yield


@contextmanager
def full_float32() -> Iterator[None]:
    """Multiply and convolve float32 in full precision, not in TensorFloat-32 or bfloat16, within the block.

    NVIDIA GPUs convolve in TensorFloat-32 by default, which keeps three of the seven digits.
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
    """Return the float32 precision switches (object, attribute, value for full precision); torch 2.9 renamed them.

    Old and new ones must not be mixed: torch refuses to read the old ones once the new ones differ from them.
    """
    backends: Any = torch.backends
    if hasattr(backends.cudnn, "conv"):
        places = [backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv]
        return [(place, "fp32_precision", "ieee") for place in places]
    return [(backends.cuda.matmul, "allow_tf32", False), (backends.cudnn, "allow_tf32", False)]
