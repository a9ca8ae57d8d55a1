"""The detector as a user of Python meets it."""

from __future__ import annotations

import json
import tomllib

import cv2
import numpy as np
import pytest
import torch

from conftest import scratched, stripes, write_png
from unlike import Detector
from unlike.data.input_spec import InputSpec
from unlike.data.source import open_source
from unlike.data.split import split_normals
from unlike.detector.building import build_model, choose_device
from unlike.detector.explain import decode, describe, encode, explain, original_maps
from unlike.errors import ConfigError, DataError, ImageError, NotFittedError

FAST = {
    "training": {"epochs": 25, "batch_size": 8, "learning_rate": 5e-3},
    "model": {"widths": [8, 8], "bottleneck": 8},
}


@pytest.fixture(scope="module")
def detector():
    return Detector(model="conv", false_alarms=0.1, settings=FAST, device="cpu").fit(stripes(60, channels=1))


@pytest.fixture(scope="module")
def odd():
    return scratched(stripes(12, seed=9, channels=1))


def test_strange_images_score_higher_than_normal_ones(detector, odd):
    normal = detector.score(stripes(12, seed=8, channels=1)).image
    assert np.median(detector.score(odd[0]).image) > normal.max()


def test_maps_are_high_where_the_defect_is(detector, odd):
    images, masks = odd
    maps = detector.score(images, maps=True).maps
    assert maps.shape == masks.shape
    assert all(map_[mask].mean() > 3 * map_[~mask].mean() for map_, mask in zip(maps, masks, strict=True))


def test_scores_are_the_same_alone_in_a_batch_from_array_or_file(detector, odd, tmp_path):
    images, _ = odd
    together = detector.score(images).image
    alone = [detector.score(image[None]).image[0] for image in images]
    for number, image in enumerate(images):
        write_png(tmp_path / f"{number:02}.png", image[..., 0])
    np.save(tmp_path / "images.npy", images)
    np.testing.assert_allclose(alone, together, rtol=1e-5)
    np.testing.assert_allclose(detector.score(str(tmp_path)).image, together, rtol=1e-5)
    np.testing.assert_allclose(detector.score(tmp_path / "images.npy").image, together, rtol=1e-5)


def test_verdicts_agree_with_scores_threshold_and_p_values(detector, odd):
    verdicts = detector.judge(odd[0])
    scores = detector.score(odd[0]).image
    for verdict, score in zip(verdicts, scores, strict=True):
        assert verdict.score == score
        assert verdict.threshold == detector.fitted_.decision.threshold
        assert verdict.anomalous == (score > detector.fitted_.decision.threshold) == (verdict.p_value <= 0.1 + 1e-9)
    assert sum(verdict.anomalous for verdict in verdicts) >= 10


def test_regions_lie_on_the_defect_in_original_pixels(tmp_path, detector, odd):
    images, masks = odd
    for number, image in enumerate(images):
        big = cv2.resize(image, (96, 64), interpolation=cv2.INTER_NEAREST)
        write_png(tmp_path / f"{number:02}.png", big)
    found = [verdict.regions[0] for verdict in detector.judge(tmp_path) if verdict.regions]
    assert len(found) >= 10
    mask = cv2.resize(masks[0].astype(np.uint8), (96, 64), interpolation=cv2.INTER_NEAREST)
    first = detector.judge(tmp_path / "00.png")[0].regions[0]
    assert mask[first.y : first.y + first.height, first.x : first.x + first.width].mean() > 0.4


def test_original_maps_have_the_images_own_pixels(detector, tmp_path):
    write_png(tmp_path / "a.png", np.zeros((50, 70), np.uint8))
    assert [(name, map_.shape) for name, map_ in original_maps(detector, tmp_path)] == [("a.png", (50, 70))]


