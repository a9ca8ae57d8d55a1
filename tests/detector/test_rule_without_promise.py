"""A threshold rule that promises nothing decides as any other, and nowhere is a promise made in its name."""

from __future__ import annotations

import csv
import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest

from conftest import stripes, write_png
from unlike import Detector
from unlike.calibration.thresholds import THRESHOLDS, NoSettings, Promise
from unlike.cli import run
from unlike.data.source import open_source
from unlike.evaluation import evaluate, to_json
from unlike.report import write_evaluation
from unlike.report.wording import headline

WORDS = "3 standard deviations above the mean of normal images"
CHOICES = ["--model", "pixels", "--scorer", "gaussian", "--set", "decision.threshold=k-sigma", "--device", "cpu"]


class KSigma:
    """The mean of normal scores and three of their standard deviations."""

    Config, needs_labels = NoSettings, False

    def __init__(self, false_alarms="auto", config=None):
        self.false_alarms = false_alarms

    def fit(self, scores, weights=None, anomalous=None):
        self.threshold_ = float(scores.mean() + 3 * scores.std())
        return self

    @property
    def promise_(self):
        return Promise(None, WORDS)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(THRESHOLDS._places, "k-sigma", f"{__name__}:KSigma")


def settings(**decision):
    return {"decision": {"threshold": "k-sigma", **decision}, "model": {"side": 4}}


@pytest.fixture
def fitted(mvtec):
    return Detector("pixels", "gaussian", settings=settings(), device="cpu").fit(mvtec)


def test_it_decides_before_and_after_saving(fitted, mvtec, tmp_path):
    decision = fitted.fitted_.decision
    assert decision.threshold == pytest.approx(decision.scores.mean() + 3 * decision.scores.std())
    assert decision.region_threshold == pytest.approx(decision.peaks.mean() + 3 * decision.peaks.std())
    assert decision.false_alarms is None
    fitted.save(tmp_path / "d")
    facts = tomllib.loads((tmp_path / "d/detector.toml").read_text())["fitted"]
    assert "false_alarms" not in facts
    assert facts["promise"] == WORDS
    loaded = Detector.load(tmp_path / "d", device="cpu")
    assert loaded.fitted_.decision.thresholds == decision.thresholds
    verdicts = loaded.judge(mvtec / "test")
    assert verdicts == fitted.judge(mvtec / "test")
    assert {verdict.anomalous for verdict in verdicts} == {True, False}
    assert all(verdict.anomalous == (verdict.score > decision.threshold) for verdict in verdicts)
    assert all(0 < verdict.p_value <= 1 for verdict in verdicts)


def test_a_report_promises_nothing(fitted, mvtec, tmp_path):
    found = evaluate(fitted, mvtec)
    assert found.promised_false_alarms is None
    assert to_json(found)["promised_false_alarms"] is None
    assert "promised" not in " ".join(headline(found))
    write_evaluation(fitted, found, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "Its rule promises no rate of false alarms." in page
    assert "by the conformal quantile" not in page
    assert json.loads((tmp_path / "metrics.json").read_text())["promised_false_alarms"] is None


def test_each_category_has_a_threshold_of_its_own_that_promises_nothing(tmp_path):
    source = open_source(stripes(80, size=16))
    samples = [replace(sample, category="ab"[number % 2]) for number, sample in enumerate(source.samples)]
    apart = settings(calibration="held-out")
    fitted = Detector("pixels", "gaussian", settings=apart, device="cpu").fit(source.with_samples(samples))
    decision = fitted.fitted_.decision
    assert list(decision.thresholds) == ["", "a", "b"]
    assert {threshold.promise for threshold in decision.thresholds.values()} == {Promise(None, WORDS)}
    assert decision.false_alarms is None
    fitted.save(tmp_path / "d")
    assert Detector.load(tmp_path / "d").fitted_.decision.thresholds == decision.thresholds


def test_the_command_line_says_no_promise(mvtec, tmp_path, capsys):
    detector = str(tmp_path / "d")
    assert run(["fit", str(mvtec), "-o", detector, *CHOICES]) == 0
    said = capsys.readouterr().err
    assert f"No promise: {WORDS} (" in said
    assert "Promise: at most" not in said
    assert run(["score", detector, str(mvtec / "test"), "-o", str(tmp_path / "scores.csv")]) == 0
    assert (
        f" of 20 images anomalous (score above {Detector.load(detector).fitted_.decision.threshold:.4g}, {WORDS})"
        in (capsys.readouterr().err)
    )
    rows = list(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()))
    assert len(rows) == 20
    assert {row["anomalous"] for row in rows} == {"0", "1"}
    assert run(["evaluate", detector, str(mvtec), "-o", str(tmp_path / "report")]) == 0
    shown = capsys.readouterr()
    assert "10 normal and 10 anomalous images" in shown.out
    said = [line for line in shown.out.splitlines() if "independent normal images that calibrate" not in line]
    assert "promise" not in "\n".join(said)  # but for figures at other promises, which are left out
    assert "Its rule promises no rate of false alarms." in (tmp_path / "report/report.html").read_text()


def test_a_single_strange_image_is_judged(fitted, tmp_path):
    write_png(tmp_path / "one.png", np.full((32, 32, 3), 255, np.uint8))
    (verdict,) = fitted.judge(tmp_path / "one.png")
    assert verdict.anomalous
    assert verdict.regions
