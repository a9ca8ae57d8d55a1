"""The whole chain as one object: fit on normal images, score others, judge them, save and load."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from unlike.artifacts import is_first_process
from unlike.backbones.network_cache import keeping
from unlike.backbones.runtimes import build_parts
from unlike.cache import Cache
from unlike.calibration.decision import ALL, Decision
from unlike.calibration.regions import find_regions
from unlike.data.batches import Batch, digest, value_range_of
from unlike.data.input_spec import InputSpec, restore_map
from unlike.data.source import Images, Source, open_source, training
from unlike.data.tiles import Tiling
from unlike.detector.fitting import (
    Pieces,
    build_model,
    calibrate,
    check_seed,
    check_suits,
    count_images,
    crosses,
    fingerprint,
    fit_crosswise,
    fit_scorer,
    is_fixed,
    make_scorer,
    part_categories,
    place,
    spec_for,
    split_images,
)
from unlike.detector.pipeline import decode_codes, encode_pixels, rebuild_pixels, score_pixels
from unlike.detector.settings import Settings, copy_sections
from unlike.detector.storage import Fitted, load_detector, save_detector, versions
from unlike.errors import ConfigError, NotFittedError, none_usable
from unlike.models import Model
from unlike.records import Codes, Explanation, Floats, Pixels, Region, Sample, ScoredBatch, Scores, Unreadable, Verdict
from unlike.training import Checkpoint, History, train

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
        size: int | tuple[int, int] | Literal["auto"] | None = None,
        epochs: int | None = None,
        false_alarms: float | Literal["auto"] | None = None,
        seed: int = 0,
        device: str = "auto",
        cache: bool = True,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        overrides = copy_sections(settings or {})
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
        images: Images,
        *,
        model: Model | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        notify: Notify | None = None,
    ) -> Detector:
        """Learn from normal images: train the model, fit the scorer, and draw the line on images held out for it.

        `images` is a folder, glob, file, manifest or array; of a folder in MVTec AD layout only `train/good` is used.
        Of several categories all train the one model, a scorer of codes learns each by itself, and each has a line of its
        own (`thresholds_`).
        A `model` that another detector trained (its `model_`) is taken as it is, to try other scorers on the same codes; with
        the same images, seed and choices about the decision, or images that it knows may draw the line.
        `checkpoint` names a file in which the training keeps its state, to go on from after a kill with `resume=True`.
        Images that cannot be read are left out and named in `unreadable_`. Raises DataError where too few remain.
        """
        notify = notify or _say_nothing
        settings, trained = self.settings, model is not None
        source = training(open_source(images))
        spec = spec_for(source, settings.data)
        cache = Cache.default() if self.cache else None
        with keeping(cache):
            model = build_model(settings, spec, self.seed) if model is None else check_suits(model, settings, spec)
        scorer = make_scorer(settings, model)
        device = place(model, self.device)
        loaded = source.load(spec, cache, lambda done, total: notify("read", done, total, {}))
        cross = crosses(model, scorer, settings, loaded)
        split, rule = split_images(loaded, settings.decision, self.seed, none_held_back=cross and is_fixed(model))
        # held-out images must not choose the scale either
        spec = replace(spec, value_range=value_range_of(loaded, split.train, spec))
        numbers, parts = part_categories(loaded, split, scorer, cross=cross)
        pieces = Pieces.of(loaded, split, spec, settings.data.tiling(spec), numbers)
        state = None
        if checkpoint is not None:
            state = Checkpoint(Path(checkpoint), fingerprint(settings, self.seed, loaded))
        history: History = []
        if not trained:
            history = train(
                model,
                pieces.images,
                pieces.split,
                settings.training,
                value_range=spec.value_range,
                augmentation=settings.augment,
                corruption=settings.corruption,
                seed=self.seed,
                device=self.device,
                checkpoint=state,
                resume=resume,
                notify=lambda epoch, epochs, row: notify("train", epoch, epochs, row),
            )
        place(model, self.device)  # where the training may have left it elsewhere
        scorer = make_scorer(settings, model, parts)
        if cross:
            decision = fit_crosswise(scorer, model, pieces, settings, rule, self.seed, device)
        else:
            fit_scorer(scorer, model, pieces, self.seed, device)
            decision = calibrate(model, scorer, loaded, numbers, split, spec, settings, rule)
        self._fitted = Fitted(
            model,
            scorer,
            spec,
            decision,
            digests=np.unique(loaded.digests),
            history=history,
            source=source.name,
            counts=count_images(loaded, split),
            unreadable=loaded.unreadable,
        )
        return self

    def score(self, images: Images, *, maps: bool = False) -> Scores:
        """How unusual each image is; with `maps`, also where, at the size the detector works at.

        Keeps one number an image; `stream` keeps nothing, for sets that do not fit, and `original_maps` gives maps in
        the images' own pixels.
        """
        kept = self.stream(images) if maps else (replace(b, maps=NOTHING[0]) for b in self.stream(images))
        batches = list(kept)
        unreadable = tuple(item for batch in batches for item in batch.unreadable)
        batches = [batch for batch in batches if len(batch.samples)]
        if not batches:
            raise none_usable("no image", "scored", unreadable)
        ids = tuple(sample.id for batch in batches for sample in batch.samples)
        image = np.concatenate([batch.image for batch in batches])
        return Scores(ids, image, np.concatenate([b.maps for b in batches]) if maps else None, unreadable)

    def stream(self, images: Images, batch_size: int | None = None) -> Iterator[ScoredBatch]:
        """Score images a batch at a time, in order: memory does not grow with their number."""
        fitted = self._place()
        for batch in self._stream(open_source(images), batch_size):
            maps, scores = NOTHING
            if len(batch.samples):
                maps, scores = self._score_pixels(fitted, batch.pixels)
            digests = np.fromiter(map(digest, batch.pixels), np.uint64, len(batch.samples))
            scored = ScoredBatch(batch.samples, scores, maps, batch.shapes, digests, batch.unreadable)
            yield scored if np.isfinite(scores).all() else _set_aside(scored)

    def judge(self, images: Images, *, regions: bool = True) -> list[Verdict]:
        """Say of each image whether it is anomalous, how sure that is, and where it looks strange.

        An image is anomalous when its score is above the threshold of its category, or else above `threshold_`. The
        p-value is the share of normal images, of that category or else of all, that are at least as unusual. Regions are
        the patches whose map is above what all but the promised share of those reach anywhere. Images that cannot be read
        have no verdict; `score` names them. A DataError says that none could be.
        """
        verdicts: list[Verdict] = []
        unreadable: list[Unreadable] = []
        for batch in self.stream(images):
            verdicts += self.judge_batch(batch, regions=regions)
            unreadable += batch.unreadable
        if not verdicts:
            raise none_usable("no image", "judged", unreadable)
        return verdicts

    def judge_batch(self, batch: ScoredBatch, *, regions: bool = True) -> list[Verdict]:
        """`judge` for a batch of `stream`."""
        fitted = self._need()
        chances = self.p_values(batch.image, [sample.category for sample in batch.samples])
        verdicts = []
        for position, sample in enumerate(batch.samples):
            line = fitted.decision.line_of(sample.category)
            found: tuple[Region, ...] = ()
            if regions:
                map_ = restore_map(batch.maps[position], batch.shapes[position], fitted.spec)
                found = find_regions(map_, line.region_threshold)
            score = float(batch.image[position])
            odd = score > line.threshold
            verdicts.append(Verdict(sample.id, score, line.threshold, float(chances[position]), odd, found))
        return verdicts

    def original_maps(self, images: Images) -> Iterator[tuple[str, Floats]]:
        """The id and the map (H, W) of each image in turn, in the image's own pixels."""
        spec = self._need().spec
        for batch in self.stream(images):
            for sample, map_, shape in zip(batch.samples, batch.maps, batch.shapes, strict=True):
                yield sample.id, restore_map(map_, shape, spec)

    def p_values(self, scores: Floats, categories: Sequence[str] | None = None) -> Floats:
        """The share of normal images at least as unusual as each score, (N,) -> (N,); from the held-out normals.

        With `categories`, one for each score, from those of the same category where it has a threshold of its own.
        """
        return self._need().decision.p_values(scores, categories)

    def explain(self, images: Images, samples: Sequence[Sample]) -> list[Explanation]:
        """Chosen samples of a source with what the detector sees, rebuilds and finds strange in each."""
        fitted = self._place()
        explanations = []
        for batch in self._stream(open_source(images).with_samples(list(samples))):
            if not len(batch.samples):
                continue
            maps, scores = self._score_pixels(fitted, batch.pixels)
            rebuilt = rebuild_pixels(batch.pixels, fitted.spec.value_range, fitted.model, self._tiling)
            images_back = [None] * len(scores) if rebuilt is None else list(rebuilt)
            rows = zip(batch.samples, scores.tolist(), batch.pixels, maps, images_back, strict=True)
            explanations += [Explanation(*row) for row in rows]
        return explanations

    def encode(self, images: Images) -> Codes:
        """The codes of images, (N, D, h, w): where they lie in the space in which the model sees them.

        A ConfigError where it sees them in tiles.
        """
        self._refuse_tiles()
        fitted = self._place()
        read = list(open_source(images).stream(fitted.spec))
        unreadable = tuple(item for batch in read for item in batch.unreadable)
        samples = [sample for batch in read for sample in batch.samples]
        if not samples:
            raise none_usable("no image", "read", unreadable)
        grids = [
            encode_pixels(batch.pixels, fitted.spec.value_range, fitted.model) for batch in read if len(batch.samples)
        ]
        return Codes(samples, np.concatenate(grids), unreadable)

    def decode(self, grids: Floats) -> Pixels:
        """Codes (N, D, h, w) as the images (N, H, W, C) that they stand for; a ConfigError where there are none."""
        self._refuse_tiles()
        fitted = self._place()
        kind = np.dtype(np.float32 if fitted.spec.floating else np.uint8)
        return decode_codes(grids, fitted.spec.value_range, fitted.model, kind)

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
    def load(cls, folder: str | os.PathLike[str], device: str = "auto", *, cache: bool = True) -> Detector:
        """Read a detector that `save` wrote; an ArtifactError says what is wrong with it. Runs no code from the folder.

        With `cache`, a frozen network is taken from the cache folder as it was compiled, and kept there.
        """
        settings, seed, fitted = load_detector(Path(folder), Cache.default() if cache else None)
        detector = cls(seed=seed, device=device, cache=cache)
        detector.settings, detector._fitted = settings, fitted
        return detector

    @property
    def threshold_(self) -> float:
        """Scores above it are anomalous, of an image whose category has no threshold of its own."""
        return self.thresholds_[ALL]

    @property
    def thresholds_(self) -> dict[str, float]:
        """Category -> threshold, for those that have their own; under "" the one for all other images."""
        return {name: line.threshold for name, line in self._need().decision.lines.items()}

    @property
    def false_alarms_(self) -> float:
        """The share of normal images, of any category with a threshold, that may be called anomalous: what was promised."""
        return self._need().decision.false_alarms

    @property
    def region_threshold_(self) -> float:
        """Map values above it make a region; all but the promised share of normal images stay below it everywhere."""
        return self.region_thresholds_[ALL]

    @property
    def region_thresholds_(self) -> dict[str, float]:
        """Category -> region threshold, as for `thresholds_`."""
        return {name: line.region_threshold for name, line in self._need().decision.lines.items()}

    @property
    def decision_(self) -> Decision:
        """The lines of all categories, and the held-out normal images on which they rest."""
        return self._need().decision

    @property
    def source_(self) -> str:
        """The images it was fitted on, by name."""
        return self._need().source

    @property
    def counts_(self) -> Mapping[str, int]:
        """Of the images it was fitted on, by what they were used for: train, validation, calibration, copies, unreadable.

        Those to train and to calibrate are the same where none to validate are named: none was held back.
        """
        return self._need().counts

    @property
    def unreadable_(self) -> tuple[Unreadable, ...]:
        """The images that `fit` could not use, and why; empty for a detector that was loaded."""
        return self._need().unreadable

    @property
    def calibration_(self) -> Floats:
        """(n,) scores of the held-out normal images on which thresholds and p-values rest."""
        return self._need().decision.scores

    @property
    def calibration_categories_(self) -> npt.NDArray[np.str_]:
        """(n,) the category of each held-out normal image; empty where nobody said."""
        return self._need().decision.categories

    @property
    def peaks_(self) -> Floats:
        """(n,) the largest map value of each held-out normal image."""
        return self._need().decision.peaks

    @property
    def spec_(self) -> InputSpec:
        """The size, channels and type of images that the detector takes."""
        return self._need().spec

    @property
    def model_(self) -> Model:
        """The trained model, with all its parts built."""
        return build_parts(self._need().model)

    @property
    def value_range_(self) -> tuple[float, float]:
        """The values of floating-point images that stand for black and white."""
        return self._need().spec.value_range

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

    @property
    def _tiling(self) -> Tiling | None:
        return self.settings.data.tiling(self._need().spec)

    def _place(self) -> Fitted:
        """What was learned, with the model on the device that was asked for."""
        fitted = self._need()
        place(fitted.model, self.device)
        return fitted

    def _score_pixels(self, fitted: Fitted, pixels: Pixels) -> tuple[Floats, Floats]:
        return score_pixels(
            pixels, fitted.spec.value_range, fitted.model, fitted.scorer, self.settings.map, self._tiling
        )

    def _stream(self, source: Source, batch_size: int | None = None) -> Iterator[Batch]:
        """Images in the detector's spec, fewer at a time where they are large enough for tiles."""
        if batch_size is None and (tiling := self._tiling):
            batch_size = tiling.images_at_once
        return source.stream(self.spec_, batch_size)

    def _refuse_tiles(self) -> None:
        if tiling := self._tiling:
            raise ConfigError(
                f"this detector sees images in tiles of {tiling.tile} pixels, so that a whole image has no code; "
                "cut the images, and fit on them without data.tile"
            )


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
