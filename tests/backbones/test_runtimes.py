"""Frozen modules: the same results in every runtime, weights that nothing reaches, and what happens when one fails."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

from unlike.backbones import runtimes, telemetry
from unlike.backbones.runtimes import RUNTIMES, TOLERANCE, Frozen
from unlike.errors import ConfigError
from unlike.models import MODELS
from unlike.records import ImageShape

NETWORKS = {
    "efficientnet-lite0": (96, True),
    "test_resnet": (50, False),  # a side that no stage divides
    "test_vit": (48, False),
    "test_mambaout": (64, False),
}


def conv(channels: int = 3) -> nn.Sequential:
    """Drawn from torch's own state, which is the same at the start of every test."""
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


def noise(count: int = 2, side: int = 8, channels: int = 3) -> torch.Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def counted(monkeypatch):
    """One runtime, torch itself; gives the threads it was compiled for, each time it was."""
    compiled = []

    def compile_(module, example, threads):
        compiled.append(threads)
        return module

    monkeypatch.setattr(runtimes, "RUNTIMES", {"counted": compile_})
    return compiled


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_sees_what_torch_sees(runtime, name):
    if runtime in runtimes.PACKAGES:
        pytest.importorskip(runtimes.PACKAGES[runtime][0])
    side, pretrained = NETWORKS[name]
    config = MODELS["features"].Config(backbone=name, pretrained=pretrained, runtime=runtime)
    extractor = MODELS["features"](config, ImageShape(3, side, side)).extractor
    images = noise(6, side)
    with torch.no_grad():
        expected = extractor.module(images)
    found = extractor(images)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max()
    alone = torch.cat([extractor(image[None]) for image in images])
    assert (found - alone).abs().max() <= 1e-5 * expected.abs().max()
    torch.testing.assert_close(extractor(images.contiguous(memory_format=torch.channels_last)), found)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_presets_grid_is_known_to_every_runtime(runtime):
    """Cells of 16 pixels, to which a finer stage is averaged and a coarser one is drawn out."""
    if runtime in runtimes.PACKAGES:
        pytest.importorskip(runtimes.PACKAGES[runtime][0])
    config = MODELS["features"].Config(stages=(2, 3, 4), cell=16, dimensions=50, runtime=runtime)
    extractor = MODELS["features"](config, ImageShape(3, 64, 96)).extractor
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = extractor.module(images)
    assert expected.shape == (2, 50, 4, 6)
    assert (extractor(images) - expected).abs().max() <= TOLERANCE * expected.abs().max()


def test_many_images_run_in_parts(counted, monkeypatch):
    monkeypatch.setattr(runtimes, "AT_ONCE", 3 * 8 * 8)
    frozen, images = Frozen(conv()), noise(7, 8)
    torch.testing.assert_close(frozen(images), frozen.module(images))
    assert len(counted) == 1


