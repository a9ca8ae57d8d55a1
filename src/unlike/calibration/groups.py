"""Images that belong together: copies, and series such as bursts of one part. How many are independent of each other?

A promise about new images rests on images that are independent of each other: ten shots of one part are hardly more than
one of it. No torch here: whoever asks gives thumbnails, or features by position.
"""

from __future__ import annotations

from dataclasses import dataclass

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


def connect(pairs: Pairs, count: int) -> Groups:
    """Groups of `count` images of which some pairs belong together: who belongs to one belongs to all of its group."""
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
    usual = float(np.median(_distances(some, some)[np.triu_indices(len(some), 1)]))
    least = min(SAME * usual, CORRELATED)
    found = []
    size = max(1, BLOCK_VALUES // count)
    flat = np.square(thumbnails).sum(axis=1) == 0
    for start in range(1, count, size):
        rows = np.arange(start, min(start + size, count))
        distances = _distances(thumbnails[rows], thumbnails[: rows[-1]])
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
    shares = owned_shares(features, seed)
    both = (shares + shares.T) / 2
    chance = TIMES_CHANCE / (count - 1)
    near = global_distances(features) < NEAR
    linked = (both >= max(OWNED, chance)) | (near & (both >= max(OWNED_NEAR, chance)))
    return np.argwhere(np.triu(linked, 1))


def owned_shares(features: Floats, seed: int = 0) -> Floats:
    """(N, N) what share of the positions of image i, of features (N, P, D), is most like a position of image j."""
    count, positions, width = features.shape
    random = np.random.default_rng(seed)
    rows = np.asarray(features, np.float32)
    if width > NARROW:
        directions, _ = np.linalg.qr(random.normal(size=(width, NARROW)))
        rows = rows @ directions.astype(np.float32)
    asked = np.sort(random.permutation(positions)[:POSITIONS])
    bank = np.ascontiguousarray(rows.reshape(count * positions, -1))
    lengths = np.square(bank).sum(axis=1)
    shares = np.zeros((count, count))
    size = max(1, BLOCK_VALUES // len(bank))
    for image in range(count):
        own = slice(image * positions, (image + 1) * positions)
        for start in range(0, len(asked), size):
            distances = lengths - 2 * rows[image, asked[start : start + size]] @ bank.T
            distances[:, own] = np.inf
            shares[image] += np.bincount(distances.argmin(axis=1) // positions, minlength=count)
    return shares / len(asked)


def global_distances(features: Floats) -> Floats:
    """(N, N) how far images are from each other as a whole, by features (N, P, D); the median distance of a pair is 1."""
    described = np.concatenate([features.mean(axis=1), features.std(axis=1)], axis=1)
    described = (described - described.mean(axis=0)) / (described.std(axis=0) + TINY)
    distances = _distances(described, described)
    usual = float(np.median(distances[np.triu_indices(len(distances), 1)]))
    return distances / max(usual, TINY)


def _distances(one: Floats, other: Floats) -> Floats:
    """Euclidean, (n, d) and (m, d) -> (n, m)."""
    squares = np.square(one).sum(axis=1)[:, None] + np.square(other).sum(axis=1) - 2 * one @ other.T
    return np.asarray(np.sqrt(np.maximum(squares, 0)))