def test_false_alarms_that_were_promised(detector):
    assert detector.fitted_.decision.false_alarms == 0.1
    fresh = detector.score(stripes(400, seed=77, channels=1)).image
    assert (
        fresh > detector.fitted_.decision.threshold
    ).mean() < 0.25  # 20 held-out images: a wide promise, kept on average


def test_splits_are_counted_and_copies_do_not_count_twice():
    images = stripes(30, channels=1)
    images = np.concatenate([images, images[:10]])
    fitted = Detector(model="conv", epochs=1).fit(images)
    counts = fitted.fitted_.counts
    assert counts == {"train": 18, "validation": 2, "calibration": 10, "copies": 10, "unreadable": 0}
    assert len(fitted.fitted_.decision.scores) == 10
    assert len(fitted.fitted_.digests) == 30


@pytest.mark.parametrize(("count", "promised"), [(60, 2 / 21), (400, 3 / 101)])
def test_sixty_images_work_without_a_choice(count, promised):
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8), dtype=np.uint8)
    assert Detector(model="fcn", epochs=1).fit(images).fitted_.decision.false_alarms == pytest.approx(promised)


def test_a_promise_that_cannot_be_held_is_refused_before_training():
    with pytest.raises(
        DataError, match=r"of 60 different normal images 30 can be held out, and 30 normal images cannot hold"
    ):
        Detector(model="fcn", epochs=10**6, false_alarms=0.01).fit(stripes(60))


def test_a_promise_takes_the_images_it_needs():
    fitted = Detector(model="fcn", epochs=1, false_alarms=0.02).fit(stripes(120, size=8))
    assert fitted.fitted_.counts["calibration"] == 49


def test_too_few_images_at_all():
    with pytest.raises(DataError, match="2 normal images cannot be split; at least 3 are needed"):
        Detector(model="fcn", epochs=1).fit(stripes(2))


def test_broken_files_are_named_and_the_others_go_on(detector, tmp_path):
    for number, image in enumerate(stripes(12, channels=1)):
        write_png(tmp_path / f"{number:02}.png", image[..., 0])
    (tmp_path / "03.png").write_bytes(b"")
    (tmp_path / "07.png").write_text("a text")
    scores = detector.score(tmp_path)
    assert len(scores) == 10
    assert [item.id for item in scores.unreadable] == ["03.png", "07.png"]
    fitted = Detector(model="fcn", epochs=1).fit(tmp_path)
    assert [item.id for item in fitted.fitted_.unreadable] == ["03.png", "07.png"]


def test_nothing_that_can_be_scored(detector, tmp_path):
    (tmp_path / "a.png").write_text("a text")
    with pytest.raises(DataError, match=r"no image of 1 can be judged: a\.png"):
        detector.judge(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"no image of 1 can be scored: a\.png"):
        detector.score(tmp_path)


def test_images_of_another_channel_count_are_named(detector):
    with pytest.raises(DataError, match=r"has 3 channels where the detector takes 1; fit with --set data\.channels=1"):
        detector.score(stripes(2))


def test_sixteen_bit_and_float_images_keep_their_values():
    """A 16-bit ramp that 8 bits would flatten must still be seen."""
    random = np.random.default_rng(0)
    normal = random.integers(30_000, 30_100, (60, 16, 16), dtype=np.uint16)
    odd = normal[:5].copy()
    odd[:, 4:8, 4:8] += 120  # half a step of 8 bits
    for images, strange in ((normal, odd), (normal / np.float32(65535), odd / np.float32(65535))):
        fitted = Detector(model="fcn", epochs=30, settings={"scorer": {"difference": "squared"}}).fit(images)
        maps = fitted.score(strange, maps=True).maps
        assert fitted.score(images).image.std() > 0
        assert np.unique(maps).size > 100


def test_float_images_outside_the_fitted_range_are_not_clipped():
    images = np.random.default_rng(0).uniform(0, 1, (40, 8, 8)).astype(np.float32)
    fitted = Detector(model="fcn", epochs=1).fit(images)
    scores = fitted.score(np.stack([images[0], images[0] + 3, images[0] + 9])).image
    assert scores[0] < scores[1] < scores[2]