def test_openvino_uses_all_threads_and_no_other_precision():
    """Its own choice would be bfloat16 where a processor has it: three digits."""
    pytest.importorskip("openvino")
    frozen = Frozen(conv(), "openvino")
    images = noise(9, 32)
    one = frozen(images)
    torch.set_num_threads(2)
    try:
        two = frozen(images), frozen(images[:1])
    finally:
        torch.set_num_threads(1)
    torch.testing.assert_close(two[0], one, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(two[1], one[:1], rtol=1e-5, atol=1e-5)


def test_openvino_is_imported_without_its_telemetry():
    pytest.importorskip("openvino")
    script = (
        "import sys; from unlike.backbones.telemetry import import_openvino; import_openvino(); "
        "from openvino.tools.ovc import telemetry_utils; print(telemetry_utils.tm.__name__, 'openvino_telemetry' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "False"]


def test_telemetry_that_others_imported_stays_theirs(monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setitem(sys.modules, "openvino_telemetry", runtimes)
    telemetry.import_openvino()
    assert sys.modules["openvino_telemetry"] is runtimes


def test_auto_passes_over_what_fails_and_what_is_wrong(monkeypatch):
    def fail(module, example, threads):
        raise NotImplementedError

    def distort(module, example, threads):
        return lambda images: module(images) * (1 + 2 * TOLERANCE)

    def lose(module, example, threads):
        return lambda images: module(images) * torch.nan

    used = []

    def work(module, example, threads):
        return lambda images: used.append(len(images)) or module(images)

    monkeypatch.setattr(runtimes, "RUNTIMES", {"fail": fail, "distort": distort, "lose": lose, "work": work})
    module = conv().eval()
    torch.testing.assert_close(Frozen(module)(noise()), module(noise()))
    assert used[-1] == 2
    with pytest.raises(
        ConfigError, match=r"distort cannot run this network \(its results differ from torch's by 0\.0002"
    ):
        Frozen(module, "distort")(noise())
    with pytest.raises(ConfigError, match=r"lose cannot run this network \(its results differ .* by nan"):
        Frozen(module, "lose")(noise())
    with pytest.raises(ConfigError, match=r"model\.runtime: fail .*\(NotImplementedError\); take auto or torch"):
        Frozen(module, "fail")(noise())


def test_auto_without_any_runtime_is_torch(monkeypatch):
    monkeypatch.setattr(runtimes, "RUNTIMES", {})
    module = conv().eval()
    torch.testing.assert_close(Frozen(module)(noise()), module(noise()))


def test_images_that_do_not_suit_get_torchs_own_error():
    with pytest.raises(RuntimeError, match="channels"):
        Frozen(conv())(noise(channels=5))


def test_runtime_that_is_not_installed_names_its_package(monkeypatch):
    monkeypatch.setitem(runtimes.PACKAGES, "openvino", ("openvino_not_here", "unlike[fast]"))
    monkeypatch.setitem(runtimes.PACKAGES, "onnxruntime", ("ort_not_here", *runtimes.PACKAGES["onnxruntime"][1:]))
    with pytest.raises(ConfigError, match="onnxruntime is not installed: pip install onnx onnxruntime, or take auto"):
        runtimes.check_installed("onnxruntime")
    with pytest.raises(ConfigError, match=r"openvino is not installed: pip install unlike\[fast\], or take auto"):
        Frozen(conv(), "openvino")
    torch.testing.assert_close(Frozen(module := conv().eval())(noise()), module(noise()))


def test_compiled_once_for_each_size_and_number_of_threads(counted):
    frozen = Frozen(conv())
    for side in (8, 8, 16, 8):
        frozen(noise(side=side))
    torch.set_num_threads(2)
    try:
        frozen(noise())
    finally:
        torch.set_num_threads(1)
    assert counted == [1, 1, 2]


@pytest.mark.parametrize(
    "change",
    [
        lambda frozen, other: frozen.load_state_dict(other.state_dict()),
        lambda frozen, other: frozen.load_state_dict(other.state_dict(), assign=True),
        lambda frozen, other: nn.ModuleList([frozen]).load_state_dict(nn.ModuleList([other]).state_dict()),
        lambda frozen, other: nn.init.ones_(frozen.module[0].weight),
        lambda frozen, other: frozen.module[1].running_mean.sub_(
            1
        ),  # up: what is nearly all zero has no digits to compare
        lambda frozen, other: setattr(frozen.module[1], "running_var", torch.full((4,), 3.0)),
    ],
    ids=["loaded", "assigned", "loaded from around", "drawn anew", "moved", "replaced"],
)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_changed_weights_are_compiled_again(runtime, change):
    if runtime in runtimes.PACKAGES:
        pytest.importorskip(runtimes.PACKAGES[runtime][0])
    frozen, images = Frozen(conv(), runtime), noise()
    before = frozen(images)
    change(frozen, Frozen(conv()))
    after = frozen(images)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, frozen.module(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("renew", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copy_leaves_what_was_compiled_behind(renew, counted):
    frozen, images = Frozen(conv()), noise()
    expected = frozen(images)
    twin = renew(frozen)
    nn.init.zeros_(frozen.module[0].weight)
    torch.testing.assert_close(twin(images), expected)
    assert len(counted) == 2
    assert not any(value.requires_grad for value in twin.parameters())


def test_state_is_the_modules_alone():
    frozen = Frozen(module := conv())
    frozen(noise())
    assert set(frozen.state_dict()) == {f"module.{name}" for name in module.state_dict()}


def test_nothing_reaches_the_weights_while_a_model_around_it_learns():
    model = nn.Sequential(Frozen(conv()), nn.Conv2d(4, 2, 1)).train()
    before = copy.deepcopy(model[0].state_dict())
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        model(noise()).square().mean().backward()
        optimiser.step()
    assert model[1].weight.grad.abs().sum() > 0
    assert [value.grad for value in model[0].parameters()] == [None] * 4
    assert not any(part.training for part in model[0].modules())
    torch.testing.assert_close(model[0].state_dict(), before)


def test_gradients_of_images_are_torchs(counted):
    frozen, images = Frozen(conv()), noise().requires_grad_()
    frozen(images).square().sum().backward()
    assert images.grad.abs().sum() > 0
    assert counted == []


def test_features_of_a_scoring_suit_a_training():
    """Compiled in inference mode, used where others learn, and the other way round."""
    frozen, head = Frozen(conv()), nn.Conv2d(4, 2, 1)
    with torch.inference_mode():
        frozen(noise())
    head(frozen(noise())).sum().backward()
    assert head.weight.grad.abs().sum() > 0
    with torch.inference_mode():
        torch.testing.assert_close(frozen(noise(3)), frozen.module(noise(3)), rtol=1e-4, atol=1e-5)


def test_mixed_precision_of_a_training_does_not_reach_the_features():
    frozen, images = Frozen(conv()), noise()
    expected = frozen(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(frozen(images), expected)
        torch.testing.assert_close(copy.deepcopy(frozen)(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("device", "kind"), [("meta", torch.float32), ("cpu", torch.float64)])
def test_other_devices_and_types_are_torchs(device, kind, counted):
    frozen = Frozen(conv()).to(device, kind)
    assert frozen(noise().to(device, kind)).dtype == kind
    assert counted == []


def test_what_is_exported_is_the_module(counted):
    frozen = Frozen(conv())
    program = torch.export.export(frozen, (noise(),))
    torch.testing.assert_close(program.module()(noise()), frozen.module(noise()))
    assert counted == []
