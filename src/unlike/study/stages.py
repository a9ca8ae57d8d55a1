"""A detector's model before and after fine-tuning, made ready for its residuals to be compared."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from unlike.detector.building import place
from unlike.detector.classifier import Classifier
from unlike.detector.detector import Detector
from unlike.detector.explain import reconstruct
from unlike.detector.pipeline import Pipeline, score_pixels
from unlike.errors import ConfigError
from unlike.models.base import Model
from unlike.records import Floats, Pixels
from unlike.report.residuals import Stage
from unlike.scoring.reconstruction import ResidualConfig, ResidualScorer

PRETRAINED, FINETUNED = "the pretrained model", "the fine-tuned model"


def stage_of(detector: Detector, title: str = PRETRAINED, name: str = "the detector") -> Stage:
    """The model as its detector left it; a ConfigError says that `name` makes no images."""
    fitted = detector.fitted_
    return _make_stage(title, name, fitted.pipeline.model, detector, fitted.digests)


def stage_after(
    detector: Detector, classifier: Classifier, title: str = FINETUNED, name: str = "the classifier"
) -> Stage:
    """The same model as fine-tuning left it; a ConfigError says that `name` is of another detector, or makes no images."""
    source = classifier.describe()["encoder"]["source"]
    theirs = (classifier.settings.detector, classifier.spec_, source)
    if theirs != (detector.settings, detector.fitted_.spec, detector.fitted_.source):
        raise ConfigError(
            f"{name}: was fine-tuned from another detector, fitted on {source}; give the detector it came from"
        )
    network = classifier.model_
    note = note_of(classifier, learns_to_reconstruct=bool(network.reconstruction_weight))
    return _make_stage(title, name, network.model, detector, classifier.digests_, note)


def note_of(classifier: Classifier, *, learns_to_reconstruct: bool) -> str:
    """What a reader must know of how the decoder fared while the encoder learned classes; mostly nothing."""
    chosen = classifier.settings.finetune
    if chosen.scratch:
        return "from random weights" + ("" if learns_to_reconstruct else ": its decoder has learned nothing")
    if chosen.freeze_encoder:
        return "its encoder was frozen: nothing has changed"
    return "" if learns_to_reconstruct else "only its encoder was fine-tuned: the decoder no longer fits it"


def reconstructs_images(model: Model) -> bool:
    """Whether a model makes images of its codes, which can be compared with what they were made of."""
    return "reconstruction" in model.output_spec.names and model.output_spec.images


def _make_stage(
    title: str, name: str, model: Model, detector: Detector, digests: npt.NDArray[np.uint64], note: str = ""
) -> Stage:
    """How a model reconstructs images as its detector sees them."""
    if detector.settings.data.tile is not None:
        raise ConfigError(f"{name}: sees images in tiles, whose residuals are not shown; take one without data.tile")
    if not reconstructs_images(model):
        raise ConfigError(
            f"{name}: its {type(model).__name__} has no decoder of images, so nothing can be compared with them; "
            "take a model that has one, such as conv or vae"
        )
    residuals = Pipeline(model, ResidualScorer(ResidualConfig(), model.output_spec))
    place(residuals.eval(), detector.device)  # a batch norm that still learns would measure something else
    values = detector.fitted_.spec.value_range
    return Stage(title, partial(_find_maps, residuals, values), partial(_reconstruct, residuals, values), digests, note)


def _find_maps(residuals: Pipeline, value_range: tuple[float, float], pixels: Pixels) -> Floats:
    return score_pixels(residuals, pixels, value_range)[0]


def _reconstruct(residuals: Pipeline, value_range: tuple[float, float], pixels: Pixels) -> Pixels:
    images = reconstruct(residuals, pixels, value_range)
    assert images is not None, "it reconstructs images"
    return images