def test_explain_gives_image_reconstruction_and_map(detector, odd):
    source = open_source(odd[0])
    found = explain(detector, odd[0], [source.samples[3], source.samples[1]])
    assert [item.sample.id for item in found] == ["3", "1"]
    np.testing.assert_array_equal(found[0].image, odd[0][3])
    assert found[0].reconstruction.shape == odd[0][3].shape
    assert found[0].reconstruction.dtype == np.uint8
    assert found[0].score == pytest.approx(detector.score(odd[0]).image[3], rel=1e-5)  # in a batch of another size
    gap = (found[0].reconstruction.astype(float) - found[0].image) / 127.5
    np.testing.assert_allclose(found[0].map, (gap**2).mean(-1), atol=0.02)


def test_encode_and_decode_are_the_two_halves_of_the_model(detector, odd, tmp_path):
    odd, _ = odd
    codes = encode(detector, odd)
    assert codes.ids == tuple(map(str, range(len(odd))))
    assert codes.grids.shape[0] == codes.vectors.shape[0] == len(odd)
    rebuilt = decode(detector, codes.grids)
    source = open_source(odd)
    seen = explain(detector, source, source.samples)
    np.testing.assert_array_equal(rebuilt, np.stack([item.reconstruction for item in seen]))
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"no image of 1 can be read: broken\.png"):
        encode(detector, tmp_path)


def test_codes_cannot_be_decoded_past_skips():
    settings = {"model": {"skips": True, "widths": [4], "bottleneck": 4}}
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8), np.uint8)
    fitted = Detector("residual-unet", epochs=1, settings=settings).fit(images)
    with pytest.raises(ConfigError, match="no decoder from codes to images; take a detector whose model has one"):
        decode(fitted, encode(fitted, images).grids)


def test_fit_reads_only_what_is_normal(mvtec):
    fitted = Detector(model="conv", epochs=1, size=32).fit(mvtec)
    assert fitted.fitted_.counts["train"] + len(fitted.fitted_.decision.scores) + 3 == 40


def test_progress_is_told(mvtec):
    calls = []
    Detector(model="conv", epochs=2, size=32).fit(mvtec, notify=lambda *call: calls.append(call))
    stages = [call[0] for call in calls]
    assert stages[0] == "read"
    assert calls[stages.index("train") - 1][:3] == ("read", 40, 40)
    assert [call[1:3] for call in calls if call[0] == "train"] == [(1, 2), (2, 2)]
    assert {"train", "validation"} <= set(calls[-1][3])


def test_use_before_fit(tmp_path):
    fresh = Detector()
    for use in (
        lambda: fresh.score(stripes(2)),
        lambda: fresh.fitted_.decision.threshold,
        lambda: fresh.save(tmp_path / "d"),
    ):
        with pytest.raises(NotFittedError, match=r"not been fitted yet; call fit\(images\) or Detector.load"):
            use()


