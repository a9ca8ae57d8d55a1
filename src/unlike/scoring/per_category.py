"""Several categories, each learned by itself, and an image held against the one that it is like."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from unlike.errors import ConfigError, DataError
from unlike.records import Floats, Rows
from unlike.scoring.base import Capabilities, Scorer, choices_of, named_choices
from unlike.scoring.batches import Batches
from unlike.scoring.statistics.moments import moments_of, whitening_of

LEAST = 20  # images of a category that is learned by itself; those of rarer ones are learned together
CONFUSED = 0.05  # share of a category that is like another one, up to which each is learned by itself
MOST_DESCRIPTORS = 300  # normal images of a part whose descriptors are kept
MOST_BYTES = 3_500_000_000  # that all members may learn: a folder holds no more
NOTHING = 1e-6  # of the mean square: a distance of rounding


class PerCategoryScorer(Scorer):
    """Scorers of features, one for each part of the categories, and a router: an image belongs to the part that it is like.

    An image's descriptor is the mean and the deviation of its features over the grid. It belongs to the part of the normal
    image with the nearest descriptor, under the covariance that descriptors have within categories; what an image is called is
    not asked. Parts that cannot be told apart in this way, each normal image by the others, are learned together. Each part
    has a scale, so that a score of 1 is usual in all of them.

    The numbers of categories, in batches and elsewhere, are those of `categories` as they were given.
    """

    Config = object  # its settings are those of its members, of any kind
    inputs = ("features",)
    descriptors: Tensor  # (M, L) of normal images, whitened
    owners: Tensor  # (M,) the part of each
    whitening: Tensor  # (L, L) of descriptors
    scales: Tensor  # (K,) what maps of each part are divided by

    def __init__(self, make: Callable[[], Scorer], categories: Sequence[Sequence[str]]) -> None:
        members = [make() for _ in categories]
        super().__init__(members[0].config, members[0].spec)
        self.make = make
        self.told = [tuple(names) for names in categories]  # of each part as they were given, before some were joined
        self.categories = self.told
        self.members = nn.ModuleList(members)
        self.part_of: Rows = np.arange(len(members))  # of each category as it was told: which part has learned it
        for name in ("descriptors", "whitening"):
            self.register_buffer(name, torch.empty(0))
        self.register_buffer("owners", torch.empty(0, dtype=torch.long))
        self.register_buffer("scales", torch.ones(len(members)))

    @property
    def scorers(self) -> list[Scorer]:
        """The member of each part."""
        return cast("list[Scorer]", list(self.members))

    @property
    def capabilities(self) -> Capabilities:
        return self.scorers[0].capabilities

    @property
    def learned_weights(self) -> dict[str, float]:
        """On average over the parts."""
        found = [member.learned_weights for member in self.scorers]
        return {name: sum(one[name] for one in found) / len(found) for name in found[0]}

    def fresh(self) -> PerCategoryScorer:
        return PerCategoryScorer(self.make, self.told)

    def fit(self, train: Batches, held_out: Batches, seed: int) -> PerCategoryScorer:
        if self.categories != self.told:  # by an earlier fit
            self.categories = self.told
            self.members = nn.ModuleList([self._make(part).to(self.device) for part in range(len(self.told))])
            self.scales = torch.ones(len(self.told))
        found = []
        for part in range(len(self.members)):
            found.append(self._learn_one(part, train.of_categories([part]), held_out.of_categories([part]), seed))
            self._check_size()
        inner = moments_of(np.concatenate([(one - one.mean(dim=0)).numpy() for one in found]))
        whitening = torch.from_numpy(whitening_of(inner, inner.shrinkage()).astype(np.float32))
        centre = torch.from_numpy(inner.mean).float()
        self.whitening = whitening
        found = [(_few(one, seed).float() - centre) @ whitening for one in found]
        self.descriptors = torch.cat(found)
        self.owners = torch.repeat_interleave(torch.arange(len(found)), torch.tensor([len(one) for one in found]))
        self.part_of = _join_confused(self.descriptors, self.owners, len(found))
        if self.part_of.max() + 1 < len(self.members):
            self._learn_joined(train, held_out, seed)
        return self.to(self.device)

    def choices(self) -> dict[str, Floats]:
        return named_choices((str(told), self.scorers[part]) for told, part in enumerate(self.part_of))

    def settle(self, choices: Mapping[str, Floats]) -> PerCategoryScorer:
        super().settle(choices)
        for part, member in enumerate(self.scorers):
            member.settle(choices_of(str(part), choices))
        return self

    def forward(self, features: Tensor) -> Tensor:  # (B, D, h, w)
        return self._route(features, lambda member, own: member(own))  # (B, h, w)

    def component_maps(self, *inputs: Tensor) -> Tensor:  # features (B, D, h, w)
        return self._route(inputs[0], lambda member, own: member.component_maps(own))  # (B, M, h, w)

    def leave_one_out(self, features: Tensor, chosen: Tensor, categories: Rows, groups: Rows) -> Tensor:
        """As of each part, of its own images; what is like another part's is new to that."""
        owners, like = self.parts_of(categories).to(features.device), self.choose(features[chosen], others=True)
        maps: Tensor | None = None
        for (part, member), own in itertools.product(enumerate(self.scorers), (True, False)):
            rows = torch.nonzero((like == part) & ((owners[chosen] == part) == own))[:, 0]
            if not len(rows):
                continue
            if own:
                learned = torch.nonzero(owners == part)[:, 0]
                positions = torch.searchsorted(learned, chosen[rows])
                rest = learned.cpu().numpy()
                found = member.leave_one_out(features[learned], positions, categories[rest], groups[rest])
            else:
                found = member.component_maps(features[chosen[rows]])
            maps = found.new_empty(len(chosen), *found.shape[1:]) if maps is None else maps
            maps[rows] = found
        assert maps is not None, "some images are chosen"
        return maps

    def fit_normalisation(self, component_maps: Tensor, categories: Rows) -> Tensor:
        return self._each_part(component_maps, categories, lambda member, *own: member.fit_normalisation(*own))

    def normalise(self, component_maps: Tensor, categories: Rows) -> Tensor:
        return self._each_part(component_maps, categories, lambda member, *own: member.normalise(*own))

    def _each_part(
        self, component_maps: Tensor, categories: Rows, work: Callable[[Scorer, Tensor, Rows], Tensor]
    ) -> Tensor:
        """What the member of each part makes of the component maps of its own images."""
        owners = self.parts_of(categories)
        maps = component_maps.new_empty(len(component_maps), *component_maps.shape[2:])
        for part in set(owners.tolist()):
            own = (owners == part).to(component_maps.device)
            maps[own] = work(self.scorers[part], component_maps[own], categories[own.cpu().numpy()])
        return maps

    def fit_score_scale(self, scores: Floats, categories: Rows) -> Floats:
        owners = self.part_of[categories]
        for part in range(len(self.members)):
            middle = float(np.median(scores[owners == part])) if (owners == part).any() else 0.0
            self.scales[part] = middle if middle > 0 else 1.0
        return np.asarray(self.scales.cpu().double().numpy()[owners])

    def parts_of(self, categories: Rows) -> Tensor:
        """The part that has learned each image's category, (N,) -> (N,)."""
        return torch.from_numpy(self.part_of[categories])

    def choose(self, features: Tensor, *, others: bool = False) -> Tensor:
        """(B, D, h, w) -> (B,) the part of the normal image that is most like each image; of `others`, not of itself."""
        found = describe(features).float() @ self.whitening
        gaps = _gaps_to_others(found, self.descriptors) if others else _gaps(found, self.descriptors)
        return self.owners[gaps.argmin(dim=1)]

    @property
    def device(self) -> torch.device:
        """Where the members learned."""
        return next(self.members[0].buffers()).device

    def _route(self, features: Tensor, see: Callable[[Scorer, Tensor], Tensor]) -> Tensor:
        """What the member of the part that each image is of sees in it, over that part's scale.

        In a graph, which cannot choose, all members look at all images.
        """
        chosen = self.choose(features)
        if torch.compiler.is_exporting() or torch.compiler.is_compiling():
            every = torch.stack([see(member, features) for member in self.scorers])  # (K, B, ...)
            found = every[chosen, torch.arange(features.shape[0], device=features.device)]
        else:
            found = self._see_each(features, chosen, see)
        return found / self.scales[chosen].view(-1, *[1] * (found.ndim - 1))

    def _see_each(self, features: Tensor, chosen: Tensor, see: Callable[[Scorer, Tensor], Tensor]) -> Tensor:
        whole = None
        for part in set(chosen.tolist()):
            found = see(self.scorers[part], features[chosen == part])
            whole = found.new_empty(len(features), *found.shape[1:]) if whole is None else whole
            whole[chosen == part] = found
        return features.new_empty(0, 1, 1) if whole is None else whole

    def _make(self, part: int) -> Scorer:
        """A member for a part as it was told, or for one that others join."""
        return self.make().settle(choices_of(str(part), self.settled))

    def _learn_one(self, part: int, train: Batches, held_out: Batches, seed: int) -> Tensor:
        """Let the member of a part learn; the descriptors (n, L) of the images that the model knows."""
        notes: list[Tensor] = []
        try:
            self.scorers[part].fit(train.noting(lambda inputs: describe(*inputs), notes), held_out, seed)
        except DataError as error:
            names = ", ".join(self.categories[part])
            raise DataError(
                f"{error} (of {names}, learned by itself; scorer.per_category = false learns all categories together)"
            ) from None
        return torch.cat(notes)[: len(train)].double().cpu()  # some go through them more than once

    def _learn_joined(self, train: Batches, held_out: Batches, seed: int) -> None:
        """Learn again what is learned together after all."""
        old, device = self.scorers, self.device
        joined = [np.flatnonzero(self.part_of == new).tolist() for new in range(int(self.part_of.max()) + 1)]
        self.categories = [tuple(name for part in parts for name in self.told[part]) for parts in joined]
        self.members = nn.ModuleList(
            [old[parts[0]] if len(parts) == 1 else self._make(parts[0]).to(device) for parts in joined]
        )
        self.owners = torch.from_numpy(self.part_of)[self.owners]
        self.scales = torch.ones(len(joined))
        for new, parts in enumerate(joined):
            if len(parts) > 1:
                self._learn_one(new, train.of_categories(parts), held_out.of_categories(parts), seed)

    def _check_size(self) -> None:
        """Raise ConfigError where what all members learn will be more than a detector can hold, once one has learned."""
        size = len(self.members) * sum(value.nbytes for value in self.members[0].buffers())
        if size > MOST_BYTES:
            raise ConfigError(
                f"{len(self.members)} categories, each learned by itself, take {size / 1e9:,.1f} GB, more than "
                f"{MOST_BYTES / 1e9:g}; take scorer.per_category = false, a narrower code or a smaller size"
            )


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


