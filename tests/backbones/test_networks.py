"""timm's networks as sources of features: real weights from wheels, and what happens without a network."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save, save_file
from sklearn.datasets import load_sample_image

from unlike.backbones.networks import (
    ALIASES,
    WHEELS,
    find_name,
    make_backbone,
    make_stages,
    offline_backbones,
    weights_source,
    wheel_weights,
)
from unlike.data.tensors import to_tensor
from unlike.errors import ConfigError

NOWHERE = "http://127.0.0.1:9"  # the port where nobody answers
HUB_NAME, REPOSITORY = "mobilenetv3_small_050", "timm/mobilenetv3_small_050.lamb_in1k"
PALACE, DAISY = 698, 985  # ImageNet classes "palace" and "daisy"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty cache of weights, and a hub that is nowhere; gives the folder of the cache."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    move_hub(monkeypatch, NOWHERE)
    return tmp_path / "hub"


def move_hub(monkeypatch, address: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def photograph(name: str, side: int) -> torch.Tensor:
    """The middle of a picture that scikit-learn ships, as models see it: (1, 3, side, side)."""
    image = load_sample_image(name)
    left = (image.shape[1] - image.shape[0]) // 2
    square = np.ascontiguousarray(image[:, left : left + image.shape[0]])
    return to_tensor(cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA)[None], (0, 1))


@pytest.mark.parametrize(
    ("name", "side", "picture", "label"),
    [
        ("efficientnet-lite0", 224, "china.jpg", PALACE),
        ("efficientnet-lite0", 224, "flower.jpg", DAISY),
        ("efficientnet-lite1", 240, "china.jpg", PALACE),
        ("efficientnet-lite1", 240, "flower.jpg", DAISY),
        ("efficientnet-lite2", 260, "china.jpg", PALACE),
    ],
)
def test_weights_of_a_wheel_recognise_a_photograph(name, side, picture, label):
    """As their first guess of 1000, through our backbone's scaling and the classifier of the wheel."""
    pytest.importorskip(WHEELS[name].replace("-", "_"))
    backbone = make_backbone(name, True, 3, (side, side)).eval()
    weights = wheel_weights(ALIASES[name])
    with torch.no_grad():
        vector = backbone(photograph(picture, side)).mean(dim=(2, 3))
    guesses = vector @ weights["classifier.weight"].T + weights["classifier.bias"]
    assert guesses.argmax() == label


def test_weights_of_the_wheel_are_timms_one_to_one():
    network = timm.create_model("tf_efficientnet_lite0")
    weights = wheel_weights("tf_efficientnet_lite0")
    assert len(weights) == len(network.state_dict()) == 296
    network.load_state_dict(weights, strict=True)


def test_grey_photograph_looks_the_same_in_one_channel_as_in_three():
    grey = photograph("china.jpg", 96).mean(dim=1, keepdim=True)
    with torch.no_grad():
        one = make_backbone("efficientnet-lite0", True, 1, (96, 96)).eval()(grey)
        three = make_backbone("efficientnet-lite0", True, 3, (96, 96)).eval()(grey.expand(-1, 3, -1, -1))
    torch.testing.assert_close(one, three, rtol=1e-4, atol=1e-4)


def test_missing_wheel_names_its_package(monkeypatch):
    monkeypatch.setitem(WHEELS, "efficientnet-lite1", "efficientnet-lite1-not-here")
    with pytest.raises(ConfigError, match="not installed: pip install efficientnet-lite1-not-here, or set pretrained"):
        make_backbone("efficientnet-lite1", True, 3, (64, 64))
    assert offline_backbones()["efficientnet-lite1"] == "weights by: pip install efficientnet-lite1-not-here"
    assert offline_backbones()["efficientnet-lite0"] == "weights installed"


def test_hub_out_of_reach_fails_at_once_and_says_what_to_do(hub, capfd, caplog):
    find_name("resnet18")  # timm is loaded by now
    start = time.perf_counter()
    with pytest.raises(ConfigError) as caught:
        make_backbone("resnet18", True, 3, (64, 64))
    assert time.perf_counter() - start < 30
    message = str(caught.value)
    assert "weights of resnet18 are not on this machine, and the model hub cannot be reached" in message
    for way_out in ("Connect once", "HF_HOME", "pretrained = false", "efficientnet-lite0"):
        assert way_out in message
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_hub_is_not_asked_where_that_is_forbidden(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"cannot be reached \(HF_HUB_OFFLINE is set\)"):
        make_backbone("resnet18", True, 3, (64, 64))


def test_old_networks_that_are_not_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", NOWHERE)
    with pytest.raises(ConfigError, match="weights of legacy_seresnet18 are not on this machine"):
        make_backbone("legacy_seresnet18", True, 3, (64, 64))


