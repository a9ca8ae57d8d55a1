"""The page: complete in itself, safe against any name, and whole whatever is missing from the evaluation."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from report_fakes import FakeDetector, evaluate_fake

from unlike.errors import OutputError
from unlike.records import Estimate
from unlike.report.page import render, write_page

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Tags with their attributes, the text of each element, and whether every tag is closed."""

    def __init__(self, html):
        super().__init__()
        self.html, self.tags, self.texts, self._open = html, [], [], []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style" and data.strip():
            self.texts.append(data.strip())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


def page_of(evaluation, detector=None):
    return Page(render(detector or FakeDetector(), evaluation))


@pytest.fixture(scope="module")
def usual():
    return page_of(evaluate_fake())


def test_the_file_is_written_whole(tmp_path):
    path = tmp_path / "new" / "report.html"
    write_page(FakeDetector(), evaluate_fake(3, 3), path)
    assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/report\.html: cannot be written"):
        write_page(FakeDetector(), evaluate_fake(3, 3), tmp_path / "file" / "report.html")


def test_the_page_loads_nothing(usual):
    assert all(image["src"].startswith("data:image/") for image in usual.all("img"))
    assert all(link["href"].startswith("#") for link in usual.all("a"))
    assert not {"script", "link", "iframe", "object", "embed"} & {tag for tag, _ in usual.tags}
    css = usual.html.partition("<style>")[2].partition("</style>")[0]
    assert "{" in css
    assert "url(" not in css
    assert "@import" not in css


def test_links_within_the_page_lead_somewhere(usual):
    anchors = {attributes.get("id") for _, attributes in usual.tags}
    assert {link["href"][1:] for link in usual.all("a")} <= anchors
    assert len(usual.all("a")) == 5


def test_every_picture_has_words_and_every_column_a_header(usual):
    assert all(image["alt"].strip() for image in usual.all("img"))
    assert all(header.get("scope") in ("col", "row", "rowgroup") for header in usual.all("th"))
    assert usual.all("html") == [{"lang": "en"}]


HOSTILE = "<script>alert(1)</script>\"' onerror=x &amp; {{ 7*7 }} </style>"


def test_hostile_names_stay_text():
    evaluation = evaluate_fake(
        25, 25, kinds=(HOSTILE, "<b>"), name=lambda index, kind: f"{HOSTILE}{index}",
        unreadable=[(HOSTILE, HOSTILE)], leaked=[HOSTILE],
    )  # fmt: skip
    detector = FakeDetector()
    detector.describe = lambda: {HOSTILE: {HOSTILE: HOSTILE}, "training": {"keep": "validation"}}
    page = page_of(evaluation, detector)
    assert not {"script", "b>"} & {tag for tag, _ in page.tags}
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert page.text.count(HOSTILE) > 10
    assert "{{ 7*7 }}" in page.text


def test_hostile_categories_stay_text():
    evaluation = evaluate_fake(25, 25)
    page = page_of(replace(evaluation, categories={HOSTILE: evaluation.overall, "b": evaluation.overall}))
    assert "script" not in {tag for tag, _ in page.tags}
    assert HOSTILE[-59:] in page.text


