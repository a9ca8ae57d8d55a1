"""What a fit starts from: the input spec that images call for, a fresh model for it, and the device it is on."""

from __future__ import annotations

import torch
from torch import nn

from unlike.backbones.network_cache import NetworkCache
from unlike.data.input_spec import InputSpec
from unlike.data.looks import usual_side
from unlike.data.randomness import isolated_randomness
from unlike.data.source import Source, choose_form
from unlike.detector.settings import LEAST_NATIVE, DataConfig, Settings
from unlike.detector.storage import shape_of
from unlike.errors import ConfigError
from unlike.models import MODELS
from unlike.models.base import Model
from unlike.models.initialise import initialise
from unlike.records import ImageShape

FILE_SIDE = 256  # pixels: the default size for images in files
NATIVE_STEP = 128  # pixels: images that are seen at their own size have sides of so many times a whole number
USUAL_LEAST = 256  # pixels a side, on which networks see much, unless
MOST_ENLARGED = 4  # times its own size that would be, beyond which there is nothing to see
GRID_STEP = 32  # pixels: the coarsest cell of the networks that are usual here
MOST_TILED = 4096  # pixels a side of those that are cut into tiles


def choose_device(name: str) -> torch.device:
    """The torch device of that name; "auto" takes an accelerator where there is one.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        torch.empty(0, device="cuda" if name == "gpu" else name)
        return torch.device("cuda" if name == "gpu" else name)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(
            f"device {name!r} cannot be used here ({first}); expected auto, cpu, cuda or cuda:0"
        ) from None


def place(module: nn.Module, device: str) -> torch.device:
    """Bring a model, or a whole pipeline, to the device of that name."""
    chosen = choose_device(device)
    module.to(chosen).to(memory_format=torch.channels_last)
    return chosen


def spec_for(source: Source, data: DataConfig) -> tuple[InputSpec, tuple[str, ...]]:
    """The form in which all these images will be seen, and in sentences what that does to those that are unlike most."""
    sides = data.sides
    if data.size == "native":
        side = native_side(usual_side(source), data.most_native if data.tile is None else MOST_TILED)
        sides = (side, side)
    return choose_form(
        source,
        sides,
        None if data.channels == "auto" else data.channels,
        data.aspect,
        fallback=(FILE_SIDE, FILE_SIDE),
        bits=None if data.bits == "auto" else data.bits,
        missing=data.missing,
        most_pixels=data.most_pixels,
    )


def native_side(usual: int, most: int) -> int:
    """The side at which images of that usual side are seen: their own, within bounds, in steps that networks divide well.

    >>> [native_side(side, most=512) for side in (28, 96, 330, 612, 3000)]
    [128, 256, 256, 512, 512]
    """
    own = min(max(usual // NATIVE_STEP * NATIVE_STEP, USUAL_LEAST), most)
    enlarged = MOST_ENLARGED * usual // GRID_STEP * GRID_STEP
    return min(own, max(enlarged, LEAST_NATIVE))


def build_model(settings: Settings, spec: InputSpec, seed: int, networks: NetworkCache | None = None) -> Model:
    """A fresh model for images in that spec, or for their tiles."""
    shape = shape_of(settings, spec)
    with isolated_randomness(seed):
        try:
            model = MODELS[settings.model_name].build(settings.model, shape, networks)
        except (RuntimeError, MemoryError) as error:  # the allocator's, of a layer as large as a huge image
            first = str(error).splitlines()[0]
            raise ConfigError(
                f"model {settings.model_name!r} for {shape.height} x {shape.width} x {shape.channels} images "
                f"cannot be built ({first}); try a smaller --size"
            ) from None
        initialise(model, settings.training.initialisation)
    return model


def check_suits(model: Model, settings: Settings, spec: InputSpec) -> Model:
    """A trained model, or a ConfigError where it is not what the settings describe, for images in that spec."""
    shape: ImageShape = shape_of(settings, spec)
    wanted = MODELS[settings.model_name]
    if not (isinstance(model, wanted) and model.config == settings.model and model.shape == shape):
        raise ConfigError(
            f"the model given to fit is a {type(model).__name__} for {model.shape}; these settings and images need a "
            f"{wanted.__name__} for {shape}, with the settings of section [model]"
        )
    return model
