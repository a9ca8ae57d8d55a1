"""Preset dino on a tiny transformer of random weights: from a file, saved, and loaded where the file is gone."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from unlike import Detector
from unlike.backbones.networks import make_stages

SIDE = 64  # pixels: 4 x 4 patches


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(80, 120, (24, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture
def fitted(tmp_path, images):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(timm.create_model("test_vit").state_dict(), tmp_path / "w.safetensors")
    settings = {
        "model": {"backbone": "test_vit", "weights": str(tmp_path / "w.safetensors")},
        "decision": {"false_alarms": 0.1},
    }
    return Detector(preset="dino", size=SIDE, settings=settings, device="cpu", cache=False).fit(images)


def test_scores_are_one_less_the_cosine_to_the_nearest_normal_patch(fitted, images, tmp_path):
    stages = make_stages(
        "test_vit", True, 3, (SIDE, SIDE), (-1,), weights=str(tmp_path / "w.safetensors"), final_norm=True
    )
    strange = images[:3].copy()
    strange[:, 20:44, 20:44] = 255
    with torch.no_grad():
        normal, odd = (
            torch.nn.functional.normalize(
                stages(torch.from_numpy(part).permute(0, 3, 1, 2).float() / 127.5 - 1)[0], dim=1
            )
            for part in (images, strange)
        )
    bank = normal.permute(0, 2, 3, 1).reshape(-1, normal.shape[1])
    patches = odd.permute(0, 2, 3, 1).reshape(3, -1, normal.shape[1])
    expected = (1 - patches @ bank.T).amin(dim=2).amax(dim=1)  # 1 % of 16 patches is one
    np.testing.assert_allclose(fitted.score(strange).image, expected.numpy(), rtol=1e-3, atol=1e-5)
    assert fitted.score(strange).image.min() > fitted.score(images).image.max()


def test_a_saved_one_needs_its_file_of_weights_no_more(fitted, images, tmp_path):
    fitted.save(tmp_path / "d.unlike")
    (tmp_path / "w.safetensors").unlink()
    again = Detector.load(tmp_path / "d.unlike", device="cpu", cache=False)
    np.testing.assert_allclose(again.score(images + 40).image, fitted.score(images + 40).image, rtol=1e-5)


def test_weights_of_a_file_come_out_of_the_cache_until_the_file_changes(fitted, images, tmp_path, monkeypatch):
    monkeypatch.setenv("UNLIKE_CACHE", str(tmp_path / "cache"))
    first = [_fit(tmp_path, images) for _ in range(2)]
    np.testing.assert_allclose(first[0], first[1], rtol=1e-5)
    state = timm.create_model("test_vit").state_dict()
    save_file({name: value + 0.05 for name, value in state.items()}, tmp_path / "w.safetensors")
    assert np.abs(_fit(tmp_path, images) / first[0] - 1).max() > 1e-3


def _fit(folder, images):
    settings = {
        "model": {"backbone": "test_vit", "weights": str(folder / "w.safetensors")},
        "decision": {"false_alarms": 0.1},
    }
    return Detector(preset="dino", size=SIDE, settings=settings, device="cpu").fit(images).score(images + 40).image