def test_nobody_trained_some_networks():
    with pytest.raises(ConfigError, match="no pretrained weights of vit_giant_patch14_224: set pretrained = false"):
        make_backbone("vit_giant_patch14_224", True, 3, (28, 28))


def test_weights_kept_by_the_hubs_cache_need_no_network(hub):
    """And images are scaled as those that made them: ImageNet's mean and deviation, not ours."""
    network = timm.create_model(HUB_NAME).eval()
    folder = hub / f"models--{REPOSITORY.replace('/', '--')}"
    for place in ("refs", "snapshots/abc"):
        (folder / place).mkdir(parents=True)
    (folder / "refs/main").write_text("abc")
    save_file(network.state_dict(), folder / "snapshots/abc/model.safetensors")
    backbone = make_backbone(HUB_NAME, True, 3, (64, 64)).eval()
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, None, :, None, None]
    with torch.no_grad():
        expected = network.forward_features(((images + 1) / 2 - mean) / deviation)
        torch.testing.assert_close(backbone(images), expected)


class Hub(BaseHTTPRequestHandler):
    """A model hub of two files: what it has is in `files`, by name."""

    files: dict[str, bytes]

    def do_HEAD(self):
        content = self.files.get(self.path.rpartition("/")[2], b"" if self.path in ("", "/") else None)
        self.send_response(404 if content is None else 200)
        self.send_header("X-Repo-Commit", "abc")
        self.send_header("ETag", '"def"')
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(self.files.get(self.path.rpartition("/")[2], b""))

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_weights_come_from_a_hub_that_answers(hub, monkeypatch, tmp_path, file):
    network = timm.create_model(HUB_NAME).eval()
    torch.save(network.state_dict(), tmp_path / "weights.bin")
    content = save(network.state_dict()) if file.endswith("s") else (tmp_path / "weights.bin").read_bytes()
    monkeypatch.setattr(Hub, "files", {file: content}, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        move_hub(monkeypatch, f"http://127.0.0.1:{server.server_address[1]}")
        backbone = make_backbone(HUB_NAME, True, 3, (64, 64)).eval()
        server.shutdown()
    torch.testing.assert_close(backbone.network.conv_stem.weight, network.conv_stem.weight)
    assert backbone.pretrained


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet-18", r"unknown backbone 'resnet-18'; did you mean 'resnet18'.*known: all of timm\.list_models\(\)"),
        ("resnet18.a1_in2k", "did you mean 'resnet18.a1_in1k'"),
        ("efficientnet-lite7", "did you mean 'efficientnet"),
        ("???", r"unknown backbone '\?\?\?'; known: all of"),
    ],
)
def test_unknown_names_are_met_with_suggestions(name, message):
    with pytest.raises(ConfigError, match=message):
        make_backbone(name, False, 3, (64, 64))


def test_hyphens_tell_the_wheels_network_from_timms_own():
    assert find_name("efficientnet-lite0") == "tf_efficientnet_lite0"
    assert find_name("efficientnet_lite0") == "efficientnet_lite0"
    assert find_name("resnet18.a1_in1k") == "resnet18.a1_in1k"


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        (
            "test_vit",
            (30, 64),
            "patches of 16 x 16, which do not cover 30 x 64; the nearest sizes they do: 16 x 64 or 32",
        ),
        ("test_vit", (8, 8), r"the nearest sizes they do: 16 x 16 \(--size\)"),
        ("inception_v3", (32, 32), r"cannot take images of 32 x 32 \(.*\); it was made for 299 x 299 \(--size\)"),
    ],
)
def test_sizes_that_do_not_suit(name, size, message):
    with pytest.raises(ConfigError, match=message):
        make_backbone(name, False, 3, size)


def test_several_outputs_are_no_grid():
    with pytest.raises(ConfigError, match="coat_tiny gives no single grid of features; choose another"):
        make_backbone("coat_tiny", False, 3, (32, 32))


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("test_resnet", (2, 3)),  # maps, channels first
        ("test_mambaout", (2, 3)),  # maps, channels last
        ("test_vit", (4, 6)),  # tokens after a class token
        ("test_efficientnet", (2, 3)),
        ("mobilenetv3_small_050", (2, 3)),  # a convolution after the pooling, which features do not pass
    ],
)
@pytest.mark.parametrize("channels", [1, 5])
def test_features_are_a_grid_that_reaches_every_parameter(name, grid, channels):
    backbone = make_backbone(name, False, channels, (64, 96))
    features = backbone(torch.rand(2, channels, 64, 96))
    assert features.shape == (2, backbone.width, *grid)
    assert backbone.grid == grid
    features.sum().backward()
    assert [key for key, value in backbone.named_parameters() if value.grad is None] == []
    assert not backbone.pretrained


