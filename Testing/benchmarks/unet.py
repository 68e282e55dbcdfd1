"""A 3D U-Net of the size of anatomix, with random weights, to measure what such an encoder takes."""

from __future__ import annotations

import torch

from FoundationRegistrationLib.encoders.networks.unet3d import UNet3d


class VolumeEncoder:
    """A U-Net as an encoder for `register`, in a precision of its own, since volume encoders get no other."""

    window = reach = 128  # voxels, as for anatomix

    def __init__(self, network: UNet3d, dtype: torch.dtype) -> None:
        self._network = network.eval().requires_grad_(False)
        self._dtype = dtype

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Return (1, D, Z, H, W) for (1, Z, H, W)."""
        with torch.autocast(images.device.type, self._dtype, enabled=self._dtype != torch.float32):
            return self._network(images[None]).float()
