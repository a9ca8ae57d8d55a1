"""Which images count as one when normal images are held out: as they are given, as they are found, or each by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from unlike.artifacts import printable
from unlike.calibration.groups import (
    Groups,
    Pairs,
    TwinTest,
    ask_for_twins,
    closest_in_others,
    connect,
    find_same_pictures,
    link_followers,
    link_series,
    natural_order,
    owned_shares,
    pair_distances,
    pairs_of,
)
from unlike.data.batches import ImageSet
from unlike.data.facts import make_thumbnail
from unlike.data.samples import column
from unlike.detector.settings import DecisionConfig
from unlike.errors import DataError
from unlike.models.base import Model
from unlike.records import Floats, Rows

FEWEST_POSITIONS = 16  # of features, by which images can be told to be of one part
MOST_POSITIONS = 256  # of an image's features that are looked at
FEWEST_IMAGES = 16  # of a category, among which series are looked for
MOST_BY_FEATURES, MOST_BY_PICTURES = 2000, 20_000  # of a category that are looked at
MOST_TESTED = 300  # images with twins that are asked for others
FEWEST_GROUPS = 5  # of a category, without which too little is left to learn from
TOO_FEW = (
    "The images are like one long series ({fewest} groups of one part or scene at most): too few to leave one out, so each image "
    "counts, and the promise is for more images of this series. For images of new ones add some of other series, or name groups with "
    "--group-by."
)
WORTH_SAYING = 0.95  # times as many groups as images
BLOCK = 256  # pictures at a time

# of images at some positions, and their ranks in order: pairs that look alike, and pairs that follow each other and are near;
# and how far some images are from all others (m, A, n)
Look = Callable[[Rows, Rows], tuple[Pairs, Pairs, Callable[[Rows], Floats]]]


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """Which of some images belong together, and which of that counts."""

    found: Rows  # (n,) the group of each image, as found or given
    used: Rows  # (n,) those that are left out as wholes, and on whose number the promise rests
    words: tuple[str, ...] = ()  # what to say of it, in sentences

    @property
    def otherwise(self) -> Rows | None:
        """(n,) what would count the other way: images, where groups do, or groups; None where both are the same."""
        singles = np.arange(len(self.used))
        if len(np.unique(self.used)) < len(self.used):
            return singles
        return self.found if len(np.unique(self.found)) < len(self.found) else None

    def take(self, positions: Rows) -> Grouping:
        """That of the images at these positions."""
        return Grouping(self.found[positions], self.used[positions], self.words)


def each_alone(count: int) -> Grouping:
    """Each image by itself."""
    return Grouping(np.arange(count), np.arange(count))


def given_groups(images: ImageSet, decision: DecisionConfig) -> Grouping | None:
    """The groups (N,) that the samples have; None where none are given, or they are not to count.

    A DataError says that there are none where they were asked for, or that all images are of one.
    """
    names = column(images.samples, "group")
    if decision.groups in ("none", "found"):
        return None
    if not (names != "").any():
        if decision.groups == "given":
            raise DataError(
                "decision.groups = 'given': no image has a group; expected a column named group in a table of the images, or "
                "--group-by with 'folder' or a regular expression"
            )
        return None
    named = np.flatnonzero(names != "")
    pairs = np.concatenate([named[pairs_of(names[named])], pairs_of(images.digests)])  # a copy is of both its groups
    numbers = connect(pairs, len(names)).numbers
    if (count := int(numbers.max()) + 1) < 2:
        raise DataError(
            f"all {len(names):,} normal images are given as one group: none is new to the others, so nothing can be promised; add "
            "images of other groups, or let each image count with --set decision.groups=none"
        )
    say = f"Groups: {count:,}, as given. Each is left out as a whole; the promise rests on their number, and is for images of new ones."
    return Grouping(numbers, numbers, (say,))


def find_by_features(
    model: Model, images: ImageSet, rows: Rows, features: Tensor, decision: DecisionConfig, seed: int
) -> Grouping:
    """Find which of the images in `rows` (n,) belong together by their features (n, D, h, w), each category by itself."""
    if features.shape[2] * features.shape[3] < FEWEST_POSITIONS:
        return find_by_pictures(images, rows, decision, seed)
    flat = describe_positions(model, features)

    def look(own: Rows, ranks: Rows) -> tuple[Pairs, Pairs, Callable[[Rows], Floats]]:
        some = flat[own].cpu().numpy()
        closest = closest_in_others(some, seed)
        return link_series(some, owned_shares(closest)), link_followers(some, ranks, seed), closest.__getitem__

    return _find(images, rows, decision, look, MOST_BY_FEATURES, seed)


def describe_positions(model: Model, features: Tensor) -> Tensor:
    """(n, P, D) features (n, D, h, w) at some positions, each group of them of the same weight."""
    step = max(1, round((features.shape[2] * features.shape[3] / MOST_POSITIONS) ** 0.5))
    seen = features[:, :, ::step, ::step].float()
    groups = torch.split(seen, list(model.feature_groups) or [seen.shape[1]], dim=1)
    return torch.cat([normalize(group, dim=1) for group in groups], dim=1).flatten(2).transpose(1, 2)


def find_by_pictures(images: ImageSet, rows: Rows, decision: DecisionConfig, seed: int) -> Grouping:
    """The same by small pictures alone, where there are no features yet: near-copies, but few other shots of one part."""

    def look(own: Rows, ranks: Rows) -> tuple[Pairs, Pairs, Callable[[Rows], Floats]]:  # noqa: ARG001
        blocks = (images.take(rows[own[start : start + BLOCK]]) for start in range(0, len(own), BLOCK))
        small = np.array([make_thumbnail(image) for block in blocks for image in block], np.float32)

        def closest(some: Rows) -> Floats:
            found = pair_distances(small[some], small)
            found[np.arange(len(some)), some] = np.inf
            return found[:, None]

        return find_same_pictures(small), np.empty((0, 2), np.intp), closest

    return _find(images, rows, decision, look, MOST_BY_PICTURES, seed)


def _find(images: ImageSet, rows: Rows, decision: DecisionConfig, look: Look, most: int, seed: int) -> Grouping:
    """Look at each category by itself, and ask of what is found whether new images will have such twins."""
    if decision.groups == "none":
        return each_alone(len(rows))
    categories = column(images.samples, "category")[rows]
    order = natural_order(column(images.samples, "id")[rows].tolist())
    found, used, tests = [np.empty((0, 2), np.intp)], [np.empty((0, 2), np.intp)], []
    for name in np.unique(categories):
        own = np.flatnonzero(categories == name)
        if not FEWEST_IMAGES <= len(own) <= most:
            continue
        ranks = np.argsort(np.argsort(order[own]))
        alike, following, closest = look(own, ranks)
        found.append(own[alike])
        pairs = np.concatenate([alike, following])
        if not len(pairs):
            continue
        # those that follow each other were chosen by that, so they cannot be asked whether it matters
        some = np.unique(alike) if len(alike) else np.arange(len(own))
        some = some[np.linspace(0, len(some) - 1, min(len(some), MOST_TESTED)).astype(np.intp)]
        test = ask_for_twins(closest(some), some, ranks, seed)
        tests.append(test)
        if test.lost:
            used.append(own[pairs])  # those that follow each other, too: a promise may rest on fewer, never on too many
        elif decision.groups == "found":
            used.append(own[alike])
    groups, counted = (connect(np.concatenate(pairs), len(rows)) for pairs in (found, used))
    names = column(images.samples, "id")[rows].tolist()
    parts = [counted.numbers[categories == name] for name in np.unique(categories)]
    grouped = [len(np.unique(part)) for part in parts if len(np.unique(part)) < len(part)]
    fewest = min(grouped, default=len(rows))  # a small category, in which nothing was looked for, has no say
    if len(counted) < len(rows) and fewest < FEWEST_GROUPS:
        alone = each_alone(len(rows))
        return Grouping(alone.found, alone.used, (TOO_FEW.format(fewest=fewest),))
    return Grouping(groups.numbers, counted.numbers, _say(decision.groups, groups, counted, tests, names))


def _say(choice: str, found: Groups, counted: Groups, tests: list[TwinTest], names: list[str]) -> tuple[str, ...]:
    """What was found, what that means, and the way out."""
    images = len(names)
    if len(counted) < images:
        largest = counted.larger[0]
        shown = ", ".join(printable(names[row]) for row in largest[:3]) + ", ..." * (len(largest) > 3)
        farther = max((test.farther for test in tests if test.lost), default=0.0)
        why = (
            f" They follow each other by name, and without those beside it an image is {farther:.2f} times as far from its nearest: "
            "a new one will have no such twins."
            if choice == "auto"
            else ""
        )
        return (
            f"Series: {images:,} images in {len(counted):,} groups of one part or scene, the largest of {len(largest)} ({shown}).{why}",
            (
                f"So each group is left out as a whole, and the promise rests on {len(counted):,} groups, not {images:,} images; if new images "
                "come of the same series, let images count with --set decision.groups=none."
            ),
        )
    if len(found) <= WORTH_SAYING * images:
        return (
            (
                f"{images:,} images in {len(found):,} groups that look alike, but those do not follow each other: new images will have as many "
                "twins, so each image counts. If each new one is of a new part, --set decision.groups=found."
            ),
        )
    if choice == "found":
        return ("No series of one part or scene was found: each image counts.",)
    return ()
