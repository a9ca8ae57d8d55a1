"""Every entry of every registry keeps its promises; and the checks themselves can fail."""

from __future__ import annotations

import copy
import dataclasses
import re

import numpy as np
import pytest
import torch

from conftest import scratched, stripes
from unlike import Detector
from unlike.calibration.thresholds import THRESHOLDS, NoSettings, Promise
from unlike.data.randomness import isolated_randomness
from unlike.errors import ConfigError
from unlike.models import MODELS, Autoencoder, Model
from unlike.models.conv import ConvAutoencoder, ConvConfig
from unlike.models.losses import LOSSES
from unlike.records import ImageShape
from unlike.scoring import SCORERS
from unlike.scoring.base import Capabilities, Scorer
from unlike.scoring.per_category import PerCategoryScorer
from unlike.testing import assert_close, check_model, check_scorer, check_threshold, example_images

TINY_FEATURES = {"backbone": "test_efficientnet", "pretrained": False}
SMALL = {  # settings that make a heavy model or scorer quick; tests/models has the sizes of the reports
    "feature-attention": TINY_FEATURES | {"width": 16},
    "feature-conv": TINY_FEATURES | {"widths": (16, 32)},
    "feature-linear": TINY_FEATURES | {"code": 16},
    "features": TINY_FEATURES,
    "equilibrium": {"clusters": 2, "restarts": 2},
    "ensemble": {"settings": {"kmeans": {"clusters": 2}}},
    "kmeans": {"clusters": 2, "restarts": 2},
    "mixture": {"components": 2, "restarts": 1},
    "pca": {"components": 1},  # more would rebuild four images without error
    "real-or-fake": {"steps": 20},
    "residual-unet": {"widths": (4, 8), "bottleneck": 16},
    "vae": {"widths": (8, 16), "latent": 8},
}
BY_HEART = {  # settings with which a family should remember sixteen images: wide, and with nothing forgotten on purpose
    "conv": {"widths": (64, 32, 16)},
    "conv-dense": {"dropout": 0.0},
    "fcn": {"widths": (64, 32, 16)},
    "feature-attention": TINY_FEATURES | {"dropout": 0.0},
    "feature-conv": TINY_FEATURES,
    "feature-linear": TINY_FEATURES | {"code": 16},
    "multi-encoder": {"conv_widths": ((64, 32, 16),)},
    "residual-unet": {"widths": (8, 16), "bottleneck": 32},
    "vae": {"widths": (64, 32), "latent": 32},
}
LEARNERS = [name for name in MODELS if name not in ("features", "pixels")]  # the others have nothing to train


def build(name: str, channels: int = 3, height: int = 16, width: int = 32, **settings) -> Model:
    with isolated_randomness(0):
        config = MODELS[name].Config(**(settings or SMALL.get(name, {})))
        return MODELS[name](config, ImageShape(channels, height, width))


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("name", MODELS)
def test_model_keeps_its_promise(name, channels):
    check_model(build(name, channels))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("scorer", SCORERS)
def test_scorer_keeps_its_promise(scorer, model):
    kind, of = SCORERS[scorer], build(model)
    try:
        made = kind(kind.Config(**SMALL.get(scorer, {})), of.output_spec)
    except ConfigError:
        suits = isinstance(of, Autoencoder) and of.decodes and scorer != "segmentation"
        assert not suits  # what rebuilds nothing, or decodes no code, does not suit every scorer
    else:
        check_scorer(made, of)


@pytest.mark.parametrize("model", ["conv", "features", "pixels"])
@pytest.mark.parametrize(
    ("scorer", "settings"),
    [
        ("pca", {"code": "vector", "components": 0.8, "distance": "whitened"}),
        ("pca", {"code": "vector", "components": 1, "distance": "euclidean"}),
        ("neighbours", {"metric": "mahalanobis"}),
        ("gaussian", {"positions": "each", "shrinkage": 0.1}),
        ("ensemble", {"scorers": ["neighbours", "neighbours_mean"], "settings": {"neighbours_mean": {"code": "mean"}}}),
        ("ensemble", {"scorers": ["gaussian", "neighbours", "pca"], "combine": "geometric", "normalisation": "median"}),
    ],
)
def test_scorer_keeps_its_promise_with_other_settings(scorer, settings, model):
    of = build(model)
    check_scorer(SCORERS[scorer](SCORERS[scorer].Config(**settings), of.output_spec), of)


