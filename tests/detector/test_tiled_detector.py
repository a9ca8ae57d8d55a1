"""A detector that sees large images in tiles: the same promises, the map whole."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import scratched, stripes, write_png
from unlike import Classifier, Detector
from unlike.cli import run
from unlike.data.source import open_source
from unlike.data.split import split_normals
from unlike.detector.explain import decode, encode, explain
from unlike.detector.settings import DataConfig
from unlike.errors import ConfigError
from unlike.evaluation import evaluate
from unlike.report import write_evaluation

SETTINGS = {
    "data": {"tile": 32, "overlap": 8},
    "model": {"widths": [8, 8], "bottleneck": 8},
    "training": {"epochs": 12, "batch_size": 32, "learning_rate": 5e-3},
    "map": {"reduction": "top"},
}


@pytest.fixture(scope="module")
def normal():
    return stripes(40, size=64, channels=1)[:, :56]


@pytest.fixture(scope="module")
def detector(normal):
    return Detector("conv", false_alarms=0.1, settings=SETTINGS, device="cpu").fit(normal)


@pytest.fixture(scope="module")
def odd():
    images, masks = scratched(stripes(10, size=64, seed=9, channels=1))
    return images[:, :56], masks[:, :56]


def test_the_model_is_of_tiles_and_the_maps_are_of_images(detector, odd):
    assert (detector.fitted_.pipeline.model.shape.height, detector.fitted_.pipeline.model.shape.width) == (32, 32)
    assert detector.fitted_.spec.size == (56, 64)
    images, masks = odd
    scores = detector.score(images, maps=True)
    assert scores.maps.shape == masks.shape
    seen = [
        (map_[mask].mean(), map_[~mask].mean()) for map_, mask in zip(scores.maps, masks, strict=True) if mask.any()
    ]
    assert len(seen) >= 8
    assert all(inside > 3 * outside for inside, outside in seen)
    assert np.median(scores.image) > detector.score(stripes(10, size=64, seed=8, channels=1)[:, :56]).image.max()


def test_an_images_score_depends_on_that_image_only(detector, odd, tmp_path):
    images, _ = odd
    together = detector.score(images).image
    alone = [detector.score(image[None]).image[0] for image in images]
    for number, image in enumerate(images):
        write_png(tmp_path / f"{number:02}.png", image[..., 0])
    np.testing.assert_allclose(alone, together, rtol=1e-5)
    np.testing.assert_allclose(detector.score(tmp_path).image, together, rtol=1e-5)


def test_images_are_split_not_tiles(detector, normal):
    images = detector.fitted_.counts
    assert images == {"train": 24, "validation": 3, "calibration": 13, "copies": 0, "unreadable": 0}
    held_out = split_normals(np.arange(40), 13, seed=0).calibration
    np.testing.assert_allclose(detector.fitted_.decision.scores, detector.score(normal[held_out]).image, rtol=1e-5)
    np.testing.assert_allclose(
        detector.fitted_.decision.peaks, detector.score(normal[held_out], maps=True).maps.max(axis=(1, 2)), rtol=1e-5
    )


def test_held_out_images_teach_nothing_by_their_tiles(normal):
    """Neither the model nor the scorer: other held-out images leave both as they are."""
    quick = {**SETTINGS, "training": {"epochs": 1}}
    other = normal.copy()
    other[split_normals(np.arange(40), 13, seed=0).calibration] = 255 - other[:13]
    fitted = [Detector("conv", "gaussian", settings=quick, device="cpu").fit(images) for images in (normal, other)]
    np.testing.assert_array_equal(fitted[0].score(normal).image, fitted[1].score(normal).image)


def test_it_is_the_same_after_saving(detector, odd, tmp_path):
    detector.save(tmp_path / "d")
    loaded = Detector.load(tmp_path / "d", device="cpu")
    np.testing.assert_array_equal(loaded.score(odd[0]).image, detector.score(odd[0]).image)
    assert loaded.judge(odd[0]) == detector.judge(odd[0])


def test_one_tile_is_the_image_itself(normal):
    quick = {**SETTINGS, "training": {"epochs": 1}}
    square = normal[:, :, :56]
    whole, tiled = (
        Detector("conv", settings={**quick, "data": data}, device="cpu").fit(square) for data in ({}, {"tile": 56})
    )
    np.testing.assert_allclose(tiled.score(square).image, whole.score(square).image, rtol=1e-5)


def test_explanations_show_the_whole_image_rebuilt(detector, odd):
    source = open_source(odd[0])
    found = explain(detector, source, source.samples)
    assert all(item.reconstruction.shape == item.image.shape == (56, 64, 1) for item in found)
    gap = np.mean([np.abs(item.reconstruction.astype(float) - item.image) for item in found])
    assert gap < np.mean([np.abs(item.image - item.image.mean()) for item in found])


def test_a_whole_image_has_no_code(detector, odd):
    for use in (lambda: encode(detector, odd[0]), lambda: decode(detector, np.zeros((1, 8, 1, 1)))):
        with pytest.raises(
            ConfigError, match=r"sees images in tiles of 32 pixels, so that a whole image has no code; cut"
        ):
            use()


def test_a_report_shows_all_but_the_code_space(detector, mvtec, tmp_path):
    settings = {**SETTINGS, "training": {"epochs": 1}, "data": {"tile": 16, "size": 32, "channels": 1}}
    fitted = Detector("conv", settings=settings, device="cpu").fit(mvtec)
    found = evaluate(fitted, mvtec)
    assert found.overall.pixel
    write_evaluation(fitted, found, tmp_path)
    assert "a whole image has no code" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"tile": 0}, r"data\.tile: expected 1 pixel or more, or none, came 0"),
        ({"tile": 32, "overlap": 32}, r"data\.overlap: expected 0 or more, and less than data\.tile, 32, came 32"),
        ({"overlap": -1}, r"data\.overlap: expected 0 or more, and less than data\.tile, none, came -1"),
    ],
)
def test_tiles_that_cannot_be(data, message):
    with pytest.raises(ConfigError, match=message):
        Detector(settings={"data": data})


def test_tiles_larger_than_the_images(normal, tmp_path, capsys):
    message = r"data\.tile: expected no more than the images have, 56 x 64 pixels, came 57; choose smaller tiles"
    with pytest.raises(ConfigError, match=message):
        Detector("conv", settings={"data": {"tile": 57}}).fit(normal)
    np.save(tmp_path / "normal.npy", normal)
    assert (
        run(
            ["fit", str(tmp_path / "normal.npy"), "-o", str(tmp_path / "d"), "--model", "conv", "--set", "data.tile=57"]
        )
        == 2
    )
    assert "data.tile: expected no more than" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("scorer", "config"),
    [
        ("gaussian", {"positions": "each"}),
        ("residual", {"positions": "each"}),
        ("ensemble", {"scorers": ["residual", "gaussian"], "settings": {"gaussian": {"positions": "each"}}}),
        ("pca", {"code": "vector", "distance": "whitened"}),
    ],
)
def test_scorers_that_learn_each_position_are_refused(normal, scorer, config):
    settings = {"data": {"tile": 32}, "scorer": config}
    with pytest.raises(
        ConfigError,
        match=r"scorer\.(settings\.gaussian\.)?\w+ = '(each|whitened)' learns every position of an image by itself, and a tile",
    ):
        Detector("conv", scorer, settings=settings).fit(normal)


def test_a_quarter_of_a_tile_overlaps_unless_chosen(detector):
    assert DataConfig(tile=128).tiling(detector.fitted_.spec.__class__(512, 512, 3)).overlap == 32
    assert DataConfig().tiling(detector.fitted_.spec) is None


def test_memory_does_not_grow_with_the_number_of_images():
    import tracemalloc

    settings = {"data": {"tile": 64}, "model": {"side": 4}}
    images = np.zeros((60, 512, 512, 1), np.uint8)
    images[:, ::2] = np.random.default_rng(0).integers(0, 256, (60, 1, 1, 1))
    fitted = Detector("pixels", "gaussian", settings=settings, device="cpu").fit(images[:20])
    peaks = []
    for count in (8, 60):
        tracemalloc.start()
        fitted.score(images[:count])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] + 1e6


def test_a_classifier_needs_whole_images():
    settings = {**SETTINGS, "training": {"epochs": 1}}
    detector = Detector("conv", settings=settings).fit(stripes(12, size=64))
    with pytest.raises(ConfigError, match="sees images in tiles cannot name their class"):
        Classifier.from_detector(detector)
