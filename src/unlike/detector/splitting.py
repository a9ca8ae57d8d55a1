"""Who trains, who validates and who calibrates, and in which parts several categories are learned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from unlike.calibration.decision import ALL
from unlike.calibration.thresholds import ThresholdRule
from unlike.data.batches import ImageSet
from unlike.data.input_spec import InputSpec
from unlike.data.split import (
    Split,
    calibration_size,
    calibration_sizes,
    categories_of,
    distinct_rows,
    first_of_each,
    split_categories,
    split_normals,
)
from unlike.data.tiles import TiledImages, Tiling, cut_split
from unlike.detector.pipeline import device_of
from unlike.detector.settings import DecisionConfig, Settings
from unlike.errors import ConfigError, DataError
from unlike.models.base import Model
from unlike.records import Rows
from unlike.scoring.base import Scorer
from unlike.scoring.per_category import number_categories

MOST_CROSS = 500  # images of each category up to which none is held back where that can be
CROSS_BYTES = 1_200_000_000  # of features that are kept in memory: the default's of MOST_CROSS images
FEWEST = 3  # different normal images
FEWEST_TO_SCALE = 3  # held-out images of each part, for a scorer that scales by them to learn the parts by themselves
FEATURES_ALONE = ("features",)  # what a scorer of features takes


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


def calibrates_cross(model: Model, scorer: Scorer, settings: Settings, images: ImageSet) -> bool:
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
    if asked == "cross" and shared and not model.trains:
        raise ConfigError("decision.calibration = 'cross' holds no image back: leave decision.calibration_share out")
    count = len(images.samples)
    many = np.unique(categories_of(images.samples), return_counts=True)[1].max(initial=0) > MOST_CROSS
    if not possible or asked == "held-out" or (asked == "auto" and (shared or count < 3 or many)):
        return False
    size = count * feature_bytes(model)
    if asked == "cross" and size > CROSS_BYTES:
        raise ConfigError(
            f"the features of {count:,} images take {size / 1e9:,.1f} GB, more than {CROSS_BYTES / 1e9:g}, and must all be kept for "
            "decision.calibration = 'cross'; so many can spare some: take 'held-out'"
        )
    return size <= CROSS_BYTES


def feature_bytes(model: Model) -> int:
    """That the features of one image take."""
    shape, learning = model.shape, model.training
    with torch.inference_mode():  # nothing that the training will start from may change by this look
        code = model.eval().encode(torch.zeros(1, shape.channels, shape.height, shape.width, device=device_of(model)))
    model.train(learning)
    return code.numel() * code.element_size()


def rows_to_learn(images: ImageSet) -> Rows:
    """The rows of different images; a DataError where they are too few because of copies."""
    rows = distinct_rows(images.digests)
    if len(rows) < FEWEST <= len(images.digests):
        raise DataError(
            f"{len(images.digests):,} normal images are copies of {len(rows)}; at least {FEWEST} different ones are needed, some 100 for a "
            "useful detector"
        )
    return rows


def split_images(
    images: ImageSet,
    decision: DecisionConfig,
    seed: int,
    groups: Rows | None = None,
    *,
    none_held_back: bool = False,
) -> tuple[Split, ThresholdRule]:
    """Who trains and who calibrates, of each category, and the promise, checked before anything is trained.

    `groups` (n,) number what is in one part as a whole, of the images in `rows_to_learn`; None is each image by itself.
    """
    asked = None if decision.false_alarms == "auto" else decision.false_alarms
    share = None if decision.calibration_share == "auto" else decision.calibration_share
    rows = rows_to_learn(images)
    groups = np.arange(len(rows)) if groups is None else groups
    count = calibration_size(_check_groups(rows, groups), share, asked)
    sizes: dict[str, int] = {}
    if none_held_back:
        count = len(np.unique(groups))
    elif categories_by_themselves(images, decision):
        categories = categories_of(images.samples)[rows]
        sizes = calibration_sizes(categories[first_of_each(groups, categories)], share, asked)
        count = sum(sizes.values()) or count
    rule = rule_for_normals(decision)
    try:
        rule.fit(np.arange(count, dtype=np.float64))
    except DataError as error:
        units = "" if len(np.unique(groups)) == len(rows) else f" in {len(np.unique(groups))} groups"
        what = f" {count}" if not units else f", {count} groups"
        raise DataError(f"of {len(rows)} different normal images{units}{what} can be held out, and {error}") from None
    if none_held_back:
        return Split(rows, rows[:0], rows), rule
    if any(sizes.values()):
        return split_categories(rows, categories, sizes, seed, groups), rule
    return split_normals(rows, count, seed, groups), rule


def _check_groups(rows: Rows, groups: Rows) -> int:
    """How many groups the images in those rows are of; a DataError where images are enough to be split, and groups are not."""
    count = len(np.unique(groups))
    if count < FEWEST <= len(rows):
        raise DataError(
            f"{len(rows):,} normal images of {count} groups cannot be split; at least {FEWEST} groups are needed: add some, or let each "
            "image count with --set decision.groups=none"
        )
    return count


def rule_for_normals(decision: DecisionConfig) -> ThresholdRule:
    """The rule that draws the threshold by normal images alone; a ConfigError where it needs others."""
    rule = decision.make_rule()
    if rule.needs_labels:
        raise ConfigError(
            f"decision.threshold = {decision.threshold!r} chooses by images with labels, and a fit has normal ones alone: fit with "
            f"'conformal', then `unlike calibrate DETECTOR LABELLED --threshold {decision.threshold} -o NEW`"
        )
    return rule


def categories_by_themselves(images: ImageSet, decision: DecisionConfig) -> list[str]:
    """The categories that should have a threshold of their own: all, where there are several."""
    if not decision.per_category:
        return []
    names = np.unique(categories_of(images.samples)).tolist()
    return [name for name in names if name != ALL] if len(names) > 1 else []


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


def count_images(images: ImageSet, split: Split, distrusted: Rows | None = None) -> dict[str, int]:
    """Of the images, by what they were used for; with those that are distrusted, where that was asked for."""
    parts = {"train": len(split.train), "validation": len(split.validation), "calibration": len(split.calibration)}
    copies = len(images.samples) - len(distinct_rows(images.digests))
    left_out = {} if distrusted is None else {"distrusted": len(distrusted)}
    return {**parts, "copies": copies, "unreadable": len(images.unreadable), **left_out}
