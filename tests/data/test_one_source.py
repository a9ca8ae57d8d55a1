"""What the user names is settled at the door: behind it nobody asks whether it was a folder, an array, or a class of one's own."""

import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import unlike.data
from conftest import stripes, write_png
from unlike.data.batches import collect, read_one
from unlike.data.samples import find_positions
from unlike.data.source import labelled, open_source, training
from unlike.detector.classifier import Classifier
from unlike.detector.detector import Detector
from unlike.detector.explain import explain
from unlike.errors import DataError, ImageError
from unlike.evaluation import evaluate
from unlike.records import Sample
from unlike.report.maps import write_maps

NORMAL, ODD = 40, 8


class Camera:
    """A source of its own kind, neither files nor an array: each image is drawn when it is asked for, and one is broken."""

    natural_size = None
    notes = ()

    def __init__(self, samples):
        self.name = "the camera"
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def with_samples(self, samples):
        return Camera(samples)

    def take(self, positions):
        return Camera([self.samples[position] for position in positions])

    def where(self, wanted):
        return self.take(find_positions(self.samples, wanted))

    def read(self, sample):
        number = int(sample.id.removeprefix("shot "))
        if number == 3:
            raise ImageError("was overexposed")
        image = stripes(1, size=16, channels=1, seed=number)[0]
        if sample.anomalous:
            image[4:12, 4:12] = 255 - image[4:12, 4:12]
        return image

    def stream(self, spec, batch_size=None):
        size = batch_size or 10
        for start in range(0, len(self), size):
            chosen = self.samples[start : start + size]
            yield collect([read_one(sample, lambda sample=sample: self.read(sample), spec) for sample in chosen])

    def load(self, spec, cache, notify=None):
        batches = list(self.stream(spec))
        if notify is not None:
            notify(len(self), len(self))
        unreadable = tuple(item for batch in batches for item in batch.unreadable)
        samples = [sample for batch in batches for sample in batch.samples]
        return Shots(
            samples, unreadable, np.arange(len(samples), dtype=np.uint64), np.concatenate([b.pixels for b in batches])
        )


@dataclass
class Shots:
    """Its images, in memory."""

    samples: list
    unreadable: tuple
    digests: np.ndarray
    pixels: np.ndarray

    def take(self, rows):
        return self.pixels[rows]

    def inside(self, rows):
        return None

    def missing(self, rows):
        return None


def shots(first, count, **facts):
    return [Sample(f"shot {number}", **facts) for number in range(first, first + count)]


@pytest.fixture(scope="module")
def camera():
    normal = shots(0, NORMAL, anomalous=False, kind="good", split="train")
    test = [
        *shots(NORMAL, ODD, anomalous=False, kind="good", split="test"),
        *shots(NORMAL + ODD, ODD, anomalous=True, kind="spot", split="test"),
    ]
    return Camera([*normal, *test])


@pytest.fixture(scope="module")
def detector(camera):
    settings = {"data": {"size": 16}}
    return Detector(model="conv", epochs=1, false_alarms=0.1, device="cpu", cache=False, settings=settings).fit(camera)


def test_a_source_of_ones_own_is_taken_as_it_is(camera):
    assert open_source(camera) is camera
    assert [len(training(camera)), len(labelled(camera))] == [NORMAL, 2 * ODD]
    with pytest.raises(DataError, match="several sources must be files or folders"):
        open_source([camera, camera])


def test_a_detector_is_fitted_on_a_source_of_ones_own_and_scores_it(camera, detector):
    assert detector.fitted_.source == "the camera"
    assert [(item.id, item.reason) for item in detector.fitted_.unreadable] == [("shot 3", "was overexposed")]
    assert sum(detector.fitted_.counts[part] for part in ("train", "validation", "calibration")) == NORMAL - 1
    scores = detector.score(camera, maps=True)
    assert len(scores.ids) == NORMAL + 2 * ODD - 1
    drawn = np.stack([camera.read(sample) for sample in camera.samples if sample.id != "shot 3"])
    np.testing.assert_allclose(scores.image, detector.score(drawn).image, rtol=1e-5)
    assert len(detector.judge(camera, regions=False)) == len(scores.ids)


def test_it_is_explained_measured_and_its_maps_are_written(camera, detector, tmp_path):
    (explanation,) = explain(detector, camera, camera.samples[5:6])
    np.testing.assert_array_equal(explanation.image, camera.read(camera.samples[5]))
    found = evaluate(detector, camera)
    assert found.source.name == "the camera"
    assert len(found.samples) == 2 * ODD
    assert (found.overall.normal, found.overall.anomalous) == (ODD, ODD)
    made = evaluate(detector, camera, synthetic=True)
    assert made.source.name == "the camera, with synthetic defects"
    batch = next(detector.stream(camera.take(np.array([0])), 1))
    write_maps(tmp_path, detector.fitted_, camera, batch)
    assert {path.name for path in tmp_path.iterdir()} == {"shot 0.map.tiff", "shot 0.overlay.png"}


def test_classes_are_learned_from_it(camera, detector):
    renamed = camera.with_samples([replace(sample, split="") for sample in labelled(camera).samples])
    classifier = Classifier.from_detector(detector, epochs=1, device="cpu", cache=False).fit(renamed)
    assert classifier.classes_ == ("good", "spot")
    assert len(classifier.predict(camera).ids) == NORMAL + 2 * ODD - 1


def entries(work):
    """How often each function of `unlike.data` is entered while `work` goes on."""
    counts = Counter()
    folder = str(Path(unlike.data.__file__).parent)

    def watch(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(folder):
            counts[Path(frame.f_code.co_filename).name, frame.f_code.co_name] += 1

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        work()
    finally:
        sys.setprofile(before)
    return counts


@pytest.mark.parametrize("kind", ["folder", "array"])
def test_a_score_opens_its_source_once_however_many_images_there_are(kind, detector, tmp_path):
    found = []
    for count in (3, 30):
        images = stripes(count, size=16, channels=1)
        if kind == "folder":
            for number, image in enumerate(images):
                write_png(tmp_path / f"{count}/{number:02}.png", image)
        named = tmp_path / str(count) if kind == "folder" else images
        found.append(entries(lambda named=named: detector.score(named)))
    few, many = ({name: number for name, number in counts.items() if name[0] == "source.py"} for counts in found)
    assert few["source.py", "open_source"] == 1
    assert few == many
