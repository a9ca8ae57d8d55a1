"""From a detector to a classifier: its encoder, fine-tuned on a few labelled images to name classes."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tomli_w
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors

from unlike.artifacts import CLASSIFIER, misfits_refused, read_facts, read_folder, write_folder
from unlike.cache import Cache
from unlike.calibration.stored import pack_arrays, unpack_arrays
from unlike.data.batches import ImageSet, digest, iterate
from unlike.data.classes import check_classes, choose_part, find_classes, number_classes, sort_classes
from unlike.data.input_spec import InputSpec
from unlike.data.pages import turn_pages
from unlike.data.randomness import isolated_randomness
from unlike.data.source import Images, Source, open_source
from unlike.data.split import Labels, Split, distinct_rows, split_classes
from unlike.data.tensors import to_tensor
from unlike.detector.building import choose_device
from unlike.detector.detector import Detector
from unlike.detector.fitting import Notify, say_nothing
from unlike.detector.settings import FINETUNE_SECTIONS, ClassifierSettings, Settings, check_seed, copy_sections
from unlike.detector.storage import pack_weights, versions, without_pretrained
from unlike.errors import ConfigError, NotFittedError, none_usable
from unlike.models import MODELS, Model
from unlike.models.initialise import initialise
from unlike.records import Floats, ImageShape, Pixels, Predictions, Unreadable
from unlike.training import Checkpoint, History, LabelModel, class_probabilities, train

FORMAT = 1  # of the folder; a higher one is from a newer version
WEIGHTS, ARRAYS = "weights.safetensors", "evidence.npz"
BLOCK = 64  # images through the model at once


@dataclass(slots=True, eq=False)
class Finetuned:
    """What a classifier has learned, and from what."""

    model: LabelModel
    classes: tuple[str, ...]  # K, sorted
    confusion: npt.NDArray[np.intp]  # (K, K) of the validation images: true class, named class
    digests: npt.NDArray[np.uint64]  # of all images it was fine-tuned on
    history: History
    source: str
    counts: dict[str, int]  # of images, by what they were used for

    def describe(self) -> dict[str, Any]:
        """The facts that are neither weights nor arrays, in values that TOML holds."""
        return {"source": self.source, "classes": list(self.classes), "images": dict(self.counts)}


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """What a classifier takes over from its detector."""

    source: str  # the images the detector was fitted on
    spec: InputSpec
    model: Model | None  # where the fine-tuning starts; None in a classifier that was loaded

    @classmethod
    def restore(cls, facts: Mapping[str, Any]) -> Origin:
        """From what `describe` gave."""
        return cls(str(facts["source"]), InputSpec.restore(facts), None)

    def describe(self) -> dict[str, Any]:
        """All but the model, in values that TOML holds."""
        return {"source": self.source, **self.spec.describe()}


class Classifier:
    """Names the class of each image, after having seen a few labelled ones: a detector's encoder with a head on it.

    `Classifier.from_detector` takes the encoder over, `fit` fine-tunes it, `predict` names classes.

    >>> images = np.random.default_rng(0).integers(100, 120, (40, 16, 16), dtype=np.uint8)
    >>> images[::2, 4:12] += 100
    >>> detector = Detector(model="conv", epochs=1, false_alarms=0.1).fit(images)
    >>> words = ["striped", "plain"] * 20
    >>> classifier = Classifier.from_detector(detector, epochs=10).fit(images, words)
    >>> classifier.predict(images[:3]).names
    ('striped', 'plain', 'striped')
    """

    def __init__(
        self, settings: ClassifierSettings, origin: Origin, *, seed: int = 0, device: str = "auto", cache: bool = True
    ) -> None:
        self.settings = settings
        self.seed = check_seed(seed)
        self.device = device
        self.cache = cache
        self._origin = origin
        self._finetuned: Finetuned | None = None

    def __repr__(self) -> str:
        state = "not fine-tuned" if self._finetuned is None else f"fine-tuned on {self._finetuned.source}"
        return f"Classifier(model={self.settings.detector.model_name!r}; {state})"

    @classmethod
    def from_detector(
        cls,
        detector: Detector,
        *,
        epochs: int | None = None,
        seed: int = 0,
        device: str = "auto",
        cache: bool = True,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Classifier:
        """A classifier that will start from the detector's encoder, and see images as it does.

        `settings` has the sections finetune, augment, corruption and training. The detector stays as it is.
        """
        if detector.settings.data.tile is not None:
            raise ConfigError(
                "a detector that sees images in tiles cannot name their class: take one fitted without data.tile"
            )
        overrides = copy_sections(settings or {})
        if epochs is not None:
            overrides.setdefault("training", {})["epochs"] = epochs
        chosen = ClassifierSettings.resolve(detector.settings, overrides)
        fitted = detector.fitted_
        chosen.finetune.weigh_reconstruction(fitted.pipeline.model)  # or an error, before any image is read
        origin = Origin(fitted.source, fitted.spec, fitted.pipeline.model)
        return cls(chosen, origin, seed=seed, device=device, cache=cache)

    def fit(
        self,
        labelled: Images,
        labels: Any = None,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        notify: Notify | None = None,
    ) -> Classifier:
        """Learn from labelled images: a folder with a subfolder for each class, a manifest, or an array with `labels`.

        Each class needs two images, of which a share is held out to choose the best weights. Images that cannot be
        read are left out and named in `unreadable_`. `checkpoint` names a file in which the training keeps its state, to
        go on from after a kill with `resume=True`.
        """
        if self._origin.model is None:
            raise ConfigError("a classifier that was loaded is not fitted again; start anew with from_detector")
        source = choose_part(turn_pages(find_classes(labelled, labels), self.settings.detector.data.pages), "train")
        images = self._load_images(source, notify or say_nothing)
        classes, codes, split = self._deal(images, source.name)
        model = self._build(len(classes), codes[split.train])
        state = None if checkpoint is None else Checkpoint(Path(checkpoint), self._fingerprint(images, codes))
        history = train(
            model,
            images,
            split,
            self.settings.training,
            value_range=self._origin.spec.value_range,  # black and white are what they were for the encoder
            labels=codes,
            augmentation=self.settings.augment,
            corruption=self.settings.corruption,
            seed=self.seed,
            device=self.device,
            checkpoint=state,
            resume=resume,
            notify=None if notify is None else lambda epoch, epochs, row: notify("train", epoch, epochs, row),
        )
        counts, digests = _count(images, split), np.unique(images.digests)
        confusion = np.zeros((len(classes), len(classes)), np.intp)
        self._finetuned = Finetuned(model, classes, confusion, digests, history, source.name, counts)
        for batch in iterate(images, split.validation, self._origin.spec):
            named = self._find_probabilities(batch.pixels).argmax(axis=1)
            np.add.at(confusion, (number_classes(batch.samples, classes), named), 1)
        self.unreadable_: tuple[Unreadable, ...] = images.unreadable
        return self

    def predict(self, images: Images) -> Predictions:
        """The class of each image and how likely each class is; a DataError where no image can be read."""
        found = join_predictions(list(self.stream(images)))
        if not found.samples:
            raise none_usable("no image", "classified", found.unreadable)
        return found

    def stream(self, images: Images, batch_size: int | None = None) -> Iterator[Predictions]:
        """Predict a batch at a time, in order: memory does not grow with the number of images."""
        classes = self.classes_
        source = open_source(images, pages=self.settings.detector.data.pages)
        for batch in source.stream(self._origin.spec, batch_size):
            probabilities = self._find_probabilities(batch.pixels)
            digests = np.fromiter(map(digest, batch.pixels), np.uint64, len(batch.samples))
            found = Predictions(batch.samples, classes, probabilities, digests, batch.unreadable)
            yield found if np.isfinite(probabilities).all() else _set_aside(found)

    def describe(self) -> dict[str, dict[str, Any]]:
        """Every setting, and what was learned, by section: what `classifier.toml` says."""
        sections: dict[str, dict[str, Any]] = {**self.settings.to_sections(), "run": {"seed": self.seed}}
        sections |= {"encoder": {"model": self.settings.detector.model_name, **self._origin.describe()}}
        sections |= {"versions": versions()}
        return sections if self._finetuned is None else {**sections, "fitted": self._finetuned.describe()}

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the classifier as a folder, whole or not at all."""
        learned = self._need()
        facts: dict[str, Any] = {"format": FORMAT, "seed": self.seed, **self.settings.to_sections()}
        facts |= {"origin": self._origin.describe(), "fitted": learned.describe(), "versions": versions()}
        facts |= {"detector": self.settings.detector.to_sections(), "history": learned.history}
        arrays = pack_arrays({"confusion": learned.confusion, "digests": learned.digests})
        files = {CLASSIFIER.facts: tomli_w.dumps(facts).encode(), WEIGHTS: pack_weights(learned.model), ARRAYS: arrays}
        write_folder(Path(folder), files, CLASSIFIER)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], device: str = "auto") -> Classifier:
        """Read a classifier that `save` wrote; an ArtifactError says what is wrong with it. Runs no code from the folder."""
        folder = Path(folder)
        facts = read_facts(folder, CLASSIFIER, FORMAT)
        contents = read_folder(folder, (WEIGHTS, ARRAYS), CLASSIFIER)
        with misfits_refused(folder, CLASSIFIER, SafetensorError):
            detector = Settings.from_sections(facts["detector"])
            sections = {name: facts[name] for name in FINETUNE_SECTIONS}
            origin = Origin.restore(facts["origin"])
            settings = ClassifierSettings.from_sections(detector, sections)
            classifier = cls(settings, origin, seed=int(facts["seed"]), device=device)
            classifier._restore(facts, contents)
        return classifier

    @property
    def classes_(self) -> tuple[str, ...]:
        """The names of the classes, in order."""
        return self._need().classes

    @property
    def confusion_(self) -> npt.NDArray[np.intp]:
        """(K, K) validation images, by true class (rows) and named class (columns)."""
        return self._need().confusion

    @property
    def spec_(self) -> InputSpec:
        """The size, channels and type of images that the classifier takes: its detector's."""
        return self._origin.spec

    @property
    def history_(self) -> History:
        """One row an epoch: epoch, train and validation loss, learning_rate."""
        return self._need().history

    @property
    def digests_(self) -> npt.NDArray[np.uint64]:
        """Of all images it was fine-tuned on, to tell whether a test image was among them."""
        return self._need().digests

    @property
    def model_(self) -> LabelModel:
        """The fine-tuned model with its head."""
        return self._need().model

    @property
    def frozen_(self) -> bool:
        """Whether the encoder stayed as it was, and only the head has learned."""
        return not any(parameter.requires_grad for parameter in self.model_.model.parameters())

    def _need(self) -> Finetuned:
        if self._finetuned is None:
            raise NotFittedError(
                "this classifier has not been fine-tuned yet; call fit(labelled) or Classifier.load(folder) first"
            )
        return self._finetuned

    def _load_images(self, source: Source, notify: Notify) -> ImageSet:
        cache = Cache.default() if self.cache else None
        return source.load(self._origin.spec, cache, lambda done, total: notify("read", done, total, {}))

    def _deal(self, images: ImageSet, source: str) -> tuple[tuple[str, ...], Labels, Split]:
        """The classes, the class of each image, and who trains and who validates; copies of an image do neither."""
        rows = distinct_rows(images.digests)
        classes = sort_classes(sample.kind for sample in images.samples)
        codes = number_classes(images.samples, classes)
        check_classes(source, classes, codes[rows])
        return classes, codes, split_classes(rows, codes[rows], self.settings.finetune.validation_share, self.seed)

    def _fingerprint(self, images: ImageSet, codes: Labels) -> str:
        """Of everything that a fine-tuning depends on: settings, the encoder it starts from, images and their classes."""
        assert self._origin.model is not None, "a loaded classifier is not fitted again"
        settings = (self.settings.to_sections(), self.settings.detector.to_sections(), self.seed, versions())
        sums = hashlib.sha256(repr((*settings, self._origin.spec)).encode())
        for part in (pack_weights(self._origin.model), images.digests.tobytes(), codes.tobytes()):
            sums.update(part)
        return sums.hexdigest()

    def _restore(self, facts: Mapping[str, Any], contents: Mapping[str, bytes]) -> None:
        """Take up what `save` wrote."""
        known, arrays = facts["fitted"], unpack_arrays(contents[ARRAYS])
        model = self._build(len(known["classes"]))
        model.load_state_dict(load_tensors(contents[WEIGHTS]))
        history = [dict(row) for row in facts.get("history", [])]
        classes, confusion, digests = tuple(known["classes"]), arrays["confusion"], arrays["digests"]
        source, counts = str(known["source"]), dict(known["images"])
        self._finetuned = Finetuned(model.eval(), classes, confusion, digests, history, source, counts)

    def _build(self, classes: int, codes: Labels | None = None) -> LabelModel:
        """The network before it learns: the detector's encoder, or one with random weights, and a new head."""
        settings, spec = self.settings, self._origin.spec
        shape = ImageShape(spec.channels, spec.height, spec.width)
        with isolated_randomness(self.seed):
            if settings.finetune.scratch or self._origin.model is None:
                model = MODELS[settings.detector.model_name](without_pretrained(settings.detector.model), shape)
                initialise(model, settings.training.initialisation)
            else:
                model = copy.deepcopy(self._origin.model).cpu()
            network = LabelModel(settings.finetune, model, classes)
            initialise(network.head, settings.training.initialisation)
        if codes is not None and settings.finetune.class_weights == "balanced":
            network.balance(codes)
        return network

    def _find_probabilities(self, pixels: Pixels) -> Floats:
        """(B, H, W, C) -> (B, K), each image by itself."""
        learned, device = self._need(), choose_device(self.device)
        learned.model.to(device)
        probabilities = [np.empty((0, len(learned.classes)), np.float32)]
        for start in range(0, len(pixels), BLOCK):
            images = to_tensor(pixels[start : start + BLOCK], self._origin.spec.value_range, device)
            probabilities.append(class_probabilities(learned.model, images).cpu().numpy())
        return np.concatenate(probabilities)


