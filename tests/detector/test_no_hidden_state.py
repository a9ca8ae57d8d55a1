"""Nothing is decided out of sight: not by a context, a reading, an environment, the words of an error or the name of a setting."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, dataclass, fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unlike
from conftest import stripes, write_png
from unlike import Detector
from unlike.backbones.lazy_network import LazyNetwork
from unlike.backbones.network_cache import NetworkCache
from unlike.cache import Cache
from unlike.cli import run
from unlike.data.input_spec import InputSpec
from unlike.data.source import open_source
from unlike.data.split import split_normals
from unlike.data.tiles import TiledImages, Tiling
from unlike.detector.building import build_model
from unlike.detector.settings import Settings
from unlike.errors import ConfigError
from unlike.scoring import SCORERS
from unlike.scoring.base import Capabilities, Scorer

ROOT = Path(unlike.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))


@pytest.fixture(scope="module")
def detector():
    return Detector("pixels", "gaussian", false_alarms=0.1, settings={"model": {"side": 4}}, device="cpu").fit(
        stripes(40, size=16)
    )


# contexts and caches


def test_no_module_keeps_a_context_of_its_own():
    assert len(SOURCES) > 100
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert "ContextVar" not in text, path
        assert "contextvars" not in text, path


@pytest.mark.parametrize("name", ["patchcore", "feature-autoencoder"])
def test_a_network_cache_changes_no_weight_and_no_result(own_cache, name):
    """Neither the one that fills it nor the one that finds all in it."""
    settings = Settings.resolve(preset=name)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    networks = NetworkCache(Cache(own_cache, 10**9))
    plain, first, second = (
        build_model(settings, InputSpec(64, 64, 3), 0, cache).eval() for cache in (None, networks, networks)
    )
    with torch.no_grad():
        expected = plain.encode(images)
        for model in (first, second):
            torch.testing.assert_close(model.state_dict(), plain.state_dict(), rtol=0, atol=0)
            torch.testing.assert_close(model.encode(images), expected, rtol=1e-5, atol=1e-5)
    assert any(isinstance(part, LazyNetwork) for part in second.modules())


# reading


def read_all(value, seen=None):
    """Ask for every attribute of all that hangs together, however deep; how many values that were."""
    seen = set() if seen is None else seen
    if id(value) in seen or isinstance(value, type):
        return len(seen)
    if isinstance(value, dict):
        for item in value.values():
            read_all(item, seen)
    elif isinstance(value, nn.Module) or is_dataclass(value):
        seen.add(id(value))
        for name in dir(value):
            if not name.startswith("_"):
                read_all(getattr(value, name), seen)
        if isinstance(value, nn.Module):
            for part in value.children():
                read_all(part, seen)
            value.state_dict()
            repr(value)
    return len(seen)


def names(folder):
    """What lies in a cache; a name is a digest of what it is made of."""
    return sorted(path.name for path in folder.iterdir())


def test_to_read_what_was_learned_changes_neither_scores_nor_what_is_cached(tmp_path, monkeypatch):
    images, found = stripes(20, size=64), {}
    for read in (False, True):
        cache = tmp_path / f"cache {read}"
        cache.mkdir()
        monkeypatch.setenv("UNLIKE_CACHE", str(cache))
        fitted = Detector(preset="patchcore", size=64, false_alarms=0.2, device="cpu").fit(images)
        if read:
            assert read_all(fitted.fitted_) > 10
        fitted.save(tmp_path / f"{read}")
        loaded = Detector.load(tmp_path / f"{read}", device="cpu")
        if read:
            assert read_all(loaded.fitted_) > 10
        assert isinstance(loaded.fitted_.pipeline.model.extractor.module, LazyNetwork)
        found[read] = fitted.score(images).image, loaded.score(images).image, names(cache)
    np.testing.assert_array_equal(found[True][0], found[False][0])
    np.testing.assert_array_equal(found[True][1], found[False][1])
    assert found[True][2] == found[False][2]
    for name in ("detector.toml", "weights.safetensors", "scorer.safetensors", "calibration.npz"):
        assert (tmp_path / "True" / name).read_bytes() == (tmp_path / "False" / name).read_bytes()


def test_what_was_learned_cannot_be_overwritten(detector):
    with pytest.raises(AttributeError):
        detector.fitted_ = None
    fitted = detector.fitted_
    for value in (fitted, fitted.spec, fitted.decision, *fitted.decision.thresholds.values(), detector.settings):
        for field in fields(value):
            with pytest.raises(FrozenInstanceError):
                setattr(value, field.name, None)


# the scale of floats


def test_a_set_of_images_knows_no_value_range(tmp_path):
    for number, image in enumerate(stripes(4, size=16)):
        write_png(tmp_path / f"{number}.png", image)
    spec = InputSpec(16, 16, 3)
    for source in (open_source(stripes(4, size=16)), open_source(tmp_path)):
        images = source.load(spec, None)
        for seen in (images, TiledImages(images, Tiling(16, 16, 8, 0))):
            assert not any("range" in name for name in dir(seen))
    with pytest.raises(FrozenInstanceError):
        spec.value_range = (0.0, 255.0)


def test_held_out_images_change_neither_scale_nor_model():
    """Those that calibrate are brighter than all others: black, white and all that is learned by them stay as they are."""
    images = np.random.default_rng(0).uniform(0, 0.9, (40, 8, 8)).astype(np.float32)
    brighter = images.copy()
    brighter[split_normals(np.arange(40), 13, seed=0).calibration] *= 50
    plain, other = (Detector("fcn", epochs=2, device="cpu").fit(given) for given in (images, brighter))
    assert plain.fitted_.spec == other.fitted_.spec
    assert plain.fitted_.spec.value_range == (0.0, 1.0)
    assert other.fitted_.decision.threshold > 10 * plain.fitted_.decision.threshold
    torch.testing.assert_close(other.fitted_.pipeline.state_dict(), plain.fitted_.pipeline.state_dict(), rtol=0, atol=0)
    np.testing.assert_array_equal(other.score(images).image, plain.score(images).image)


# the environment

RANKS = {"ray": {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}, "torchrun": {"TORCHELASTIC_RUN_ID": "none"}}


@pytest.mark.parametrize("started", [("ray",), ("ray", "torchrun")], ids="+".join)
def test_what_is_to_be_saved_is_written_whoever_started_the_process(detector, tmp_path, monkeypatch, started):
    for by in started:
        for name, value in RANKS[by].items():
            monkeypatch.setenv(name, value)
    detector.save(tmp_path / "d")
    images = stripes(3, size=16, seed=4)
    np.testing.assert_array_equal(
        Detector.load(tmp_path / "d", device="cpu").score(images).image, detector.score(images).image
    )


def test_fit_on_the_command_line_writes_and_speaks_where_ray_started_it(tmp_path):
    np.save(tmp_path / "images.npy", stripes(40, size=16))
    started = {name: value for name, value in os.environ.items() if name != "TORCHELASTIC_RUN_ID"}
    choices = ["--model", "pixels", "--false-alarms", "0.1", "--device", "cpu"]
    found = subprocess.run(
        [sys.executable, "-m", "unlike", "fit", tmp_path / "images.npy", "-o", tmp_path / "d", *choices],
        capture_output=True,
        text=True,
        check=False,
        env={**started, "RANK": "1"},
    )
    assert found.returncode == 0, found.stderr
    assert "Promise: at most 10 % of normal images" in found.stderr
    assert Detector.load(tmp_path / "d").fitted_.counts["train"] == 40


# a choice that has no effect

FOR_WHAT = (
    "training.epochs: neither preset nor model is named, and the default, preset ensemble, trains nothing; name what it is for, "
    "--preset autoencoder, feature-autoencoder, feature-attention or repair, or --model conv or another that is trained; or leave "
    "it out"
)


def test_epochs_alone_never_choose_another_method(tmp_path, capsys):
    with pytest.raises(ConfigError) as caught:
        Detector(epochs=3)
    assert str(caught.value) == FOR_WHAT
    np.save(tmp_path / "images.npy", stripes(40, size=16))
    assert run(["fit", str(tmp_path / "images.npy"), "-o", str(tmp_path / "d"), "--epochs", "3"]) == 2
    assert capsys.readouterr().err == f"unlike: {FOR_WHAT}\n"
    assert not (tmp_path / "d").exists()


# the words of an error

SEARCHES = {"startswith", "endswith", "find", "index", "count", "match", "search", "fullmatch", "findall"}
NO_OTHER_WAY = {
    "batch/on_ray.py": "Ray raises a RuntimeError for any answer of a cluster, a missing token too"
}  # module -> why its library tells the errors apart by words alone


def speaks_of(node, errors):
    """Whether an expression holds the words of an error: `str(error)`, `f"{error}"`, `error.args` or a name of these."""
    for part in ast.walk(node):
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id in ("str", "repr"):
            if any(isinstance(argument, ast.Name) and argument.id in errors for argument in part.args):
                return True
        elif isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name) and part.value.id in errors:
            return True
        elif isinstance(part, ast.Attribute) and part.attr in ("args", "strerror", "message"):
            if isinstance(part.value, ast.Name) and part.value.id in errors:
                return True
        elif isinstance(part, ast.Name) and f"words of {part.id}" in errors:
            return True
    return False


def names_of_errors(function):
    """The names by which a function knows errors, and those of their words."""
    errors = {part.name for part in ast.walk(function) if isinstance(part, ast.ExceptHandler) and part.name}
    for argument in [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]:
        if argument.annotation is not None and ast.unparse(argument.annotation).endswith(("Error", "Exception")):
            errors.add(argument.arg)
    for part in ast.walk(function):
        if isinstance(part, ast.Assign) and speaks_of(part.value, errors):
            errors |= {f"words of {target.id}" for target in part.targets if isinstance(target, ast.Name)}
    return errors


def told_apart_by_words(tree):
    """The lines on which the words of an error decide something."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        errors = names_of_errors(function)
        for part in ast.walk(function):
            if isinstance(part, ast.Compare) and speaks_of(part, errors):
                yield part.lineno
            searches = (
                isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr in SEARCHES
            )
            if searches and speaks_of(part, errors):
                yield part.lineno


