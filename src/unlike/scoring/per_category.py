"""apart: of several categories each is learned by itself, and an image is held against the one that it looks like."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unlike.calibration.precomputed import Remembered
from unlike.errors import ConfigError, DataError
from unlike.models import Model
from unlike.records import Bools, Floats, Rows
from unlike.scoring.base import Arrays, Scorer
from unlike.scoring.statistics.moments import moments_of, whitening_of

LEAST = 20  # images of a category that is learned by itself; those of rarer ones are learned together
CONFUSED = 0.05  # share of a category that looks like another one, up to which the two are told apart
MOST_LOOKS = 300  # normal images of a part whose looks are remembered
MOST_BYTES = 3_500_000_000  # that all members may learn: a folder holds no more
NOTHING = 1e-6  # of the mean square: a distance of rounding

Batches = Callable[[Rows], Iterable[Tensor]]  # of the images of those rows, as often as one likes


class Apart(Scorer):
    """Scorers of codes, one for each part of the categories, and whose turn it is: that of the part an image looks like.

    An image's looks are the mean and the deviation of its code over the grid. It belongs to the part of the normal image
    that looks most like it, under the covariance that looks have within categories; what an image is called is not asked.
    Parts that cannot be told apart in this way, each normal image by the others, are learned together. Each part has a
    scale, so that a score of 1 is usual in all of them. A member is asked for nothing but what codes tell: it has to be
    content with `model.encode`.
    """

    def __init__(self, make: Callable[[], Scorer], parts: Sequence[Sequence[str]]) -> None:
        self._make = make
        self.parts = [tuple(names) for names in parts]  # the categories of each
        self.members = [make() for _ in parts]
        super().__init__(self.members[0].config)
        self.wants_held_out = self.members[0].wants_held_out
        self.only_codes = self.members[0].only_codes
        self.places = np.arange(len(parts))  # of the parts as they were told to be: which member has learned each
        self.looks = torch.empty(0)  # (M, L) of normal images, whitened
        self.owners = torch.empty(0, dtype=torch.long)  # (M,) the part of each
        self.whitening = torch.empty(0)  # (L, L)
        self.scales = torch.ones(len(parts))

    def fit(self, model: Model, train: Iterable[Tensor], held_out: Iterable[Tensor], seed: int) -> Scorer:
        """Not this way: it takes to know which image is of which part."""
        raise NotImplementedError("several categories are learned by `learn_parts`")

    def learn_parts(self, model: Model, batches: Batches, known: Rows, others: Rows, numbers: Rows, seed: int) -> None:
        """Let a member learn from each part's images: the rows that the model knows, and others.

        `numbers` (N,) says of which part each row is.
        """
        looks = []
        for part in range(len(self.parts)):
            looks.append(self._learn_one(part, model, batches, known, others, numbers == part, seed))
            self._check_size()
        inner = moments_of(np.concatenate([(found - found.mean(dim=0)).numpy() for found in looks]))
        self.whitening = torch.from_numpy(whitening_of(inner, inner.shrinkage()).astype(np.float32))
        looks = [(_few(found, seed).float() - torch.from_numpy(inner.mean).float()) @ self.whitening for found in looks]
        self.looks = torch.cat(looks)
        self.owners = torch.repeat_interleave(torch.arange(len(looks)), torch.tensor([len(found) for found in looks]))
        self.places = _join_confused(self.looks, self.owners, len(looks))
        if self.places.max() + 1 < len(self.parts):
            self._learn_joined(model, batches, known, others, numbers, seed)

    def rescale(self, scores: Floats, peaks: Floats, numbers: Rows) -> tuple[Floats, Floats]:
        owners = self.places[numbers]
        for part in range(len(self.members)):
            middle = float(np.median(scores[owners == part])) if (owners == part).any() else 0.0
            self.scales[part] = middle if middle > 0 else 1.0
        scales = self.scales.double().numpy()[owners]
        return scores / scales, peaks / scales

    def maps(self, model: Model, images: Tensor) -> Tensor:
        return self._by_part(
            model.encode(images), lambda member, codes: member.maps(Remembered(model.feature_groups), codes)
        )

    def views(self, model: Model, images: Tensor) -> Tensor:
        return self._by_part(
            model.encode(images), lambda member, codes: member.views(Remembered(model.feature_groups), codes)
        )

    @property
    def passes(self) -> int:
        return self.members[0].passes

    def knows_left_out(self, count: int) -> bool:
        return all(member.knows_left_out(count) for member in self.members)

    def parts_left_out(self, model: Model, codes: Tensor, chosen: Tensor, numbers: Rows) -> Tensor:
        """`left_out` for codes (N, D, h, w) of those parts, `numbers` (N,); what looks like another part's is new to that."""
        owners, looked = (
            torch.from_numpy(self.places[numbers]).to(codes.device),
            self.choose(codes[chosen], others=True),
        )
        views: Tensor | None = None
        for (part, member), own in itertools.product(enumerate(self.members), (True, False)):
            rows = torch.nonzero((looked == part) & ((owners[chosen] == part) == own))[:, 0]
            if not len(rows):
                continue
            if own:
                learned = torch.nonzero(owners == part)[:, 0]
                places = torch.searchsorted(learned, chosen[rows])
                found = member.left_out(Remembered(model.feature_groups), codes[learned], places)
            else:
                found = member.views(Remembered(model.feature_groups), codes[chosen[rows]])
            views = found.new_empty(len(chosen), *found.shape[1:]) if views is None else views
            views[rows] = found
        assert views is not None, "some images are chosen"
        return views

    def settle_parts(self, views: Tensor, numbers: Rows) -> Tensor:
        """`settle` for the parts that the images (N,) are of."""
        owners = torch.from_numpy(self.places[numbers])
        maps = views.new_empty(len(views), *views.shape[2:])
        for part in set(owners.tolist()):
            maps[owners == part] = self.members[part].settle(views[owners == part])
        return maps

    def choose(self, codes: Tensor, *, others: bool = False) -> Tensor:
        """(B, D, h, w) -> (B,) the part of the normal image that looks most like each image; of `others`, not of itself."""
        looks = _looks_of(codes).cpu().float() @ self.whitening
        gaps = _gaps_to_others(looks, self.looks) if others else _gaps(looks, self.looks)
        return self.owners[gaps.argmin(dim=1)].to(codes.device)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        arrays: dict[str, npt.NDArray[Any]] = {
            "apart.looks": self.looks.numpy(),
            "apart.owners": self.owners.numpy(),
            "apart.whitening": self.whitening.numpy(),
            "apart.scales": self.scales.numpy(),
            "apart.parts": np.array([json.dumps(names) for names in self.parts]),
        }
        for number, member in enumerate(self.members):
            arrays |= {f"{number}.{name}": value for name, value in member.state().items()}
        return arrays

    def restore(self, arrays: Arrays) -> None:
        for name in ("looks", "owners", "whitening", "scales"):
            setattr(self, name, torch.from_numpy(np.ascontiguousarray(arrays[f"apart.{name}"])))
        for number, member in enumerate(self.members):
            start = f"{number}."
            member.restore({name.removeprefix(start): arrays[name] for name in arrays if name.startswith(start)})

    def _by_part(self, codes: Tensor, look: Callable[[Scorer, Tensor], Tensor]) -> Tensor:
        """What the member of the part that each image is of sees in it, over that part's scale."""
        chosen = self.choose(codes)
        whole = None
        for part in set(chosen.tolist()):
            found = look(self.members[part], codes[chosen == part]) / self.scales[part].item()
            whole = found.new_empty(len(codes), *found.shape[1:]) if whole is None else whole
            whole[chosen == part] = found
        return codes.new_empty(0, 1, 1) if whole is None else whole

    def _learn_one(
        self, part: int, model: Model, batches: Batches, known: Rows, others: Rows, chosen: Bools, seed: int
    ) -> Tensor:
        """Let the member of a part learn from the `chosen` (N,) images; the looks (n, L) of those that the model knows."""
        noting = _Noting(model)
        try:
            self.members[part].fit(noting, batches(known[chosen[known]]), batches(others[chosen[others]]), seed)
        except DataError as error:
            names = ", ".join(self.parts[part])
            raise DataError(
                f"{error} (of {names}, learned by itself; scorer.per_category = false learns all categories together)"
            ) from None
        return torch.cat(noting.noted)[: chosen[known].sum()].double().cpu()  # some go through them more than once

    def _learn_joined(
        self, model: Model, batches: Batches, known: Rows, others: Rows, numbers: Rows, seed: int
    ) -> None:
        """Learn again what is learned together after all."""
        old = (self.parts, self.members)
        joined = [np.flatnonzero(self.places == place).tolist() for place in range(int(self.places.max()) + 1)]
        self.parts = [tuple(name for part in parts for name in old[0][part]) for parts in joined]
        self.members = [old[1][parts[0]] if len(parts) == 1 else self._make() for parts in joined]
        self.owners = torch.from_numpy(self.places)[self.owners]
        self.scales = torch.ones(len(joined))
        for place, parts in enumerate(joined):
            if len(parts) > 1:
                self._learn_one(place, model, batches, known, others, np.isin(numbers, parts), seed)

    def _check_size(self) -> None:
        """Raise ConfigError where what all members learn will be more than a detector can hold, once one has learned."""
        size = len(self.members) * sum(value.nbytes for value in self.members[0].state().values())
        if size > MOST_BYTES:
            raise ConfigError(
                f"{len(self.members)} categories, each learned by itself, take {size / 1e9:,.1f} GB, more than "
                f"{MOST_BYTES / 1e9:g}; take scorer.per_category = false, a narrower code or a smaller size"
            )