def join_predictions(batches: Sequence[Predictions]) -> Predictions:
    """Batches of a stream, one at least, as one."""
    samples = [sample for batch in batches for sample in batch.samples]
    probabilities = np.concatenate([batch.probabilities for batch in batches])
    digests = np.concatenate([batch.digests for batch in batches])
    unreadable = tuple(item for batch in batches for item in batch.unreadable)
    return Predictions(samples, batches[0].classes, probabilities, digests, unreadable)


def _set_aside(found: Predictions) -> Predictions:
    """The batch without images whose probabilities are no numbers: the model cannot compute with their values."""
    finite = np.isfinite(found.probabilities).all(axis=1)
    reason = "its probabilities are not finite: its values are far outside what the classifier has seen"
    lost = tuple(Unreadable(found.samples[row].id, reason) for row in np.flatnonzero(~finite).tolist())
    samples = [found.samples[row] for row in np.flatnonzero(finite).tolist()]
    kept, digests = found.probabilities[finite], found.digests[finite]
    return Predictions(samples, found.classes, kept, digests, found.unreadable + lost)


def _count(images: ImageSet, split: Split) -> dict[str, int]:
    train, validation, copies = len(split.train), len(split.validation), len(images.samples)
    copies -= train + validation
    return {"train": train, "validation": validation, "copies": copies, "unreadable": len(images.unreadable)}
