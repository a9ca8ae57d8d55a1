"""The promises of a model, a scorer and a threshold as code: for our tests, and for whoever writes one of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unlike.calibration.decision import calibrate, is_anomalous
from unlike.calibration.thresholds import Promise, ThresholdRule
from unlike.data.randomness import isolated_randomness
from unlike.data.tensors import to_tensor
from unlike.models import Autoencoder, Model
from unlike.models.losses import LOSSES
from unlike.records import Floats, Rows
from unlike.scoring.base import Capabilities, Scorer
from unlike.scoring.batches import Batches

TOLERANCE = 1e-5  # relative: alone or in a batch, saved or not
LEAST_LEFT_OUT, MOST_LEFT_OUT = 0.8, 1.5  # strangeness of what is left out, of that to a scorer that never saw it


def check_model(model: Model) -> None:
    """Raise AssertionError unless `model` keeps every promise of `unlike.models.Model`.

    The code is (B, D, h, w); the loss is a scalar that reaches every trainable parameter; an image alone and in a batch
    have the same code; a second pass gives the same; weights survive being saved and loaded; an autoencoder rebuilds
    something of its target's shape.

    >>> from unlike.models import MODELS
    >>> from unlike.records import ImageShape
    >>> check_model(MODELS["fcn"](MODELS["fcn"].Config(), ImageShape(3, 16, 16)))
    """
    images = example_images(model)
    _check_loss(model, images)
    model.eval()
    with torch.no_grad():
        code = model.encode(images)
        assert code.ndim == 4, f"encode must return (B, D, h, w), came {tuple(code.shape)}"
        assert len(code) == len(images), f"{len(images)} images gave {len(code)} codes"
        assert_close(code, model.encode(images), "a second look at the same images gives another code")
        alone = torch.cat([model.encode(image[None]) for image in images])
        assert_close(alone, code, "an image alone has another code than in a batch")
        _check_copy(model, images, code)
        if isinstance(model, Autoencoder):
            shapes = model.rebuild(images).shape, model.target(images).shape
            assert shapes[0] == shapes[1], f"rebuilt {tuple(shapes[0])}, but the target is {tuple(shapes[1])}"


def check_scorer(scorer: Scorer, model: Model, images: Tensor | None = None, categories: Rows | None = None) -> None:
    """Raise AssertionError unless `scorer`, made for what `model` gives, keeps every promise of `unlike.scoring.base.Scorer`.

    Every member is used: it takes the `inputs` that it names and goes through them as often as its `capabilities` say; maps
    are (B, h, w), finite and >= 0, of each image alone, and seen again the same; component maps, the two scales and `forward` agree; what was learned
    is all in `state_dict`; positions count only where that is declared; an image that is left out looks as strange as to a
    `fresh` scorer of the others, and so does one of a group that is left out whole. `images` (N, C, H, W), random ones unless some are given, are half to learn from; `categories` (N,) numbers theirs.

    >>> from unlike.models.pixels import Pixels, PixelsConfig
    >>> from unlike.records import ImageShape
    >>> from unlike.scoring.neighbours import NeighboursConfig, NeighboursScorer
    >>> model = Pixels(PixelsConfig(side=4), ImageShape(3, 16, 16))
    >>> check_scorer(NeighboursScorer(NeighboursConfig(), model.output_spec), model)
    """
    seen = example_images(model, 16) if images is None else images
    model.eval()
    with torch.no_grad():
        _check_config(scorer)
        _check_inputs(scorer, model)
        outputs = model.outputs(seen, scorer.inputs)
        inputs = tuple(outputs[name] for name in scorer.inputs)
        half = len(seen) // 2
        numbers = np.zeros(len(seen), np.intp) if categories is None else categories
        new = tuple(values[half:] for values in inputs)
        _check_fit(scorer, inputs, numbers, half)
        maps = _check_forward(scorer, new)
        _check_state(scorer, new, maps)
        _check_positions(scorer, new, maps)
        _check_scales(scorer, new, numbers[half:])
        if scorer.inputs == ("features",):
            _check_leave_one_out(scorer, inputs[0][:half], numbers[:half])


def _check_config(scorer: Scorer) -> None:
    kind = type(scorer)
    assert dataclasses.is_dataclass(scorer.config), "config must be a dataclass, so that TOML can hold it"
    assert isinstance(scorer.config, kind.Config), f"config must be a {kind.Config.__name__}, came {scorer.config!r}"
    assert isinstance(scorer.capabilities, Capabilities), "capabilities must be Capabilities"
    fresh = scorer.fresh()
    assert type(fresh) is kind, f"fresh must give a {kind.__name__}, came {type(fresh).__name__}"
    assert fresh is not scorer, "fresh must give another scorer"
    assert fresh.config == scorer.config, "a fresh scorer has another config"


def _check_inputs(scorer: Scorer, model: Model) -> None:
    names, given = scorer.inputs, model.output_spec.names
    unknown = [name for name in names if name not in given]
    assert not unknown, f"inputs names {unknown}, which the model does not give: expected some of {given}"
    assert len(set(names)) == len(names), f"inputs names one output twice: {names}"
    alone = names == ("features",) or not scorer.capabilities.per_category
    assert alone, f"capabilities.per_category is for scorers of features alone, came inputs {names}"


def _check_fit(scorer: Scorer, inputs: tuple[Tensor, ...], categories: Rows, half: int) -> None:
    known: list[Tensor] = []  # numbers of images, a batch each
    others: list[Tensor] = []
    count = lambda batch: torch.tensor(len(batch[0]))  # noqa: E731
    untouched = _copy_state(scorer.fresh())
    every = Batches.of_tensors(*inputs, categories=categories, size=4)
    train, held_out = every.take(np.arange(half)), every.take(np.arange(half, len(inputs[0])))
    found = scorer.fit(train.noting(count, known), held_out.noting(count, others), 0)
    assert found is scorer, "fit must return the scorer"
    passed, most = int(sum(known)), scorer.capabilities.passes * half
    assert passed <= most, f"fit went through {passed} images, where capabilities.passes allows {most}"
    unused = scorer.capabilities.held_out == "unused"
    assert not (unused and others), "fit went through held-out images, which capabilities.held_out says are unused"
    learned = _copy_state(scorer)
    learned_already = not _same(untouched, learned) and _same(_copy_state(scorer.fresh()), learned)
    assert not learned_already, "a fresh scorer has learned already"


def _check_forward(scorer: Scorer, inputs: tuple[Tensor, ...]) -> Tensor:
    before = _copy_state(scorer)
    maps: Tensor = scorer(*inputs)
    assert maps.ndim == 3, f"maps must be (B, h, w), came {tuple(maps.shape)}"
    assert len(maps) == len(inputs[0]), f"{len(inputs[0])} images gave {len(maps)} maps"
    assert bool(torch.isfinite(maps).all()), "a map holds values that are not finite"
    assert float(maps.min()) >= 0, f"maps must be >= 0, came {float(maps.min())}"
    assert_close(scorer(*inputs), maps, "a second look gives another map")
    alone = torch.cat([scorer(*(values[row : row + 1] for values in inputs)) for row in range(len(maps))])
    assert_close(alone, maps, "an image alone has another map than in a batch")
    assert _same(before, _copy_state(scorer)), "forward changed what was learned"
    return maps


def _check_state(scorer: Scorer, inputs: tuple[Tensor, ...], maps: Tensor) -> None:
    copy = scorer.fresh()
    try:
        copy.load_state_dict(_copy_state(scorer))
        found = copy(*inputs)
    except Exception as error:  # of what was not saved, and is missing
        raise AssertionError(
            f"a scorer with the same state_dict gives no maps: what is learned must be a buffer ({type(error).__name__}: {error})"
        ) from error
    assert_close(found, maps, "a scorer with the same state_dict gives other maps: what is learned must be a buffer")


def _copy_state(scorer: Scorer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in scorer.state_dict().items()}


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def _check_positions(scorer: Scorer, inputs: tuple[Tensor, ...], maps: Tensor) -> None:
    if scorer.capabilities.position_dependent or maps.shape[2] == 1:
        return
    turned = scorer(*(values.flip(-1) for values in inputs)).flip(-1)
    assert_close(turned, maps, "positions count, and capabilities.position_dependent does not say so")


def _check_scales(scorer: Scorer, inputs: tuple[Tensor, ...], categories: Rows) -> None:
    count = len(inputs[0])
    components = scorer.component_maps(*inputs)
    assert components.ndim == 4, f"component_maps must be (B, M, h, w), came {tuple(components.shape)}"
    assert len(components) == count, f"{count} images gave {len(components)} component maps"
    normalised = scorer.fit_normalisation(components, categories)
    assert normalised.shape == (count, *components.shape[2:]), "fit_normalisation must return maps (N, h, w)"
    assert_close(scorer(*inputs), normalised, "fit_normalisation returned other maps than forward gives after it")
    scores = normalised.mean(dim=(1, 2)).double().numpy() + 1.0
    divisors = scorer.fit_score_scale(scores, categories)
    assert divisors.shape == (count,), f"fit_score_scale must return a divisor for each image, came {divisors.shape}"
    assert (divisors > 0).all(), "fit_score_scale must return divisors above 0"
    scaled = normalised / torch.from_numpy(divisors).float()[:, None, None]
    assert_close(scorer(*inputs), scaled, "after fit_score_scale, forward does not give maps over the divisors")


def _check_leave_one_out(scorer: Scorer, features: Tensor, categories: Rows) -> None:
    least = scorer.capabilities.leave_one_out
    assert least is None or least >= 2, f"capabilities.leave_one_out must be None, or 2 images or more, came {least}"
    count = len(features)
    chosen = torch.arange(0, count, 2)
    _check_left_out(scorer, features, chosen, categories, np.arange(count), "an image")
    # two of each image, which belong together: whoever leaves out one of them still knows the other
    twice, numbers = torch.cat([features, features]), np.tile(categories, 2)
    _check_left_out(scorer, twice, chosen, numbers, np.tile(np.arange(count), 2), "an image of a group")


def _check_left_out(
    scorer: Scorer, features: Tensor, chosen: Tensor, categories: Rows, groups: Rows, what: str
) -> None:
    fitted = scorer.fresh()
    every = Batches.of_tensors(features, categories=categories)
    fitted.fit(every, every.take(np.empty(0, np.intp)), 0)
    found = fitted.leave_one_out(features, chosen, categories, groups)
    again = Scorer.leave_one_out(fitted, features, chosen, categories, groups)
    assert found.shape == again.shape, f"leave_one_out must be {tuple(again.shape)}, came {tuple(found.shape)}"
    ratio = float(found.mean() / again.mean())
    known = float(fitted.component_maps(features[chosen]).mean() / again.mean())
    assert LEAST_LEFT_OUT <= ratio <= MOST_LEFT_OUT, (
        f"{what} that is left out looks {ratio:.3g} times as strange as to a scorer that learned without it (one that was "
        f"learned from looks {known:.3g} times as strange)"
    )


def check_threshold(make: Callable[[float | Literal["auto"]], ThresholdRule]) -> None:
    """Raise AssertionError unless `make(false_alarms)` gives a rule that a detector can use, and that holds its promise.

    The rule has `fit(normal scores)`, which returns it, `threshold_`, and `promise_`; where that has a share of false alarms,
    no more of fresh normal scores are above the threshold. Higher scores are stranger. Counted in part, n scores are as few as
    their weights say. A rule that needs labels is given some.

    >>> from unlike.calibration.thresholds import ConformalThreshold
    >>> check_threshold(ConformalThreshold)
    """
    if make("auto").needs_labels:
        _check_labelled_threshold(make("auto"))
        return
    random = np.random.default_rng(0)
    for asked in (0.05, 0.2):
        shares, promised = [], None
        for _ in range(200):
            normal: Floats = random.lognormal(size=99)
            rule = make(asked)
            assert rule.fit(normal) is rule, "fit must return the rule"
            threshold, promise = getattr(rule, "threshold_", None), getattr(rule, "promise_", None)
            finite = threshold is not None and bool(np.isfinite(threshold))
            assert finite, f"threshold_ must be a finite number, came {threshold}"
            assert isinstance(promise, Promise), f"promise_ must be a Promise, came {promise!r}"
            promised = promise.false_alarms
            shares.append(is_anomalous(random.lognormal(size=200), rule.threshold_).mean())
        decision = calibrate(normal, normal, np.full(len(normal), ""), make(asked))
        assert decision.threshold == rule.threshold_, "the same scores gave another threshold"
        margin = 3 * float(np.std(shares)) / np.sqrt(len(shares))
        assert promised is None or np.mean(shares) <= promised + margin, (
            f"promised {promised}, gave {np.mean(shares):.3f} false alarms"
        )
    _check_weights(make)


def _check_weights(make: Callable[[float | Literal["auto"]], ThresholdRule]) -> None:
    scores: Floats = np.random.default_rng(1).lognormal(size=400)
    alone = make("auto").fit(scores).threshold_
    paired = make("auto").fit(np.repeat(scores, 2), np.full(800, 0.5)).threshold_
    bold = paired < alone - TOLERANCE * abs(alone)
    assert not bold, "pairs of images that count by halves gave a lower threshold than one of each"


def _check_labelled_threshold(rule: ThresholdRule) -> None:
    scores, anomalous = np.array([1.0, 2.0, 3.0, 7.0, 8.0, 9.0]), np.repeat([False, True], 3)
    assert rule.fit(scores, None, anomalous) is rule, "fit must return the rule"
    assert isinstance(rule.promise_, Promise), f"promise_ must be a Promise, came {rule.promise_!r}"
    found = is_anomalous(scores, rule.threshold_).tolist()
    assert found == anomalous.tolist(), f"what labels tell apart, threshold {rule.threshold_} does not"


def example_images(model: Model, count: int = 4, seed: int = 0) -> Tensor:
    """Random images of the model's shape, (B, C, H, W) in -1 to 1."""
    shape = model.shape
    pixels = np.random.default_rng(seed).integers(0, 256, (count, shape.height, shape.width, shape.channels), np.uint8)
    return to_tensor(pixels, (0.0, 1.0))


def assert_close(found: Tensor, expected: Tensor, message: str) -> None:
    """Raise AssertionError with `message` unless two tensors agree to 1e-5 of their largest value."""
    scale = float(expected.abs().max()) or 1.0
    gap = float((found - expected).abs().max()) / scale
    assert gap <= TOLERANCE, f"{message} (by {gap:.2g} relative)"


def _check_loss(model: Model, images: Tensor) -> None:
    trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if not trainable:
        return
    model.train()
    with isolated_randomness(0):
        loss = model.loss(images, LOSSES["squared"])
    assert loss.ndim == 0, f"loss must be a scalar, came {tuple(loss.shape)}"
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    unreached = [name for name, value in trainable.items() if value.grad is None]
    assert not unreached, f"the loss does not reach {', '.join(unreached)}"
    model.zero_grad()


def _check_copy(model: Model, images: Tensor, code: Tensor) -> None:
    copy = type(model)(model.config, model.shape)
    copy.load_state_dict(model.state_dict())
    assert_close(copy.eval().encode(images), code, "a model with the same weights gives another code")
