"""Time and memory of an encoder for a slice on this machine."""

from __future__ import annotations

import dataclasses
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TYPE_CHECKING

from ..encoders import encoder_info
from ..errors import WeightsError
from ..settings import Settings

if TYPE_CHECKING:
    import torch

_SLICE_SIDE = 512
_VOLUME_SHAPE = (32, 256, 256)
_REPEATS = 5
_ENOUGH_SECONDS = 3.0


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The measurements of an encoder.

    Attributes:
        seconds: median time for one slice, without loading the weights or, for 3D networks, overlap of windows.
        memory_bytes: peak memory of a process that does nothing else, of the GPU if it is used, else of the host.
        device: device it ran on.
        trained: whether its weights were available; random ones take the same time.
    """

    seconds: float
    memory_bytes: int
    device: str
    trained: bool


def measure(name: str, settings: Settings) -> Measurement | None:
    """Measure an encoder in a separate process; None if there is not enough memory.

    Args:
        name: of the encoder.
        settings: device, precision and path of the weights; their encoder is ignored.

    Raises:
        SettingsError: there is no such encoder or device.
        WeightsError: the package of the encoder's weights is not installed.
    """
    from ..runtime.device import is_out_of_memory

    chosen = dataclasses.replace(settings, encoder=name)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_measure_here, chosen).result()
        except BrokenProcessPool:  # raised if the system killed the process
            return None
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return None


def _measure_here(settings: Settings) -> Measurement:
    import torch

    from ..runtime.device import describe_device, peak_memory_bytes, resolve_device

    device = resolve_device(settings.device)
    info = encoder_info(settings.encoder)
    try:
        encoder, trained = info.build(settings, device), True
    except WeightsError:
        if info.build_untrained is None:
            raise
        encoder, trained = info.build_untrained(settings, device), False
    shape = _VOLUME_SHAPE if info.kind == "volume" else (1, _SLICE_SIDE, _SLICE_SIDE)
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)
    images = images[None] if info.kind == "volume" else images
    times: list[float] = []
    with torch.inference_mode():
        while len(times) < _REPEATS and sum(times) < _ENOUGH_SECONDS:
            began = time.perf_counter()
            encoder.encode(images)
            _wait_for(device)
            times.append((time.perf_counter() - began) / shape[0])
    peak = peak_memory_bytes(device)
    later = times[1:] or times  # the first one includes library initialisation
    return Measurement(
        statistics.median(later), peak.get("device", peak["host"]), describe_device(device), trained=trained
    )


def _wait_for(device: torch.device) -> None:
    """Wait until the device has finished."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