@pytest.mark.parametrize(
    ("scorer", "settings"),
    [
        ("gaussian", {"positions": "each", "shrinkage": 0.1}),
        ("kmeans", {"clusters": 2}),
        ("ensemble", {"scorers": ["neighbours", "gaussian"], "normalisation": "median"}),
    ],
)
def test_a_scorer_of_several_categories_keeps_its_promise(scorer, settings):
    """Dark images and bright ones."""
    of, categories = build("pixels", 1, 16, 16), np.arange(32) % 2
    levels = torch.tensor([-0.6, 0.6])[torch.from_numpy(categories)][:, None, None, None]
    images = levels + 0.3 * example_images(of, len(categories))
    make = lambda: SCORERS[scorer](SCORERS[scorer].Config(**settings), of.output_spec)  # noqa: E731
    several = PerCategoryScorer(make, [("dark",), ("bright",)])
    check_scorer(several, of, images, categories)
    assert several.categories == [("dark",), ("bright",)]  # which were not learned as one


@pytest.mark.parametrize("name", THRESHOLDS)
def test_threshold_keeps_its_promise(name):
    check_threshold(THRESHOLDS[name])


@pytest.mark.parametrize("name", LEARNERS)
def test_model_learns_sixteen_images_by_heart(name):
    """To a tenth of its first loss, by plain Adam."""
    y, x = np.mgrid[:16, :16] / 16
    waves = [np.sin(6 * (x * np.cos(a) + y * np.sin(a)) + a) for a in np.linspace(0, 3, 16)]
    images = torch.tensor(np.array(waves), dtype=torch.float32)[:, None]
    model = build(name, 1, 16, 16, **BY_HEART.get(name, {})).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3, fused=True)
    losses = []
    with isolated_randomness(0):
        while len(losses) < 300 and (not losses or losses[-1] >= losses[0] / 10):
            loss = model.loss(images, LOSSES["squared"])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    assert losses[-1] < losses[0] / 10


@pytest.mark.parametrize("name", MODELS)
def test_model_learns_if_it_can_and_rebuilds_nothing_otherwise(name):
    model = build(name)
    assert any(value.requires_grad for value in model.parameters()) == (name in LEARNERS)
    assert isinstance(model, Autoencoder) == (name in LEARNERS)


@pytest.mark.parametrize("name", LEARNERS)
def test_model_learns_from_a_batch_of_one_image(name):
    """As the last batch of an epoch may be; of 16 x 16 pixels a batch norm may see a single value."""
    model = build(name, 1, 16, 16).train()
    loss = model.loss(example_images(model, count=1), LOSSES["squared"])
    loss.backward()
    assert all(value.grad.isfinite().all() for value in model.parameters() if value.requires_grad)


@pytest.mark.parametrize(("height", "width"), [(48, 16), (37, 50), (3, 5)])
@pytest.mark.parametrize("name", MODELS)
def test_model_takes_a_size_or_names_the_nearest_that_it_takes(name, height, width):
    try:
        model = build(name, 1, height, width)
    except ConfigError as error:
        came, *nearest = re.findall(r"(\d+) x (\d+)", str(error))
        assert came == (str(height), str(width))
        assert nearest
        for side in nearest:
            build(name, 1, *map(int, side))
    else:
        images = example_images(model, count=1)
        with torch.no_grad():
            assert len(model.eval().encode(images)) == 1
            if isinstance(model, Autoencoder):
                assert model.rebuild(images).shape == model.target(images).shape


@pytest.mark.parametrize("name", MODELS)
def test_config_and_class_say_what_they_are_for(name):
    assert MODELS[name].__doc__
    assert MODELS[name].Config.__doc__
    assert dataclasses.is_dataclass(MODELS[name].Config)


