"""What a report shows of the code space and of other detectors: each picture is there, or a sentence, or nothing."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from report_fakes import FakeDetector, FakeEncoder, evaluate_fake, evaluate_index
from sklearn.metrics import roc_auc_score

from fakes import decision_of
from unlike.data.input_spec import InputSpec
from unlike.data.source import open_source
from unlike.report import codespace
from unlike.report.codespace import DIRECTIONS, GROUPS, POSITIONS, compare, explore, rate_all
from unlike.report.page import render, write_page


@pytest.fixture(scope="module")
def index():
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8)).astype(np.uint8)
    return open_source(images, np.arange(40) % 4 == 0)


@pytest.fixture(scope="module")
def alone(index):
    return render(FakeEncoder(index), evaluate_index(index))


def positions(detector, evaluation, beside=()):
    """The first picture, without waiting for the others."""
    return next(explore(rate_all(detector, evaluation, dict(beside))[0]))


def explored(detector, evaluation, beside=()):
    return {item.heading: item for item in explore(rate_all(detector, evaluation, dict(beside))[0])}


def section(html, title):
    return html.partition(f"<h2>{title}</h2>")[2].partition("</section>")[0]


def test_every_picture_of_the_code_space_is_there(alone):
    assert '<a href="#codes">' in alone
    text = section(alone, "The code space")
    assert re.findall(r'alt="([^"]*)"', text) == [
        "PCA of 40 images",
        "Edits of the code of this detector, which has 64 elements",
        "The codes of 40 images in 3 clusters",
    ]
    assert re.findall("<summary>(.*)</summary>", text) == [DIRECTIONS, GROUPS]  # the first picture is not folded
    assert re.findall(r'src="data:image/(\w+)', text) == ["svg", "jpeg", "svg"]


def test_nothing_is_shown_twice_without_another_detector(alone):
    assert "Beside other detectors" not in alone
    assert alone.count('alt="Histograms') == 1
    assert "Largest and smallest scores" not in alone


def test_few_images_are_encoded_where_they_are_large(index, monkeypatch):
    monkeypatch.setattr(codespace, "FEWEST", 12)
    detector, evaluation = FakeEncoder(index), evaluate_index(index)
    detector.fitted_.spec = InputSpec(2048, 2048, 1)
    assert positions(detector, evaluation).alt == "PCA of 12 images"
    assert detector.asked == [12]
    detector.fitted_.spec = InputSpec(640, 640, 1)  # 20 of them are 8 million pixels
    assert positions(detector, evaluation).alt == "PCA of 20 images"


def test_an_image_that_has_gone_since_it_was_scored_is_no_dot(index):
    assert positions(FakeEncoder(index, gone=("0", "7")), evaluate_index(index)).alt == "PCA of 38 images"


def test_codes_that_cannot_be_shown_leave_the_rest_of_the_report(index):
    html = render(FakeEncoder(index, codes=1.0), evaluate_index(index))
    assert html.count("Not shown: the codes of all 40 images are the same") == 1
    assert "How this was made" in html


def test_a_model_without_a_decoder_has_no_edits(index):
    assert list(explored(FakeEncoder(index, decodes=False), evaluate_index(index))) == [POSITIONS, GROUPS]


def test_too_few_images_say_so_picture_by_picture(index):
    evaluation = evaluate_index(index)
    scores = replace(evaluation.scores, ids=("0", "1"), image=np.ones(2))
    judged = {"p_values": np.ones(2), "image_thresholds": np.full(2, 1.9), "alarms": np.zeros(2, bool)}
    few = replace(evaluation, samples=evaluation.samples[:2], scores=scores, **judged)
    found = explored(FakeEncoder(index), few)
    assert "PCA needs at least 3 images, came 2" in found[POSITIONS].reasons[0]
    assert found[DIRECTIONS].source
    html = render(FakeEncoder(index), few)
    assert "Groups among the codes, not shown: expected at least as many points as clusters" in html
    assert html.count("<summary>") == 1


@pytest.mark.parametrize("fault", [ValueError("odd"), RuntimeError("odd"), MemoryError("odd"), OSError("odd")])
def test_whatever_goes_wrong_with_a_picture_is_a_reason(index, fault):
    assert positions(FakeEncoder(index, fault=fault), evaluate_index(index)).reasons == ("odd",)


def test_the_report_is_written_without_a_picture_that_went_wrong(index, tmp_path):
    write_page(FakeEncoder(index, fault=MemoryError("no room")), evaluate_index(index), tmp_path / "report.html")
    assert "Not shown: no room." in (tmp_path / "report.html").read_text()


def test_what_goes_wrong_with_one_picture_leaves_the_others(index, monkeypatch):
    def show_edits(*_, **__):
        raise MemoryError("no room")

    monkeypatch.setattr(codespace, "show_edits", show_edits)
    found = explored(FakeEncoder(index), evaluate_index(index))
    assert found[DIRECTIONS].reasons == ("no room",)
    assert found[POSITIONS].source
    assert found[GROUPS].source


def test_a_mistake_in_the_program_is_no_reason(index):
    with pytest.raises(KeyError):
        positions(FakeEncoder(index, fault=KeyError("bug")), evaluate_index(index))


def test_an_evaluation_that_no_longer_knows_its_images_has_no_such_section(index):
    assert "The code space" not in render(FakeDetector(), evaluate_fake(9, 9))
    assert rate_all(FakeEncoder(index), evaluate_fake(9, 9), {}) == ([], ())


def test_other_detectors_stand_beside_it_on_the_same_images(index, tmp_path):
    told = []
    others = {"<other>": FakeEncoder(index), "poor": FakeEncoder(index, lost=("3",))}
    evaluation = evaluate_index(index)
    write_page(FakeEncoder(index), evaluation, tmp_path / "a.html", others, lambda *counts: told.append(counts))
    html = (tmp_path / "a.html").read_text()
    assert told == [(40, 40), (40, 40)]
    text = section(html, "Beside other detectors")
    assert "All of them scored the same 39 images." in text
    assert "Not shown: 1 image that poor cannot score, such as 3: is empty." in text
    assert re.findall(r"<bdi>(.*)</bdi>", text) == ["this detector", "&lt;other&gt;", "poor"]
    assert text.count("conv by residual") == 3
    assert re.findall(r'alt="([^"]*)"', text) == [
        "Scores of 39 images by 3 detectors",
        "Largest and smallest scores of 39 images",
    ]
    assert '<a href="#beside">' in html


def test_each_detector_has_its_own_figures(index):
    evaluation = evaluate_index(index)
    seen, reasons = rate_all(FakeEncoder(index), evaluation, {"other": FakeEncoder(index)})
    rows = compare(seen, reasons).rows
    assert [one.name for one, _ in rows] == ["this detector", "other"]
    anomalous, means = evaluation.anomalous, index.array.block(0, 40).mean(axis=(1, 2, 3))
    for (_, metrics), scores in zip(rows, (evaluation.scores.image, means), strict=True):
        assert metrics.image["auroc"].value == pytest.approx(roc_auc_score(anomalous, scores))
        assert metrics.image["detection_rate"].value == (scores[anomalous] > 1.9).mean()


def test_beside_another_colours_are_labels_and_every_space_has_a_panel(index, monkeypatch):
    drawn = []
    show = codespace.show_positions
    monkeypatch.setattr(codespace, "show_positions", lambda *args: drawn.append(show(*args)) or drawn[-1])
    positions(FakeEncoder(index), evaluate_index(index))
    positions(FakeEncoder(index), evaluate_index(index), {"other": FakeEncoder(index)})
    titles = [[axes.get_title(loc="left") for axes in shown.figure.axes] for shown in drawn]
    assert titles == [["images", "this detector", "this detector, by score"], ["images", "this detector", "other"]]
    assert ["another scorer may find them" in shown.caption for shown in drawn] == [True, False]


def test_a_detector_that_can_score_nothing_is_named(index):
    blind = FakeEncoder(index, lost=tuple(map(str, range(40))))
    html = render(FakeEncoder(index, fault=MemoryError("no room")), evaluate_index(index), {"blind": blind})
    text = section(html, "Beside other detectors")
    assert "Not shown: blind: the array: no image of 40 can be scored: 0 is empty." in text
    assert "<table>" not in text


def test_a_detector_whose_codes_cannot_be_shown_leaves_those_of_the_others(index):
    flat = FakeEncoder(index, codes=1.0)
    found = positions(FakeEncoder(index), evaluate_index(index), {"flat": flat})
    assert found.source
    assert found.reasons[0].startswith("flat: the codes of all 40 images are the same")
    found = explored(flat, evaluate_index(index), {"other": FakeEncoder(index)})
    assert found[POSITIONS].source
    assert found[POSITIONS].reasons[0].startswith("this detector: the codes of all 40")
    assert list(found) == [POSITIONS]


def test_a_threshold_for_each_category_judges_the_images_of_it(index):
    detector = FakeEncoder(index)
    detector.fitted_.decision = decision_of({"": 1.0, "left": 2.0}, [1.0, 2.0])
    samples = [replace(sample, category="left") for sample in index.samples]
    (one,), _ = rate_all(detector, replace(evaluate_index(index), samples=tuple(samples)), {})
    assert one.threshold == 2.0
    (one,), _ = rate_all(detector, replace(evaluate_index(index), samples=(*samples[:20], *index.samples[20:])), {})
    assert one.thresholds.tolist() == [2.0] * 20 + [1.0] * 20
    assert one.threshold is None