def test_repr_says_what_it_is(detector):
    assert repr(Detector()) == "Detector(model='features', scorer='ensemble'; not fitted)"
    assert "fitted on the array" in repr(detector)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "conv_vae"}, r"unknown model 'conv_vae'; did you mean 'conv'\? known: "),
        ({"scorer": "residul"}, r"unknown scorer 'residul'; did you mean 'residual'"),
        ({"preset": "textbok"}, r"unknown preset 'textbok'; did you mean 'textbook'"),
        ({"settings": {"train": {}}}, r"unknown section 'train'; did you mean 'training'"),
        (
            {"settings": {"training": {"epoch": 1}}},
            r"unknown setting 'training\.epoch'; did you mean 'training\.epochs'[^(]*$",
        ),
        ({"settings": {"training": {"schedule": "cosin"}}}, r"training\.schedule: expected 'one-cycle' or 'cosine' or"),
        (
            {"settings": {"training": {"optimiser": "adagrad"}}},
            r"training\.optimiser: expected 'adamw' or 'adam' or 'sgd'",
        ),
        (
            {"model": "fcn", "settings": {"model": {"bottleneck": 3}}},
            r"unknown setting 'model\.bottleneck'[^(]*$",
        ),
        (
            {"settings": {"model": {"bottleneck": 3}}},
            r"unknown setting 'model\.bottleneck'.*so this is about the default, preset ensemble; name the model that it is for, such as conv",
        ),
        ({"size": 0}, r"data\.size: expected 1 pixel or more, came 0"),
        ({"epochs": 0}, r"training\.epochs: expected 1 or more"),
        ({"false_alarms": 1.5}, r"decision\.false_alarms: expected a share above 0 and below 1, came 1\.5"),
        ({"settings": {"data": {"channels": 0}}}, r"data\.channels: expected 1 or more"),
        (
            {"settings": {"decision": {"calibration_share": 2.0}}},
            r"decision\.calibration_share: expected 0\.01 to 0\.9",
        ),
    ],
)
def test_choices_that_cannot_be_are_refused_at_once(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Detector(**arguments)


def test_a_preset_is_a_start_and_single_choices_win():
    settings = Detector(preset="textbook", size=32, epochs=3).settings
    assert (settings.model_name, settings.model.bottleneck, settings.data.size, settings.training.epochs) == (
        "conv",
        128,
        32,
        3,
    )
    assert Detector(preset="textbook", model="fcn").settings.model_name == "fcn"


def test_devices():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ConfigError, match="device 'abacus' cannot be used here"):
        choose_device("abacus")


def test_settings_survive_toml(detector):
    import tomli_w

    from unlike.detector.settings import Settings

    text = tomli_w.dumps(detector.settings.to_sections())
    assert Settings.from_sections(tomllib.loads(text)) == detector.settings
    json.dumps(describe(detector))


def test_errors_are_also_the_standard_ones():
    assert issubclass(ImageError, ValueError)
    with pytest.raises(ValueError, match="unknown model"):
        Detector(model="nothing")


def test_the_promise_rests_on_images_that_taught_nothing():
    """The calibration scores are those of the split's own calibration rows, which a model that learns by heart shows."""
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    heart = {"model": {"widths": [256]}, "training": {"epochs": 300, "batch_size": 8, "keep": "last"}}
    fitted = Detector(model="fcn", false_alarms=0.1, settings=heart, device="cpu").fit(images)
    split = split_normals(np.arange(60), 20, seed=0)
    scores = fitted.score(images).image
    np.testing.assert_allclose(np.sort(fitted.fitted_.decision.scores), np.sort(scores[split.calibration]), rtol=1e-5)
    assert scores[split.train].max() < fitted.fitted_.decision.scores.min()


def test_false_alarms_on_fresh_images_keep_the_promise_on_average():
    shares = []
    heart = {"model": {"widths": [64]}, "training": {"epochs": 60, "batch_size": 8}}
    for seed in range(12):
        images = np.random.default_rng(seed).integers(0, 256, (260, 8, 8), dtype=np.uint8)
        fitted = Detector(model="fcn", false_alarms=0.1, seed=seed, settings=heart, device="cpu").fit(images[:60])
        shares.append((fitted.score(images[60:]).image > fitted.fitted_.decision.threshold).mean())
    assert np.mean(shares) <= 0.1 + 3 * np.std(shares) / np.sqrt(len(shares))


def test_the_seed_decides_who_is_held_out():
    images = stripes(40, size=8)
    first, second = (Detector(model="fcn", epochs=1, seed=seed).fit(images) for seed in (0, 1))
    assert not np.isin(first.fitted_.decision.scores, second.score(images).image).all()
    for seed, fitted in enumerate((first, second)):
        rows = split_normals(np.arange(40), 13, seed=seed).calibration
        np.testing.assert_allclose(
            np.sort(fitted.fitted_.decision.scores), np.sort(fitted.score(images[rows]).image), rtol=1e-5
        )