class Broken(ConvAutoencoder):
    """A model whose promises can be broken one at a time."""

    fault = ""

    def encode(self, images):
        code = super().encode(images)
        if self.fault == "shape":
            return code.flatten(1)
        if self.fault == "batch":
            return code - code.mean(dim=0)
        if self.fault == "random":
            return code + torch.rand_like(code)
        return code[:1] if self.fault == "count" else code

    def decode(self, code):
        rebuilt = super().decode(code)
        return rebuilt[:, :, 1:] if self.fault == "rebuilt" else rebuilt

    def loss(self, images, objective, clean=None):
        if self.fault == "vector":
            return self.rebuild(images).flatten()
        if self.fault == "unreached":
            return objective(super().encode(images), torch.zeros(()))
        return (
            super().loss(images, objective) if self.fault != "rebuilt" else super().decode(self.encode(images)).mean()
        )


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("shape", r"must return \(B, D, h, w\)"),
        ("count", "gave 1 codes"),
        ("batch", "alone has another code"),
        ("random", "second look"),
        ("rebuilt", "but the target is"),
        ("vector", "must be a scalar"),
        ("unreached", "does not reach decoder"),
    ],
)
def test_check_model_finds(fault, message):
    model = Broken(ConvConfig(), ImageShape(3, 16, 16))
    model.fault = fault
    if fault in ("shape", "count"):
        model.loss = lambda images, objective, clean=None: sum(p.sum() for p in model.parameters())
    with pytest.raises(AssertionError, match=message):
        check_model(model)


class Cells(Model):
    """The code is the mean of each cell of a grid of 4 x 4."""

    def encode(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images, 4)

    def loss(self, images, objective, clean=None):
        return images.new_zeros(())


@dataclasses.dataclass(frozen=True)
class NearestConfig:
    """Nothing to choose."""


@dataclasses.dataclass(frozen=True)
class OtherConfig:
    """That of another."""


class Nearest(Scorer):
    """How far from the nearest normal features, by two distances; it has all that a scorer can have."""

    Config = NearestConfig
    inputs = ("features",)
    loud = False  # what somebody may have forgotten to save

    def __init__(self, config, spec):
        super().__init__(config, spec)
        for name, value in (("bank", torch.ones(1, 1)), ("owners", torch.zeros(1)), ("seen", torch.zeros(()))):
            self.register_buffer(name, value)
        self.register_buffer("usual", torch.ones(2))
        self.register_buffer("divisor", torch.ones(()))

    @property
    def capabilities(self):
        return Capabilities(leave_one_out=2)

    def fit(self, train, held_out, seed):
        grids = torch.cat([features for (features,) in train])
        self.bank = rows_of(grids).flatten(0, 2)
        self.owners = torch.arange(len(grids)).repeat_interleave(grids[0, 0].numel())
        self.usual, self.divisor = torch.ones(2), torch.ones(())
        return self

    def forward(self, features):
        return self.combine(self.component_maps(features)) / self.divisor

    def component_maps(self, features):
        return distances_to(rows_of(features), self.bank)

    def combine(self, component_maps):
        return (component_maps / self.usual[:, None, None]).mean(dim=1)

    def fit_normalisation(self, component_maps, categories):
        self.usual = component_maps.mean(dim=(0, 2, 3))
        return self.combine(component_maps)

    def fit_score_scale(self, scores, categories):
        self.divisor = torch.tensor(float(np.median(scores)))
        return np.full(len(scores), float(self.divisor))

    def leave_one_out(self, features, chosen, categories, groups):
        owners = torch.from_numpy(groups)[self.owners]  # the group of each row of the bank
        parts = [
            distances_to(rows_of(features[row, None]), self.bank[owners != owners[self.owners == row][0]])
            for row in chosen
        ]
        return torch.cat(parts)


def rows_of(features):
    return features.permute(0, 2, 3, 1)  # (B, h, w, D)


def distances_to(rows, bank):
    """(B, h, w, D) and (M, D) -> (B, 2, h, w)"""
    exact = "donot_use_mm_for_euclid_dist"
    gaps = [torch.cdist(rows.flatten(0, 2), bank, p, compute_mode=exact).amin(dim=1) for p in (1.0, 2.0)]
    return torch.stack([gap.view(rows.shape[:3]) for gap in gaps], dim=1)


