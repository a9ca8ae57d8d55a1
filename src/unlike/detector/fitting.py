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
from unlike.calibration.decision import WORST_OF_CATEGORY, calibrate
from unlike.data.batches import ImageSet, value_range_of
from unlike.data.input_spec import InputSpec
from unlike.data.source import Source
from unlike.data.split import categories_of
from unlike.detector.building import build_model, check_suits, place, spec_for
from unlike.detector.health import diagnose_training
from unlike.detector.learning import calibrate_held_out, calibrate_leave_one_out, fit_scorer
from unlike.detector.pipeline import Pipeline, device_of
from unlike.detector.scorers import make_scorer
from unlike.detector.settings import Settings
from unlike.detector.splitting import (
    Pieces,
    calibrates_cross,
    categories_by_themselves,
    count_images,
    part_categories,
    split_images,
)
from unlike.detector.storage import Fitted, versions
from unlike.models.base import Model
from unlike.training import Checkpoint, History, train

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
    cross = calibrates_cross(model, plain, settings, loaded)
    split, rule = split_images(loaded, settings.decision, task.seed, none_held_back=cross and not model.trains)
    # held-out images must not choose the scale either
    spec = replace(spec, value_range=value_range_of(loaded, split.train, spec))
    numbers, categories = part_categories(loaded, split, plain, cross=cross)
    tiling = settings.data.tiling(spec)
    pieces = Pieces.of(loaded, split, spec, tiling, numbers)
    history = train_model(task, model, pieces, loaded) if trained is None else []
    model.eval()
    warnings = diagnose_training(model, pieces, history, settings.training.keep)
    make = partial(make_scorer, settings, model.output_spec, categories)
    pipeline = Pipeline(model, make().to(device_of(model)), settings.map, tiling).eval()
    if cross:
        scores, peaks = calibrate_leave_one_out(pipeline, make, pieces, task.seed)
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
    return Fitted(
        pipeline, spec, decision, digests, history, images.name, counts, loaded.unreadable, notes, warnings=warnings
    )


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


def fingerprint(settings: Settings, seed: int, images: ImageSet) -> str:
    """Of everything that a training depends on."""
    sums = hashlib.sha256(repr((settings.to_sections(), seed, versions())).encode())
    sums.update(images.digests.tobytes())
    sums.update(categories_of(images.samples).tobytes())  # they choose who is held out
    return sums.hexdigest()


def say_nothing(stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
    """Where nobody asked to be told how far the work is."""
