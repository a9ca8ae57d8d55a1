"""`unlike describe`: what a detector is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from unlike.cli.arguments import DetectorPath, name_of
from unlike.cli.console import Console

if TYPE_CHECKING:
    from unlike.detector.detector import Detector
    from unlike.records import Layer


def describe(detector: DetectorPath) -> None:
    """Show a detector: its model layer by layer with shapes and parameters, its training, promise, and every setting.

    Example: unlike describe bottle.unlike
    """
    from unlike.detector.detector import Detector

    loaded = Detector.load(detector, "cpu")
    for line in describe_detector(name_of(detector), loaded):
        typer.echo(line)
    console = Console()
    for warning in loaded.fitted_.warnings:
        console.say(f"Warning: {warning}")


def describe_detector(name: str, detector: Detector) -> Iterator[str]:
    """The lines that say what a detector is made of."""
    from unlike.detector.explain import describe as sections_of
    from unlike.detector.explain import layers

    settings, spec = detector.settings, detector.fitted_.spec
    yield f"{name}: {settings.model_name} by {settings.scorer_name}, for images of {spec.height} x {spec.width} x {spec.channels}"
    yield ""
    yield from _table(layers(detector))
    yield ""
    yield from _training(detector)
    for section, values in sections_of(detector).items():
        yield ""
        yield f"[{section}]"
        yield from (f"{key} = {_plain(value)}" for key, value in values.items())


def _table(layers: Sequence[Layer]) -> Iterator[str]:
    """Layer, what it is, shape and parameters, in columns."""
    rows = [("layer", "what it is", "output", "parameters")]
    for layer in layers:
        shape = "-" if layer.shape is None else " x ".join(map(str, layer.shape))
        rows.append((layer.name, layer.kind, shape, f"{layer.parameters:,}" + " (frozen)" * layer.frozen))
    names, kinds, shapes, _ = (max(len(row[column]) for row in rows) for column in range(4))
    yield from (f"{row[0]:{names}}  {row[1]:{kinds}}  {row[2]:>{shapes}}  {row[3]}" for row in rows)
    learned = sum(layer.parameters for layer in layers if not layer.frozen)
    frozen = sum(layer.parameters for layer in layers if layer.frozen)
    yield f"{learned + frozen:,} parameters" + (f", of which {frozen:,} are frozen" if frozen else "")


def _training(detector: Detector) -> Iterator[str]:
    """How it was trained, and what is promised."""
    from unlike.records import kept_epoch

    fitted, keep = detector.fitted_, detector.settings.training.keep
    images = ", ".join(f"{count:,} {use}" for use, count in fitted.counts.items() if count)
    yield f"fitted on {fitted.source}: {images}"
    kept = kept_epoch(fitted.history, keep)
    if kept is None:
        yield "the model was not trained"
    else:
        losses = f"training loss {kept['train']:.4g}, validation loss {kept['validation']:.4g}"
        yield f"trained for {len(fitted.history)} epochs; epoch {kept['epoch']:.0f} was kept, by {keep}: {losses}"
    threshold = fitted.decision.threshold_of("")
    yield f"threshold {threshold.score:.4g}: {threshold.promise.words}"


def _plain(value: Any) -> str:
    """A value in one line.

    >>> _plain({"train": 3, "validation": 1}), _plain([1, 2])
    ('train 3, validation 1', '1, 2')
    """
    from unlike.artifacts import printable

    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return printable(str(value))