def then(name, change):
    """A member that does what it should, and then changes what comes out."""
    return lambda self, *given: change(self, getattr(Nearest, name)(self, *given))


def before(name, act):
    """A member that first does something else."""
    return lambda self, *given: (act(self, *given), getattr(Nearest, name)(self, *given))[1]


FAULTS = {  # what is wrong -> the members that are, and what is said of them
    "config: no dataclass": ({"config": {"side": 1}}, "config must be a dataclass"),
    "config: of another": ({"config": OtherConfig()}, "config must be a NearestConfig, came OtherConfig"),
    "Config: another's": ({"Config": OtherConfig}, "config must be a OtherConfig, came NearestConfig"),
    "inputs: unknown": ({"inputs": ("codes",)}, r"inputs names \['codes'\], which the model does not give"),
    "inputs: twice": ({"inputs": ("features", "features")}, "inputs names one output twice"),
    "capabilities: none": ({"capabilities": None}, "capabilities must be Capabilities"),
    "capabilities.passes": ({"fit": before("fit", lambda self, train, *_: list(train))}, "fit went through 16 images"),
    "capabilities.held_out": (
        {"fit": before("fit", lambda self, train, held_out, seed: list(held_out))},
        "fit went through held-out images, which capabilities.held_out says are unused",
    ),
    "capabilities.per_category": (
        {"inputs": ("target", "features"), "capabilities": Capabilities(per_category=True)},
        "capabilities.per_category is for scorers of features alone",
    ),
    "capabilities.position_dependent": (
        {"component_maps": then("component_maps", lambda _, maps: maps * torch.arange(1, maps.shape[3] + 1))},
        "positions count, and capabilities.position_dependent does not say so",
    ),
    "capabilities.leave_one_out": (
        {"capabilities": Capabilities(leave_one_out=1)},
        "capabilities.leave_one_out must be None, or 2 images or more, came 1",
    ),
    "fit: returns nothing": ({"fit": then("fit", lambda *_: None)}, "fit must return the scorer"),
    "forward: no grid": ({"forward": then("forward", lambda _, maps: maps.flatten(1))}, r"maps must be \(B, h, w\)"),
    "forward: too few": ({"forward": then("forward", lambda _, maps: maps[:1])}, "8 images gave 1 maps"),
    "forward: negative": ({"forward": then("forward", lambda _, maps: maps - 99)}, "maps must be >= 0"),
    "forward: not finite": ({"forward": then("forward", lambda _, maps: maps / 0)}, "not finite"),
    "forward: of its batch": (
        {"forward": then("forward", lambda _, maps: maps / maps.max())},
        "an image alone has another map than in a batch",
    ),
    "forward: remembers": (
        {"forward": then("forward", lambda self, maps: maps + self.seen.add_(1))},
        "a second look gives another map",
    ),
    "forward: learns": (
        {"forward": then("forward", lambda self, maps: (maps, self.seen.add_(1))[0])},
        "forward changed what was learned",
    ),
    "component_maps: no components": (
        {"component_maps": then("component_maps", lambda _, maps: maps[:, 0]), "combine": lambda _, maps: maps},
        r"component_maps must be \(B, M, h, w\)",
    ),
    "component_maps: too few": (
        {
            "component_maps": then("component_maps", lambda _, maps: maps[:1]),
            "forward": lambda self, features: self.combine(Nearest.component_maps(self, features)),
        },
        "8 images gave 1 component maps",
    ),
    "component_maps: of something else": (
        {"forward": lambda self, features: self.combine(Nearest.component_maps(self, features).square())},
        "fit_normalisation returned other maps than forward gives after it",
    ),
    "fit_normalisation: no maps": (
        {"fit_normalisation": then("fit_normalisation", lambda _, maps: maps.mean())},
        r"fit_normalisation must return maps \(N, h, w\)",
    ),
    "fit_normalisation: unused": (
        {"fit_normalisation": lambda _, maps, __: (maps / maps.mean(dim=(0, 2, 3), keepdim=True)).mean(dim=1)},
        "fit_normalisation returned other maps than forward gives after it",
    ),
    "fit_score_scale: one for all": (
        {"fit_score_scale": then("fit_score_scale", lambda _, divisors: divisors[:1])},
        "fit_score_scale must return a divisor for each image",
    ),
    "fit_score_scale: zero": (
        {"fit_score_scale": then("fit_score_scale", lambda _, divisors: 0 * divisors)},
        "divisors above 0",
    ),
    "fit_score_scale: unused": (
        {"fit_score_scale": lambda _, scores, __: np.full(len(scores), 7.0)},
        "after fit_score_scale, forward does not give maps over the divisors",
    ),
    "leave_one_out: leaves nothing out": (
        {"leave_one_out": lambda self, features, chosen, *_: self.component_maps(features[chosen])},
        "an image that is left out looks 0 times as strange as to a scorer that learned without it",
    ),
    "leave_one_out: leaves out all but one": (
        {
            "leave_one_out": lambda self, features, chosen, *_: distances_to(
                rows_of(features[chosen]), self.bank[:1] + 9
            )
        },
        r"looks \S+ times as strange as to a scorer that learned without it",
    ),
    "leave_one_out: leaves out an image and not its group": (
        {
            "leave_one_out": lambda self, features, chosen, categories, groups: Nearest.leave_one_out(
                self, features, chosen, categories, np.arange(len(features))
            )
        },
        "an image of a group that is left out looks 0 times as strange as to a scorer that learned without it",
    ),
    "leave_one_out: shape": (
        {"leave_one_out": then("leave_one_out", lambda _, maps: maps[:, :1])},
        r"leave_one_out must be \(4, 2, 4, 4\), came \(4, 1, 4, 4\)",
    ),
    "fresh: itself": ({"fresh": lambda self: self}, "fresh must give another scorer"),
    "fresh: of another kind": (
        {"fresh": lambda self: Nearest(self.config, self.spec)},
        "fresh must give a Broken, came Nearest",
    ),
    "fresh: of other settings": (
        {"fresh": lambda self: type(self)(OtherConfig(), self.spec)},
        "a fresh scorer has another config",
    ),
    "fresh: has learned": ({"fresh": copy.deepcopy}, "a fresh scorer has learned already"),
    "state_dict: lacks what a map needs": (
        {"fit": then("fit", lambda self, _: own(self)), "component_maps": lambda self, features: self.own(features)},
        r"gives no maps: what is learned must be a buffer \(AttributeError: 'Broken' object has no attribute 'own'\)",
    ),
    "state_dict: lacks what changes a map": (
        {
            "fit": then("fit", lambda self, _: (self, setattr(self, "loud", True))[0]),
            "forward": then("forward", lambda self, maps: maps * (2 if self.loud else 1)),
        },
        "a scorer with the same state_dict gives other maps: what is learned must be a buffer",
    ),
}


