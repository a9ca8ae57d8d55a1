"""A subject of a report and an evaluation that look like real ones, made of numbers alone."""

from __future__ import annotations

import zlib
from dataclasses import replace

import cv2
import numpy as np

from fakes import decision_of, fitted_of
from unlike.calibration.decision import is_anomalous
from unlike.data.input_spec import InputSpec
from unlike.errors import ConfigError
from unlike.evaluation.metrics import measure_images
from unlike.records import Codes, Evaluation, Explanation, Layer, Sample, ScoredBatch, Scores, Unreadable


class FakeDetector:
    """A detector as a report sees it. Its images are made from the ids, and `images` overrides them."""

    def __init__(self, shape=(48, 48, 3), dtype=np.uint8, reconstructs=True, history=None, images=None):
        self.shape, self.dtype, self.reconstructs, self.images = shape, np.dtype(dtype), reconstructs, images or {}
        decision = decision_of({"": 1.9}, np.random.default_rng(7).gamma(20, 0.06, 199))
        counts = {"train": 520, "validation": 81, "calibration": 199}
        history = losses_over(12) if history is None else history
        self.fitted_ = fitted_of(decision, InputSpec(*shape), counts=counts, history=history)

    def describe(self):
        return {
            "model": {"name": "conv", "widths": (12, 24, 48), "bottleneck": None},
            "scorer": {"name": "residual"},
            "training": {"epochs": 12, "learning_rate": 0.002, "keep": "validation", "device": "cpu", "resume": False},
            "fitted": {"images": 800, "threshold": 1.9},
        }

    def layers(self):
        return [Layer("encoder.0", "Conv2d(3, 12)", (12, 24, 24), 588), Layer("encoder.1", "ReLU()", (12, 24, 24), 0)]

    def explain(self, _images, samples):
        return [self._explain(sample) for sample in samples]

    def _explain(self, sample):
        random = np.random.default_rng(zlib.crc32(sample.id.encode("utf-8", "surrogatepass")))
        height, width, channels = self.shape
        y, x = np.mgrid[:height, :width] / max(height, width)
        waves = 0.5 + 0.3 * np.sin(9 * (x + y) + random.uniform(0, 6))
        map_ = np.abs(random.normal(0, 0.02, (height // 2, width // 2))) + 0.01
        image = np.repeat(waves[..., None], channels, axis=2)
        reconstruction = image.copy()
        if sample.anomalous:
            top, left = (int(random.uniform(0, side * 0.7)) for side in (height, width))
            image[top : top + height // 5, left : left + width // 5] = 0.05
            map_[top // 2 : (top + height // 5) // 2, left // 2 : (left + width // 5) // 2] += 0.4
            map_ = cv2.GaussianBlur(map_, (0, 0), 2)
        full = 1.0 if self.dtype.kind == "f" else np.iinfo(self.dtype).max
        image, reconstruction = ((part * full).astype(self.dtype) for part in (image, reconstruction))
        if sample.id in self.images:
            image = reconstruction = self.images[sample.id]
        return Explanation(sample, 1.0, image, map_.astype(np.float32), reconstruction if self.reconstructs else None)


class FakeEncoder(FakeDetector):
    """A detector whose code is the image's own pixels, and whose score is their mean; some cannot be read.

    `codes` is the one value of all codes, `decodes` says whether there is a way back, and `fault` is raised instead of a code.
    """

    def __init__(self, index, lost=(), gone=(), codes=None, decodes=True, fault=None):
        super().__init__()
        self.index, self.lost, self.gone, self.codes, self.decodes, self.fault = (
            index,
            lost,
            gone,
            codes,
            decodes,
            fault,
        )
        self.fitted_.spec = InputSpec(8, 8, 1)
        self.asked = []

    def stream(self, images):
        kept = [sample for sample in images.samples if sample.id not in self.lost]
        unreadable = tuple(Unreadable(s.id, "is empty") for s in images.samples if s.id in self.lost)
        scores = np.array([self._pixels(sample).mean() for sample in kept])
        yield ScoredBatch(
            kept, scores, np.zeros((len(kept), 8, 8)), [(8, 8)] * len(kept), np.zeros(len(kept)), unreadable
        )

    def encode(self, images):
        if self.fault:
            raise self.fault
        kept = [sample for sample in images.samples if sample.id not in self.gone]
        self.asked.append(len(kept))
        grids = np.stack([self._pixels(sample).reshape(4, 4, 4) for sample in kept]).astype(np.float32)
        return Codes(kept, grids if self.codes is None else np.full_like(grids, self.codes))

    def decode(self, grids):
        if not self.decodes:
            raise ConfigError("FakeModel has no decoder from codes to images")
        return np.clip(grids, 0, 255).astype(np.uint8).reshape(-1, 8, 8, 1)

    def explain(self, images, samples):
        return [Explanation(sample, 1.0, self._pixels(sample), np.ones((8, 8))) for sample in samples]

    def _pixels(self, sample):
        return self.index.array.take(np.array([sample.row]))[0]


def evaluate_index(index):
    """An evaluation of the 40 images of an index, 10 of them anomalous, whatever their scores."""
    samples = tuple(index.samples[row] for row in range(40))
    return replace(evaluate_fake(30, 10), samples=samples, source=index)


def losses_over(epochs):
    return [
        {"epoch": e, "train": 0.4 / e, "validation": 0.5 / e + 0.01 * max(0, e - 8), "learning_rate": 1e-3}
        for e in range(1, epochs + 1)
    ]


def evaluate_fake(
    normal=120,
    anomalous=40,
    *,
    kinds=("bent", "cut"),
    name=None,
    scores=None,
    unreadable=(),
    leaked=(),
    promised=0.05,
    seed=0,
):
    """An Evaluation of made-up scores; `name(index, kind)` makes the ids."""
    random = np.random.default_rng(seed)
    name = name or (lambda index, kind: f"test/{kind}/{index:03}.png")
    labels = ["good"] * normal + [kinds[i % len(kinds)] for i in range(anomalous)]
    samples = tuple(Sample(name(i, kind), anomalous=kind != "good", kind=kind) for i, kind in enumerate(labels))
    drawn = np.concatenate([random.gamma(20, 0.06, normal), random.gamma(12, 0.17, anomalous)])
    drawn = drawn if scores is None else np.asarray(scores, float)
    truth = np.array([sample.anomalous for sample in samples], bool)
    parts = {
        kind: ~truth | np.array([label == kind for label in labels]) for kind in dict.fromkeys(labels) if kind != "good"
    }
    return Evaluation(
        overall=measure_images(drawn, truth, 1.9),
        categories={"": measure_images(drawn, truth, 1.9)},
        kinds={kind: measure_images(drawn[rows], truth[rows], 1.9) for kind, rows in parts.items()},
        scores=Scores(tuple(sample.id for sample in samples), drawn, unreadable=tuple(Unreadable(*item) for item in unreadable)),
        samples=samples,
        p_values=np.linspace(1, 0.005, len(drawn)),
        image_thresholds=np.full(len(drawn), 1.9),
        alarms=is_anomalous(drawn, 1.9),
        threshold=1.9,
        promised_false_alarms=promised,
        leaked=tuple(leaked),
    )  # fmt: skip
