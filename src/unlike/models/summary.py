"""A model layer by layer: what runs after what, the shapes that come out, and how many numbers are learned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from unlike.models.base import Model
from unlike.records import Layer


def summarise(model: Model) -> tuple[Layer, ...]:
    """Every layer of a model, in the order of its parts, with the shape that it makes of one image.

    What is computed without a layer, as sums, skips and reshapes are, is not seen. A part that runs as a whole, such as a
    frozen network that was compiled, is one row.

    >>> from unlike.models import MODELS
    >>> from unlike.records import ImageShape
    >>> model = MODELS["fcn"](MODELS["fcn"].Config(widths=(8, 2)), ImageShape(1, 4, 4))
    >>> [(layer.name, layer.kind.partition("(")[0], layer.shape, layer.parameters) for layer in summarise(model)][:3]
    [('encoder.0', 'Linear', (8,), 136), ('encoder.1', 'ReLU', (8,), 0), ('encoder.2', 'Linear', (2,), 18)]
    """
    learning, shape = model.training, model.shape
    shapes: dict[nn.Module, tuple[int, ...]] = {}
    leaves = [module for module in model.modules() if not any(True for _ in module.children())]
    handles = [module.register_forward_hook(_recorder(shapes)) for module in leaves if module is not model]
    device = next((value.device for value in model.state_dict().values()), None)
    try:
        with torch.inference_mode():
            image = torch.zeros(1, shape.channels, shape.height, shape.width, device=device)
            model.eval().outputs(image, model.output_spec.names)
    finally:
        for handle in handles:
            handle.remove()
        model.train(learning)
    return tuple(_walk("", model, shapes))


def _recorder(shapes: dict[nn.Module, tuple[int, ...]]) -> Any:
    def record(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            shapes.setdefault(module, tuple(output.shape[1:]))

    return record


def _walk(name: str, module: nn.Module, shapes: dict[nn.Module, tuple[int, ...]]) -> Iterator[Layer]:
    """The layers of a part, or the part as one row where none of its layers ran by itself."""
    parameters = list(module.parameters())
    if module in shapes or not any(layer in shapes for layer in module.modules()):
        if module in shapes or parameters:
            learned = all(parameter.requires_grad for parameter in parameters)
            count = sum(parameter.numel() for parameter in parameters)
            yield Layer(name, _kind(module), shapes.get(module), count, frozen=bool(parameters) and not learned)
        return
    direct = sum(parameter.numel() for parameter in module.parameters(recurse=False))
    if direct:
        yield Layer(name, type(module).__name__, None, direct)
    for part, child in module.named_children():
        yield from _walk(f"{name}.{part}" if name else part, child, shapes)


def _kind(module: nn.Module) -> str:
    """A layer as torch writes it, without what is usual; a part of several by its name alone."""
    several = any(True for _ in module.children())
    return type(module).__name__ if several else f"{type(module).__name__}({module.extra_repr()})"
