"""Who trains, who validates, who calibrates: seeded, each image once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unlike.data.samples import column
from unlike.errors import DataError
from unlike.records import Rows, Sample

FEWEST = 3  # images: one to train on, one to validate, one to calibrate
CALIBRATION_CAP = 2_000
VALIDATION_CAP = 500
Labels = npt.NDArray[np.intp]  # (N,) the number of the class of each image
Names = npt.NDArray[np.str_]  # (N,) names of categories


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Rows of images by what they are used for; no row is in two parts."""

    train: Rows
    validation: Rows
    calibration: Rows

    def without(self, rows: Rows) -> Split:
        """The same split, less some rows.

        >>> Split(np.array([0, 3]), np.array([1]), np.array([2, 4])).without(np.array([3, 4])).train.tolist()
        [0]
        """
        return Split(*(part[~np.isin(part, rows)] for part in (self.train, self.validation, self.calibration)))


def distinct_rows(digests: npt.NDArray[np.uint64]) -> Rows:
    """The first row of each different image, in order: a copy teaches nothing, and must not stand on both sides of a split.

    >>> distinct_rows(np.array([7, 3, 7, 9], np.uint64))
    array([0, 1, 3])
    """
    return np.sort(np.unique(digests, return_index=True)[1])


def split_normals(rows: Rows, calibration: int, seed: int, groups: Rows | None = None) -> Split:
    """Split rows of normal images at random into training, validation and calibration.

    Validation takes a tenth of what is not calibration, beyond 100 images a twentieth, at most 500. Of `groups`, one number for
    each row, as many calibrate, and none is in two parts.

    >>> split = split_normals(np.arange(100), calibration=20, seed=0)
    >>> len(split.train), len(split.validation), len(split.calibration)
    (72, 8, 20)
    """
    order = _shuffled(rows, groups, np.random.default_rng(seed))
    return _deal_out(order[:calibration], order[calibration:])


def split_categories(
    rows: Rows, categories: Names, calibration: Mapping[str, int], seed: int, groups: Rows | None = None
) -> Split:
    """Split rows of normal images of several categories: of each, as many calibrate as `calibration` says.

    The rest is dealt out as by `split_normals`, all categories together, `groups` as there.

    >>> split = split_categories(np.arange(9), np.repeat(["a", "b"], [3, 6]), {"a": 1, "b": 2}, seed=0)
    >>> len(split.train), len(split.validation), (split.calibration < 3).tolist()
    (5, 1, [True, False, False])
    """
    random = np.random.default_rng(seed)
    every = np.arange(len(rows)) if groups is None else groups
    own = {name: categories == name for name in calibration}
    orders = {name: _shuffled(rows[chosen], every[chosen], random) for name, chosen in own.items()}
    held_out = [unit for name, order in orders.items() for unit in order[: calibration[name]]]
    rest = [unit for name, order in orders.items() for unit in order[calibration[name] :]]
    return _deal_out(held_out, [rest[number] for number in random.permutation(len(rest))])


def first_of_each(groups: Rows, categories: Names | None = None) -> Rows:
    """Where the first image of each group, in each category, is: as many as can be dealt out.

    >>> first_of_each(np.array([4, 4, 2, 4]), np.array(["a", "b", "b", "a"])).tolist()
    [0, 1, 2]
    """
    kinds = np.zeros(len(groups), np.intp) if categories is None else np.unique(categories, return_inverse=True)[1]
    return np.sort(np.unique(np.stack([groups, kinds]), axis=1, return_index=True)[1])


def _shuffled(rows: Rows, groups: Rows | None, random: np.random.Generator) -> list[Rows]:
    """The rows of each group, in random order of the groups; each row by itself where there are none."""
    every = np.arange(len(rows)) if groups is None else groups
    _, first, numbers = np.unique(every, return_index=True, return_inverse=True)
    parts = np.split(rows[np.argsort(numbers, kind="stable")], np.cumsum(np.bincount(numbers))[:-1])
    in_order = np.argsort(first)  # groups as they first appear
    return [parts[in_order[number]] for number in random.permutation(len(parts))]


