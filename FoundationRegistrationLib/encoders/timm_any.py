"""Any backbone of timm with dense features, under the name `timm:NAME`.

Source: Wightman, "PyTorch image models" (timm). Networks with stages use the deepest one with at most 8 pixels per
token, transformers with a single token grid their last block.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError, WeightsError
from ..runtime.memory import speaks_of_memory
from .base import EncoderFamily, EncoderInfo, Statistics, input_pixels, network_input, standardised

if TYPE_CHECKING:
    import torch

    from ..settings import Settings
    from ..weights import Checkpoint

_PREFIX = "timm:"
_FINEST_STRIDE = 8
_COMPONENTS = 12
_FILE = "model.safetensors"


@dataclasses.dataclass(frozen=True)
class _Backbone:
    """timm's description of a network: name, stage to use, channels, stride and default input."""

    name: str
    stage: int
    channels: int
    stride: int
    input_size: int
    statistics: Statistics


class TimmEncoder:
    """One stage of a timm network, for square slices resized to its input size."""

    reach = 0

    def __init__(
        self, network: Any, backbone: _Backbone, input_size: int, device: torch.device, sha256: str | None
    ) -> None:
        self.weights_sha256 = sha256
        self.input_size = input_size
        self._network = network.eval().requires_grad_(False).to(device)
        self._statistics = backbone.statistics
        layout = getattr(network, "output_fmt", None)
        self._channels_last = layout is not None and layout.name == "NHWC"

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of square slices (B, H, H) in 0..1 as (B, D, h, w)."""
        (features,) = self._network(standardised(network_input(images, self.input_size), self._statistics))
        return features.permute(0, 3, 1, 2) if self._channels_last else features


def _resolve(full_name: str) -> EncoderInfo:
    """Return the properties of an encoder `timm:NAME`.

    Raises:
        SettingsError: timm has no such network, or it has no dense features.
    """
    backbone = _backbone(full_name.removeprefix(_PREFIX))
    return EncoderInfo(
        name=full_name,
        title=f"{backbone.name} of timm",
        kind="slice",
        channels=backbone.channels,
        components=min(_COMPONENTS, backbone.channels),
        tokens=backbone.input_size // backbone.stride,
        domain="see timm",
        strategy="see timm",
        finding="not in the paper",
        license="see timm",
        citation="Wightman, PyTorch image models, 2019",
        weights=(),
        build=partial(_build, backbone=backbone),
        build_untrained=partial(_build_untrained, backbone=backbone),
    )


def _backbone(name: str) -> _Backbone:
    import timm
    import torch
    from timm.models import split_model_name_tag

    architecture = split_model_name_tag(name)[0]
    if not timm.is_model(architecture) or (
        name != architecture and name not in timm.list_models(name, pretrained=True)
    ):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        advice = f"did you mean {', '.join(near)}" if near else "see timm.list_models()"
        msg = f"timm has no network '{name}'; {advice}."
        raise SettingsError(msg)
    try:
        with torch.device("meta"):
            network = timm.create_model(name, pretrained=False, features_only=True)
    except (AssertionError, AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        msg = f"timm's network '{name}' has no dense features; choose another one."
        raise SettingsError(msg) from error
    strides, channels = network.feature_info.reduction(), network.feature_info.channels()
    fine = max(_FINEST_STRIDE, min(strides))
    index = max(i for i, stride in enumerate(strides) if stride <= fine)
    config = timm.get_pretrained_cfg(name)
    return _Backbone(
        name=name,
        stage=network.feature_info.out_indices[index],
        channels=channels[index],
        stride=strides[index],
        input_size=config.input_size[-1],
        statistics=(tuple(config.mean), tuple(config.std)),
    )


def _build(settings: Settings, device: torch.device, backbone: _Backbone) -> TimmEncoder:
    checkpoint = _read(settings, backbone)
    size = input_pixels(settings, backbone.input_size, backbone.stride)
    return TimmEncoder(_network(backbone, size, checkpoint.state), backbone, size, device, checkpoint.sha256)


def _build_untrained(settings: Settings, device: torch.device, backbone: _Backbone) -> TimmEncoder:
    size = input_pixels(settings, backbone.input_size, backbone.stride)
    return TimmEncoder(_network(backbone, size, None), backbone, size, device, None)


def _network(backbone: _Backbone, size: int, state: Mapping[str, torch.Tensor] | None) -> Any:
    """Return the network for an input size, with random weights if none are given."""
    import timm
    import torch

    choice: dict[str, Any] = {"features_only": True, "out_indices": (backbone.stage,)}
    if size != backbone.input_size and timm.get_pretrained_cfg(backbone.name).fixed_input_size:
        choice["img_size"] = size
    try:
        with torch.device("meta"):
            timm.create_model(backbone.name, pretrained=False, **choice)
    except (AssertionError, TypeError, ValueError) as error:
        msg = f"timm's network '{backbone.name}' does not accept an input of {size} pixels; leave input_size at 0."
        raise SettingsError(msg) from error
    if state is None:
        return timm.create_model(backbone.name, pretrained=False, **choice)
    given = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": dict(state)}}
    try:
        timm.create_model(backbone.name, **given)  # strict, unlike the next, which would leave missing tensors random
        return timm.create_model(backbone.name, **given, **choice)
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if speaks_of_memory(error):
            raise
        msg = (
            f"The weights given are not those of timm's '{backbone.name}'; give the file that timm publishes for it."
        )
        raise WeightsError(msg) from error


def _read(settings: Settings, backbone: _Backbone) -> Checkpoint:
    """Read the weight file of the settings, else the one timm downloaded earlier."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    from ..weights import WeightsEntry, read_checkpoint

    config = timm.get_pretrained_cfg(backbone.name)
    entry = WeightsEntry(
        name=f"{_PREFIX}{backbone.name}",
        title=backbone.name,
        filename=_FILE,
        url=f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else "",
        license=config.license or "",
        license_url="",
        citation="",
        other_filenames=("pytorch_model.bin",),
    )
    if settings.weights:
        return read_checkpoint(entry, settings)
    cached = try_to_load_from_cache(config.hf_hub_id, _FILE) if config.hf_hub_id else None
    if not isinstance(cached, str):
        msg = (
            f"The weights of '{entry.name}' are not on this machine; get '{_FILE}' from "
            f"{entry.url or 'its publisher'} and give it with --weights."
        )
        raise WeightsError(msg)
    return read_checkpoint(entry, dataclasses.replace(settings, weights=cached))


FAMILIES = (EncoderFamily(prefix=_PREFIX, title="any backbone of timm with dense features", resolve=_resolve),)