def restore_scorer(make: Callable[[], Scorer], arrays: Arrays) -> Scorer:
    """The scorer that gave these arrays: one alone, or one of several categories."""
    names = arrays.get("apart.parts")
    scorer = make() if names is None else Apart(make, [json.loads(str(part)) for part in names])
    scorer.restore(arrays)
    return scorer


def number_categories(names: npt.NDArray[np.str_], distinct: Rows) -> Rows:
    """(N,) the number, from 0, of the part in which each image's category is learned; copies are not in `distinct`.

    A category with LEAST images has a part of its own. All others share one more, where they come to as many, or else
    the part of the largest.

    >>> names = np.repeat(["cup", "pin", "rod"], [30, 3, 40])
    >>> np.unique(number_categories(names, np.arange(len(names))), return_counts=True)
    (array([0, 1]), array([30, 43]))
    """
    kinds, own = np.unique(names, return_inverse=True)
    counts = np.bincount(own[distinct], minlength=len(kinds))
    large = np.flatnonzero(counts >= LEAST)
    if len(large) == 0:
        return np.zeros(len(names), np.intp)
    rare = int(counts.sum() - counts[large].sum())
    numbers = np.full(len(kinds), len(large) if rare >= LEAST else int(counts[large].argmax()))
    numbers[large] = np.arange(len(large))
    return np.asarray(numbers[own], np.intp)