DECIDING = """
def plain():
    try:
        work()
    except ValueError as error:
        if "pickle" in str(error): return 1

def named(error: Exception):
    words = str(error).lower()
    return words.startswith("no")

def matched():
    try:
        work()
    except OSError as error:
        return re.search("disk", f"{error}") or error.args[0] == 28

def shown():
    try:
        work()
    except OSError as error:
        if error.errno == 28 or isinstance(error, PermissionError):
            raise DataError(f"{path}: {error}") from None
        return str(error).partition("\\n")[0]
"""


def test_what_is_looked_for_is_found():
    assert sorted(set(told_apart_by_words(ast.parse(DECIDING)))) == [6, 10, 16]


def test_no_error_is_told_apart_by_its_words():
    found = {}
    for path in SOURCES:
        lines = sorted(set(told_apart_by_words(ast.parse(path.read_text(encoding="utf-8")))))
        if lines:
            found[path.relative_to(ROOT).as_posix()] = lines
    assert found.keys() == NO_OTHER_WAY.keys(), found


# what a setting is called


@dataclass(frozen=True, slots=True)
class MineConfig:
    """Settings that are called as some of ours are, and mean something else."""

    distance: str = "whitened"
    positions: str = "each"
    each: bool = False  # whether it says that it learns positions


class MineScorer(Scorer):
    """How large the features are."""

    Config = MineConfig
    inputs = ("features",)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(position_dependent="each = true" if self.config.each else "")

    def forward(self, features: Tensor) -> Tensor:  # (B, D, h, w)
        return features.abs().mean(dim=1)


def test_whether_a_scorer_goes_with_tiles_is_what_it_declares_not_what_its_settings_are_called(monkeypatch):
    monkeypatch.setitem(SCORERS._places, "mine", f"{__name__}:MineScorer")
    images = stripes(20, size=32)
    settings = {"data": {"tile": 16}, "model": {"side": 4}, "decision": {"false_alarms": 0.2}}
    fitted = Detector("pixels", "mine", settings=settings, device="cpu").fit(images)
    assert (fitted.settings.scorer.distance, fitted.settings.scorer.positions) == ("whitened", "each")
    assert len(fitted.score(images)) == 20
    message = r"^scorer\.each = true learns every position of an image by itself, and a tile may come from any; take"
    with pytest.raises(ConfigError, match=message):
        Detector("pixels", "mine", settings={**settings, "scorer": {"each": True, "positions": "pooled"}}).fit(images)