def describe(features: Tensor) -> Tensor:
    """(B, D, h, w) -> (B, 2 D) mean and deviation of each number over the grid; (B, D) where there is no grid."""
    flat = features.flatten(2)
    return torch.cat([flat.mean(dim=2), flat.std(dim=2)], dim=1) if flat.shape[2] > 1 else flat[:, :, 0]


def _few(descriptors: Tensor, seed: int) -> Tensor:
    """Some of the descriptors (N, L), drawn at random where they are many."""
    if len(descriptors) <= MOST_DESCRIPTORS:
        return descriptors
    return descriptors[np.sort(np.random.default_rng(seed).permutation(len(descriptors))[:MOST_DESCRIPTORS])]


def _join_confused(descriptors: Tensor, owners: Tensor, count: int) -> Rows:
    """(K,) which of the `count` parts are one: those of which some are more like one of the other, again and again.

    Each image is held against all others; what is at no distance at all is itself.
    """
    from scipy.sparse.csgraph import connected_components  # of much memory, and wanted by few sets

    nearest = owners[_gaps_to_others(descriptors, descriptors).argmin(dim=1)]
    shares = np.zeros((count, count))
    np.add.at(shares, (owners.numpy(), nearest.numpy()), 1)
    shares /= shares.sum(axis=1, keepdims=True).clip(min=1)
    np.fill_diagonal(shares, 0)
    _, joined = connected_components(shares > CONFUSED, directed=False)
    return np.asarray(joined, np.intp)


def _gaps_to_others(descriptors: Tensor, others: Tensor) -> Tensor:
    """The same, without end where there is no distance at all: an image to itself."""
    gaps = _gaps(descriptors, others)
    gaps[gaps <= NOTHING * others.square().sum(dim=1).mean().clamp_min(NOTHING)] = torch.inf
    return gaps


def _gaps(descriptors: Tensor, others: Tensor) -> Tensor:
    """Squared distances (N, M) of descriptors (N, L) and others (M, L)."""
    lengths = others.square().sum(dim=1)
    return torch.addmm(lengths, descriptors, others.T, alpha=-2) + descriptors.square().sum(dim=1, keepdim=True)
