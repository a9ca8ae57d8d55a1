"""A look at images before anything is fitted: what `fit` would take, and what is worth knowing of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlike.cache import Cache
from unlike.calibration.groups import connect, find_same_pictures, find_series, pairs_of
from unlike.calibration.leave_one_out import fit_leave_one_out
from unlike.data.batches import ImageSet, iterate, value_range_of
from unlike.data.facts import Facts, read_facts
from unlike.data.groups import group_samples
from unlike.data.input_spec import InputSpec
from unlike.data.samples import column
from unlike.data.source import Images, Source, open_source, training
from unlike.data.split import Split, calibration_size, distinct_rows
from unlike.data.tensors import to_tensor
from unlike.detector.building import spec_for
from unlike.detector.fitting import Notify, Task, prepare_model, say_nothing
from unlike.detector.grouping import describe_positions, find_by_features, given_groups
from unlike.detector.inspection import Inspection, Look, Strange
from unlike.detector.pipeline import Pipeline, device_of
from unlike.detector.scorers import make_scorer
from unlike.detector.settings import Settings
from unlike.detector.splitting import CROSS_BYTES, MOST_CROSS, feature_bytes, part_categories
from unlike.errors import DataError
from unlike.models import MODELS
from unlike.models.base import Model
from unlike.records import Floats, Rows

MOST_LOOKED_AT = 500  # normal images, by their features
RUN = 5  # of more, this many in a row are taken: shots of one part mostly follow each other
MOST_COMPARED = 20_000  # images, each with each other, by their thumbnails
FEWEST = 5  # normal images, to say that one is unlike the others
STRANGEST = 6


def inspect(
    images: Images,
    labels: Any = None,
    *,
    good: str | Sequence[str] | None = None,
    group_by: str | Sequence[str] | None = None,
    settings: Settings | None = None,
    features: bool = True,
    seed: int = 0,
    device: str = "auto",
    cache: bool = True,
    notify: Notify | None = None,
) -> Inspection:
    """Look at all images as `fit` would see them with these settings, those of the default if None; nothing is fitted to keep.

    All are read once: counts, sizes, values, broken files, copies, the size of labelled defects. With `features`, at most
    MOST_LOOKED_AT of the normal ones are looked at by the features of the settings, or of the default where theirs would have
    to be trained: which are series of one part or scene, and which are the strangest, each by what the others show. Groups that
    are given, by a column or by `group_by` as for `Detector.fit`, are taken as they are; a list has one name for each image of the
    source, those of a test split too.

    >>> images = np.random.default_rng(0).integers(0, 255, (20, 16, 16), dtype=np.uint8)
    >>> found = inspect(np.concatenate([images, images[:2]]), features=False)
    >>> len(found.samples), found.distinct, found.groups, round(found.promise, 3)
    (22, 20, 20, 0.095)
    """
    settings, notify = settings or Settings.resolve(), notify or say_nothing
    source = open_source(images, labels, good, settings.data.pages)
    told = group_by if group_by is not None else settings.decision.group_by
    source = group_samples(source, told) if len(told) else source
    normals, refusal = _choose(source)
    spec, notes = spec_for(normals, settings.data)
    facts = read_facts(source, spec, lambda done, total: notify("read", done, total, {}))
    taken = np.empty(0, np.intp) if refusal else _rows_taken(source, normals, facts)
    digests = np.unique(facts.digests, return_inverse=True)[1]
    copies = connect(pairs_of(digests), len(facts))
    same = connect(np.concatenate([pairs_of(digests), _same_pictures(source, facts)]), len(facts))
    distinct = len(np.unique(digests[taken]))
    found = Inspection(
        name=source.name,
        notes=(*source.notes, *notes),
        samples=source.samples,
        spec=spec,
        facts=facts,
        taken=taken,
        refusal=refusal,
        copies=copies,
        same=same,
        held_out=_held_out(distinct),
        leaked=_leaked(source, facts, same.numbers),
        not_looked="" if features else "not asked for",
        source=source,
    )
    if not features:
        return found
    if distinct < FEWEST:
        return replace(found, not_looked=f"{FEWEST} different normal images are needed, here are {distinct}")
    task = Task(_settings_to_look(settings), seed, device, Cache.default() if cache else None, None, False, notify)
    try:
        return replace(found, look=_look(task, source, found, spec))
    except DataError as error:
        return replace(found, not_looked=str(error))


def _choose(source: Source) -> tuple[Source, str]:
    """The images that `fit` would take, or all, and why it would take none."""
    try:
        return training(source), ""
    except DataError as error:
        return source, str(error)


def _rows_taken(source: Source, normals: Source, facts: Facts) -> Rows:
    """Rows of the facts that are of normal images."""
    if len(normals) == len(source):
        return np.arange(len(facts))
    wanted = {sample.id for sample in normals.samples}
    return np.array([row for row in range(len(facts)) if source.samples[int(facts.rows[row])].id in wanted], np.intp)


def _same_pictures(source: Source, facts: Facts) -> Rows:
    """(K, 2) pairs of rows that are the same picture, each category by itself: two products are farther apart than any."""
    categories = column(source.samples, "category")[facts.rows]
    found = [np.empty((0, 2), np.intp)]
    for name in np.unique(categories):
        rows = np.flatnonzero(categories == name)[:MOST_COMPARED]
        found.append(rows[find_same_pictures(facts.thumbnails[rows])])
    return np.concatenate(found)


def _held_out(distinct: int) -> int:
    """How many normal images the threshold would rest on: all, up to some, or else those that are held out."""
    return distinct if distinct <= MOST_CROSS else calibration_size(distinct, None, None)


def _leaked(source: Source, facts: Facts, numbers: Rows) -> tuple[tuple[int, int], ...]:
    """Pairs of rows that are the same picture, one to train on and one to test on."""
    splits = column(source.samples, "split")[facts.rows]
    known = {int(numbers[row]): int(row) for row in np.flatnonzero(splits == "train")[::-1]}
    tested = np.flatnonzero(splits == "test").tolist()
    return tuple((known[int(numbers[row])], row) for row in tested if int(numbers[row]) in known)


def _settings_to_look(settings: Settings) -> Settings:
    """Those that were chosen where they see by features that are there already, or the default's, for the same data."""
    fixed = not MODELS[settings.model_name].trains and settings.data.tile is None
    if fixed and settings.scorer_name != "residual":
        return settings
    data = {name: value for name, value in settings.to_sections()["data"].items() if name not in ("tile", "overlap")}
    return Settings.resolve(overrides={"data": data})