def _deal_out(calibration: list[Rows], rest: list[Rows]) -> Split:
    """Those that calibrate, and of the others, which are shuffled, the first to validate."""
    count = len(rest)
    validation = min(max(1, min(round(count / 10), 100), round(count / 20)), VALIDATION_CAP)
    parts = (rest[validation:], rest[:validation], calibration)
    train, check, held_out = (np.sort(np.concatenate(part)) if part else np.empty(0, np.intp) for part in parts)
    return Split(train, check, held_out)


def categories_of(samples: Sequence[Sample]) -> Names:
    """(N,) the category of each sample, empty where nobody said.

    >>> categories_of([Sample("a/1.png", category="a"), Sample("2.png")]).tolist()
    ['a', '']
    """
    return np.asarray(column(samples, "category"), str)


def split_classes(rows: Rows, codes: Labels, share: float, seed: int) -> Split:
    """Split rows of labelled images at random into training and validation, with this share of each class to validate.

    `codes` are the classes of the rows, numbered. Each class has at least one image on either side, so it needs two.

    >>> split = split_classes(np.arange(10), np.array([0] * 8 + [1] * 2), share=0.25, seed=0)
    >>> len(split.train), len(split.validation)
    (7, 3)
    """
    random = np.random.default_rng(seed)
    train, validation = [], []
    for code in np.unique(codes):
        order = random.permutation(rows[codes == code])
        held_out = min(max(1, round(share * len(order))), len(order) - 1)
        validation.append(order[:held_out])
        train.append(order[held_out:])
    return Split(np.sort(np.concatenate(train)), np.sort(np.concatenate(validation)), np.empty(0, np.intp))


def calibration_size(normals: int, share: float | None, false_alarms: float | None) -> int:
    """How many normal images to hold out for calibration.

    Unless a share is given: a quarter, at least what 1 % false alarms take (99) where that is no more than a third,
    at most 2,000. A promise that was asked for gets the images it takes, up to a half of all.

    >>> [calibration_size(n, None, None) for n in (3, 60, 300, 1000, 100_000)]
    [1, 20, 99, 250, 2000]
    """
    if normals < FEWEST:
        raise DataError(
            f"{normals} normal image{'s' * (normals != 1)} cannot be split; at least {FEWEST} are needed, some 100 for a useful detector"
        )
    if share is not None:
        return min(max(1, round(share * normals)), normals - 2)
    wanted = max(min(99, normals // 3), min(normals // 4, CALIBRATION_CAP))
    if false_alarms is not None:
        wanted = max(wanted, min(_needed(false_alarms), normals // 2))
    return wanted


def calibration_sizes(categories: Names, share: float | None, false_alarms: float | None) -> dict[str, int]:
    """How many normal images of each category (N,) to hold out, so that each can have a promise of its own.

    A category holds out what it would by itself, and at least the share that all would together; half of its images go
    for a promise only where that is enough for it. One of which there are too few to split holds out none.

    >>> calibration_sizes(np.repeat(["a", "b", "c"], [300, 60, 2]), None, None)
    {'a': 99, 'b': 20, 'c': 0}
    """
    whole = calibration_size(len(categories), share, false_alarms) / len(categories)
    sizes = {}
    for name, normals in zip(*np.unique(categories, return_counts=True), strict=True):
        sizes[str(name)] = 0
        if normals >= FEWEST:
            asked = false_alarms if false_alarms and _needed(false_alarms) <= normals // 2 else None
            own = calibration_size(int(normals), share, asked)
            sizes[str(name)] = min(max(own, int(np.ceil(whole * normals))), int(normals) - 2)
    return sizes


def _needed(false_alarms: float) -> int:
    """Held-out images for that promise."""
    return int(np.ceil(1 / false_alarms - 1e-9)) - 1
