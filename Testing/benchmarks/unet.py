"""A 3D U-Net of about the size of anatomix, with random weights, to measure what such an encoder takes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class UNet(nn.Module):
    """Two convolutions at each resolution on the way down and on the way up, with skip connections.

    Args:
        width: channels at full resolution, which is also the number of features; each halving doubles them.
        levels: how often the resolution is halved.
    """

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels + 1)]
        self.levels = levels
        self.down = nn.ModuleList(_two(before, now) for before, now in zip([1, *widths], widths, strict=False))
        self.up = nn.ModuleList(_two(3 * now, now) for now in reversed(widths[:-1]))

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Return the features (1, D, z, y, x) of (1, 1, z, y, x), each axis a multiple of 2**levels."""
        skipped = []
        values = self.down[0](volume)
        for block in self.down[1:]:
            skipped.append(values)
            values = block(F.max_pool3d(values, 2))
        for block in self.up:
            values = block(torch.cat([F.interpolate(values, scale_factor=2.0), skipped.pop()], dim=1))
        return values


def _two(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers += [nn.Conv3d(channels, after, 3, padding=1), nn.BatchNorm3d(after), nn.ReLU()]
    return nn.Sequential(*layers)


class VolumeEncoder:
    """A U-Net as an encoder for `register`, in a precision of its own, since volume encoders get no other.

    Attributes:
        reach: voxels that its features depend on: four convolutions and two changes of resolution on each level that
            is left, two convolutions on the last.
    """

    def __init__(self, network: UNet, dtype: torch.dtype) -> None:
        self._network = network.eval().requires_grad_(False)
        self._dtype = dtype
        self._multiple = 2**network.levels
        self.reach = 6 * (self._multiple - 1) + 2 * self._multiple

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Return (1, D, Z, H, W) for (1, Z, H, W)."""
        shape = images.shape[1:]
        padding = [end for size in reversed(shape) for end in (0, -size % self._multiple)]
        padded = F.pad(images[None], padding)
        with torch.autocast(images.device.type, self._dtype, enabled=self._dtype != torch.float32):
            features = self._network(padded)
        return features[..., : shape[0], : shape[1], : shape[2]].float()
