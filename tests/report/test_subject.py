"""A real detector answers what pages and pictures ask."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import stripes
from unlike import Detector, write_report
from unlike.data.source import open_source
from unlike.evaluation import evaluate
from unlike.report.subject import subject_of


@pytest.fixture(scope="module")
def detector():
    return Detector(model="conv", epochs=1, false_alarms=0.1, device="cpu").fit(stripes(40))


def test_every_question_is_answered(detector):
    subject, index = subject_of(detector), open_source(stripes(6))
    codes = subject.encode(index)
    assert subject.decode(codes.grids).shape == (6, 32, 32, 3)
    (batch,) = subject.stream(index)
    explained = subject.explain(index, index.samples)
    np.testing.assert_allclose([item.score for item in explained], batch.image, rtol=1e-5)
    assert subject.describe()["model"]["name"] == "conv"
    assert subject.fitted_.decision is detector.fitted_.decision
    assert len(subject.fitted_.history) == 1


def test_a_report_of_it_is_written_with_another_beside_it(detector, tmp_path):
    images = stripes(12)
    images[8:, 8:20, 8:20] = 255
    found = evaluate(detector, images, np.arange(12) >= 8)
    write_report(detector, found, tmp_path / "a.html", beside={"other": detector})
    text = (tmp_path / "a.html").read_text()
    assert "Beside other detectors" in text
    assert "The code space" in text
    assert "Its reconstruction by the model" in text
