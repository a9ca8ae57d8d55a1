"""The promise of a scorer: learn what normal features or reconstructions look like, then say where an image is strange.

A scorer of your own is a class of this kind, in a file of its own. It needs a `Config`, `inputs` and `forward`, and `fit` if it
learns anything; what else there is has a meaning already. `unlike.testing.check_scorer` says whether it keeps the promise, and
docs/how-to-extend.md has an example. A fit calls, in this order:

1. `Kind(config, spec)`, before any image is read: it raises ConfigError where the model does not give what it needs.
2. `fit`. Or, where no normal image can be spared to calibrate, `fit` on all of them, and `leave_one_out`, or
   `component_maps` by scorers that learned from other images, for the maps that each would have as a new image.
3. `fit_normalisation`, after that second way alone: it learns from those maps what held-out images would have taught `fit`.
4. `fit_score_scale`, from the scores of those that calibrate.

From then on there is `forward`, and what it depends on stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from unlike.models.base import OutputSpec
from unlike.records import Floats, Rows
from unlike.scoring.batches import Batches


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What whoever calls a scorer must know of it, by its kind and settings, beyond `fit` and `forward`."""

    passes: int = 1  # how often it goes through the images that it learns from
    # images that a trained model has not seen: unused, useful (for a scale that `fit_normalisation` can learn too), or needed
    held_out: Literal["unused", "useful", "needed"] = "unused"
    # the setting by which each position of an image is learned by itself, "positions = 'each'"; empty: none is
    position_dependent: str = ""
    per_category: bool = False  # whether several categories are better learned each by itself
    # fewest images of which each can be left out in closed form; None: it must learn again without each
    leave_one_out: int | None = None
    # whether it finds by the images how far these can be trusted, as `choices` tells: more images would have it choose otherwise
    chooses: bool = False


