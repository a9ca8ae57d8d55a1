"""The steps of a fit, in order: spec, model, scorer, split, what the model sees, lessons, and the line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlike.calibration.cross_conformal import score_views, view_left_out, view_out_of_fold
from unlike.calibration.decision import ALL, Decision, draw_lines
from unlike.calibration.precomputed import Recalling, Remembered, Remembering
from unlike.calibration.thresholds import THRESHOLDS, QuantileThreshold
from unlike.data.batches import ImageSet, block_rows, choose_spec
from unlike.data.images import InputSpec
from unlike.data.index import Index
from unlike.data.loading import iterate
from unlike.data.randomness import isolated_randomness
from unlike.data.split import (
    Split,
    calibration_size,
    calibration_sizes,
    categories_of,
    distinct_rows,
    split_categories,
    split_normals,
)
from unlike.data.tensors import to_tensor
from unlike.data.tiles import TiledImages, Tiling, cut_split
from unlike.detector.pipeline import device_of, score_pixels
from unlike.detector.settings import DataConfig, DecisionConfig, Settings
from unlike.detector.storage import shape_of, versions
from unlike.errors import ConfigError, DataError
from unlike.models import MODELS, Autoencoder, Model
from unlike.models.initialise import initialise
from unlike.records import ImageShape, Rows
from unlike.scoring import SCORERS, Scorer
from unlike.scoring.ensemble import EnsembleScorer
from unlike.scoring.per_category import Apart, learn, number_categories

CROSS_MOST = 500  # images of each category up to which none is held back where that can be
CROSS_BYTES = 1_000_000_000  # of codes that are kept in memory
LEFT_OUT_MOST = 5000  # images that are left out one by one: what is known of each pair of them takes memory
FEWEST_TO_SCALE = 3  # held-out images of each part, for a scorer that scales by them to learn the parts apart
FOLDS = 5  # of which each is scored by a scorer of the others
PLACED = {"positions": "each", "distance": "whitened"}  # settings of scorers that learn each place by itself
FILE_SIDE = 256  # pixels: the default size for images in files


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


def place(model: Model, device: str) -> torch.device:
    """Bring the model to the device of that name."""
    chosen = choose_device(device)
    model.to(chosen).to(memory_format=torch.channels_last)
    return chosen


def spec_for(index: Index, data: DataConfig) -> InputSpec:
    """The form in which all these images will be seen."""
    channels = None if data.channels == "auto" else data.channels
    return choose_spec(index, data.sides, channels, data.aspect, fallback=(FILE_SIDE, FILE_SIDE))


def build_model(settings: Settings, spec: InputSpec, seed: int) -> Model:
    """A fresh model for images in that spec, or for their tiles."""
    shape = shape_of(settings, spec)
    with isolated_randomness(seed):
        try:
            model = MODELS[settings.model_name](settings.model, shape)
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


def make_scorer(settings: Settings, model: Model, parts: Sequence[Sequence[str]] = ()) -> Scorer:
    """A fresh scorer, or a ConfigError where it cannot work with that model, or with tiles where there are some.

    `parts` are the categories that it is to learn apart, if there are several.
    """
    if len(parts) > 1:
        return Apart(partial(make_scorer, settings, model), parts)
    scorer = SCORERS[settings.scorer_name](settings.scorer)
    scorer.check(model)
    if settings.data.tile is not None:
        _check_places(scorer, "scorer")
        if isinstance(scorer, EnsembleScorer):
            for name, member in zip(scorer.config.scorers, scorer.members, strict=True):
                _check_places(member, f"scorer.settings.{name}")
    return scorer


def _check_places(scorer: Scorer, section: str) -> None:
    """Raise ConfigError where a scorer learns each place by itself, which tiles have none of."""
    for name, value in PLACED.items():
        if getattr(scorer.config, name, None) == value:
            raise ConfigError(
                f"{section}.{name} = '{value}' learns every place of an image by itself, and a tile may come from any place; "
                "take a scorer that knows no places, as preset patchcore has, or leave data.tile out"
            )


def crosses(model: Model, scorer: Scorer, settings: Settings, images: ImageSet) -> bool:
    """Whether normal images calibrate crosswise: each scored by a scorer of the others, none held back from it for good.

    That takes a scorer of nothing but codes, and the codes of all images in memory. From a model that is trained images
    are held back all the same; the scorer that is used learns from them too. A ConfigError says why it cannot be where
    it was asked for.
    """
    asked = settings.decision.calibration
    possible = (scorer.only_codes or (is_fixed(model) and not scorer.needs_held_out)) and settings.data.tile is None
    if asked == "cross" and not possible:
        raise ConfigError(
            "decision.calibration = 'cross' is for scorers of codes, such as neighbours, and without tiles: expected 'auto' or "
            "'held-out' here"
        )
    shared = settings.decision.calibration_share != "auto"
    if asked == "cross" and shared and is_fixed(model):
        raise ConfigError("decision.calibration = 'cross' holds no image back: leave decision.calibration_share out")
    count = len(images.samples)
    many = np.unique(categories_of(images.samples), return_counts=True)[1].max(initial=0) > CROSS_MOST
    if not possible or asked == "held-out" or (asked == "auto" and (shared or count < 3 or many)):
        return False
    shape = model.shape
    learning = model.training
    with torch.inference_mode():  # nothing that the training will start from may change by this look
        code = model.eval().encode(torch.zeros(1, shape.channels, shape.height, shape.width, device=device_of(model)))
    model.train(learning)
    size = count * code.numel() * code.element_size()
    if asked == "cross" and size > CROSS_BYTES:
        raise ConfigError(
            f"the codes of {count:,} images take {size / 1e9:,.1f} GB, more than {CROSS_BYTES / 1e9:g}, and must all be kept for "
            "decision.calibration = 'cross'; so many can spare some: take 'held-out'"
        )
    return size <= CROSS_BYTES


def split_images(
    images: ImageSet, decision: DecisionConfig, seed: int, *, none_held_back: bool = False
) -> tuple[Split, QuantileThreshold]:
    """Who trains and who calibrates, of each category, and the promise, checked before anything is trained."""
    asked = None if decision.false_alarms == "auto" else decision.false_alarms
    share = None if decision.calibration_share == "auto" else decision.calibration_share
    rows = distinct_rows(images.digests)
    count = calibration_size(len(rows), share, asked)
    sizes: dict[str, int] = {}
    if none_held_back:
        count = len(rows)
    elif wants_lines(images, decision):
        categories = categories_of(images.samples)[rows]
        sizes = calibration_sizes(categories, share, asked)
        count = sum(sizes.values()) or count
    rule = THRESHOLDS[decision.threshold](decision.false_alarms)
    try:
        rule.fit(np.zeros(count))
    except DataError as error:
        raise DataError(f"of {len(rows)} different normal images {count} can be held out, and {error}") from None
    if none_held_back:
        return Split(rows, rows[:0], rows), rule
    if any(sizes.values()):
        return split_categories(rows, categories, sizes, seed), rule
    return split_normals(rows, count, seed), rule


def wants_lines(images: ImageSet, decision: DecisionConfig) -> list[str]:
    """The categories that should have a line of their own: all, where there are several."""
    if not decision.per_category:
        return []
    names = np.unique(categories_of(images.samples)).tolist()
    return [name for name in names if name != ALL] if len(names) > 1 else []


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """What the model sees of the images: the images themselves, or their tiles."""

    images: ImageSet
    split: Split
    spec: InputSpec
    numbers: Rows  # (N,) of the part of the categories that each is learned with

    @classmethod
    def of(cls, images: ImageSet, split: Split, spec: InputSpec, tiling: Tiling | None, numbers: Rows) -> Pieces:
        """The tiles, where there is a tiling; all those of an image are in the same part of the split."""
        if tiling is None:
            return cls(images, split, spec, numbers)
        tiles, cut = TiledImages(images, tiling), cut_split(split, tiling)
        return cls(tiles, cut, tiling.spec_of(spec), np.repeat(numbers, len(tiling)))


def part_categories(
    images: ImageSet, split: Split, scorer: Scorer, *, cross: bool
) -> tuple[Rows, list[tuple[str, ...]]]:
    """(N,) the number of the part of the categories that each image is learned with, and the categories of each part."""
    names = categories_of(images.samples)
    together: tuple[Rows, list[tuple[str, ...]]] = (np.zeros(len(names), np.intp), [])
    if not scorer.learns_apart:
        return together
    numbers = number_categories(names, np.unique(np.concatenate([split.train, split.validation, split.calibration])))
    judged = split.calibration if cross else split.validation  # they show what is usual in each part
    held_out = np.bincount(numbers[judged], minlength=int(numbers.max()) + 1)
    if (scorer.wants_held_out or cross) and len(judged) and held_out.min() < FEWEST_TO_SCALE:
        return together
    return numbers, [tuple(np.unique(names[numbers == part]).tolist()) for part in range(int(numbers.max()) + 1)]


def fit_scorer(scorer: Scorer, model: Model, pieces: Pieces, seed: int, device: torch.device) -> None:
    """Let the scorer learn from what the model was trained on, and from what it was not."""
    known, others = _rows_to_learn(model, scorer, pieces.split)
    look = partial(_Batches, pieces, device)
    if scorer.passes == 1 or not scorer.only_codes:
        learn(scorer, model, look, known, others, pieces.numbers, seed)
        return

    @torch.no_grad()
    def encode(images: Tensor) -> Tensor:
        return model.encode(images)

    codes = Recalling(lambda rows: map(encode, look(rows)), CROSS_BYTES)  # each image is looked at once, if it can be
    learn(scorer, Remembered(model.looks), codes, known, others, pieces.numbers, seed)


def calibrate(
    model: Model,
    scorer: Scorer,
    images: ImageSet,
    numbers: Rows,
    split: Split,
    spec: InputSpec,
    settings: Settings,
    rule: QuantileThreshold,
) -> Decision:
    """Score the held-out normal images, and draw the lines."""
    tiling, rows = settings.data.tiling(spec), split.calibration
    size = block_rows(spec) if tiling is None else tiling.images_at_once
    scores, peaks = [], []
    for start in range(0, len(rows), size):
        pixels = images.take(rows[start : start + size])
        maps, found = score_pixels(pixels, images.value_range, model, scorer, settings.map, tiling)
        scores.append(found)
        peaks.append(maps.max(axis=(1, 2)))
    categories = categories_of([images.samples[row] for row in rows])
    apart = wants_lines(images, settings.decision)
    usual, highest = np.concatenate(scores), np.concatenate(peaks)
    usual, highest = scorer.rescale(usual, highest, numbers[rows])
    return draw_lines(usual, highest, categories, rule, apart)


def fit_crosswise(
    scorer: Scorer,
    model: Model,
    pieces: Pieces,
    settings: Settings,
    rule: QuantileThreshold,
    seed: int,
    device: torch.device,
) -> Decision:
    """Let the scorer learn from all images, and draw the lines by the scores that each has from scorers of the others.

    Of a model that was trained, only the images that it has not seen are scored so; those that it has teach all scorers.

    Some scorers know what they would say of an image had they not learned from it: they learn once (`left_out`). Of others
    some more learn from four fifths each (cross-conformal prediction: Vovk, 2015): they know a little less than the one of
    all that is used, so the lines are a little high, and the promise is rather kept too well.

    Floats that keep to no usual range are scaled by the extremes of all n images, those of the fold that is left out among
    them. The fold is then seen as new images are, except those that go beyond all n, as at most 2 in n + 1 do: by so much
    at most can false alarms grow. Were each fold scaled by the extremes of the others, one bright image would give its
    whole fold another scale, and a line that is drawn by scores of two scales would be too high.
    """
    split = pieces.split
    rows = np.unique(np.concatenate([split.train, split.validation, split.calibration]))
    judged = np.searchsorted(rows, split.calibration)
    with torch.inference_mode():
        codes = _collect((model.encode(batch) for batch in _Batches(pieces, device, rows)), len(rows))
    numbers, whole = pieces.numbers[rows], np.arange(len(rows))
    known = Remembered(model.looks)
    learn_all = partial(learn, scorer, known, Remembering(codes), whole, whole[:0], numbers, seed)
    fewest = int(np.bincount(numbers)[np.unique(numbers)].min())
    if len(rows) <= LEFT_OUT_MOST and scorer.knows_left_out(fewest):
        learn_all()
        views = view_left_out(scorer, known, codes, judged, numbers)
    else:
        fresh = partial(make_scorer, settings, model, scorer.parts)
        folds = np.array_split(np.random.default_rng(seed).permutation(judged), min(FOLDS, len(judged)))
        try:
            views = view_out_of_fold(fresh, known, codes, folds, numbers, seed)
        except DataError as error:
            learn_all()  # where all are too few as well, it says so
            fifths = "each image calibrates by the other four fifths; decision.calibration = 'held-out' does not"
            raise DataError(f"{error} ({fifths})") from None
        learn_all()  # now that the scorers of the folds, which may be large, are gone
    numbers = numbers[judged]
    scores, peaks = score_views(scorer, views, numbers, settings.map)
    scores, peaks = scorer.rescale(scores, peaks, numbers)
    names = categories_of([pieces.images.samples[row] for row in rows[judged]])
    return draw_lines(scores, peaks, names, rule, wants_lines(pieces.images, settings.decision))


def _collect(parts: Iterable[Tensor], count: int) -> Tensor:
    """(N, ...) of parts (n, ...), together N: `torch.cat` would hold all of them twice."""
    whole, end = torch.empty(0), 0
    for part in parts:
        whole = whole if end else part.new_empty((count, *part.shape[1:]))
        whole[end : end + len(part)] = part
        end += len(part)
    return whole


def count_images(images: ImageSet, split: Split) -> dict[str, int]:
    """Of the images, by what they were used for."""
    parts = {"train": len(split.train), "validation": len(split.validation), "calibration": len(split.calibration)}
    copies = len(images.samples) - len(np.unique(np.concatenate([split.train, split.validation, split.calibration])))
    return {**parts, "copies": copies, "unreadable": len(images.unreadable)}


def idle_settings(settings: Settings) -> list[str]:
    """What was chosen about training, for a model that is not trained: the names of settings that change nothing.

    That is no error: all cells of a study may be given the same training, whatever their models.
    """
    found, usual = settings.to_sections(), Settings.resolve().to_sections()
    return [
        f"{section}.{name}"
        for section in ("training", "augment", "corruption")
        for name, value in found[section].items()
        if value != usual[section][name] and name != "initialisation"  # which acts on what is not pretrained
    ]


def fingerprint(settings: Settings, seed: int, images: ImageSet) -> str:
    """Of everything that a training depends on."""
    sums = hashlib.sha256(repr((settings.to_sections(), seed, versions())).encode())
    sums.update(images.digests.tobytes())
    sums.update(categories_of(images.samples).tobytes())  # they choose who is held out
    return sums.hexdigest()


def is_fixed(model: Model) -> bool:
    """Whether it knows no image better than another: nothing of it was trained here."""
    return not _trains(model) and not isinstance(model, Autoencoder)


def _trains(model: Model) -> bool:
    return any(parameter.requires_grad for parameter in model.parameters())


def _rows_to_learn(model: Model, scorer: Scorer, split: Split) -> tuple[Rows, Rows]:
    """What the scorer learns from: images that the model knows, and others; all and none, where neither needs any held out."""
    if scorer.needs_held_out or scorer.wants_held_out or _trains(model):
        return split.train, split.validation
    both = np.sort(np.concatenate([split.train, split.validation]))
    return both, both[:0]


@dataclass(frozen=True, slots=True)
class _Batches:
    """Batches of some pieces for a scorer to learn from, as often as it goes through them."""

    pieces: Pieces
    device: torch.device
    rows: Rows

    def __iter__(self) -> Iterator[Tensor]:
        for batch in iterate(self.pieces.images, self.rows, self.pieces.spec):
            yield to_tensor(batch.pixels, self.pieces.images.value_range, self.device)
