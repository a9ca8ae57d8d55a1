"""The images of a study: the user's own, some that are made on the spot, or some that a package brings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from unlike.config import check_range
from unlike.data.arrays import ArraySource, ImageArray
from unlike.data.cells import load_cells
from unlike.data.classes import choose_part, find_classes
from unlike.data.source import Source, labelled, open_source, training
from unlike.errors import ConfigError, DataError, unknown
from unlike.records import Pixels, Sample

TRAIN_ARRAYS, TEST_ARRAYS = ("train*.npy", "train*.npz"), ("test*.npy", "test*.npz")
LABEL_FILES = ("*label*.csv", "*label*.npy")
CLASS_TEST = 3  # of how many images of a class one is for testing, where nobody divided them


@dataclass(frozen=True, slots=True)
class DataSource:
    """One set of images of a study: a collection by name, a root, or train and test apart."""

    name: str = ""  # in tables; empty: the collection's or the folder's
    collection: str | None = None  # of COLLECTIONS
    root: str | None = None  # MVTec AD layout, a manifest, or a folder with train*.npy, test*.npy and *label*.csv
    train: str | None = None
    test: str | None = None
    labels: str | None = None  # of test, where it is an array
    most_train: int | None = None  # images of each category or class that are used, always the same; none: all
    most_test: int | None = None  # of each label of each category, or of each class

    def __post_init__(self) -> None:
        if self.collection is not None and self.collection not in COLLECTIONS:
            raise unknown("data.collection", self.collection, COLLECTIONS)
        ways = (self.collection, self.root, self.train)
        if sum(way is not None for way in ways) > 1 or (self.train is None) != (self.test is None):
            raise ConfigError("data: expected one of: collection; root; train and test (with labels for arrays)")
        for key in ("most_train", "most_test"):
            value = getattr(self, key)
            if value is not None:
                check_range(f"data.{key}", value, 3, 1e9)

    def named(self, base: Path) -> DataSource:
        """The same with a name and with paths that start from `base`."""
        if self.root is None and self.train is None:
            collection = self.collection or "textures"
            return replace(self, collection=collection, name=self.name or collection)
        paths = {key: getattr(self, key) for key in ("root", "train", "test", "labels")}
        found: dict[str, Any] = {key: str(base / path) for key, path in paths.items() if path is not None}
        name = self.name or Path(found.get("root") or found["train"]).name or "images"
        return replace(self, name=name, **found)


def open_images(source: DataSource) -> tuple[Source, Source]:
    """The normal images to fit on, and the labelled ones to measure with.

    >>> train, test = open_images(DataSource(most_train=20, most_test=5).named(Path()))
    >>> len(train), len(test)
    (60, 30)
    """
    if source.collection is not None:
        whole = COLLECTIONS[source.collection]()
        train, test = training(whole), labelled(whole)
    elif source.train is not None:
        assert source.test is not None
        train, test = training(open_source(source.train)), labelled(open_source(source.test, source.labels))
    else:
        train, test = _open_root(Path(source.root or ""))
    return draw(train, source.most_train), draw(test, source.most_test)


def open_classes(source: DataSource) -> tuple[Source, Source]:
    """Images of several classes: those to learn from, and those to test with; the `kind` of each is its class."""
    if source.collection is not None:
        whole = COLLECTIONS[source.collection]()
    elif source.root is not None:
        whole = find_classes(source.root)
    else:
        return find_classes(source.train or ""), find_classes(source.test or "", source.labels)
    if any(sample.split == "test" for sample in whole.samples):
        learn, test = choose_part(whole, "train"), choose_part(whole, "test")
    else:
        learn, test = _divide(whole)
    return draw(learn, source.most_train, _class), draw(test, source.most_test, _class)


def draw(found: Source, most: int | None, group: Callable[[Sample], tuple[str, str]] | None = None) -> Source:
    """At most so many images of each category and label, drawn at random, always the same ones, in order."""
    group = group or _label
    if most is None:
        return found
    random = np.random.default_rng(0)
    groups: dict[tuple[str, str], list[int]] = {}
    for position, sample in enumerate(found.samples):
        groups.setdefault(group(sample), []).append(position)
    kept = [random.permutation(positions)[:most] for _, positions in sorted(groups.items())]
    return found.take(np.sort(np.concatenate(kept)))


def _label(sample: Sample) -> tuple[str, str]:
    return sample.category, str(sample.anomalous)


def _class(sample: Sample) -> tuple[str, str]:
    return sample.category, sample.kind


def categories(*sources: Source) -> list[str]:
    """The categories that all of these have."""
    found = [{sample.category for sample in source.samples} for source in sources]
    return sorted(set.intersection(*found) - {""})


def of_category(found: Source, name: str) -> Source:
    """The images of one category."""
    return found.where(lambda sample: sample.category == name)


def _open_root(root: Path) -> tuple[Source, Source]:
    """A folder of arrays, or whatever else `open_source` knows."""
    train, test = _first(root, TRAIN_ARRAYS), _first(root, TEST_ARRAYS)
    if train is None or test is None:
        whole = open_source(root)
        return training(whole), labelled(whole)
    labels = _first(root, LABEL_FILES)
    if labels is None:
        raise DataError(f"{root}: has {test.name} but no labels; expected a file such as test_labels.csv beside it")
    return training(open_source(train)), labelled(open_source(test, labels))


def _first(root: Path, patterns: Iterable[str]) -> Path | None:
    found = sorted(path for pattern in patterns for path in root.glob(pattern) if path.is_file())
    return next((path for path in found if "label" not in path.name or "*label*.csv" in patterns), None)


def _divide(whole: Source) -> tuple[Source, Source]:
    """A third of each class to test with."""
    random = np.random.default_rng(0)
    kinds = np.array([sample.kind for sample in whole.samples])
    test = [random.permutation(np.flatnonzero(kinds == kind)) for kind in np.unique(kinds)]
    rows = np.sort(np.concatenate([order[: len(order) // CLASS_TEST] for order in test]))
    return whole.take(np.setdiff1d(np.arange(len(whole)), rows)), whole.take(rows)


@functools.cache
def textures() -> Source:
    """Three categories of textures with noise, 32 x 32 in colour; anomalous ones have a blot or a scratch."""
    random = np.random.default_rng(0)
    images: list[Pixels] = []
    samples: list[Sample] = []
    for category, pattern in (("checks", _checks), ("rings", _rings), ("stripes", _stripes)):
        for split, kind, count in (("train", "good", 160), ("test", "good", 60), ("test", "blot", 30), ("test", "scratch", 30)):  # fmt: skip
            for _ in range(count):
                name = f"{category}/{split}/{kind}/{len(samples):04}"
                samples.append(Sample(name, None, len(samples), kind != "good", category, kind, split))
                images.append(_spoil(pattern(random), kind, random))
    return ArraySource("generated textures", samples, ImageArray(np.stack(images)))


@functools.cache
def digits() -> Source:
    """The handwritten digits of scikit-learn, 8 x 8: even ones are normal, odd ones anomalous; each digit is a class."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = (data.images * 15.9375).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(images))
    split = np.full(len(images), "test")
    split[order[: 2 * len(images) // 3]] = "train"
    rows = zip(data.target.tolist(), split.tolist(), strict=True)
    samples = [
        Sample(f"{row:04}", None, row, bool(digit % 2), kind=str(digit), split=part)
        for row, (digit, part) in enumerate(rows)
    ]
    return ArraySource("digits of scikit-learn", samples, ImageArray(images))


@functools.cache
def cells() -> Source:
    """Monocrystalline solar cells (ELPV), 300 x 300 grey, from PyPI: certainly good ones, and certainly defective ones."""
    images, probability, kind = load_cells()
    mono = kind == "mono"
    normal = np.random.default_rng(0).permutation(np.flatnonzero(mono & (probability == 0)))
    parts = {
        ("train", "good"): normal[len(normal) // 4 :],
        ("test", "good"): normal[: len(normal) // 4],
        ("test", "defective"): np.flatnonzero(mono & (probability == 1)),
    }
    samples = [
        Sample(f"{row:04}", None, row, label != "good", kind=label, split=split)
        for (split, label), rows in parts.items()
        for row in rows.tolist()
    ]
    return ArraySource("solar cells of elpv-dataset", sorted(samples, key=lambda sample: sample.id), ImageArray(images))


COLLECTIONS: dict[str, Callable[[], Source]] = {"cells": cells, "digits": digits, "textures": textures}

SIDE = 32  # pixels of a generated image
Y, X = np.mgrid[:SIDE, :SIDE] / SIDE


def _stripes(random: np.random.Generator) -> Pixels:
    wave = np.sin(2 * np.pi * (3 * (X + Y) + random.uniform()))
    return _tint(wave, (1.0, 0.9, 0.6))


def _checks(random: np.random.Generator) -> Pixels:
    right, down = random.uniform(size=2)
    wave = np.sign(np.sin(2 * np.pi * (4 * X + right)) * np.sin(2 * np.pi * (4 * Y + down)))
    return _tint(0.8 * wave, (0.7, 1.0, 0.8))


def _rings(random: np.random.Generator) -> Pixels:
    centre = random.uniform(0.4, 0.6, 2)
    wave = np.sin(2 * np.pi * 5 * np.hypot(X - centre[0], Y - centre[1]))
    return _tint(wave, (0.7, 0.8, 1.0))


def _tint(wave: Pixels, colour: tuple[float, float, float]) -> Pixels:  # (H, W)
    return np.asarray(128 + 70 * wave[..., None] * np.array(colour))  # (H, W, 3)


def _spoil(image: Pixels, kind: str, random: np.random.Generator) -> Pixels:
    """Some noise, and the defect of this kind."""
    across, down = random.uniform(0.25, 0.75, 2)
    if kind == "blot":
        image = image - 60.0 * (np.hypot(X - across, Y - down) < random.uniform(0.05, 0.12))[..., None]
    if kind == "scratch":
        slope = random.uniform(-1, 1)
        line = (np.abs(Y - down - slope * (X - across)) < 0.025) & (np.abs(X - across) < 0.2)
        image = image + 60.0 * line[..., None]
    return np.clip(image + random.normal(0, 8, image.shape), 0, 255).astype(np.uint8)
