"""The page of a study: what it says, and what it must not claim."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from trivial import plan_of, result_of, trivial

from unlike.study import run_study
from unlike.study.page import render_study, write_results

__all__ = ["trivial"]
pytestmark = pytest.mark.usefixtures("trivial")


def words(page):
    return " ".join(re.sub(r"<[^>]+>", " ", page.split("</style>")[1]).replace("&nbsp;", " ").split())


def test_a_page_has_every_part(tmp_path):
    vary = {"experiment": {"level": [1, 2, 3], "other": ["a", "b"]}}
    plan = plan_of(vary=vary, seeds=4, about="What is <better>?", budget={"cpu_seconds": 1e4})
    results = run_study(plan, tmp_path)
    write_results(plan, results, tmp_path)
    page = (tmp_path / "report.html").read_text()
    said = words(page)
    assert "What is &lt;better&gt;?" in said
    assert "The highest mean score is 3.01" in said.replace("3.015", "3.01") or "The highest mean score is" in said
    for title in (
        "Tables",
        "Comparisons: score",
        "Figures",
        "Combinations",
        "Sensitivity to settings",
        "Training",
        "Clusters",
    ):
        assert title in said
    assert "Improvement over calling all anomalous" in said
    assert page.count("<img") == page.count("data:image/svg+xml;base64,") + page.count("data:image/jpeg;base64,")
    assert not re.search(r"(src|href)=\"(http|//)", page)
    assert (
        (tmp_path / "results.csv")
        .read_text()
        .startswith("cell,experiment.level,experiment.other,data,seed,state,score")
    )


def test_pictures_of_runs_are_shown_with_the_cell_they_are_of():
    plan = plan_of(seeds=2)
    result = result_of(plan, {"experiment.level": 1})
    page = render_study(plan, [replace(result, pictures={"before <and> after": "data:image/jpeg;base64,AAAA"})])
    assert re.search(r"<img [^>]*data:image/jpeg;base64,AAAA[^>]*alt=.1; textures: before &lt;and&gt; after.", page)
    assert "<figcaption>1; textures: before &lt;and&gt; after</figcaption>" in page
    assert "Pictures" not in words(render_study(plan, [result]))


def test_what_failed_and_what_was_not_run_is_said():
    plan = plan_of(seeds=3)
    results = [
        result_of(plan, {"experiment.level": 1}),
        result_of(plan, {"experiment.level": 2}, seed=1, error="<b>out of memory</b>"),
    ]
    said = words(render_study(plan, results))
    assert "1 run failed. They are left out of every figure below" in said
    assert "2; textures, seed 1: &lt;b&gt;out of memory&lt;/b&gt;" in said
    assert "7 runs not started" in said
    assert "Comparisons" not in said


def test_nothing_measured_is_a_page_too():
    plan = plan_of(seeds=1)
    said = words(render_study(plan, [result_of(plan, {"experiment.level": 1}, error="lost")]))
    assert "Nothing could be measured." in said
    assert "With 1 seed no interval can be given" in said


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        ({1: (0.1, 0.12, 0.11), 2: (0.5, 0.53, 0.52), 3: (0.2, 0.21, 0.23)}, "Its difference from every other cell is clear of chance."),
        ({1: (0.1, 0.12, 0.11), 2: (0.5, 0.53, 0.52), 3: (0.2, 0.9, 0.3)}, "Clear of chance is its difference from 1 of 2 others (1)."),
        ({1: (0.1, 0.9, 0.3), 2: (0.5, 0.53, 0.52), 3: (0.2, 0.9, 0.3)}, "No difference from another cell is clear of chance"),
        ({1: (0.1, 0.1, 0.1), 2: (0.5, 0.5, 0.5)}, "cannot be said: that takes several seeds that differ"),
        ({1: (0.5, 0.5, 0.5), 2: (0.5, 0.5, 0.5)}, "is 0.5, of 1 and 1 other."),
        ({1: (0.1, 0.12, 0.11)}, "The highest mean score is 0.11, of 1."),
    ],
)  # fmt: skip
def test_the_headline_claims_no_more_than_the_runs_show(scores, sentence):
    plan = plan_of(seeds=3)
    results = [
        result_of(plan, {"experiment.level": level}, seed=seed, score=score)
        for level, values in scores.items()
        for seed, score in enumerate(values)
    ]
    assert sentence in words(render_study(plan, results))


def test_against_a_baseline():
    plan = plan_of(seeds=3, baseline="1")
    scores = {1: (0.1, 0.12, 0.11), 2: (0.5, 0.53, 0.52), 3: (0.2, 0.21, 0.23)}
    results = [
        result_of(plan, {"experiment.level": level}, seed=seed, score=score)
        for level, values in scores.items()
        for seed, score in enumerate(values)
    ]
    assert "Its difference from the baseline is clear of chance." in words(render_study(plan, results))


def test_small_sizes_and_oracles_are_called_so():
    plan = plan_of(reduced=True, metrics=["score", "image.f1_max"], experiment="trivial")
    results = [result_of(plan, {"experiment.level": level}, image__f1_max=0.9) for level in (1, 2)]
    said = words(render_study(plan, results))
    assert "Small size" in said
    assert "Oracle figures. Best F1 (oracle): the threshold was chosen with the test labels" in said


def test_several_sets_have_a_table_each():
    plan = plan_of(data=[{"collection": "textures"}, {"collection": "digits"}])
    results = [result_of(plan, {"experiment.level": 1}, data) for data in ("textures", "digits")]
    said = words(render_study(plan, results))
    assert said.index("All data sets together") < said.index("textures Cell") < said.index("digits Cell")


def test_the_same_results_are_the_same_pictures():
    plan = plan_of()
    results = [result_of(plan, {"experiment.level": level}) for level in (1, 2)]
    one, two = (re.findall(r"base64,[^\"]+", render_study(plan, list(map(replace, results)))) for _ in range(2))
    assert one == two
    assert one


def many_results(count, seeds=1):
    plan = plan_of(vary={"experiment": {"level": list(range(1, count + 1))}}, seeds=seeds)
    history = [
        {"epoch": epoch, "train": 1 / epoch, "validation": 1.1 / epoch, "learning_rate": 0.1} for epoch in (1, 2)
    ]
    results = [
        replace(result_of(plan, {"experiment.level": level}, image__accuracy=0.5), histories={"": history})
        for level in range(1, count + 1)
    ]
    return plan, results


def test_every_panel_is_drawn_a_picture_for_each_nine():
    page = render_study(*many_results(12))
    assert "a panel for cells 1 to 9 of 12" in page
    assert "a panel for cells 10 to 12 of 12" in page


def test_every_figure_is_drawn():
    plan, results = many_results(3)
    names = ("score", "other", "image.improvement", "lost", "image.accuracy")
    results = [replace(result, metrics=dict.fromkeys(names, 0.5)) for result in results]
    outline = replace(plan.outline, metrics=names)
    page = render_study(replace(plan, outline=outline), results)
    assert page.count("of every cell with intervals") == 5


def test_of_very_many_panels_the_page_says_where_the_rest_is(tmp_path):
    plan, results = many_results(60)
    write_results(plan, results, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "Of 60 panels the first 54 are drawn; losses.csv has the losses of all runs." in page
    rows = (tmp_path / "losses.csv").read_text().splitlines()
    assert rows[0] == "cell,part,data,seed,epoch,train,validation,minibatch,learning_rate"
    assert len(rows) == 1 + 60 * 2
    assert rows[-1] == "60,,textures,0,2,0.5,0.55,,0.1"


def test_accuracy_of_categories_stands_beside_that_of_calling_all_anomalous():
    plan, results = many_results(2)
    names = ("accuracy@bolt", "accuracy@nut", "accuracy@average", "accuracy_all_anomalous@bolt")
    results = [replace(each, metrics=each.metrics | {f"image.{name}": 0.5 for name in names}) for each in results]
    page = render_study(plan, results)
    assert "Accuracy, by every cell and category." in page


def test_trainings_that_came_to_little_are_told():
    plan, results = many_results(2)
    results[1] = replace(results[1], warnings=("All reconstructions are nearly the same.",))
    said = words(render_study(plan, results))
    assert "1 run in which the training came to little" in said
    assert "2; textures, seed 0: All reconstructions are nearly the same." in said
