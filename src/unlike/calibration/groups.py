"""Images that belong together: copies, and series such as bursts of one part. How many are independent of each other?

A promise about new images rests on images that are independent of each other: ten shots of one part are hardly more than
one of it. No torch here: whoever asks gives thumbnails, or features by position.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unlike.records import Floats, Rows

Pairs = npt.NDArray[np.intp]  # (K, 2) images that belong together

SAME = 0.2  # of the median distance of a pair of thumbnails: nearer ones are the same picture,
CORRELATED = 0.2  # where they are as near as that too: a correlation of .98
OWNED = 0.35  # of an image's positions are most like one other image: they show the same thing
OWNED_NEAR = 0.12  # the same for images whose features as a whole are near each other,
NEAR = 0.5  # of the median distance of a pair
TIMES_CHANCE = 4.0  # as much as each other image would own by chance, at least
POSITIONS = 64  # of an image that look for the most similar elsewhere
NARROW = 32  # directions, along which they do
BLOCK_VALUES = 16_000_000  # distances that are in memory at once
MOST_KEPT = 64_000_000  # of them that are kept: 256 MB
FOLLOWING = 2  # images beside one in order, that may be of the same part: those that are nearer to it
RARE = 0.05  # than all but that share of pairs that do not follow each other
PAIRS = 5000  # of those that are looked at
WINDOW = 0.1  # of all images, on either side of one in order, among which shots of the same part are
DRAWS = 20  # random orders, to compare with
LOST = 1.03  # times as far without those beside them: series follow each other, and a new image is of none of them,
SURE = 4.0  # where that is so many standard deviations beyond what random orders give
TINY = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Which images belong together: those of one part or scene, or the same picture twice.

    >>> groups = connect(np.array([[0, 2], [2, 4]]), 5)
    >>> len(groups), groups.numbers.tolist(), [rows.tolist() for rows in groups.larger]
    (3, [0, 1, 0, 2, 0], [[0, 2, 4]])
    """

    numbers: Rows  # (N,) of the group of each image, as they first appear

    def __len__(self) -> int:
        """How many groups, those of one image among them."""
        return int(self.numbers.max(initial=-1)) + 1

    @property
    def larger(self) -> list[Rows]:
        """The images of each group that has more than one, the largest group first."""
        order = np.argsort(self.numbers, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(self.numbers[order])) + 1)
        return sorted((part for part in parts if len(part) > 1), key=lambda part: (-len(part), int(part[0])))


def pairs_of(numbers: npt.NDArray[Any]) -> Pairs:
    """(K, 2) each row with the one before it that has the same number, or name.

    >>> pairs_of(np.array([7, 3, 7, 7])).tolist()
    [[0, 2], [2, 3]]
    """
    order = np.argsort(numbers, kind="stable")
    again = np.flatnonzero(numbers[order][1:] == numbers[order][:-1])
    return np.stack([order[again], order[again + 1]], axis=1)


def group_weights(groups: Rows) -> Floats:
    """(n,) what each image counts for: 1 alone, 1/m in a group of m. Together as many as there are groups.

    >>> group_weights(np.array([0, 1, 1, 2])).tolist()
    [1.0, 0.5, 0.5, 1.0]
    """
    _, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return np.asarray(1 / sizes[inverse])


def connect(pairs: Pairs, count: int) -> Groups:
    """Groups of `count` images of which some pairs belong together: who belongs to one belongs to all of its group."""
    if not len(pairs):  # as mostly, and what is imported below takes a while
        return Groups(np.arange(count))
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = pairs.reshape(-1, 2).T
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), (count, count))
    _, labels = connected_components(graph, directed=False)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return Groups(np.asarray(np.argsort(np.argsort(first))[inverse], np.intp))


