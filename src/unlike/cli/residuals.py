"""`unlike latent residuals`: are anomalous images rebuilt worse than normal ones, and still so after fine-tuning?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unlike.cli.arguments import DetectorPath, Device, finish
from unlike.cli.console import Console, plural
from unlike.cli.latent import Labels, Output
from unlike.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from unlike.detector.classifier import Classifier
    from unlike.detector.detector import Detector
    from unlike.evaluation.residuals import Gap
    from unlike.models.base import Model
    from unlike.records import Floats, Pixels
    from unlike.report.residuals import HeldOut, Stage

WORDS = (
    "How badly images are rebuilt that no model has learned from: a dot is an image, the diamond the mean of its group with "
    "its 95 % interval. The ratio of the means can be large because of a few images; AUROC is the chance that an anomalous "
    "image has the larger residual. The examples are typical ones, chosen by their place in their group."
)


def residuals(
    detector: DetectorPath,
    labelled: Annotated[
        str,
        typer.Argument(
            metavar="LABELLED", help="As for `evaluate`: normal images that were held out, and anomalous ones."
        ),
    ],
    output: Output,
    classifier: Annotated[
        Path | None,
        typer.Option(metavar="CLASSIFIER", help="What `unlike finetune` made of the detector, to compare with it."),
    ] = None,
    labels: Labels = None,
    device: Device = "auto",
) -> None:
    """Compare how well held-out normal and anomalous images are rebuilt, before and after fine-tuning.

    Images that a model has learned from are left out: it rebuilds them better than any it will meet.

    Example: unlike latent residuals cells.unlike cells/ -o residuals.png --classifier cells.classifier
    """
    from unlike.data.index import find_images
    from unlike.detector.detector import Detector
    from unlike.report.pictures import check_picture, write_picture
    from unlike.report.residuals import choose_examples, hold_out, residual_page, show_examples

    check_picture(output)
    loaded = Detector.load(detector, device)
    stages = [_make_stage("the detector", loaded.model_, loaded, detector, loaded.digests_)]
    if classifier is not None:
        stages.append(_after(loaded, classifier))
    index = find_images(labelled, labels).labelled()
    console = Console()
    with console.progress() as notify:
        held_out = hold_out(index, loaded.spec_, stages, lambda done, total: notify("score", done, total, {}))
    gaps = held_out.measure()
    examples = show_examples(index, loaded.spec_, stages, choose_examples(held_out))
    anomalous = int(held_out.anomalous.sum())
    title = f"Residuals of {len(held_out.samples) - anomalous:,} normal and {anomalous:,} anomalous images"
    write_picture(residual_page(held_out, gaps, stages, examples, title), output, title, WORDS)
    _say(console, held_out, stages, gaps, output)
    finish(console, held_out.unreadable)


def _after(loaded: Detector, folder: Path) -> Stage:
    """The model as fine-tuning has left it; a ConfigError where it was another detector's."""
    from unlike.detector.classifier import Classifier

    classifier = Classifier.load(folder, loaded.device)
    source = classifier.describe()["encoder"]["source"]
    theirs = (classifier.settings.detector, classifier.spec_, source)
    if theirs != (loaded.settings, loaded.spec_, loaded.source_):
        raise ConfigError(
            f"--classifier: {folder} was fine-tuned from another detector, fitted on {source}; give the detector it came from"
        )
    network = classifier.model_
    note = _describe(classifier, network.reconstruction_weight)
    return _make_stage("the fine-tuned model", network.model, loaded, folder, classifier.digests_, note)


def _describe(classifier: Classifier, reconstruction_weight: float) -> str:
    """What a reader must know of how the decoder fared while the encoder learned classes; mostly nothing."""
    chosen = classifier.settings.finetune
    if chosen.scratch:
        return "from random weights" + ("" if reconstruction_weight else ": its decoder has learned nothing")
    if chosen.freeze_encoder:
        return "its encoder was frozen: nothing has changed"
    return "" if reconstruction_weight else "only its encoder was fine-tuned: the decoder no longer fits it"


def _make_stage(
    title: str, model: Model, loaded: Detector, folder: Path, digests: npt.NDArray[np.uint64], note: str = ""
) -> Stage:
    """How a model rebuilds images as its detector sees them; a ConfigError where it makes no images."""
    from unlike.detector.fitting import choose_device
    from unlike.detector.pipeline import rebuild_pixels, residual_maps
    from unlike.models.base import Autoencoder
    from unlike.report.residuals import Stage

    if loaded.settings.data.tile is not None:
        raise ConfigError(f"{folder}: sees images in tiles, whose residuals are not shown; take one without data.tile")
    if not (isinstance(model, Autoencoder) and model.rebuilds_images):
        raise ConfigError(
            f"{folder}: its {type(model).__name__} has no decoder of images, so nothing can be compared with them; "
            "take a model that has one, such as conv or vae"
        )
    model.to(choose_device(loaded.device)).eval()  # a batch norm that still learns would measure something else
    values = loaded.value_range_

    def find_maps(pixels: Pixels) -> Floats:
        return residual_maps(pixels, values, model)

    def rebuild(pixels: Pixels) -> Pixels:
        images = rebuild_pixels(pixels, values, model)
        assert images is not None
        return images

    return Stage(title, find_maps, rebuild, digests, note)


def _say(console: Console, held_out: HeldOut, stages: Sequence[Stage], gaps: Sequence[Gap], output: Path) -> None:
    """The figures on stdout, and what was left out."""
    from unlike.report.residuals import estimate_words, gap_words

    for stage, gap in zip(stages, gaps, strict=True):
        means = f"normal {estimate_words(gap.normal)}, anomalous {estimate_words(gap.anomalous)}"
        typer.echo(f"{stage.title}: mean residual {means}; {', '.join(gap_words(gap))}")
    if held_out.known:
        console.say(
            f"{plural(len(held_out.known), 'image')} left out, such as {held_out.known[0]}: a model has learned from them, "
            "and rebuilds them better than others."
        )
    console.say(f"Residuals of {plural(len(held_out.samples), 'image')}: {output}")
