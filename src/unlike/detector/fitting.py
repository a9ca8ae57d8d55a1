"""A fit, step by step: input spec, model, split, training, scorer, calibration."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unlike.backbones.network_cache import NetworkCache
from unlike.cache import Cache
from unlike.calibration.decision import ALL, WORST_OF_CATEGORY, calibrate
from unlike.calibration.leave_one_out import fit_left_out
from unlike.calibration.thresholds import THRESHOLDS, ThresholdRule
from unlike.data.batches import ImageSet, block_rows, iterate, value_range_of
from unlike.data.input_spec import InputSpec
from unlike.data.randomness import isolated_randomness
from unlike.data.source import Source, choose_form
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
from unlike.detector.pipeline import Pipeline, device_of, score_pixels
from unlike.detector.scorers import make_scorer
from unlike.detector.settings import DataConfig, DecisionConfig, Settings
from unlike.detector.storage import Fitted, shape_of, versions
from unlike.errors import ConfigError, DataError
from unlike.models import MODELS
from unlike.models.base import Model
from unlike.models.initialise import initialise
from unlike.records import Floats, ImageShape, Rows
from unlike.scoring.base import Scorer
from unlike.scoring.batches import Batches, Inputs, PrecomputedFeatures
from unlike.scoring.per_category import number_categories
from unlike.training import Checkpoint, History, train

LEFT_OUT_MOST = 500  # images of each category up to which none is held back where that can be
CROSS_BYTES = 1_000_000_000  # of features that are kept in memory
FEWEST_TO_SCALE = 3  # held-out images of each part, for a scorer that scales by them to learn the parts by themselves
FEWEST = 3  # different normal images
FEATURES_ALONE = ("features",)  # what a scorer of features takes
FILE_SIDE = 256  # pixels: the default size for images in files


Notify = Callable[[str, int, int, Mapping[str, float]], None]  # "read" or "train", done, total, figures


@dataclass(frozen=True, slots=True)
class Task:
    """What a fit is told beside the images: every choice, and how it is to go about it."""

    settings: Settings
    seed: int
    device: str
    cache: Cache | None  # None keeps nothing
    checkpoint: Path | None  # where the training keeps its state
    resume: bool
    notify: Notify


def fit_detector(task: Task, images: Source, trained: Model | None = None) -> Fitted:
    """Learn from normal images: train the model, or take one that is `trained`, fit the scorer, and calibrate."""
    settings = task.settings
    spec, notes = spec_for(images, settings.data)
    model = prepare_model(task, spec, trained)
    plain = make_scorer(settings, model.output_spec)  # or an error, before any image is read
    loaded = images.load(spec, task.cache, lambda done, total: task.notify("read", done, total, {}))
    cross = leaves_out(model, plain, settings, loaded)
    split, rule = split_images(loaded, settings.decision, task.seed, none_held_back=cross and is_fixed(model))
    # held-out images must not choose the scale either
    spec = replace(spec, value_range=value_range_of(loaded, split.train, spec))
    numbers, categories = part_categories(loaded, split, plain, cross=cross)
    tiling = settings.data.tiling(spec)
    pieces = Pieces.of(loaded, split, spec, tiling, numbers)
    history = train_model(task, model, pieces, loaded) if trained is None else []
    model.eval()
    make = partial(make_scorer, settings, model.output_spec, categories)
    pipeline = Pipeline(model, make().to(device_of(model)), settings.map, tiling).eval()
    if cross:
        scores, peaks = calibrate_left_out(pipeline, make, pieces, task.seed)
    else:
        fit_scorer(pipeline.scorer, model, pieces, task.seed)
        scores, peaks = calibrate_held_out(pipeline, loaded, numbers, split.calibration, spec)
    asked = settings.decision.false_alarms
    decision = calibrate(
        scores,
        peaks,
        categories_of([loaded.samples[row] for row in split.calibration]),
        rule,
        categories_by_themselves(loaded, settings.decision),
        WORST_OF_CATEGORY if asked == "auto" else asked,
    )
    digests, counts = np.unique(loaded.digests), count_images(loaded, split)
    return Fitted(pipeline, spec, decision, digests, history, images.name, counts, loaded.unreadable, notes)


def prepare_model(task: Task, spec: InputSpec, trained: Model | None) -> Model:
    """A fresh model for images of that form, or the trained one where it suits, on the device that was asked for."""
    if trained is None:
        networks = None if task.cache is None else NetworkCache(task.cache)
        model = build_model(task.settings, spec, task.seed, networks)
    else:
        model = check_suits(trained, task.settings, spec)
    place(model, task.device)
    return model


def train_model(task: Task, model: Model, pieces: Pieces, loaded: ImageSet) -> History:
    """Train the model on the pieces; one row an epoch."""
    settings, state = task.settings, None
    if task.checkpoint is not None:
        state = Checkpoint(task.checkpoint, fingerprint(settings, task.seed, loaded))
    history = train(
        model,
        pieces.images,
        pieces.split,
        settings.training,
        value_range=pieces.spec.value_range,
        augmentation=settings.augment,
        corruption=settings.corruption,
        seed=task.seed,
        device=task.device,
        checkpoint=state,
        resume=task.resume,
        notify=lambda epoch, epochs, row: task.notify("train", epoch, epochs, row),
    )
    place(model, task.device)  # where the training may have left it elsewhere
    return history


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


def place(module: nn.Module, device: str) -> torch.device:
    """Bring a model, or a whole pipeline, to the device of that name."""
    chosen = choose_device(device)
    module.to(chosen).to(memory_format=torch.channels_last)
    return chosen


def spec_for(source: Source, data: DataConfig) -> tuple[InputSpec, tuple[str, ...]]:
    """The form in which all these images will be seen, and in sentences what that does to those that are unlike most."""
    return choose_form(
        source,
        data.sides,
        None if data.channels == "auto" else data.channels,
        data.aspect,
        fallback=(FILE_SIDE, FILE_SIDE),
        bits=None if data.bits == "auto" else data.bits,
        missing=data.missing,
        most_pixels=data.most_pixels,
    )


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


def leaves_out(model: Model, scorer: Scorer, settings: Settings, images: ImageSet) -> bool:
    """Whether normal images calibrate as if each had been left out, none held back from the scorer for good.

    That takes a scorer of nothing but features, and the features of all images in memory. From a model that is trained images
    are held back all the same; the scorer that is used learns from them too. A ConfigError says why it cannot be where
    it was asked for.
    """
    asked = settings.decision.calibration
    possible = scorer.inputs == FEATURES_ALONE and settings.data.tile is None
    if asked == "cross" and not possible:
        raise ConfigError(
            "decision.calibration = 'cross' is for scorers of features, such as neighbours, and without tiles: expected 'auto' or "
            "'held-out' here"
        )
    shared = settings.decision.calibration_share != "auto"
    if asked == "cross" and shared and is_fixed(model):
        raise ConfigError("decision.calibration = 'cross' holds no image back: leave decision.calibration_share out")
    count = len(images.samples)
    many = np.unique(categories_of(images.samples), return_counts=True)[1].max(initial=0) > LEFT_OUT_MOST
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
            f"the features of {count:,} images take {size / 1e9:,.1f} GB, more than {CROSS_BYTES / 1e9:g}, and must all be kept for "
            "decision.calibration = 'cross'; so many can spare some: take 'held-out'"
        )
    return size <= CROSS_BYTES


def split_images(
    images: ImageSet, decision: DecisionConfig, seed: int, *, none_held_back: bool = False
) -> tuple[Split, ThresholdRule]:
    """Who trains and who calibrates, of each category, and the promise, checked before anything is trained."""
    asked = None if decision.false_alarms == "auto" else decision.false_alarms
    share = None if decision.calibration_share == "auto" else decision.calibration_share
    rows = distinct_rows(images.digests)
    if len(rows) < FEWEST <= len(images.digests):
        raise DataError(
            f"{len(images.digests):,} normal images are copies of {len(rows)}; at least {FEWEST} different ones are needed, some 100 for a "
            "useful detector"
        )
    count = calibration_size(len(rows), share, asked)
    sizes: dict[str, int] = {}
    if none_held_back:
        count = len(rows)
    elif categories_by_themselves(images, decision):
        categories = categories_of(images.samples)[rows]
        sizes = calibration_sizes(categories, share, asked)
        count = sum(sizes.values()) or count
    rule = THRESHOLDS[decision.threshold](decision.false_alarms)
    try:
        rule.fit(np.arange(count, dtype=np.float64))
    except DataError as error:
        raise DataError(f"of {len(rows)} different normal images {count} can be held out, and {error}") from None
    if none_held_back:
        return Split(rows, rows[:0], rows), rule
    if any(sizes.values()):
        return split_categories(rows, categories, sizes, seed), rule
    return split_normals(rows, count, seed), rule


def categories_by_themselves(images: ImageSet, decision: DecisionConfig) -> list[str]:
    """The categories that should have a threshold of their own: all, where there are several."""
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
    """(N,) the number of the part of the categories that each image is learned with, and the categories of each part.

    None where all are learned together.
    """
    names = categories_of(images.samples)
    together: tuple[Rows, list[tuple[str, ...]]] = (np.zeros(len(names), np.intp), [])
    if not scorer.capabilities.per_category:
        return together
    numbers = number_categories(names, np.unique(np.concatenate([split.train, split.validation, split.calibration])))
    judged = split.calibration if cross else split.validation  # they show what is usual in each part
    held_out = np.bincount(numbers[judged], minlength=int(numbers.max()) + 1)
    if (scorer.capabilities.held_out != "unused" or cross) and len(judged) and held_out.min() < FEWEST_TO_SCALE:
        return together
    parts = [tuple(np.unique(names[numbers == part]).tolist()) for part in range(int(numbers.max()) + 1)]
    return numbers, parts if len(parts) > 1 else []


def fit_scorer(scorer: Scorer, model: Model, pieces: Pieces, seed: int) -> None:
    """Let the scorer learn from what the model was trained on, and from what it was not."""
    known, others = _rows_to_learn(model, scorer, pieces.split)
    read: Callable[[Rows], Iterable[Inputs]] = partial(_read_outputs, model, scorer.inputs, pieces)
    if scorer.capabilities.passes > 1 and scorer.inputs == FEATURES_ALONE:
        read = PrecomputedFeatures(read, CROSS_BYTES)  # each image is seen once, if it can be
    train, held_out = (Batches(read, rows, pieces.numbers[rows]) for rows in (known, others))
    scorer.fit(train, held_out, seed)


def calibrate_held_out(
    pipeline: Pipeline, images: ImageSet, numbers: Rows, rows: Rows, spec: InputSpec
) -> tuple[Floats, Floats]:
    """The scores (n,) and largest map values (n,) of held-out normal images, on the scale that is learned from them."""
    size = block_rows(spec) if pipeline.tiling is None else pipeline.tiling.images_at_once
    scores, peaks = [], []
    for start in range(0, len(rows), size):
        maps, found = score_pixels(pipeline, images.take(rows[start : start + size]), spec.value_range)
        scores.append(found)
        peaks.append(maps.max(axis=(1, 2)))
    return _scale(pipeline.scorer, np.concatenate(scores), np.concatenate(peaks), numbers[rows])


def calibrate_left_out(
    pipeline: Pipeline, make: Callable[[], Scorer], pieces: Pieces, seed: int
) -> tuple[Floats, Floats]:
    """Let the scorer learn from all images; the scores (n,) and peaks (n,) of those that calibrate, each as if it were new.

    Of a model that was trained, only the images that it has not seen calibrate; those that it has teach all scorers.

    Floats that keep to no usual range are scaled by the extremes of all n images, those of an image that is left out among
    them. It is then seen as new images are, except those that go beyond all n, as at most 2 in n + 1 do: by so much at most can
    false alarms grow. Were each fold scaled by the extremes of the others, one bright image would give its whole fold another
    scale, and a threshold from scores of two scales would be too high.
    """
    split, scorer = pieces.split, pipeline.scorer
    rows = np.unique(np.concatenate([split.train, split.validation, split.calibration]))
    features = _collect(_read_outputs(pipeline.model, FEATURES_ALONE, pieces, rows), len(rows))
    judged, numbers = np.searchsorted(rows, split.calibration), pieces.numbers[rows]
    component_maps = fit_left_out(scorer, make, features, numbers, judged, seed)
    with torch.no_grad():
        maps, scores = pipeline.reduce(scorer.fit_normalisation(component_maps, numbers[judged]))
    peaks = maps.amax(dim=(1, 2)).cpu().numpy()
    return _scale(scorer, scores.cpu().double().numpy(), peaks, numbers[judged])


def _scale(scorer: Scorer, scores: Floats, peaks: Floats, numbers: Rows) -> tuple[Floats, Floats]:
    """Scores and peaks (n,) of normal images on the scale that the scorer learns from the scores."""
    divisors = scorer.fit_score_scale(scores, numbers)
    return scores / divisors, peaks / divisors


@torch.no_grad()
def _see(model: Model, names: Sequence[str], images: Tensor) -> tuple[Tensor, ...]:
    found = model.outputs(images, names)
    return tuple(found[name] for name in names)


def _read_outputs(model: Model, names: Sequence[str], pieces: Pieces, rows: Rows) -> Iterator[tuple[Tensor, ...]]:
    """What a model gives of the pieces in some rows, in batches."""
    device = device_of(model)
    for batch in iterate(pieces.images, rows, pieces.spec):
        yield _see(model, names, to_tensor(batch.pixels, pieces.spec.value_range, device))


def _collect(batches: Iterable[tuple[Tensor, ...]], count: int) -> Tensor:
    """(N, ...) of batches (n, ...), together N: `torch.cat` would hold all of them twice."""
    whole, end = torch.empty(0), 0
    for (batch,) in batches:
        whole = whole if end else batch.new_empty((count, *batch.shape[1:]))
        whole[end : end + len(batch)] = batch
        end += len(batch)
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
    return not model.trains


def _rows_to_learn(model: Model, scorer: Scorer, split: Split) -> tuple[Rows, Rows]:
    """What the scorer learns from: images that the model knows, and others; all and none, where neither needs any held out."""
    if scorer.capabilities.held_out != "unused" or any(weight.requires_grad for weight in model.parameters()):
        return split.train, split.validation
    both = np.sort(np.concatenate([split.train, split.validation]))
    return both, both[:0]


def say_nothing(stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
    """Where nobody asked to be told how far the work is."""
