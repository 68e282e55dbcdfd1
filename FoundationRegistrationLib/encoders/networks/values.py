"""Uninitialised networks and networks with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def without_values(make: Callable[[], Any]) -> Any:
    """Return a network with uninitialised parameters, which saves the time to draw them.

    It must not have buffers that it initialises itself.
    """
    with torch.device("meta"):
        network = make()
    return network.to_empty(device="cpu")


def randomise(network: Any) -> Any:
    """Give every parameter of a network small, reproducible random values; return the network."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.02, generator=generator)
    return network
