"""The default, end to end: any size, grey beside colour, many channels, in tiles; what it reads off normal images is said and kept."""

from __future__ import annotations

import tomllib

import cv2
import numpy as np
import pytest

from conftest import scratched, stripes, write_png
from unlike import Detector
from unlike.cli import run
from unlike.detector.explain import describe
from unlike.detector.presets import DEFAULT_PRESET, NEIGHBOURS, PRESETS
from unlike.detector.settings import Settings

# fewer codes than the default keeps, and narrower ones, for speed; the rest is as it is
FEW = {"scorer": {"settings": {name: {"least": 60, "most": 60, "coreset_directions": 8} for name in NEIGHBOURS}}}
NARROW = {"scorer": {"settings": FEW["scorer"]["settings"] | {"pca": {"dimensions": 40}}}}


def fit(images, preset: str | None = None, **data) -> Detector:
    settings = {"data": data, "model": {"runtime": "torch"}} | (
        (NARROW if data.get("tile") is None else FEW) if preset is None else {}
    )
    return Detector(preset=preset, false_alarms=0.2, settings=settings, device="cpu").fit(images)


def assert_finds(detector: Detector, size: int, channels: int = 3) -> None:
    usual = stripes(3, size=size, seed=8, channels=channels)
    odd, masks = scratched(usual)
    scores = detector.score(odd, maps=True)
    assert np.median(scores.image) > detector.score(usual).image.max()
    for map_, mask in zip(scores.maps, masks, strict=True):
        shown = cv2.resize(map_, (size, size))
        assert shown[mask].mean() > 1.5 * shown[~mask].mean()


@pytest.fixture(scope="module")
def small():
    return fit(stripes(10, size=40))


@pytest.mark.parametrize(("size", "side"), [(96, 256), (300, 256), (700, 512)])
def test_images_are_seen_near_their_own_size(size, side):
    detector = fit(stripes(4, size=size))
    assert detector.fitted_.spec.size == (side, side)
    assert detector.fitted_.pipeline.model.extractor.sizes.grid == (32, 32)
    assert_finds(detector, size)


def test_small_images_are_enlarged_four_times_and_faults_found(small):
    assert small.fitted_.spec.size == (160, 160)
    assert_finds(small, 40)


def test_how_much_each_scorer_counts_is_kept_with_the_detector(small, tmp_path):
    weights = describe(small)["fitted"]["weights"]
    assert list(weights) == [*NEIGHBOURS, "pca"]
    assert sum(weights.values()) == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(list(weights.values()), small.fitted_.pipeline.scorer.shares.numpy(), atol=1e-4)
    small.save(tmp_path / "d")
    assert tomllib.loads((tmp_path / "d" / "detector.toml").read_text())["fitted"]["weights"] == weights
    loaded, fresh = Detector.load(tmp_path / "d", device="cpu"), stripes(3, size=40, seed=5)
    theirs, ours = loaded.score(fresh, maps=True), small.score(fresh, maps=True)
    np.testing.assert_array_equal(theirs.image, ours.image)
    np.testing.assert_array_equal(theirs.maps, ours.maps)
    assert describe(loaded)["fitted"]["weights"] == weights


def test_grey_beside_colour_of_mixed_sizes(tmp_path):
    for number, size in enumerate((60, 90, 90, 90, 110, 700)):
        image = stripes(1, size=size, seed=number)[0]
        write_png(tmp_path / f"{number}.png", image if number % 3 else image[..., 0])
    detector = fit(tmp_path)
    assert detector.fitted_.spec.size == (256, 256)  # by their median
    assert detector.fitted_.spec.channels == 3
    assert np.isfinite(detector.score(tmp_path).image).all()


def test_many_channels_of_16_bits():
    images = stripes(8, size=48, channels=5).astype(np.uint16) * 200
    detector = fit(images)
    assert (detector.fitted_.spec.size, detector.fitted_.spec.channels) == ((192, 192), 5)
    usual, odd = images[:3], scratched(stripes(3, size=48, channels=5))[0].astype(np.uint16) * 200
    assert detector.score(odd).image.min() > detector.score(usual).image.max()


def test_in_tiles_it_leaves_out_what_depends_on_the_position():
    detector = fit(stripes(8, size=260), tile=128)
    assert detector.settings.scorer.scorers == tuple(NEIGHBOURS)
    assert detector.fitted_.spec.size == (256, 256)
    assert detector.fitted_.pipeline.model.shape.height == 128
    assert_finds(detector, 260)


def test_fast_is_smaller_and_finds_too():
    detector = fit(stripes(6, size=300), preset="fast")
    assert detector.fitted_.spec.size == (256, 256)
    assert detector.fitted_.pipeline.model.extractor.sizes.grid == (16, 16)
    assert_finds(detector, 300)


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.tiled])
def test_what_a_preset_lays_over_itself_for_tiles(name):
    whole, tiled = (Settings.resolve(preset=name, overrides={"data": {"tile": tile}}) for tile in ("none", 64))
    assert set(tiled.scorer.scorers) < set(whole.scorer.scorers)
    assert set(tiled.scorer.settings) == set(tiled.scorer.scorers)
    assert whole == Settings.resolve(preset=name)
    asked = {"data": {"tile": 64}, "scorer": {"scorers": ["neighbours", "neighbours_deep"]}}
    assert Settings.resolve(preset=name, overrides=asked).scorer.scorers == ("neighbours", "neighbours_deep")


def test_the_default_for_tiles_is_the_default_named():
    chosen = {"data": {"tile": 64}}
    assert Settings.resolve(overrides=chosen) == Settings.resolve(preset=DEFAULT_PRESET, overrides=chosen)


def test_fit_says_what_it_read_off_the_images(tmp_path, capsys):
    for number, image in enumerate(stripes(8, size=64)):
        write_png(tmp_path / "good" / f"{number}.png", cv2.resize(image, (100, 90)))
    few = [f"[scorer.settings.{name}]\nleast = 40\nmost = 40\n" for name in NEIGHBOURS]
    (tmp_path / "few.toml").write_text("".join(["[data]\nmost_native = 128\n", *few]))
    options = ["--device", "cpu", "--config", str(tmp_path / "few.toml")]
    assert run(["fit", str(tmp_path / "good"), "-o", str(tmp_path / "d"), *options]) == 0
    said = capsys.readouterr().err.splitlines()
    assert (
        said.count(
            "Images of some 100 pixels are seen at 128 x 128, enlarged, for networks see more so; --size takes another."
        )
        == 1
    )
    weights = describe(Detector.load(tmp_path / "d"))["fitted"]["weights"]
    shares = ", ".join(f"{name} {100 * weight:.0f} %" for name, weight in weights.items())
    assert sum(line.startswith("Scorers count by how steady they are on normal images: ") for line in said) == 1
    assert f"Scorers count by how steady they are on normal images: {shares}." in said
