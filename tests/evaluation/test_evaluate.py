"""From labelled images to an Evaluation and its JSON, with a detector that is a plain class."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from conftest import stripes, write_png
from fakes import decision_of, fitted_of
from unlike.calibration.conformal import p_values
from unlike.data.batches import digest
from unlike.data.input_spec import InputSpec, restore_map
from unlike.data.readers import decode_mask
from unlike.errors import DataError
from unlike.evaluation import evaluate, to_json
from unlike.evaluation.metrics import measure_images, newcombe
from unlike.records import Estimate, Evaluation, Metrics, Sample, ScoredBatch, Scores

CALIBRATION = np.linspace(0.1, 0.38, 99)


class ContrastDetector:
    """Finds it strange where an image differs from its own mean; keeps every promise that `evaluate` relies on."""

    def __init__(self, size=32, fitted_on=(), thresholds=None, false_alarms=0.05):
        decision = decision_of(thresholds or {"": 0.38}, CALIBRATION, false_alarms=false_alarms)
        digests = [digest(image) for image in fitted_on]
        self.fitted_ = fitted_of(decision, InputSpec(size, size, 3), digests=digests)

    def stream(self, index, batch_size=None):
        for batch in index.stream(self.fitted_.spec, batch_size or 6):
            if not batch.samples:  # none of them can be read
                empty = np.empty(0, np.float32)
                yield ScoredBatch([], empty, empty.reshape(0, 1, 1), [], np.empty(0, np.uint64), batch.unreadable)
                continue
            gray = batch.pixels.astype(np.float32).mean(axis=-1).reshape(-1, *self.fitted_.spec.size) / 255
            maps = np.abs(gray - gray.mean(axis=(1, 2), keepdims=True))[:, ::2, ::2]
            digests = np.array([digest(image) for image in batch.pixels], np.uint64)
            yield ScoredBatch(batch.samples, maps.max(axis=(1, 2)), maps, batch.shapes, digests, batch.unreadable)


def constant_detector(score):
    """A detector whose every score is the same."""
    detector = ContrastDetector()
    whole = detector.stream

    def stream_constant(index, batch_size=None):
        for batch in whole(index, batch_size):
            scores = np.full(len(batch.samples), score)
            yield ScoredBatch(batch.samples, scores, batch.maps, batch.shapes, batch.digests, batch.unreadable)

    detector.stream = stream_constant
    return detector


def labels_of(found):
    return np.array([bool(sample.anomalous) for sample in found.samples])


def strict(document):
    """What comes back of a document through strict JSON."""
    return json.loads(json.dumps(document, allow_nan=False))


def test_a_folder_in_mvtec_layout_has_every_figure(mvtec):
    found = evaluate(ContrastDetector(), mvtec)
    assert (found.overall.normal, found.overall.anomalous, found.overall.left_out) == (10, 10, {})
    assert len(found.scores) == len(found.samples) == 20
    assert found.scores.ids == tuple(sample.id for sample in found.samples)
    assert found.scores.maps is None
    np.testing.assert_array_equal(found.anomalous, [".png" in s.id and "scratch" in s.id for s in found.samples])
    expected = measure_images(found.scores.image, found.anomalous, 0.38).image
    assert {name: found.overall.image[name] for name in expected} == expected
    assert (found.threshold, found.promised_false_alarms) == (0.38, 0.05)
    np.testing.assert_array_equal(found.p_values, p_values(found.scores.image, CALIBRATION))
    np.testing.assert_array_equal(found.alarms, found.scores.image > 0.38)
    assert set(found.image_thresholds.tolist()) == {0.38}
    assert found.categories == {}
    assert set(found.kinds) == {"scratch"}
    assert found.kinds["scratch"].image == found.overall.image
    assert found.leaked == ()


def test_pixel_figures_are_in_original_pixels(mvtec):
    for path in [
        *mvtec.glob("test/*/*.png"),
        *mvtec.glob("ground_truth/*/*.png"),
    ]:  # larger than the spec, and not square
        write_png(path, cv2.resize(cv2.imread(str(path)), (57, 44), interpolation=cv2.INTER_NEAREST))
    detector = ContrastDetector()
    found = evaluate(detector, mvtec)
    values, defective = [], []
    for batch in detector.stream(evaluation_index(mvtec)):
        for sample, map_, shape in zip(batch.samples, batch.maps, batch.shapes, strict=True):
            assert shape == (44, 57)
            values.append(restore_map(map_, shape, detector.fitted_.spec))
            defective.append(decode_mask(sample.mask) if sample.mask else np.zeros(shape, bool))
    expected = roc_auc_score(np.concatenate(defective, axis=None), np.concatenate(values, axis=None))
    estimate = found.overall.pixel["auroc"]
    assert estimate.value == pytest.approx(expected, abs=2e-3)
    assert estimate.low < estimate.value < estimate.high
    assert 0 < found.overall.pixel["aupro"].value < 1
    assert found.kinds["scratch"].pixel == {}


def evaluation_index(folder):
    from unlike.data.source import labelled, open_source

    return labelled(open_source(folder))


@pytest.fixture
def several(tmp_path):
    """Two categories with two kinds of defects each, one of the same name; the tile's images are all darker."""
    for shift, category in enumerate(("cable", "tile")):
        for number, image in enumerate(stripes(12, seed=shift) // (1 + shift)):
            kind = ("good", "good", "bent", f"cut_{category}")[number % 4]
            if number == 4:
                image[:3, :3] = 255  # a false alarm
            if kind != "good":
                image[4:9, 4 : 6 + number] = 255
                mask = np.zeros((32, 32), np.uint8)
                mask[4:9, 4 : 6 + number] = 255
                write_png(tmp_path / f"{category}/ground_truth/{kind}/{number:03}_mask.png", mask)
            write_png(tmp_path / f"{category}/test/{kind}/{number:03}.png", image)
            write_png(tmp_path / f"{category}/train/good/{number:03}.png", image)
    return tmp_path


def test_categories_and_kinds_are_measured_against_their_own_normals(several):
    found = evaluate(ContrastDetector(), several)
    assert set(found.categories) == {"cable", "tile"}
    assert set(found.kinds) == {"cable/bent", "cable/cut_cable", "tile/bent", "tile/cut_tile"}
    category = np.array([sample.category for sample in found.samples])
    kind = np.array([sample.kind for sample in found.samples])
    for name, metrics in found.categories.items():
        chosen = category == name
        expected = measure_images(found.scores.image[chosen], found.anomalous[chosen], 0.38)
        assert ({key: metrics.image[key] for key in expected.image}, metrics.normal, metrics.anomalous) == (
            expected.image,
            6,
            6,
        )
        assert set(metrics.pixel) == {"auroc", "aupro"}
    assert found.categories["cable"].pixel != found.categories["tile"].pixel
    chosen = (category == "tile") & ((kind == "good") | (kind == "bent"))
    expected = measure_images(found.scores.image[chosen], found.anomalous[chosen], 0.38)
    assert {key: found.kinds["tile/bent"].image[key] for key in expected.image} == expected.image
    assert (expected.normal, expected.anomalous) == (6, 3)


def test_what_is_found_at_each_promise_is_by_thresholds_that_hold_it(several):
    found = evaluate(ContrastDetector(), several)
    scores, anomalous = found.scores.image, found.anomalous
    for share, above in ((1, 1), (2, 2), (5, 5)):
        threshold = np.sort(CALIBRATION)[-above]
        rates = (found.overall.image[f"{what}_at_{share}"].value for what in ("detection_rate", "false_alarm_rate"))
        assert tuple(rates) == ((scores[anomalous] > threshold).mean(), (scores[~anomalous] > threshold).mean())
    assert found.kinds["tile/bent"].image["detection_rate_at_5"].value == pytest.approx(
        np.mean([s > np.sort(CALIBRATION)[-5] for s, one in zip(scores, found.samples, strict=True)
                 if one.category == "tile" and one.kind == "bent"])
    )  # fmt: skip
    told = to_json(found)
    assert told["image"]["detection_rate_at_2"]["value"] == found.overall.image["detection_rate_at_2"].value


def test_a_promise_that_cannot_be_held_leaves_its_figures_out(several):
    detector = ContrastDetector()
    detector.fitted_ = fitted_of(decision_of({"": 0.3}, CALIBRATION[:30]), detector.fitted_.spec)
    left_out = evaluate(detector, several).overall.left_out
    assert left_out["detection_rate_at_2"] == "needs 49 independent normal images that calibrate, for a promise of 2 %"
    assert "detection_rate_at_5" not in left_out


def test_each_image_is_judged_by_the_threshold_of_its_category(several):
    found = evaluate(ContrastDetector(thresholds={"": 0.38, "tile": 0.1}), several)
    expected = [0.1 if sample.category == "tile" else 0.38 for sample in found.samples]
    assert found.image_thresholds.tolist() == expected
    np.testing.assert_array_equal(found.alarms, found.scores.image > np.array(expected))
    assert (found.threshold, found.thresholds) == (0.38, {"tile": 0.1})
    strictest = evaluate(ContrastDetector(), several).categories["tile"].image["detection_rate"].value
    assert found.categories["tile"].image["detection_rate"].value >= strictest


def test_a_rule_that_promises_nothing_is_no_error(several):
    found = evaluate(ContrastDetector(false_alarms=None), several)
    assert found.promised_false_alarms is None
    assert strict(to_json(found))["promised_false_alarms"] is None


def test_one_named_category_does_not_prefix_its_kinds(several):
    index = evaluation_index(several).where(lambda sample: sample.category == "tile")
    found = evaluate(ContrastDetector(), index)
    assert set(found.categories) == {"tile"}
    assert set(found.kinds) == {"bent", "cut_tile"}
    assert found.categories["tile"] == found.overall


def test_arrays_have_no_kinds_and_say_why_there_are_no_pixels():
    images = stripes(30)
    images[20:, 8:12, 8:12] = 255
    found = evaluate(ContrastDetector(), images, labels=np.arange(30) >= 20)
    assert (found.overall.normal, found.overall.anomalous) == (20, 10)
    assert found.categories == found.kinds == found.overall.pixel == {}
    reason = "needs masks of the defects; no anomalous image has one"
    assert found.overall.left_out == {"pixel.auroc": reason, "pixel.aupro": reason}


def test_images_without_a_label_are_refused():
    with pytest.raises(DataError, match="no image of 3 has a label"):
        evaluate(ContrastDetector(), stripes(3))


@pytest.mark.parametrize(("label", "kind"), [(0, "normal"), (1, "anomalous")])
def test_one_class_only_is_not_an_error(label, kind):
    found = evaluate(ContrastDetector(), stripes(5), labels=[label] * 5)
    assert found.overall.left_out["auroc"] == f"needs normal and anomalous images; all 5 are {kind}"
    assert {"accuracy", "accuracy_all_anomalous"} <= set(found.overall.image)
    document = strict(to_json(found))
    assert document["oracle_thresholds"] == {}
    assert "auroc" not in document["image"]
    assert document["left_out"]["auroc"] == found.overall.left_out["auroc"]


def test_unreadable_images_and_masks_are_named_and_the_others_go_on(mvtec):
    (mvtec / "test/good/003.png").write_bytes(b"")
    (mvtec / "ground_truth/scratch/004_mask.png").write_bytes(b"no image")
    calls = []
    found = evaluate(ContrastDetector(), mvtec, notify=lambda done, total: calls.append((done, total)))
    assert [(item.id, item.reason) for item in found.scores.unreadable] == [
        ("test/good/003.png", "is empty (0 bytes)"),
        ("test/scratch/004.png", "mask 004_mask.png is no image of a kind that is known here"),
    ]
    assert len(found.scores) == 19
    assert found.overall.left_out == {"pixel": "1 of 10 anomalous images take no part: no usable mask"}
    assert set(found.overall.pixel) == {"auroc", "aupro"}
    assert calls[-1] == (20, 20)
    assert calls == sorted(calls)
    assert len(calls) == 4  # batches of 6
    assert strict(to_json(found))["counts"] == {"normal": 9, "anomalous": 10, "unreadable": 2}


def test_nothing_readable_is_an_error_that_names_some(mvtec):
    for path in mvtec.glob("test/*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"no labelled image of 20 can be read: test/good/000\.png is empty"):
        evaluate(ContrastDetector(), mvtec)


def test_test_images_the_detector_was_fitted_on_are_flagged(mvtec):
    fitted_on = [cv2.imread(str(mvtec / f"test/good/00{number}.png"))[..., ::-1] for number in (2, 7)]
    found = evaluate(ContrastDetector(fitted_on=fitted_on), mvtec)
    assert found.leaked == ("test/good/002.png", "test/good/007.png")
    assert to_json(found)["leaked"] == ["test/good/002.png", "test/good/007.png"]


def test_the_seed_decides_the_intervals_alone(several):
    first, again, other = (evaluate(ContrastDetector(), several, seed=seed).overall for seed in (1, 1, 2))
    assert first == again
    assert first.image["auroc"].value == other.image["auroc"].value
    assert first.image["average_precision"] != other.image["average_precision"]


def test_a_detector_that_tells_nothing_apart_is_chance(mvtec):
    found = evaluate(constant_detector(0.5), mvtec).overall
    assert found.image["auroc"] == newcombe(0.5, 10, 10)
    assert found.image["auroc"].low < 0.3 < 0.7 < found.image["auroc"].high
    assert (found.image["accuracy"].value, found.image["improvement"].value) == (0.5, 0.0)


def test_json_nests_figures_by_name_and_names_the_oracles(several):
    found = evaluate(ContrastDetector(), several)
    document = strict(to_json(found))
    estimate = found.overall.image["auroc"]
    assert document["image"]["auroc"] == {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    assert document["image"]["accuracy_all_anomalous"] == {"value": 0.5}
    assert document["pixel"]["aupro"]["value"] == found.overall.pixel["aupro"].value
    assert document["counts"] == {"normal": 12, "anomalous": 12, "unreadable": 0}
    assert (document["threshold"], document["promised_false_alarms"]) == (0.38, 0.05)
    assert document["oracle"] == ["image.f1_max", "image.accuracy_max"]
    called = found.scores.image > document["oracle_thresholds"]["image.accuracy_max"]
    assert (called == found.anomalous).mean() == pytest.approx(found.overall.image["accuracy_max"].value)
    assert set(document["oracle_thresholds"]) == set(document["oracle"])
    assert set(document["categories"]["tile"]) == {"image", "pixel", "counts", "left_out"}
    assert document["kinds"]["tile/bent"]["counts"] == {"normal": 6, "anomalous": 3}
    assert "no bounds" in document["intervals"]["note"]
    assert "1,000 replicates" in document["intervals"]["image.auroc, average_precision, f1_max, accuracy_max"]


def test_json_has_no_infinity():
    samples = (Sample("a", anomalous=False), Sample("b", anomalous=False))
    metrics = Metrics(2, 0, {"accuracy": Estimate(float("nan"))})
    scores = Scores(("a", "b"), np.array([1.0, 2.0]))
    judged = {"p_values": np.ones(2), "image_thresholds": np.full(2, np.inf), "alarms": np.zeros(2, bool)}
    found = Evaluation(metrics, {}, {}, scores, samples, **judged, threshold=float("inf"), promised_false_alarms=0.01)
    document = strict(to_json(found))
    assert document["threshold"] is None
    assert document["image"]["accuracy"] == {"value": None}


def test_a_diverged_detector_is_said_to_be_one():
    with pytest.raises(DataError, match="the score of '0' is not finite"):
        evaluate(constant_detector(np.nan), stripes(4), labels=[0, 0, 1, 1])


def test_evaluation_never_loads_torch():
    code = "import sys, unlike.evaluation; sys.exit('torch' in sys.modules or 'unlike.detector' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