def learn(scorer: Scorer, model: Model, batches: Batches, known: Rows, others: Rows, numbers: Rows, seed: int) -> None:
    """Let a scorer learn from the rows of images that the model knows, and others; `numbers` (N,) are all rows' parts."""
    if isinstance(scorer, Apart):
        scorer.learn_parts(model, batches, known, others, numbers, seed)
    else:
        scorer.fit(model, batches(known), batches(others), seed)


class _Noting(Remembered):
    """A model that notes what every image it sees looks like."""

    def __init__(self, model: Model) -> None:
        super().__init__(model.feature_groups)
        self._encode = model.encode
        self.noted: list[Tensor] = []

    def encode(self, images: Tensor) -> Tensor:
        code = self._encode(images)
        self.noted.append(_looks_of(code))
        return code


def _looks_of(codes: Tensor) -> Tensor:
    """(B, D, h, w) -> (B, 2 D) mean and deviation of each number over the grid; (B, D) where there is no grid."""
    flat = codes.flatten(2)
    return torch.cat([flat.mean(dim=2), flat.std(dim=2)], dim=1) if flat.shape[2] > 1 else flat[:, :, 0]


def _few(looks: Tensor, seed: int) -> Tensor:
    """Some of the looks (N, L), drawn at random where they are many."""
    if len(looks) <= MOST_LOOKS:
        return looks
    return looks[np.sort(np.random.default_rng(seed).permutation(len(looks))[:MOST_LOOKS])]


def _join_confused(looks: Tensor, owners: Tensor, count: int) -> Rows:
    """(K,) which of the `count` parts are one: those of which some look (M, L) more like one of the other, again and again.

    Each image is held against all others; what is at no distance at all is itself.
    """
    from scipy.sparse.csgraph import connected_components  # of much memory, and wanted by few sets

    nearest = owners[_gaps_to_others(looks, looks).argmin(dim=1)]
    shares = np.zeros((count, count))
    np.add.at(shares, (owners.numpy(), nearest.numpy()), 1)
    shares /= shares.sum(axis=1, keepdims=True).clip(min=1)
    np.fill_diagonal(shares, 0)
    _, joined = connected_components(shares > CONFUSED, directed=False)
    return np.asarray(joined, np.intp)


def _gaps_to_others(looks: Tensor, others: Tensor) -> Tensor:
    """The same, without end where there is no distance at all: an image to itself."""
    gaps = _gaps(looks, others)
    gaps[gaps <= NOTHING * others.square().sum(dim=1).mean().clamp_min(NOTHING)] = torch.inf
    return gaps


def _gaps(looks: Tensor, others: Tensor) -> Tensor:
    """Squared distances (N, M) of looks (N, L) and others (M, L)."""
    lengths = others.square().sum(dim=1)
    return torch.addmm(lengths, looks, others.T, alpha=-2) + looks.square().sum(dim=1, keepdim=True)
