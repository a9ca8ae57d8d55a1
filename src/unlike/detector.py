"""The whole chain as one object: fit on normal images, score others, judge them, save and load."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unlike.artifacts import is_first_process
from unlike.data.batches import ImageSet, Rows, choose_frame, digest, stream
from unlike.data.cache import Cache, iterate, load_images, range_of
from unlike.data.images import Frame, restore_map
from unlike.data.index import Images, Index, find_images
from unlike.data.randomness import isolated_randomness
from unlike.data.split import Split, calibration_size, distinct_rows, split_normals
from unlike.data.tensors import to_tensor
from unlike.decision.conformal import p_values
from unlike.decision.regions import find_regions
from unlike.decision.thresholds import THRESHOLDS, QuantileThreshold
from unlike.errors import ConfigError, DataError, NotFittedError
from unlike.models import MODELS, ImageShape, Model
from unlike.models.initialise import initialise
from unlike.records import Codes, Explanation, Floats, Pixels, Region, Sample, ScoredBatch, Scores, Unreadable, Verdict
from unlike.scoring import SCORERS, Scorer
from unlike.scoring.score import decode_codes, encode_pixels, rebuild_pixels, score_pixels
from unlike.settings import Sections, Settings
from unlike.storage import Fitted, load_detector, save_detector, versions
from unlike.training import Checkpoint, History, train

FILE_SIDE = 256  # pixels: the default size for images in files
NOTHING: tuple[Floats, Floats] = (np.empty((0, 1, 1), np.float32), np.empty(0))  # maps and scores of no image
Notify = Callable[[str, int, int, Mapping[str, float]], None]  # "read" or "train", done, total, figures


class Detector:
    """Learns what normal images look like, and finds those that are unlike them.

    `model` and `scorer` are names of `unlike.models.MODELS` and `unlike.scoring.SCORERS`, or `preset` names a proven pair
    with its settings. `size` is in pixels, a side or (height, width); `false_alarms` is the share of normal images that
    may be called anomalous, "auto" for 1 % or the smallest that the images can hold. `settings` has everything else,
    by section and key as in a TOML file: `{"training": {"schedule": "cosine"}}`.

    >>> images = np.random.default_rng(0).integers(100, 120, (40, 16, 16), dtype=np.uint8)
    >>> detector = Detector(model="conv", epochs=2, false_alarms=0.1).fit(images)
    >>> scores = detector.score(np.stack([images[0], images[1] + 120]))
    >>> bool(scores.image[1] > scores.image[0])
    True
    """

    def __init__(
        self,
        model: str | None = None,
        scorer: str | None = None,
        *,
        preset: str | None = None,
        size: int | tuple[int, int] | None = None,
        epochs: int | None = None,
        false_alarms: float | Literal["auto"] | None = None,
        seed: int = 0,
        device: str = "auto",
        cache: bool = True,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        overrides: Sections = {section: dict(values) for section, values in (settings or {}).items()}
        asked = (("data", "size", size), ("training", "epochs", epochs), ("decision", "false_alarms", false_alarms))
        for section, key, value in asked:
            if value is not None:
                overrides.setdefault(section, {})[key] = value
        self.settings = Settings.resolve(model, scorer, preset, overrides)
        self.seed = check_seed(seed)
        self.device = device
        self.cache = cache
        self._fitted: Fitted | None = None

    def __repr__(self) -> str:
        state = "not fitted" if self._fitted is None else f"fitted on {self._fitted.source}"
        return f"Detector(model={self.settings.model_name!r}, scorer={self.settings.scorer_name!r}; {state})"

    def fit(
        self,
        images: Images | Index,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        notify: Notify | None = None,
    ) -> Detector:
        """Learn from normal images: train the model, fit the scorer, and draw the line on images held out for it.

        `images` is a folder, glob, file, manifest or array; of a folder in MVTec AD layout only `train/good` is used.
        `checkpoint` names a file in which the training keeps its state, to go on from after a kill with `resume=True`.
        Images that cannot be read are left out and named in `unreadable_`. Raises DataError where too few remain.
        """
        notify = notify or _say_nothing
        index = find_images(images).training()
        frame = self._choose_frame(index)
        model, scorer = self._build(frame)
        scorer.check(model)
        cache = Cache.default() if self.cache else None
        loaded = load_images(index, frame, cache, lambda done, total: notify("read", done, total, {}))
        split, rule = self._split(loaded)
        loaded.value_range = range_of(loaded, split.train, frame)  # held-out images must not choose the scale either
        state = None
        if checkpoint is not None:
            state = Checkpoint(Path(checkpoint), self._fingerprint(loaded))
        history = train(
            model,
            loaded,
            split,
            self.settings.training,
            augmentation=self.settings.augment,
            corruption=self.settings.corruption,
            seed=self.seed,
            device=self.device,
            checkpoint=state,
            resume=resume,
            notify=lambda epoch, epochs, row: notify("train", epoch, epochs, row),
        )
        fitted = self._calibrate(model, scorer, frame, loaded, split, rule)
        fitted.history, fitted.source = history, index.source
        fitted.unreadable = loaded.unreadable
        self._fitted = fitted
        return self

    def score(self, images: Images | Index, *, maps: bool = False) -> Scores:
        """How unusual each image is; with `maps`, also where, at the size the detector works at.

        Keeps one number an image; `stream` keeps nothing, for sets that do not fit, and `original_maps` gives maps in
        the images' own pixels.
        """
        kept = self.stream(images) if maps else (replace(b, maps=NOTHING[0]) for b in self.stream(images))
        batches = list(kept)
        unreadable = tuple(item for batch in batches for item in batch.unreadable)
        batches = [batch for batch in batches if len(batch.samples)]
        if not batches:
            named = "; ".join(f"{item.id} {item.reason}" for item in unreadable[:3])
            raise DataError(f"none of the {len(unreadable):,} images can be scored: {named}")
        ids = tuple(sample.id for batch in batches for sample in batch.samples)
        image = np.concatenate([batch.image for batch in batches])
        return Scores(ids, image, np.concatenate([b.maps for b in batches]) if maps else None, unreadable)

    def stream(self, images: Images | Index, batch_size: int | None = None) -> Iterator[ScoredBatch]:
        """Score images a batch at a time, in order: memory does not grow with their number."""
        fitted = self._need()
        self._place(fitted.model)
        for batch in stream(find_images(images), fitted.frame, batch_size):
            maps, scores = NOTHING
            if len(batch.samples):
                maps, scores = self._score_pixels(fitted, batch.pixels)
            digests = np.fromiter(map(digest, batch.pixels), np.uint64, len(batch.samples))
            scored = ScoredBatch(batch.samples, scores, maps, batch.shapes, digests, batch.unreadable)
            yield scored if np.isfinite(scores).all() else _set_aside(scored)

    def judge(self, images: Images | Index, *, regions: bool = True) -> list[Verdict]:
        """Say of each image whether it is anomalous, how sure that is, and where it looks strange.

        An image is anomalous when its score is above `threshold_`. The p-value is the share of normal images that are at
        least as unusual. Regions are the patches whose map is above what all but the promised share of normal images
        reach anywhere.
        """
        return [verdict for batch in self.stream(images) for verdict in self.judge_batch(batch, regions=regions)]

    def judge_batch(self, batch: ScoredBatch, *, regions: bool = True) -> list[Verdict]:
        """`judge` for a batch of `stream`."""
        fitted = self._need()
        chances = self.p_values(batch.image)
        verdicts = []
        for position, sample in enumerate(batch.samples):
            found: tuple[Region, ...] = ()
            if regions:
                map_ = restore_map(batch.maps[position], batch.shapes[position], fitted.frame)
                found = find_regions(map_, fitted.region_threshold)
            score = float(batch.image[position])
            odd = score > fitted.threshold
            verdicts.append(Verdict(sample.id, score, fitted.threshold, float(chances[position]), odd, found))
        return verdicts

    def original_maps(self, images: Images | Index) -> Iterator[tuple[str, Floats]]:
        """The id and the map (H, W) of each image in turn, in the image's own pixels."""
        frame = self._need().frame
        for batch in self.stream(images):
            for sample, map_, shape in zip(batch.samples, batch.maps, batch.shapes, strict=True):
                yield sample.id, restore_map(map_, shape, frame)

    def p_values(self, scores: Floats) -> Floats:
        """The share of normal images at least as unusual as each score, (N,) -> (N,); from the held-out normals."""
        return p_values(scores, self._need().calibration)

    def explain(self, images: Images | Index, samples: Sequence[Sample]) -> list[Explanation]:
        """Chosen samples of a source with what the detector sees, rebuilds and finds strange in each."""
        fitted = self._need()
        self._place(fitted.model)
        explanations = []
        for batch in stream(replace(find_images(images), samples=list(samples)), fitted.frame):
            if not len(batch.samples):
                continue
            maps, scores = self._score_pixels(fitted, batch.pixels)
            rebuilt = rebuild_pixels(batch.pixels, fitted.value_range, fitted.model)
            images_back = [None] * len(scores) if rebuilt is None else list(rebuilt)
            rows = zip(batch.samples, scores.tolist(), batch.pixels, maps, images_back, strict=True)
            explanations += [Explanation(*row) for row in rows]
        return explanations

    def encode(self, images: Images | Index) -> Codes:
        """The codes of images, (N, D, h, w): where they lie in the space in which the model sees them."""
        fitted = self._need()
        self._place(fitted.model)
        read = list(stream(find_images(images), fitted.frame))
        unreadable = tuple(item for batch in read for item in batch.unreadable)
        samples = [sample for batch in read for sample in batch.samples]
        if not samples:
            named = "; ".join(f"{item.id} {item.reason}" for item in unreadable[:3])
            raise DataError(f"none of the {len(unreadable):,} images can be read: {named}")
        grids = [encode_pixels(batch.pixels, fitted.value_range, fitted.model) for batch in read if len(batch.samples)]
        return Codes(samples, np.concatenate(grids), unreadable)

    def decode(self, grids: Floats) -> Pixels:
        """Codes (N, D, h, w) as the images (N, H, W, C) that they stand for; a ConfigError where there are none."""
        fitted = self._need()
        self._place(fitted.model)
        kind = np.dtype(np.float32 if fitted.frame.floating else np.uint8)
        return decode_codes(grids, fitted.value_range, fitted.model, kind)

    def describe(self) -> dict[str, dict[str, Any]]:
        """Every setting, and what was learned, by section: what `detector.toml` says."""
        sections = {**self.settings.to_sections(), "run": {"seed": self.seed}, "versions": versions()}
        return sections if self._fitted is None else {**sections, "fitted": self._fitted.describe()}

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the detector as a folder, whole or not at all; of several processes the first one writes."""
        fitted = self._need()
        if is_first_process():
            save_detector(Path(folder), self.settings, self.seed, fitted)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], device: str = "auto") -> Detector:
        """Read a detector that `save` wrote; an ArtifactError says what is wrong with it. Runs no code from the folder."""
        settings, seed, fitted = load_detector(Path(folder))
        detector = cls(seed=seed, device=device)
        detector.settings, detector._fitted = settings, fitted
        return detector

    @property
    def threshold_(self) -> float:
        """Scores above it are anomalous."""
        return self._need().threshold

    @property
    def false_alarms_(self) -> float:
        """The share of normal images that may be called anomalous: what was promised."""
        return self._need().false_alarms

    @property
    def region_threshold_(self) -> float:
        """Map values above it make a region; all but the promised share of normal images stay below it everywhere."""
        return self._need().region_threshold

    @property
    def unreadable_(self) -> tuple[Unreadable, ...]:
        """The images that `fit` could not use, and why; empty for a detector that was loaded."""
        return self._need().unreadable

    @property
    def calibration_(self) -> Floats:
        """(n,) scores of the held-out normal images on which threshold and p-values rest."""
        return self._need().calibration

    @property
    def peaks_(self) -> Floats:
        """(n,) the largest map value of each held-out normal image."""
        return self._need().peaks

    @property
    def frame_(self) -> Frame:
        """The size, channels and type of images that the detector takes."""
        return self._need().frame

    @property
    def model_(self) -> Model:
        """The trained model."""
        return self._need().model

    @property
    def value_range_(self) -> tuple[float, float]:
        """The values of floating-point images that stand for black and white."""
        return self._need().value_range

    @property
    def history_(self) -> History:
        """One row an epoch: epoch, train and validation loss, learning_rate."""
        return self._need().history

    @property
    def digests_(self) -> npt.NDArray[np.uint64]:
        """(N,) of all images it was fitted on, to tell whether a test image was among them."""
        return self._need().digests

    def _need(self) -> Fitted:
        if self._fitted is None:
            raise NotFittedError(
                "this detector has not been fitted yet; call fit(images) or Detector.load(folder) first"
            )
        return self._fitted

    def _choose_frame(self, index: Index) -> Frame:
        data = self.settings.data
        channels = None if data.channels == "auto" else data.channels
        return choose_frame(index, data.sides, channels, data.aspect, fallback=(FILE_SIDE, FILE_SIDE))

    def _build(self, frame: Frame) -> tuple[Model, Scorer]:
        shape = ImageShape(frame.channels, frame.height, frame.width)
        with isolated_randomness(self.seed):
            try:
                model = MODELS[self.settings.model_name](self.settings.model, shape)
            except (RuntimeError, MemoryError) as error:  # the allocator's, of a layer as large as a huge image
                first = str(error).splitlines()[0]
                raise ConfigError(
                    f"model {self.settings.model_name!r} for {shape.height} x {shape.width} x {shape.channels} images "
                    f"cannot be built ({first}); try a smaller --size"
                ) from None
            initialise(model, self.settings.training.initialisation)
        return model, SCORERS[self.settings.scorer_name](self.settings.scorer)

    def _split(self, images: ImageSet) -> tuple[Split, QuantileThreshold]:
        """Who trains and who calibrates, and the promise, checked before anything is trained."""
        decision = self.settings.decision
        asked = None if decision.false_alarms == "auto" else decision.false_alarms
        share = None if decision.calibration_share == "auto" else decision.calibration_share
        rows = distinct_rows(images.digests)
        count = calibration_size(len(rows), share, asked)
        rule = THRESHOLDS[decision.threshold](decision.false_alarms)
        try:
            rule.fit(np.zeros(count))
        except DataError as error:
            raise DataError(f"of {len(rows)} different normal images {count} can be held out, and {error}") from None
        return split_normals(rows, count, self.seed), rule

    def _calibrate(
        self, model: Model, scorer: Scorer, frame: Frame, images: ImageSet, split: Split, rule: QuantileThreshold
    ) -> Fitted:
        """Fit the scorer, score the held-out normals, and draw the line."""
        device = self._place(model)
        known, others = _rows_to_learn(model, scorer, split)
        known_batches, other_batches = (_Batches(images, rows, frame, device) for rows in (known, others))
        scorer.fit(model, known_batches, other_batches, self.seed)
        held_out = (batch.pixels for batch in iterate(images, split.calibration, frame))
        scored = [score_pixels(p, images.value_range, model, scorer, self.settings.map) for p in held_out]
        calibration = np.concatenate([scores for _, scores in scored])
        peaks = np.concatenate([maps.max(axis=(1, 2)) for maps, _ in scored])
        return Fitted(
            model,
            scorer,
            frame,
            images.value_range,
            calibration,
            peaks,
            digests=np.unique(images.digests),
            threshold=rule.fit(calibration).threshold_,
            region_threshold=rule.fit(peaks).threshold_,
            false_alarms=rule.false_alarms_,
            history=[],
            source="",
            counts=_count(images, split),
        )

    def _place(self, model: Model) -> torch.device:
        """Bring the model to the device that was asked for."""
        device = choose_device(self.device)
        model.to(device).to(memory_format=torch.channels_last)
        return device

    def _score_pixels(self, fitted: Fitted, pixels: Pixels) -> tuple[Floats, Floats]:
        return score_pixels(pixels, fitted.value_range, fitted.model, fitted.scorer, self.settings.map)

    def _fingerprint(self, images: ImageSet) -> str:
        """Of everything that a training depends on."""
        sums = hashlib.sha256(repr((self.settings.to_sections(), self.seed, versions())).encode())
        sums.update(images.digests.tobytes())
        return sums.hexdigest()


def _rows_to_learn(model: Model, scorer: Scorer, split: Split) -> tuple[Rows, Rows]:
    """What the scorer learns from: the images the model knows, and others; all of them where no model was trained."""
    if scorer.needs_held_out or any(parameter.requires_grad for parameter in model.parameters()):
        return split.train, split.validation
    both = np.sort(np.concatenate([split.train, split.validation]))
    return both, both


def check_seed(seed: Any) -> int:
    """The seed, or a ConfigError where it is none.

    >>> check_seed(7)
    7
    """
    if not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ConfigError(f"seed: expected a whole number from 0 to 2^63 - 1, came {seed!r}")
    return seed


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


@dataclass(frozen=True, slots=True)
class _Batches:
    """Batches of some images for a scorer to learn from, as often as it goes through them."""

    images: ImageSet
    rows: Rows
    frame: Frame
    device: torch.device

    def __iter__(self) -> Iterator[Tensor]:
        for batch in iterate(self.images, self.rows, self.frame):
            yield to_tensor(batch.pixels, self.images.value_range, self.device)


def _set_aside(batch: ScoredBatch) -> ScoredBatch:
    """The batch without images whose score is no number: their values are beyond what the model can compute with."""
    good = np.flatnonzero(np.isfinite(batch.image)).tolist()
    reason = "its score is not a finite number: its values are far outside what the detector was fitted on"
    lost = tuple(
        Unreadable(sample.id, reason)
        for sample, score in zip(batch.samples, batch.image, strict=True)
        if not np.isfinite(score)
    )
    return ScoredBatch(
        [batch.samples[row] for row in good],
        batch.image[good],
        batch.maps[good],
        [batch.shapes[row] for row in good],
        batch.digests[good],
        batch.unreadable + lost,
    )


def _say_nothing(stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
    """Where nobody asked to be told how far the work is."""


def _count(images: ImageSet, split: Split) -> dict[str, int]:
    parts = {"train": len(split.train), "validation": len(split.validation), "calibration": len(split.calibration)}
    copies = len(images.samples) - sum(parts.values())
    return {**parts, "copies": copies, "unreadable": len(images.unreadable)}