class Scorer(nn.Module):
    """A distance from normal, in what a model makes of an image.

    It never sees a model or an image. `inputs` names the outputs of a model (`Model.outputs`) that it is given instead, in
    `forward` and in each batch that `fit` learns from: `("features",)` for most.

    `forward(*inputs)` of B images gives maps (B, h, w), each value >= 0 and the higher the stranger; each image by itself.
    What it learns are buffers, on the device of its inputs: `state_dict` is what goes to disk, and `.to(device)` moves it.
    """

    Config: ClassVar[type[Any]]
    inputs: tuple[str, ...]  # among "features" (B, D, h, w), "target", "reconstruction" and "marks"
    # the names in each part of the categories that it learns by itself; none: it learns all as one
    categories: Sequence[tuple[str, ...]] = ()

    def __init__(self, config: Any, spec: OutputSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.settled: Mapping[str, Floats] = {}  # what it does not choose by itself
        self.register_load_state_dict_pre_hook(_take_shapes)  # type: ignore[no-untyped-call]

    @property
    def capabilities(self) -> Capabilities:
        """What it can do beyond `fit` and `forward`."""
        return Capabilities()

    @property
    def learned_weights(self) -> dict[str, float]:
        """How much each scorer that it is made of counts, by name and together 1, where normal images decide that; or empty."""
        return {}

    def fit(self, train: Batches, held_out: Batches, seed: int) -> Scorer:  # noqa: ARG002 - some learn nothing
        """Learn from batches of inputs of normal images, and give back itself; some learn nothing.

        `train` are the images that the model was trained on, `held_out` others, for what must not be learned from images
        that a model knows by heart, such as a scale; they are empty where nobody needs them. Both may be gone through as
        often as `capabilities.passes` says. `seed` is of every random choice.
        """
        return self

    def choices(self) -> dict[str, Floats]:
        """What it chose by how many images there were, such as the shrinkage of a covariance, by name.

        A scorer of fewer images that chose anew would measure on another scale, and its scores would say nothing of this one's.
        """
        return {}

    def settle(self, choices: Mapping[str, Floats]) -> Scorer:
        """Take these choices of another of the same kind in every fit to come, and give back itself."""
        self.settled = choices
        return self

    def component_maps(self, *inputs: Tensor) -> Tensor:
        """Inputs of B images -> (B, M, h, w): the several maps of which `forward` makes one, before any scale of them is known."""
        return self(*inputs)[:, None]  # type: ignore[no-any-return]

    def fit_normalisation(self, component_maps: Tensor, categories: Rows) -> Tensor:  # noqa: ARG002
        """Learn how component maps become one, from those (N, M, h, w) of normal images by scorers that had not seen them.

        `categories` (N,) numbers the category of each. It gives the maps (N, h, w) that they become.
        """
        return component_maps[:, 0]

    def normalise(self, component_maps: Tensor, categories: Rows) -> Tensor:  # noqa: ARG002
        """The maps (N, h, w) that component maps (N, M, h, w) become, by what `fit_normalisation` has learned."""
        return component_maps[:, 0]

    def fit_score_scale(self, scores: Floats, categories: Rows) -> Floats:  # noqa: ARG002
        """Learn what `forward` divides maps by, from scores (N,) of held-out normal images: for each of them its divisor (N,).

        It is 1 unless parts of the categories, each with a scale of its own, are to be compared.
        """
        return np.ones(len(scores))

    @torch.no_grad()
    def leave_one_out(self, features: Tensor, chosen: Tensor, categories: Rows, groups: Rows) -> Tensor:
        """Component maps (n, M, h, w) of the `chosen` of all features (N, D, h, w), each as if its group had not been learned from.

        `groups` (N,) numbers the group of each image: shots of one part, or each image alone. Here by learning again without
        each group; where `capabilities.leave_one_out` names a number of images, in closed form. For scorers of features.
        """
        order, maps = [], []
        for group in dict.fromkeys(groups[chosen.cpu().numpy()].tolist()):
            rest = np.flatnonzero(groups != group)
            others = Batches.of_tensors(features, categories=categories).take(rest)
            fresh = self.fresh().settle(self.choices()).fit(others, others.take(rest[:0]), 0)
            own = np.flatnonzero(groups[chosen.cpu().numpy()] == group)
            maps.append(fresh.component_maps(features[chosen[torch.from_numpy(own)]]))
            order.append(own)
        return torch.cat(maps)[torch.from_numpy(np.argsort(np.concatenate(order)))]

    def fresh(self) -> Scorer:
        """One of the same kind that has learned nothing yet."""
        return type(self)(self.config, self.spec)


class ReconstructionScorer(Scorer):
    """A distance of what a model rebuilds from what it should have.

    `forward(target, reconstruction)`, (B, C, h, w) each, gives maps (B, h, w).
    """

    inputs = ("target", "reconstruction")


def named_choices(scorers: Iterable[tuple[str, Scorer]]) -> dict[str, Floats]:
    """The choices of several scorers, each under the scorer's name, a dot and its own."""
    return {f"{name}.{key}": value for name, scorer in scorers for key, value in scorer.choices().items()}


def choices_of(name: str, choices: Mapping[str, Floats]) -> dict[str, Floats]:
    """Of the choices of several scorers those of one.

    >>> choices_of("fine", {"fine.shrinkage": 0.1, "coarse.shrinkage": 0.2})
    {'shrinkage': 0.1}
    """
    return {key.removeprefix(f"{name}."): value for key, value in choices.items() if key.startswith(f"{name}.")}


def _take_shapes(scorer: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Make room for buffers as they come from a disk: how large they are depends on what was learned."""
    for name, buffer in list(scorer._buffers.items()):  # noqa: SLF001 - `named_buffers` leaves out those that are None
        found = state.get(prefix + name)
        if found is not None and (buffer is None or found.shape != buffer.shape):
            setattr(scorer, name, torch.empty_like(found))
