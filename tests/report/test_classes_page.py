"""The page about a classifier: what it says, and that nothing in it runs or loads."""

import json

import numpy as np
import pytest

from unlike.evaluation.classes import measure_classes
from unlike.records import Unreadable
from unlike.report import figures
from unlike.report.classes import render_classes, write_classes

CONFUSION = np.array([[30, 2], [5, 25]])


class Learned:
    """What the page asks of a classifier."""

    history_ = tuple({"epoch": epoch, "train": 1 / epoch, "validation": 1 / epoch} for epoch in (1, 2))

    def describe(self):
        return {"finetune": {"dropout": 0.5, "source": "<b>bold</b>"}, "training": {"keep": "validation"}}


def test_the_page_says_what_was_measured():
    page = render_classes(Learned(), measure_classes(("cat", "dog"), CONFUSION, "test"))
    assert "62 images of 2 classes" in page
    assert "88.7\u00a0%" in page
    assert "Confusion matrix: 55 of 62 images on the diagonal" in page
    assert "Training and validation loss over 2 epochs; epoch 2 was kept." in page
    assert "Validation" not in page.split("<footer>")[0].replace("Training and validation", "")
    assert "http" not in page.replace("http-equiv", "")


def test_validation_images_and_few_of_them_and_known_ones_are_cautioned_of():
    found = measure_classes(("cat", "dog"), np.array([[3, 0], [0, 2]]), "validation")
    page = render_classes(Learned(), found)
    assert "5 validation images of 2 classes" in page
    assert "Validation accuracy" in page
    assert "they chose the best epoch" in page
    assert "With 2 images of a class" in page
    lost = (Unreadable("x.png", "is empty"),)
    page = render_classes(Learned(), measure_classes(("cat", "dog"), CONFUSION, "test", ("1.png",), lost))
    assert "1 image known from training" in page
    assert "x.png: is empty" in page


def test_names_are_escaped_and_no_history_draws_no_curve():
    class Silent(Learned):
        history_ = ()

    page = render_classes(Silent(), measure_classes(("<script>x</script>", "dog"), CONFUSION, "test"))
    assert "<script>" not in page
    assert "<b>bold" not in page
    assert "Loss while training" not in page
    assert 'id="curves"' not in page


def test_a_folder_with_metrics_and_a_page(tmp_path):
    write_classes(Learned(), measure_classes(("cat", "dog"), CONFUSION, "test"), tmp_path / "out")
    assert json.loads((tmp_path / "out/metrics.json").read_text())["images"] == 62
    assert (tmp_path / "out/report.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.parametrize("classes", [2, 30, 31])
def test_a_confusion_matrix_has_numbers_where_they_fit(classes):
    counts = np.diag(np.arange(classes))
    figure = figures.confusion(counts, [f"a/rather/long/name/of/{number}" for number in range(classes)])
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == (list(map(str, range(1, classes))) if classes <= 30 else [])
    assert max(len(label.get_text()) for label in axes.get_yticklabels()) <= 16
    assert figures.svg(figure).startswith("data:image/svg+xml")