def _look(task: Task, source: Source, found: Inspection, spec: InputSpec) -> Look:
    """Look at normal images by features: which belong together, and which are strange."""
    model = prepare_model(task, spec, None).eval()
    rows = _sample(found, _affordable(model), task.seed)
    loaded = source.take(found.facts.rows[rows]).load(spec, task.cache)
    spec = replace(spec, value_range=value_range_of(loaded, np.arange(len(rows)), spec))
    features = _see(model, loaded, spec, task.notify)
    flat = describe_positions(model, features).cpu().numpy()  # (n, P, D)
    categories = column(loaded.samples, "category")
    given = given_groups(loaded, task.settings.decision)
    if given is not None:
        series = connect(pairs_of(given.found), len(rows))
        return Look(rows, series, _strangest(task, model, loaded, features, series.numbers), given=True)
    pairs = [np.empty((0, 2), np.intp)]
    for name in np.unique(categories):
        own = np.flatnonzero(categories == name)
        pairs.append(own[find_series(flat[own], task.seed)])
    pairs.append(pairs_of(found.same.numbers[rows]))
    series = connect(np.concatenate(pairs), len(rows))
    heeded = find_by_features(model, loaded, np.arange(len(rows)), features, task.settings.decision, task.seed)
    return Look(rows, series, _strangest(task, model, loaded, features, heeded.used), words=heeded.words)


def _affordable(model: Model) -> int:
    """How many images' features can be in memory."""
    return min(MOST_LOOKED_AT, max(FEWEST, CROSS_BYTES // (2 * feature_bytes(model))))


def _sample(found: Inspection, most: int, seed: int) -> Rows:
    """Rows of different images that `fit` would take: all, or some runs that follow each other in order."""
    rows = found.taken[distinct_rows(found.facts.digests[found.taken])]
    if len(rows) <= most:
        return rows
    runs = np.array_split(rows, -(-len(rows) // RUN))
    chosen = np.random.default_rng(seed).permutation(len(runs))[: max(1, most // RUN)]
    return np.concatenate([runs[run] for run in np.sort(chosen)])


@torch.no_grad()
def _see(model: Model, loaded: ImageSet, spec: InputSpec, notify: Notify) -> Tensor:
    """(n, D, h, w) features of all."""
    rows, device, parts, done = np.arange(len(loaded.samples)), device_of(model), [], 0
    for batch in iterate(loaded, rows, spec):
        parts.append(model.encode(to_tensor(batch.pixels, spec.value_range, device)))
        done += len(batch.samples)
        notify("score", done, len(rows), {})
    return torch.cat(parts)


def _strangest(task: Task, model: Model, loaded: ImageSet, features: Tensor, groups: Rows) -> tuple[Strange, ...]:
    """The images that are least like the others, each scored by what the others show."""
    rows = np.arange(len(features))
    scorer = make_scorer(task.settings, model.output_spec)
    numbers, categories = part_categories(loaded, Split(rows, rows[:0], rows), scorer, cross=True)
    make = partial(make_scorer, task.settings, model.output_spec, categories)
    pipeline = Pipeline(model, make().to(device_of(model)), task.settings.map).eval()
    component_maps = fit_leave_one_out(pipeline.scorer, make, features, numbers, rows, groups, task.seed)
    with torch.no_grad():
        maps, scores = pipeline.reduce(pipeline.scorer.fit_normalisation(component_maps, numbers))
    found = scores.cpu().double().numpy()
    found = found / pipeline.scorer.fit_score_scale(found, numbers)
    ratios = found / (float(np.median(found)) or 1.0)
    return tuple(_strange(loaded, maps.cpu().numpy(), ratios, row) for row in _highest(ratios, STRANGEST))


def _highest(values: Floats, most: int) -> Sequence[int]:
    order = np.argsort(-values, kind="stable")[: min(most, len(values))]
    return [int(row) for row in order if np.isfinite(values[row])]


def _strange(loaded: ImageSet, maps: Floats, ratios: Floats, row: int) -> Strange:
    image = loaded.take(np.array([row]))[0]
    return Strange(loaded.samples[row], float(ratios[row]), np.array(image), maps[row])