def test_regions_are_held_to_the_same_promise(detector):
    """All but the promised share of held-out normals stay below the threshold for regions everywhere."""
    peaks = detector.fitted_.decision.peaks
    assert len(peaks) == 20
    assert (
        detector.fitted_.decision.region_threshold == np.sort(peaks)[-2]
    )  # 10 % of 21 is two: the second largest is the threshold


def test_held_out_images_do_not_choose_the_scale_of_floats():
    images = np.random.default_rng(0).uniform(0, 40, (40, 8, 8)).astype(np.float32)
    images[split_normals(np.arange(40), 13, seed=0).calibration[0], 0, 0] = 900.0
    facts = Detector(model="fcn", epochs=1).fit(images).fitted_.spec
    assert facts.value_range == (0.0, 255.0)


def test_scoring_keeps_no_maps_that_were_not_asked_for(detector):
    import tracemalloc

    images = np.zeros((4000, 32, 32, 1), np.uint8)
    tracemalloc.start()
    detector.score(images)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4000 * 32 * 32 * 4 / 2  # half of what the maps would take


def test_an_image_that_cannot_be_computed_with_is_set_aside():
    images = np.random.default_rng(0).uniform(0, 1, (40, 8, 8)).astype(np.float32)
    fitted = Detector(model="fcn", epochs=1).fit(images)
    strange = np.stack([images[0], np.full((8, 8), 3e38, np.float32), images[1]])
    scores = fitted.score(strange)
    assert scores.ids == ("0", "2")
    assert [item.id for item in scores.unreadable] == ["1"]
    assert "score is not a finite number" in scores.unreadable[0].reason
    assert [verdict.id for verdict in fitted.judge(strange)] == ["0", "2"]


def test_sixteen_bits_are_not_flattened_to_eight():
    low = np.full((1, 8, 8), 30_000, np.uint16)
    fitted = Detector(model="fcn", epochs=1).fit(
        np.random.default_rng(0).integers(0, 65_536, (40, 8, 8), dtype=np.uint16)
    )
    first, second = (explain(fitted, image, [open_source(image).samples[0]])[0].map for image in (low, low + 3))
    assert not np.array_equal(first, second)


def test_choices_for_another_model_than_the_presets_are_kept():
    settings = Detector(preset="textbook", model="fcn", settings={"model": {"widths": [8]}}).settings
    assert (settings.model_name, settings.model.widths) == ("fcn", (8,))
    with pytest.raises(ConfigError, match=r"unknown setting 'model\.bottleneck'"):
        Detector(preset="textbook", model="fcn", settings={"model": {"bottleneck": 8}})


@pytest.mark.parametrize("seed", [-1, 2**63, "abc", 1.5])
def test_seeds_that_cannot_be(seed):
    with pytest.raises(ConfigError, match=r"seed: expected a whole number from 0 to 2\^63 - 1, came"):
        Detector(seed=seed)


def test_a_model_too_large_to_build():
    settings = Detector(model="fcn", size=10_000, settings={"model": {"widths": [1_000_000]}}).settings
    message = r"model 'fcn' for 10000 x 10000 x 3 images cannot be built .* try a smaller --size"
    with pytest.raises(ConfigError, match=message):
        build_model(settings, InputSpec(10_000, 10_000, 3), seed=0)


def test_what_fit_could_not_use_is_not_kept_on_disk(detector, tmp_path):
    detector.save(tmp_path / "d")
    assert Detector.load(tmp_path / "d").fitted_.unreadable == ()
    with pytest.raises(NotFittedError, match="not been fitted yet"):
        _ = Detector().fitted_.unreadable
