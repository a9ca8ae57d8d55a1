from dataclasses import replace

import numpy as np
import pytest

from unlike import Detector
from unlike.data.source import open_source
from unlike.errors import DataError
from unlike.serving.jobs.comparing import compare, gain, look_at


def draw(seed, count=40, level=110):
    return np.random.default_rng(seed).integers(level - 10, level + 10, (count, 16, 16), dtype=np.uint8)


@pytest.fixture(scope="module")
def good():
    return Detector("pixels", "gaussian", false_alarms=0.1).fit(draw(0))


@pytest.fixture(scope="module")
def blind():
    """One that has seen so many kinds of images that nothing is strange."""
    return Detector("pixels", "gaussian", false_alarms=0.1).fit(np.concatenate([draw(1, level=n) for n in (40, 200)]))


def reviewed(normal, anomalous):
    images = np.concatenate([normal, anomalous])
    return open_source(images, labels=np.repeat([0, 1], [len(normal), len(anomalous)]))


def test_versions_are_compared_on_the_same_images_with_intervals(good, blind):
    source = reviewed(draw(5, 30), draw(6, 20, level=160))
    done = []
    seen = {"1": look_at(blind, source, lambda *so_far: done.append(so_far)), "2": look_at(good, source)}
    found = compare(seen, source)
    assert done[-1] == (50, 50)
    assert found["images"] == {"normal": 30, "anomalous": 20}
    first, second = found["versions"]
    assert second["auroc"]["value"] == 1.0
    assert second["found"]["low"] < second["found"]["value"] == 1.0
    assert second["false_alarms"]["value"] <= 0.3
    assert second["promise"] == pytest.approx(0.1)
    assert "gain" not in first
    assert second["gain"]["value"] == pytest.approx(second["auroc"]["value"] - first["auroc"]["value"])
    assert found["notes"] == []


def test_images_that_a_version_has_learned_from_count_for_none(good, blind):
    source = reviewed(np.concatenate([draw(0, 40)[:10], draw(5, 20)]), draw(6, 20, level=160))
    found = compare({"1": look_at(good, source), "2": look_at(blind, source)}, source)
    assert found["images"] == {"normal": 20, "anomalous": 20}
    assert found["notes"] == [
        "10 reviewed images are left out: a version has learned from them, and would look better than it is (0, 1, 2, 3, 4, ...)."
    ]
    alone = reviewed(draw(0), draw(6, 0))
    with pytest.raises(DataError, match="none of the 40 reviewed images can be compared on"):
        compare({"1": look_at(good, alone)}, alone)


def test_of_one_kind_alone_what_cannot_be_had_is_said(good):
    source = reviewed(draw(5, 20), draw(6, 0))
    found = compare({"1": look_at(good, source)}, source)
    assert found["notes"] == ["No confirmed defect is among them: what is found and AUROC cannot be said."]
    assert set(found["versions"][0]["left_out"]) == {"auroc", "average_precision", "found"}
    source = reviewed(draw(5, 0), draw(6, 20, level=160))
    found = compare({"1": look_at(good, source)}, source)
    assert found["notes"] == ["No reviewed normal image is among them: false alarms and AUROC cannot be said."]


def test_images_that_one_version_cannot_read_count_for_none(good):
    source = reviewed(draw(5, 20), draw(6, 20, level=160))
    seen = look_at(good, source)
    fewer = replace(seen, scores={name: score for name, score in seen.scores.items() if name != "3"})
    found = compare({"1": seen, "2": fewer}, source)
    assert found["images"]["normal"] == 19
    assert found["notes"] == ["1 reviewed images are left out: not every version can read them."]


def test_a_gain_of_the_same_scores_is_nothing_without_doubt():
    scores, anomalous = np.arange(20.0), np.arange(20) % 2 == 0
    assert gain(scores, scores, anomalous).value == 0.0
    better = gain(scores, scores + 30 * anomalous, anomalous)
    assert better.low is not None
    assert better.low > 0.2


def test_where_no_image_can_be_read_the_reason_is_named(good, tmp_path):
    (tmp_path / "a.png").write_bytes(b"broken")
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(DataError, match="no reviewed image of 2 can be read"):
        look_at(good, open_source([tmp_path / "a.png", tmp_path / "b.png"]))