def test_letters_that_cannot_be_written_or_shown_do_no_harm(tmp_path):
    letters = "\udcff\udcfe \x00\x07\x1b \u202egnp 裂纹"
    evaluation = evaluate_fake(
        3, 3, kinds=(letters, "b"), name=lambda index, kind: f"{letters}{index}.png", leaked=[letters]
    )
    write_page(FakeDetector(), evaluation, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not set(text) & set("\x00\x07\x1b\u202e")
    assert "\ufffdgnp 裂纹5.png" in text


def test_very_long_names_keep_their_end():
    page = page_of(evaluate_fake(20, 0, name=lambda index, kind: "folder/" * 500 + f"{index:03}.png"))
    names = [text for text in page.texts if text.endswith(".png")]
    assert len(names) == 8
    assert max(map(len, names)) <= 90
    assert len(set(names)) == 8


def test_thousands_of_leaked_and_unreadable_images_are_counted_not_listed():
    leaked = [f"leak{number}.png" for number in range(5000)]
    page = page_of(evaluate_fake(25, 25, leaked=leaked, unreadable=[(name, "is empty") for name in leaked]))
    assert sum("leak" in text for text in page.texts) == 24
    assert page.text.count("and 4,988 more") == 2
    assert "5,000 more could not be read" in page.text


ORDER = ["Metrics", "Per kind of defect", "Scores and curves", "Gallery", "How this was made"]


def test_sections_come_in_the_order_a_reader_wants(usual):
    headings = [text for text in usual.texts if text in ORDER]
    assert "".join(headings).endswith("".join(ORDER))  # the links to them come first
    assert usual.texts.index("160 images: 120 normal, 40 anomalous") < usual.texts.index("Metrics")


def test_the_headline_and_the_table_have_the_same_numbers(usual):
    found = evaluate_fake().overall.image
    detected = f"{100 * found['detection_rate'].value:.1f} %"
    text = usual.text.replace("\u00a0", " ")
    assert text.count(detected) >= 2  # tile and table
    assert f"{found['auroc'].value:.3f}" in text
    assert f"{found['auroc'].low:.3f} to {found['auroc'].high:.3f}" in text


def test_oracle_metrics_stand_apart_and_are_marked(usual):
    text = usual.text
    assert text.index("Oracle — the threshold was chosen with the test labels") < text.index("Best F1 oracle")
    assert text.index("Best F1 oracle") > text.index("Accuracy of calling all anomalous")
    assert text.count("oracle") == 2


def test_metrics_nobody_described_are_shown_all_the_same():
    evaluation = evaluate_fake(25, 25)
    overall = replace(evaluation.overall, image={"top_speed": Estimate(0.5)}, pixel={"auroc": Estimate(0.25, 0.2, 0.3)})
    text = page_of(replace(evaluation, overall=overall)).text
    assert "Top speed 0.500" in text
    assert "Pixel AUROC 0.250 0.200 to 0.300" in text


def test_figures_that_are_not_finite_never_show():
    evaluation = evaluate_fake(25, 25)
    image = dict.fromkeys(evaluation.overall.image, Estimate(float("nan"), float("nan"), float("nan")))
    text = page_of(replace(evaluation, overall=replace(evaluation.overall, image=image))).text
    assert "nan" not in text.lower().replace("anomal", "").split()


def test_the_gallery_prints_what_is_known_of_an_image():
    evaluation = evaluate_fake(4, 4, scores=[1.0, 1.1, 1.2, 2.0, 1.05, 3.0, 4.0, 5.0])
    evaluation.p_values[4] = 0.875
    card = (
        page_of(evaluation).text.partition("Worst misses")[2].partition("Worst false alarms")[0].replace("\u00a0", " ")
    )
    assert "The only anomalous image called normal." in card
    assert "test/bent/004.png anomalous ( bent ) · called normal · score 1.05 , not above 1.9 · p = 0.88" in card


def test_images_that_have_all_gone_leave_the_rest_of_the_page():
    detector = FakeDetector()
    detector.explain = lambda images, samples: []
    page = page_of(evaluate_fake(2, 2), detector)
    assert not pictures(page, "Image ")
    assert not pictures(page, "Colours of the maps")
    assert pictures(page, "Histograms")


def test_a_kind_that_has_no_name_is_not_printed():
    text = page_of(evaluate_fake(2, 2, kinds=("anomalous",))).text
    assert "anomalous · called" in text
    assert "( anomalous )" not in text


def test_settings_and_facts_are_all_there(usual):
    for words in ("widths 12, 24, 48", "learning_rate 0.002", "bottleneck —", "resume no", "from 199 normal images"):
        assert words in usual.text.replace("\u00a0", " ")
    assert "at most 5 %" in usual.text.replace("\u00a0", " ")


def pictures(page, start):
    return [image["alt"] for image in page.all("img") if image["alt"].startswith(start)]


def test_one_class_alone_has_no_curves_that_need_two(usual):
    for page in (page_of(evaluate_fake(30, 0)), page_of(evaluate_fake(0, 30))):
        assert not pictures(page, "ROC")
        assert not pictures(page, "Precision-recall")
        assert pictures(page, "Histograms")
        assert "Metrics left out" in page.text
    assert pictures(usual, "ROC")
    assert pictures(usual, "Precision-recall")


def test_a_model_that_does_not_train_has_no_loss_curve(usual):
    assert not pictures(page_of(evaluate_fake(9, 9), FakeDetector(history=[])), "Training")
    assert pictures(usual, "Training") == ["Training and validation loss over 12 epochs; epoch 8 was kept."]


def test_a_model_that_reconstructs_nothing_has_no_such_picture(usual):
    assert not pictures(
        page_of(evaluate_fake(9, 9), FakeDetector(reconstructs=False)), "Its reconstruction by the model"
    )
    assert pictures(usual, "Its reconstruction by the model")


def test_one_category_is_not_compared_with_itself(usual):
    assert "Per category" not in usual.text
    evaluation = evaluate_fake(25, 25)
    several = {"bottle": evaluation.overall, "cable": evaluation.overall}
    page = page_of(replace(evaluation, categories=several))
    assert "Per category" in page.text
    assert "50 images of 2 categories" in page.text
    assert len(pictures(page, "Detection rate and AUROC with intervals, by category")) == 1


def test_one_kind_of_defect_has_a_row_but_no_chart():
    page = page_of(evaluate_fake(25, 25, kinds=("bent",)))
    assert "Per kind of defect" in page.text
    assert not pictures(page, "Detection rate and AUROC with intervals")


@pytest.mark.parametrize(
    ("evaluation", "shown"),
    [
        (evaluate_fake(1, 0), 1),
        (evaluate_fake(0, 1), 1),
        (evaluate_fake(1, 1), 2),
        (evaluate_fake(2, 1), 3),
        (evaluate_fake(4, 4, scores=[1.0] * 8), 8),
    ],
    ids=["one normal", "one anomalous", "two", "three", "equal scores"],
)
def test_hardly_anything_still_makes_a_page(evaluation, shown):
    page = page_of(evaluation)
    assert len(set(pictures(page, "Image "))) == shown
    assert "How this was made" in page.text


@pytest.mark.parametrize(
    ("shape", "dtype", "note"),
    [
        ((200, 60, 1), np.uint8, ""),
        ((40, 300, 3), np.uint16, "as black"),
        ((64, 64, 5), np.float32, "the mean is shown"),
    ],
)
def test_images_of_any_kind_are_shown(shape, dtype, note):
    page = page_of(evaluate_fake(9, 9), FakeDetector(shape, dtype))
    assert note in page.text
    assert len(pictures(page, "Map of strangeness")) == len(pictures(page, "Image "))


def test_a_large_evaluation_of_noisy_images_stays_below_five_megabytes(rng):
    evaluation = evaluate_fake(3000, 1000)
    noise = rng.integers(0, 256, (256, 256, 3)).astype(np.uint8)
    detector = FakeDetector((256, 256, 3), images={sample.id: noise for sample in evaluation.samples})
    assert 1_000_000 < len(render(detector, evaluation)) < 5_000_000


def test_a_report_needs_no_torch_and_no_window():
    code = (
        "import sys; import unlike.report; "
        "print(sorted({'torch', 'lightning_fabric', 'unlike.detector', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
