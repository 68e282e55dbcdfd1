"""The 3D U-Net of anatomix, with the layers' numbers of its published state dictionaries.

Source: Dey et al., "Learning general-purpose biomedical volume representations using randomized synthesis",
ICLR 2025, and the authors' repository neel-dey/anatomix.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Architecture:
    """What differs between the published U-Nets.

    Attributes:
        width: channels at full resolution, doubled by each halving of the resolution.
        features: channels of the output.
        levels: halvings of the resolution.
        instance_norm: instance normalisation without parameters, mean pooling and trilinear upsampling; otherwise
            batch normalisation, max pooling and nearest-neighbour upsampling.
    """

    width: int
    features: int
    levels: int
    instance_norm: bool


class UNet3d(nn.Module):
    """Two 3 x 3 x 3 convolutions per level and direction, and one more at the beginning and at the end.

    Each but the last is followed by normalisation and ReLU. Borders are mirrored in every convolution.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.multiple = 2**architecture.levels
        self._instance_norm = architecture.instance_norm
        widths = [architecture.width * 2**level for level in range(architecture.levels + 1)]
        layers = self._block(1, widths[0])
        for level, width in enumerate(widths):
            if level > 0:
                layers.append(nn.AvgPool3d(2) if self._instance_norm else nn.MaxPool3d(2))
            layers += self._block(widths[max(level - 1, 0)], width) + self._block(width, width)
        for width in reversed(widths[:-1]):
            layers.append(nn.Upsample(scale_factor=2, mode="trilinear" if self._instance_norm else "nearest"))
            layers += self._block(3 * width, width) + self._block(width, width)
        layers.append(self._convolution(widths[0], architecture.features))
        self.model = nn.ModuleList(layers)

    def _convolution(self, before: int, after: int) -> nn.Module:
        return nn.Conv3d(before, after, 3, padding=1, padding_mode="reflect", bias=self._instance_norm)

    def _block(self, before: int, after: int) -> list[nn.Module]:
        norm = nn.InstanceNorm3d(after, eps=1e-2) if self._instance_norm else nn.BatchNorm3d(after)
        return [self._convolution(before, after), norm, nn.ReLU(inplace=True)]

    def forward(self, volume: torch.Tensor) -> torch.Tensor:
        """Return the features (B, D, z, y, x) of (B, 1, z, y, x) in 0..1, of any size.

        Sizes that the levels do not divide are extended at their ends by the last voxel, then cut off again.
        """
        shape = volume.shape[2:]
        least = 2 * self.multiple  # at the lowest resolution mirroring needs two voxels
        missing = [max(least - size, -size % self.multiple) for size in shape]
        values = F.pad(volume, [end for size in reversed(missing) for end in (0, size)], mode="replicate")
        skipped: list[torch.Tensor] = []
        for layer in self.model:
            if isinstance(layer, (nn.MaxPool3d, nn.AvgPool3d)):
                skipped.append(values)
            values = layer(values)
            if isinstance(layer, nn.Upsample):
                values = torch.cat([skipped.pop(), values], dim=1)
        return values[..., : shape[0], : shape[1], : shape[2]]