def find_same_pictures(thumbnails: Floats) -> Pairs:
    """Pairs of thumbnails (N, d), of mean 0 and length 1, that are the same picture but for light, noise or compression.

    They are far nearer than pairs usually are. Each image is paired with the one before it that is nearest: that connects
    groups as all pairs would, and takes little memory. Pictures of one shade, which are zero, are like no other.

    >>> random = np.random.default_rng(0)
    >>> scenes = random.normal(size=(20, 64)); scenes -= scenes.mean(axis=1, keepdims=True)
    >>> scenes /= np.linalg.norm(scenes, axis=1, keepdims=True)
    >>> find_same_pictures(np.concatenate([scenes, scenes[3:4]])).tolist()
    [[3, 20]]
    """
    count, thumbnails = len(thumbnails), np.asarray(thumbnails, np.float32)
    if count < 2:
        return np.empty((0, 2), np.intp)
    some = thumbnails[np.linspace(0, count - 1, min(count, 1000)).astype(np.intp)]
    usual = float(np.median(pair_distances(some, some)[np.triu_indices(len(some), 1)]))
    least = min(SAME * usual, CORRELATED)
    found = []
    size = max(1, BLOCK_VALUES // count)
    flat = np.square(thumbnails).sum(axis=1) == 0
    for start in range(1, count, size):
        rows = np.arange(start, min(start + size, count))
        distances = pair_distances(thumbnails[rows], thumbnails[: rows[-1]])
        distances[np.arange(rows[-1]) >= rows[:, None]] = np.inf
        distances[flat[rows]] = np.inf
        nearest = distances.argmin(axis=1)
        close = distances[np.arange(len(rows)), nearest] <= least
        found.append(np.stack([nearest[close], rows[close]], axis=1))
    return np.asarray(np.concatenate(found), np.intp)


def find_series(features: Floats, seed: int = 0) -> Pairs:
    """Pairs of images that show the same part or scene, by their features (N, P, D): N images, D numbers at P positions.

    Of each image some positions look for the most similar position in any other image. Where one other image owns OWNED of
    those, on average over both directions, the two show the same; or OWNED_NEAR, where their features as a whole, mean and
    deviation over all positions, are at most NEAR as far from each other as a pair usually is: the more images a series
    has, the less each owns. Of few images each owns much by chance; a share must be TIMES_CHANCE that. See docs/inspect.md.

    >>> random = np.random.default_rng(0)
    >>> parts = random.normal(size=(30, 16, 8)).astype(np.float32)
    >>> shots = parts[:2] + 0.1 * random.normal(size=(2, 16, 8)).astype(np.float32)
    >>> find_series(np.concatenate([parts, shots])).tolist()
    [[0, 30], [1, 31]]
    """
    count = len(features)
    if count < 3:
        return np.empty((0, 2), np.intp)
    shares = owned_shares(closest_in_others(features, seed))
    return link_series(features, shares)


def link_series(features: Floats, shares: Floats) -> Pairs:
    """The same, where it is known what share of an image's positions each other owns (N, N)."""
    count = len(features)
    both = (shares + shares.T) / 2
    chance = TIMES_CHANCE / (count - 1)
    near = global_distances(features) < NEAR
    linked = (both >= max(OWNED, chance)) | (near & (both >= max(OWNED_NEAR, chance)))
    return np.argwhere(np.triu(linked, 1))


def link_followers(features: Floats, ranks: Rows, seed: int = 0) -> Pairs:
    """Pairs of images that follow each other in order and are nearer than pairs elsewhere are, by features (N, P, D).

    `ranks` (N,) are the places of the images in order. Position is held against position: shots of one part, one after the
    other, differ less than parts do, where parts lie alike. Of images in no order few are linked, RARE of them by chance.

    >>> random = np.random.default_rng(0)
    >>> parts = random.normal(size=(30, 16, 8)).astype(np.float32).repeat(2, axis=0)
    >>> shots = parts + 0.3 * random.normal(size=parts.shape).astype(np.float32)
    >>> found = link_followers(shots, np.arange(60))
    >>> found[:3].tolist(), len(found) >= 30
    ([[0, 1], [2, 3], [4, 5]], True)
    """
    count, order = len(features), np.argsort(ranks)
    beside = max(round(WINDOW * count), FOLLOWING + 1)
    if count <= 2 * beside:
        return np.empty((0, 2), np.intp)
    random = np.random.default_rng(seed)
    rows = _along_few(np.asarray(features, np.float32), random).reshape(count, -1)
    starts = random.integers(count, size=PAIRS)
    others = (starts + random.integers(beside, count - beside, size=PAIRS)) % count  # far off in order, round its ends
    apart = np.abs(starts - others) >= beside
    least = np.quantile(_gaps(rows, order[starts[apart]], order[others[apart]]), RARE)
    pairs = [np.stack([order[:-lag], order[lag:]], axis=1) for lag in range(1, FOLLOWING + 1)]
    near = [some[_gaps(rows, some[:, 0], some[:, 1]) < least] for some in pairs]
    found: Pairs = np.concatenate(near)
    return found


def _gaps(rows: Floats, one: Rows, other: Rows) -> Floats:
    """(K,) how far rows (N, D) at some places are from those at others."""
    block = max(1, BLOCK_VALUES // rows.shape[1])
    parts = range(0, len(one), block)
    found = [np.linalg.norm(rows[one[at : at + block]] - rows[other[at : at + block]], axis=1) for at in parts]
    return np.concatenate(found) if found else np.empty(0)


def _along_few(rows: Floats, random: np.random.Generator) -> Floats:
    """Rows (..., D) along at most NARROW random directions."""
    if rows.shape[-1] <= NARROW:
        return rows
    directions, _ = np.linalg.qr(random.normal(size=(rows.shape[-1], NARROW)))
    found: Floats = rows @ directions.astype(np.float32)
    return found


def closest_in_others(features: Floats, seed: int = 0) -> Floats:
    """(N, A, N) how far A positions of image i are from the most similar position of image j, of features (N, P, D).

    An image is infinitely far from itself. At most POSITIONS are asked, fewer of very many images.
    """
    count, positions, _ = features.shape
    random = np.random.default_rng(seed)
    rows = _along_few(np.asarray(features, np.float32), random)
    most = int(np.clip(MOST_KEPT // count**2, 1, POSITIONS))
    asked = np.sort(random.permutation(positions)[:most])
    bank = np.ascontiguousarray(rows.reshape(count * positions, -1))
    # one product gives squared distances less the length of what asks: nothing else goes through so many numbers
    bank = np.concatenate([-2 * bank, np.square(bank).sum(axis=1, keepdims=True)], axis=1).T
    asking = np.concatenate([rows[:, asked], np.ones((count, len(asked), 1), np.float32)], axis=2)
    closest = np.empty((count, len(asked), count), np.float32)
    size = max(1, BLOCK_VALUES // (count * positions))
    for image in range(count):
        for start in range(0, len(asked), size):
            own = asking[image, start : start + size]
            squares = (own @ bank).reshape(len(own), count, positions).min(axis=2)
            closest[image, start : start + size] = squares + np.square(own[:, :-1]).sum(axis=1)[:, None]
        closest[image, :, image] = np.inf
    found: Floats = np.sqrt(np.maximum(closest, 0, out=closest), out=closest)
    return found


def owned_shares(closest: Floats) -> Floats:
    """(N, N) what share of the positions of image i is most like a position of image j, by what is closest (N, A, N)."""
    count, asked, _ = closest.shape
    shares: Floats = np.stack([np.bincount(owners, minlength=count) for owners in closest.argmin(axis=2)]) / asked
    return shares


@dataclass(frozen=True, slots=True)
class TwinTest:
    """Whether a new image will have twins among the others, as some of these images have.

    Where series follow each other in the order of their files, a new one will come of none of them.
    """

    farther: float  # an image from its nearest, without those beside it in order; 1 is as without as many at random
    deviations: float  # how many standard deviations that is beyond what random orders give

    @property
    def lost(self) -> bool:
        """Whether new images will lack the twins that these have."""
        return self.farther >= LOST and self.deviations >= SURE


def ask_for_twins(closest: Floats, images: Rows, order: Rows, seed: int = 0) -> TwinTest:
    """Hold out what lies beside an image in order, and ask how much farther its nearest is: farther than without as many others?

    `closest` (n, A, N) is that of some `images` (n,), the ones that have twins, among N; `order` (N,) the place of each. Held
    out are WINDOW of all images on either side; DRAWS random orders show what that does by chance.

    >>> level = np.arange(60) // 4 * 1.0  # bursts of four
    >>> gaps = np.abs(level[:, None, None] - level) + np.where(np.eye(60) > 0, np.inf, 0.1)[:, None]
    >>> ask_for_twins(gaps, np.arange(60), np.arange(60)).lost
    True
    >>> ask_for_twins(gaps, np.arange(60), np.random.default_rng(1).permutation(60)).lost
    False
    """
    random = np.random.default_rng(seed)
    orders = [order, *(random.permutation(order) for _ in range(DRAWS))]
    reach = max(1, round(WINDOW * len(order)))
    kept = np.stack([np.abs(places[images][:, None] - places) > reach for places in orders])  # (1 + DRAWS, n, N)
    found = np.zeros(len(orders))
    for row, own in enumerate(closest):
        for number in range(len(orders)):
            found[number] += own[:, kept[number, row]].min(axis=1).mean()
    usual, spread = float(found[1:].mean()), float(found[1:].std(ddof=1))
    return TwinTest(float(found[0]) / max(usual, TINY), (float(found[0]) - usual) / max(spread, TINY * usual, TINY))


def natural_order(names: Sequence[str]) -> Rows:
    """(N,) at which place each name comes where numbers in names count as such: shot2 before shot10.

    >>> natural_order(["b/shot10.png", "b/shot2.png", "a.png"]).tolist()
    [2, 1, 0]
    """
    keys = [
        [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)] for name in names
    ]
    order = sorted(range(len(names)), key=keys.__getitem__)
    places = np.empty(len(names), np.intp)
    places[order] = np.arange(len(names))
    return places


def global_distances(features: Floats) -> Floats:
    """(N, N) how far images are from each other as a whole, by features (N, P, D); the median distance of a pair is 1."""
    described = np.concatenate([features.mean(axis=1), features.std(axis=1)], axis=1)
    described = (described - described.mean(axis=0)) / (described.std(axis=0) + TINY)
    distances = pair_distances(described, described)
    usual = float(np.median(distances[np.triu_indices(len(distances), 1)]))
    return distances / max(usual, TINY)


def pair_distances(one: Floats, other: Floats) -> Floats:
    """Euclidean, (n, d) and (m, d) -> (n, m)."""
    squares = np.square(one).sum(axis=1)[:, None] + np.square(other).sum(axis=1) - 2 * one @ other.T
    return np.asarray(np.sqrt(np.maximum(squares, 0)))