def own(scorer):
    """Give a scorer a way to measure that only it has."""
    scorer.own = lambda features: Nearest.component_maps(scorer, features)
    return scorer


def test_a_scorer_of_which_nothing_is_broken_keeps_its_promise():
    of = Cells(None, ImageShape(3, 16, 16))
    check_scorer(Nearest(NearestConfig(), of.output_spec), of)


@pytest.mark.parametrize("fault", FAULTS)
def test_check_scorer_finds(fault):
    members, message = FAULTS[fault]
    of = build("fcn", 3, 16, 16) if "target" in members.get("inputs", ()) else Cells(None, ImageShape(3, 16, 16))
    config = members.get("config", NearestConfig())
    kind = type("Broken", (Nearest,), {name: value for name, value in members.items() if name != "config"})
    with pytest.raises(AssertionError, match=message):
        check_scorer(kind(config, of.output_spec), of)


class Rule:
    """A threshold rule with the members of the promise, which can be broken one at a time."""

    fault = ""
    Config, needs_labels = NoSettings, False

    def __init__(self, false_alarms, config=None):
        self.asked = 0.01 if false_alarms == "auto" else false_alarms

    def fit(self, scores, weights=None, anomalous=None):
        share = 2 * self.asked if self.fault == "loose" else self.asked
        if self.fault == "bold" and weights is not None and weights[0] < 1:
            share *= 2
        self.threshold_ = float("nan") if self.fault == "nan" else float(np.quantile(scores, 1 - share / 1.2))
        self.promise_ = Promise(self.asked, "what was asked for")
        if self.fault == "none":
            del self.promise_
        if self.fault == "share":
            self.promise_ = self.asked
        if self.fault == "nowhere":
            del self.threshold_
        if self.fault == "random":
            self.threshold_ += np.random.default_rng().random()
        return None if self.fault == "nothing" else self


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nothing", "fit must return the rule"),
        ("nan", "threshold_ must be a finite number, came nan"),
        ("nowhere", "threshold_ must be a finite number, came None"),
        ("none", "promise_ must be a Promise, came None"),
        ("share", r"promise_ must be a Promise, came 0\.05"),
        ("bold", "pairs of images that count by halves gave a lower threshold than one of each"),
        ("random", "the same scores gave another threshold"),
        ("loose", r"promised 0\.05, gave 0\.0[789]\d false alarms"),
    ],
)
def test_check_threshold_finds(fault, message):
    with pytest.raises(AssertionError, match=message):
        check_threshold(type("Broken", (Rule,), {"fault": fault}))