def test_tokens_lie_in_the_grid_as_their_patches_in_the_image():
    """A change of one patch is felt most where the patch is."""
    backbone = make_backbone("test_vit", False, 3, (64, 96)).eval()
    images = torch.zeros(2, 3, 64, 96)
    images[1, :, 32:48, 80:96] = 1  # row 2, column 5
    with torch.no_grad():
        first, second = backbone(images)
    assert int((first - second).square().sum(dim=0).argmax()) == 2 * 6 + 5


def test_scaling_is_kept_with_the_weights():
    """A saved detector is loaded without `pretrained`, thus without a wheel or a hub."""
    with_weights = make_backbone("efficientnet-lite0", True, 3, (32, 32)).eval()
    with_weights.scale *= 2
    without = make_backbone("efficientnet-lite0", False, 3, (32, 32)).eval()
    without.load_state_dict(with_weights.state_dict())
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(without(images), with_weights(images))


def test_last_batch_may_hold_one_image_whose_features_are_a_vector():
    backbone = make_backbone("test_resnet", False, 3, (32, 32)).train()
    assert backbone.grid == (1, 1)
    backbone(torch.rand(1, 3, 32, 32)).sum().backward()
    assert backbone.network.training


def write_weights(path, backbone="test_vit", **changes):
    """A file with random weights of a network, some of them changed, or left out where that is None."""
    state = timm.create_model(backbone).state_dict() | {
        name.replace("_dot_", "."): new for name, new in changes.items()
    }
    save_file({name: value for name, value in state.items() if value is not None}, path)
    return str(path)


def test_weights_of_a_file_are_those_of_the_network_and_need_no_hub(tmp_path, hub):
    file = write_weights(tmp_path / "w.safetensors")
    images = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0)) * 2 - 1
    network = timm.create_model("test_vit").eval()
    network.load_state_dict(load_file(file))
    mean, deviation = (torch.tensor(network.pretrained_cfg[name])[:, None, None] for name in ("mean", "std"))
    with torch.no_grad():
        (found,) = make_stages("test_vit", True, 3, (160, 160), (-1,), weights=file, final_norm=True)(images)
        tokens = network.forward_features(((images + 1) / 2 - mean) / deviation)[:, network.num_prefix_tokens :]
        (raw,) = make_stages("test_vit", True, 3, (160, 160), (-1,), weights=file)(images)
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), tokens, atol=1e-4, rtol=1e-4)
    assert (found - raw).abs().max() > 0.01


def test_weights_of_a_file_need_no_classifier(tmp_path, hub):
    file = write_weights(tmp_path / "w.safetensors", head_dot_weight=None, head_dot_bias=None)
    assert make_stages("test_vit", True, 1, (64, 96), (-1,), weights=file).grids == ((4, 6),)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"norm_dot_weight": None}, r'does not hold the weights of backbone test_vit: Missing key.*"norm.weight"'),
        ({"norm_dot_weight": torch.ones(7)}, "size mismatch for norm.weight.*name the network that it is of"),
    ],
)
def test_weights_of_a_file_that_do_not_fit_are_named(tmp_path, changes, words):
    file = write_weights(tmp_path / "w.safetensors", **changes)
    with pytest.raises(ConfigError, match=words):
        make_stages("test_vit", True, 3, (64, 64), weights=file)


def test_weights_of_a_file_that_is_none(tmp_path):
    with pytest.raises(ConfigError, match=r"model\.weights: expected a file of safetensors, came .*gone.*no file"):
        make_stages("test_vit", True, 3, (64, 64), weights=str(tmp_path / "gone.safetensors"))
    broken = tmp_path / "w.safetensors"
    broken.write_text("weights")
    with pytest.raises(ConfigError, match=r"cannot be read as one .*safetensors\.torch\.save_file"):
        make_stages("test_vit", True, 3, (64, 64), weights=str(broken))


def test_weights_of_a_file_are_told_from_all_others_without_reading_them(tmp_path):
    first = write_weights(tmp_path / "a.safetensors")
    assert weights_source("efficientnet-lite0", first) == weights_source("test_vit", first)
    assert weights_source("efficientnet-lite0", first) != weights_source("efficientnet-lite0")
    assert weights_source("test_vit", str(tmp_path / "gone")) is None


def test_last_normalisation_is_a_transformers():
    with pytest.raises(ConfigError, match=r"model\.final_norm: expected a vision transformer, .* came test_resnet"):
        make_stages("test_resnet", False, 3, (64, 64), final_norm=True)
