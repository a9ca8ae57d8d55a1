"""What tests share: small images made on the spot, and a cache folder of one's own. What all start from is in the conftest above."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture
def own_cache(tmp_path_factory, monkeypatch):
    """An empty cache that no other test sees."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("UNLIKE_CACHE", str(folder))
    return folder


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def stripes(count: int, size: int = 32, seed: int = 0, channels: int = 3) -> np.ndarray:
    """Normal images: smooth diagonal stripes of random phase, (N, size, size, C) uint8."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    phase = random.uniform(0, 2 * np.pi, (count, 1, 1))
    waves = 127 + 80 * np.sin(2 * np.pi * (x + y)[None] * 2 + phase) + random.normal(0, 3, (count, size, size))
    return np.repeat(np.clip(waves, 0, 255).astype(np.uint8)[..., None], channels, axis=3)


def scratched(images: np.ndarray, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The same images with a bright square each, and where: (N, H, W) bool."""
    random = np.random.default_rng(seed)
    images, masks = images.copy(), np.zeros(images.shape[:3], bool)
    side = max(3, images.shape[1] // 5)
    for image, mask in zip(images, masks, strict=True):
        top, left = random.integers(0, images.shape[1] - side, 2)
        mask[top : top + side, left : left + side] = True
        image[mask] = random.choice([0, 255])
    return images, masks


def digits(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Handwritten digits of scikit-learn, shuffled, (N, 8, 8) uint8, and which digit each is."""
    from sklearn.datasets import load_digits

    data = load_digits()
    rows = np.random.default_rng(0).permutation(len(data.images))[start:stop]
    return (data.images[rows] * 15.9375).astype(np.uint8), data.target[rows]


def write_png(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 and image.shape[2] == 3 else image)
    return path


@pytest.fixture
def mvtec(tmp_path):
    """One category in MVTec AD layout: 40 train, 10 good and 10 scratched to test, with masks."""
    folder = tmp_path / "stripes"
    good = stripes(50)
    bad, masks = scratched(stripes(10, seed=5))
    for number, image in enumerate(good[:40]):
        write_png(folder / f"train/good/{number:03}.png", image)
    for number, image in enumerate(good[40:]):
        write_png(folder / f"test/good/{number:03}.png", image)
    for number, (image, mask) in enumerate(zip(bad, masks, strict=True)):
        write_png(folder / f"test/scratch/{number:03}.png", image)
        write_png(folder / f"ground_truth/scratch/{number:03}_mask.png", mask.astype(np.uint8) * 255)
    return folder