def test_a_rule_that_holds_its_promise_is_as_good_as_ours():
    check_threshold(Rule)


class Sigmas:
    """A user's rule, with no more than it needs: three deviations above the mean, which promises nothing."""

    Config, needs_labels = NoSettings, False

    def __init__(self, false_alarms, config=None):
        self.false_alarms = false_alarms

    def fit(self, scores, weights=None, anomalous=None):
        self.threshold_ = float(np.mean(scores) + 3 * np.std(scores))
        return self

    @property
    def promise_(self):
        return Promise(None, "three deviations above the mean")


def test_a_rule_that_promises_nothing_decides_for_a_detector_that_is_saved_and_loaded(monkeypatch, tmp_path):
    check_threshold(Sigmas)
    monkeypatch.setitem(THRESHOLDS._places, "sigmas", f"{__name__}:Sigmas")
    settings = {"decision": {"threshold": "sigmas"}}
    detector = Detector("pixels", "gaussian", settings=settings, device="cpu").fit(stripes(40))
    decision = detector.fitted_.decision
    assert decision.threshold == pytest.approx(decision.scores.mean() + 3 * decision.scores.std())
    assert decision.region_threshold == pytest.approx(decision.peaks.mean() + 3 * decision.peaks.std())
    assert decision.false_alarms is None
    images = np.concatenate([stripes(6, seed=7), scratched(stripes(6, seed=8))[0]])
    verdicts = detector.judge(images)
    assert [verdict.anomalous for verdict in verdicts[6:]] == [True] * 6
    detector.save(tmp_path / "d")
    loaded = Detector.load(tmp_path / "d", device="cpu")
    assert loaded.judge(images) == verdicts
    assert str(loaded.fitted_.decision.thresholds[""].promise) == "three deviations above the mean"
    assert loaded.fitted_.decision.false_alarms is None


def test_assert_close_says_by_how_much():
    with pytest.raises(AssertionError, match=r"other \(by 0\.5 relative\)"):
        assert_close(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0]) * 4 / 3 * 1.5 / 1, "other")


def test_examples_are_images_of_the_models_shape():
    images = example_images(build("conv", 3, 16, 24))
    assert images.shape == (4, 3, 16, 24)
    assert images.abs().max() <= 1


class Backwards:
    """A rule that needs labels, and takes them the wrong way round."""

    Config, needs_labels = NoSettings, True
    fault = ""

    def __init__(self, false_alarms, config=None):
        self.promise_ = "nothing" if self.fault == "words" else Promise(None, "nothing")

    def fit(self, scores, weights=None, anomalous=None):
        self.threshold_ = float(scores[~anomalous].min())
        return None if self.fault == "nothing" else self


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("", r"what labels tell apart, threshold 1\.0 does not"),
        ("nothing", "fit must return the rule"),
        ("words", "promise_ must be a Promise, came 'nothing'"),
    ],
)
def test_check_threshold_finds_what_is_wrong_with_a_rule_of_labels(fault, message):
    with pytest.raises(AssertionError, match=message):
        check_threshold(type("Broken", (Backwards,), {"fault": fault}))
