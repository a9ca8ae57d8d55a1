"""Wording: the verdict says what the numbers say, and warns before anyone believes them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from report_fakes import evaluate_fake

from unlike.data.input_spec import InputSpec
from unlike.evaluation.evaluate import ORACLE, PROMISES
from unlike.evaluation.metrics import measure_images
from unlike.evaluation.pixels import PixelSpool
from unlike.records import Estimate, Metrics
from unlike.report import wording

FOUND = Estimate(0.62, 0.55, 0.69)


def judged(alarms, detected=FOUND, promised=0.01, **counts):
    image = {"false_alarm_rate": alarms, "detection_rate": detected}
    overall = Metrics(
        counts.get("normal", 1720), counts.get("anomalous", 92), {key: value for key, value in image.items() if value}
    )
    return replace(evaluate_fake(2, 2), overall=overall, promised_false_alarms=promised, calibrated_on=199)


def titles(evaluation):
    return [caution.title for caution in wording.cautions(evaluation)]


def spoken(evaluation):
    return " ".join(wording.headline(evaluation)).replace("\u00a0", " ")


def test_the_verdict_in_plain_words():
    assert spoken(judged(Estimate(0.007, 0.004, 0.012))) == (
        "At the promised 1 % false alarms it finds 62 % [55, 69] of the 92 anomalous images. "
        "It raised a false alarm on 0.7 % [0.4, 1.2] of the 1,720 normal images, as promised."
    )


@pytest.mark.parametrize(
    ("alarms", "words", "warned"),
    [
        (Estimate(0.005, 0.001, 0.02), "as promised", False),
        (Estimate(0.02, 0.005, 0.04), "within what chance allows", False),
        (Estimate(0.2, 0.15, 0.25), "more than promised", True),
        (Estimate(0.2), "more than promised", True),
    ],
)
def test_a_broken_promise_is_told_from_chance(alarms, words, warned):
    evaluation = judged(alarms)
    assert spoken(evaluation).endswith(f"{words}.")
    assert ("More false alarms than promised" in titles(evaluation)) == warned


def test_what_one_class_alone_cannot_say_is_not_said():
    only_normal = spoken(judged(Estimate(0.007), None, anomalous=0))
    assert "cannot be said: there were none" in only_normal
    assert "0.7 %" in only_normal
    only_anomalous = spoken(judged(None, normal=0))
    assert "62 % [55, 69]" in only_anomalous
    assert "no normal image" in only_anomalous


def test_leaks_and_broken_images_are_named():
    evaluation = evaluate_fake(40, 40, leaked=["a.png", "b.png"], unreadable=[("c.png", "is empty (0 bytes)")])
    leaked, unreadable = wording.cautions(evaluation)
    assert leaked.title == "2 test images were also used in fitting"
    assert leaked.names == ("a.png", "b.png")
    assert unreadable.title == "1 image could not be used, or not in full"
    assert unreadable.names == ("c.png: is empty (0 bytes)",)


def test_synthetic_defects_are_called_so_before_anything_else():
    first, *_ = wording.cautions(replace(evaluate_fake(40, 40, leaked=["a.png"]), synthetic=True))
    assert first.title == "The defects are synthetic"
    assert first.grave


def test_a_sound_evaluation_needs_no_caution():
    assert titles(evaluate_fake(40, 40)) == []


def test_few_images_are_said_to_be_few():
    assert titles(evaluate_fake(40, 5)) == ["Few images"]


def test_metrics_left_out_are_named_with_the_reason():
    overall = Metrics(40, 40, left_out={"auroc": "one class", "pixel.aupro": "no masks", "pixel.auroc": "no masks"})
    (caution,) = wording.cautions(replace(evaluate_fake(40, 40), overall=overall))
    assert caution.names == ("AUROC: one class", "AUPRO, Pixel AUROC: no masks")
    assert not caution.grave


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0 %"), (0.0004, "0.04 %"), (0.03, "3.0 %"), (0.5, "50 %"), (0.9996, "99.96 %"), (1.0, "100 %")]
)  # fmt: skip
def test_no_share_is_rounded_to_certainty(share, text):
    assert wording.percent(share) == text.replace(" ", "\u00a0")


def test_figures_that_are_not_finite_are_dashes():
    nothing = Estimate(float("nan"), float("nan"), float("inf"))
    assert wording.value_text("image.accuracy", nothing) == wording.interval_text("image.accuracy", nothing) == "—"


def test_a_threshold_from_few_images_is_given_the_slack_it_has():
    """With 20 held out at 4.76 %, the true rate is Beta(1, 20): 14 of 100 is no proof, 14 of 100 at 1,999 is."""
    few = replace(judged(Estimate(0.14, 0.08, 0.22), normal=100, promised=0.0477), calibrated_on=20)
    many = replace(few, calibrated_on=1999)
    assert "More false alarms than promised" not in titles(few)
    assert "More false alarms than promised" in titles(many)


def test_every_figure_that_is_measured_is_described_and_no_other():
    images = measure_images(np.array([1.0, 2.0]), np.array([False, True]), threshold=1.5).image
    with PixelSpool(InputSpec(8, 8, 3)) as spool:
        pixels = spool.measure()[""].left_out
    at = [f"{rate}_at_{100 * share:g}" for share in PROMISES for rate in ("detection_rate", "false_alarm_rate")]
    assert set(wording.TERMS) == {*(f"image.{name}" for name in [*images, *at]), *pixels}


def test_oracles_are_those_that_an_evaluation_names():
    assert tuple(key for key, term in wording.TERMS.items() if term.oracle) == ORACLE


def test_a_rule_that_promises_nothing_is_not_said_to_keep_it():
    nothing = replace(judged(Estimate(0.2, 0.15, 0.25)), promised_false_alarms=None)
    assert spoken(nothing) == (
        "At its threshold it finds 62 % [55, 69] of the 92 anomalous images. "
        "It raised a false alarm on 20 % [15, 25] of the 1,720 normal images."
    )
    assert "More false alarms than promised" not in titles(nothing)
