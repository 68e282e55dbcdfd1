"""Torch in its default state: with gradients, without autocast, float32 in full precision."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
        # The context costs a Python call per operation. Before torch 2.6, get_default_device may raise.
        if torch.empty(0).device.type != "cpu":
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
    with ExitStack() as settings:
        for switch, full in _float32_switches():
            settings.callback(switch.set, switch.get())
            switch.set(full)
        yield


@dataclass(frozen=True)
class _Switch:
    """A setting of torch that is read and set."""

    get: Callable[[], Any]
    set: Callable[[Any], None]

    @classmethod
    def of(cls, owner: Any, name: str) -> _Switch:
        return cls(functools.partial(getattr, owner, name), functools.partial(setattr, owner, name))


def _float32_switches() -> list[tuple[_Switch, Any]]:
    """Return the float32 precision switches with their values for full precision; torch 2.9 renamed them.

    Old and new ones must not be mixed: torch refuses to read the old ones once the new ones differ from them.
    """
    backends: Any = torch.backends
    if hasattr(backends.cudnn, "conv"):
        places = [backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv]
        return [(_Switch.of(place, "fp32_precision"), "ieee") for place in places]
    multiply = _Switch(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision)
    return [(multiply, "highest"), (_Switch.of(backends.cudnn, "allow_tf32"), False)]
