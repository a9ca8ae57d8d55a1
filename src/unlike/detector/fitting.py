"""A fit, step by step: input spec, model, split, training, scorer, calibration."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from unlike.backbones.network_cache import NetworkCache
from unlike.cache import Cache
from unlike.calibration.decision import WORST_OF_CATEGORY, Decision, Otherwise, calibrate, fit_threshold
from unlike.calibration.thresholds import ThresholdRule
from unlike.data.batches import ImageSet, value_range_of
from unlike.data.chosen import ChosenImages
from unlike.data.input_spec import InputSpec
from unlike.data.pixels import make_small
from unlike.data.samples import column
from unlike.data.source import Source
from unlike.data.split import Split, categories_of
from unlike.detector.building import build_model, check_suits, place, spec_for
from unlike.detector.grouping import Grouping, each_alone, find_by_features, find_by_pictures, given_groups
from unlike.detector.health import diagnose_training
from unlike.detector.learning import HeldOut, calibrate_held_out, calibrate_leave_one_out, fit_scorer
from unlike.detector.nearest import MOST_ENCODED, MOST_KNOWN, KnownNormals, draw_small, summarise_pixels
from unlike.detector.pipeline import BLOCK, Pipeline, device_of
from unlike.detector.scorers import make_scorer
from unlike.detector.screening import distrust_by_losses, distrust_by_scores, make_trim, show_distrusted
from unlike.detector.settings import Settings
from unlike.detector.splitting import (
    Pieces,
    calibrates_cross,
    categories_by_themselves,
    count_images,
    part_categories,
    rows_to_learn,
    split_images,
)
from unlike.detector.storage import Fitted, Strangest, versions
from unlike.errors import DataError
from unlike.models.base import Model
from unlike.records import Rows
from unlike.training import Checkpoint, History, Trim, train

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
    every, doubtful, robust = loaded, np.empty(0, np.intp), settings.decision.contamination != "none"
    if robust and not model.trains:
        doubtful = distrust_by_scores(settings, model, every, spec, task.seed)
        loaded = leave_out(every, doubtful)
    cross = calibrates_cross(model, plain, settings, loaded)
    grouping = group_images(task, loaded, by_features=cross and not model.trains)
    groups = None if grouping is None else grouping.used
    split, rule = split_images(loaded, settings.decision, task.seed, groups, none_held_back=cross and not model.trains)
    # held-out images must not choose the scale either
    spec = replace(spec, value_range=value_range_of(loaded, split.train, spec))
    numbers, categories = part_categories(loaded, split, plain, cross=cross)
    tiling = settings.data.tiling(spec)
    pieces = Pieces.of(loaded, split, spec, tiling, numbers)
    counted = np.arange(len(rows_to_learn(loaded))) if groups is None else groups
    trim = make_trim(settings, loaded, pieces, counted)
    history = train_model(task, model, pieces, loaded, trim) if trained is None else []
    model.eval()
    warnings = diagnose_training(model, pieces, history, settings.training.keep)
    if robust and model.trains:
        doubtful = distrust_by_losses(settings, model, loaded, pieces, spec, counted)
        split = split.without(doubtful)
        pieces = Pieces.of(loaded, split, spec, tiling, numbers)
    make = partial(make_scorer, settings, model.output_spec, categories)
    pipeline = Pipeline(model, make().to(device_of(model)), settings.map, tiling).eval()
    if cross:
        find = partial(find_by_features, model, loaded, decision=settings.decision, seed=task.seed)
        held_out = calibrate_leave_one_out(
            pipeline,
            make,
            pieces,
            task.seed,
            find if grouping is None else lambda rows, _: take_groups(grouping, loaded, rows),
        )
    else:
        fit_scorer(pipeline.scorer, model, pieces, task.seed)
        known = take_groups(grouping, loaded, split.calibration)
        held_out = calibrate_held_out(pipeline, loaded, numbers, split.calibration, spec, known)
    decision = draw_thresholds(settings, loaded, split, held_out, rule)
    digests, counts = np.unique(every.digests), count_images(every, split, doubtful if robust else None)
    of = len(rows_to_learn(every))
    distrusted = show_distrusted(pipeline, every, doubtful, spec, of) if robust else None
    strangest = show_strangest(loaded, split.calibration, held_out, spec)
    notes += held_out.grouping.words
    normals = know_normals(
        task,
        pipeline,
        loaded,
        np.unique(np.concatenate([split.train, split.validation, split.calibration])),
        held_out,
        spec,
    )
    return Fitted(
        pipeline,
        spec,
        decision,
        digests,
        history,
        images.name,
        counts,
        loaded.unreadable,
        notes,
        strangest,
        warnings=warnings,
        known=normals,
        distrusted=distrusted,
    )


def leave_out(images: ImageSet, doubtful: Rows) -> ImageSet:
    """The images without those in some rows, and without copies of them."""
    return ChosenImages(images, np.flatnonzero(~np.isin(images.digests, images.digests[doubtful])))


def group_images(task: Task, images: ImageSet, *, by_features: bool) -> Grouping | None:
    """Which of the different images count as one, (n,); None where features, which are not there yet, will tell."""
    rows = rows_to_learn(images)
    given = given_groups(images, task.settings.decision)
    if given is not None:
        return given.take(rows)
    return None if by_features else find_by_pictures(images, rows, task.settings.decision, task.seed)


def take_groups(grouping: Grouping | None, images: ImageSet, rows: Rows) -> Grouping:
    """The groups of the images in some rows of those that are different."""
    if grouping is None:
        return each_alone(len(rows))
    return grouping.take(np.searchsorted(rows_to_learn(images), rows))


def draw_thresholds(
    settings: Settings, images: ImageSet, split: Split, held_out: HeldOut, rule: ThresholdRule
) -> Decision:
    """Where normal ends by what held-out images score; and where it would, were what belongs together counted the other way."""
    chosen, asked, grouping = settings.decision, settings.decision.false_alarms, held_out.grouping
    samples = [images.samples[row] for row in split.calibration]
    try:
        decision = calibrate(
            held_out.scores,
            held_out.peaks,
            categories_of(samples),
            rule,
            categories_by_themselves(images, chosen),
            WORST_OF_CATEGORY if asked == "auto" else asked,
            ids=column(samples, "id"),
            groups=grouping.used,
        )
    except DataError as error:
        if len(np.unique(grouping.used)) == len(samples):
            raise
        raise DataError(f"{error} Or let each image count, with --set decision.groups=none.") from None
    other = grouping.otherwise
    if other is None or held_out.otherwise is None:
        return decision
    by, count = ("images" if len(np.unique(other)) == len(other) else "groups"), len(np.unique(other))
    try:
        threshold = fit_threshold(*held_out.otherwise, rule, other)
    except DataError:  # groups are too few for what is asked, and are not what counts
        return decision
    return replace(decision, otherwise=Otherwise(by, threshold, count))


def show_strangest(images: ImageSet, rows: Rows, held_out: HeldOut, spec: InputSpec) -> tuple[Strangest, ...]:
    """The strangest of the held-out images, in `rows` (n,), small, each with its map."""
    low, high = spec.value_range
    found = []
    for number, map_ in zip(held_out.strangest.tolist(), held_out.maps, strict=True):
        row = int(rows[number])
        picture = make_small(images.take(np.array([row]))[0], low, high)
        found.append(Strangest(images.samples[row].id, float(held_out.scores[number]), picture, map_))
    return tuple(found)


def know_normals(
    task: Task, pipeline: Pipeline, images: ImageSet, rows: Rows, held_out: HeldOut, spec: InputSpec
) -> KnownNormals | None:
    """What normal images in `rows` (N,) look like in short, to name those that a new one is most like; None of tiles."""
    if pipeline.tiling is not None:
        return None
    most = MOST_ENCODED if held_out.summaries is None else MOST_KNOWN
    some = np.sort(np.random.default_rng(task.seed).permutation(len(rows))[:most])
    if held_out.summaries is None:
        blocks = (images.take(rows[some[start : start + BLOCK]]) for start in range(0, len(some), BLOCK))
        found = np.concatenate([summarise_pixels(pipeline, block, spec.value_range) for block in blocks])
    else:
        found = held_out.summaries[some]
    pictures = None
    if task.settings.decision.keep_pictures:
        pictures = np.stack([draw_small(images.take(rows[[n]])[0], *spec.value_range) for n in some])
    return KnownNormals.of([images.samples[row].id for row in rows[some]], found, pictures)


def prepare_model(task: Task, spec: InputSpec, trained: Model | None) -> Model:
    """A fresh model for images of that form, or the trained one where it suits, on the device that was asked for."""
    if trained is None:
        networks = None if task.cache is None else NetworkCache(task.cache)
        model = build_model(task.settings, spec, task.seed, networks)
    else:
        model = check_suits(trained, task.settings, spec)
    place(model, task.device)
    return model


def train_model(task: Task, model: Model, pieces: Pieces, loaded: ImageSet, trim: Trim | None = None) -> History:
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
        trim=trim,
        notify=lambda epoch, epochs, row: task.notify("train", epoch, epochs, row),
    )
    place(model, task.device)  # where the training may have left it elsewhere
    return history


def fingerprint(settings: Settings, seed: int, images: ImageSet) -> str:
    """Of everything that a training depends on."""
    sums = hashlib.sha256(repr((settings.to_sections(), seed, versions())).encode())
    sums.update(images.digests.tobytes())
    sums.update(categories_of(images.samples).tobytes())  # they choose who is held out,
    sums.update(column(images.samples, "group").tobytes())  # and so do these
    return sums.hexdigest()


def say_nothing(stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
    """Where nobody asked to be told how far the work is."""
