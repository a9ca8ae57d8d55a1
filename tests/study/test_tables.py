"""Rows, means with intervals, and comparisons, against scipy and by hand."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest
from scipy import stats
from trivial import plan_of, result_of, trivial

from unlike.study import tables
from unlike.study.tables import compare, holm, mean_over_seeds, results_csv

__all__ = ["trivial"]
pytestmark = pytest.mark.usefixtures("trivial")


def results_for(plan, values, data="textures"):
    """{level: one score a seed}"""
    return [
        result_of(plan, {"experiment.level": level}, data, seed, score=score)
        for level, scores in values.items()
        for seed, score in enumerate(scores)
    ]


def test_results_are_tidy():
    cells = [{"name": "one", "model": "fcn", "model.widths": [8, 4]}, {"name": "two", "model": "conv"}]
    plan = plan_of(cell=cells)
    results = [
        result_of(plan, {"cell": "one", "experiment.level": 1}, score=0.1, z=1e-12, a=2),
        result_of(plan, {"cell": "two", "experiment.level": 2}, seed=1, error='bad, "very"'),
    ]
    text = results_csv(plan, results)
    first, second = csv.DictReader(io.StringIO(text))
    assert list(first) == [
        *("cell", "model", "model.widths", "experiment.level", "data", "seed", "state"),
        *("score", "z", "a", "cpu_seconds", "peak_megabytes", "unlike", "python", "torch", "numpy", "error"),
    ]  # fmt: skip
    assert (first["cell"], first["model.widths"], first["z"], first["state"]) == ("one, 1", "[8, 4]", "1e-12", "done")
    assert (second["model.widths"], second["score"], second["state"]) == ("", "", "failed")
    assert second["error"] == 'bad, "very"'


def test_means_have_students_interval():
    values = [0.2, 0.5, 0.9, 0.4]
    estimate = mean_over_seeds(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.5, low, high))
    assert mean_over_seeds([0.3]).low is None


def test_the_interval_holds_the_mean_as_often_as_it_says(rng):
    draws = rng.normal(0.3, 0.1, (2000, 5))
    estimates = [mean_over_seeds(row) for row in draws]
    assert 0.93 < np.mean([estimate.low < 0.3 < estimate.high for estimate in estimates]) < 0.97


def test_seeds_are_averaged_over_data_sets_before_anything_else():
    plan = plan_of(seeds=3)
    results = results_for(plan, {1: [0.1, 0.2, 0.3]}, "a") + results_for(plan, {1: [0.5, 0.6]}, "b")
    assert tables.values_of(results, "score", plan.configuration({"experiment.level": 1}).label) == pytest.approx(
        {0: 0.3, 1: 0.4}
    )
    assert tables.summary(results, "score")["1"].value == pytest.approx(0.35)
    assert tables.summary(results, "score", "a")["1"].value == pytest.approx(0.2)


def test_comparisons_are_paired_and_corrected():
    plan = plan_of(seeds=8)
    random = np.random.default_rng(0)
    base = random.normal(0.5, 0.2, 8)
    values = {1: base, 2: base + 0.1 + random.normal(0, 0.01, 8), 3: base + random.normal(0, 0.05, 8)}
    rows = {(row.one, row.other): row for row in compare(plan, results_for(plan, values), "score")}
    assert set(rows) == {("1", "2"), ("1", "3"), ("2", "3")}
    plain = [stats.ttest_rel(values[int(one)], values[int(other)]).pvalue for one, other in rows]
    assert [row.p_value for row in rows.values()] == pytest.approx(holm(plain))
    ranks = [stats.wilcoxon(values[int(one)] - values[int(other)]).pvalue for one, other in rows]
    assert [row.rank_p_value for row in rows.values()] == pytest.approx(holm(ranks))
    assert rows["1", "2"].clear  # though the seeds differ twice as much as the cells do
    assert not rows["1", "3"].clear
    assert rows["1", "2"].difference.value == pytest.approx(np.mean(values[1] - values[2]))


def test_with_a_baseline_there_are_fewer_comparisons():
    plan = plan_of(baseline="2")
    rows = compare(plan, results_for(plan, {1: [0.1, 0.2], 2: [0.3, 0.5], 3: [0.2, 0.7]}), "score")
    assert [(row.one, row.other) for row in rows] == [("1", "2"), ("3", "2")]


def test_of_many_cells_the_best_is_shown_but_all_are_corrected_for():
    plan = plan_of(vary={"experiment": {"level": list(range(8))}})
    random = np.random.default_rng(1)
    values = {level: random.normal(0.05 * (level == 3), 0.01, 4) for level in range(8)}
    results = results_for(plan, values)
    rows = compare(plan, results, "score")
    assert [row.one for row in rows] == ["3"] * 7
    assert all(row.difference.value > 0 and row.difference.low <= row.difference.value for row in rows)
    smallest = min(stats.ttest_rel(values[3], values[level]).pvalue for level in range(8) if level != 3)
    everything = [stats.ttest_rel(values[a], values[b]).pvalue for a in range(8) for b in range(a)]
    assert min(row.p_value for row in rows) == pytest.approx(
        smallest * (28 - sorted(everything).index(smallest)), rel=0.3
    )


def test_seeds_that_do_not_differ_prove_nothing():
    plan = plan_of()
    (row,) = compare(plan, results_for(plan, {1: [0.1, 0.1], 2: [0.3, 0.3]}), "score")
    assert row.p_value is None
    assert not row.clear
    (row,) = compare(plan, results_for(plan, {1: [0.1], 2: [0.3]}), "score")
    assert (row.p_value, row.pairs, row.difference.low) == (None, 1, None)


def test_one_seed_is_compared_over_data_sets():
    plan = plan_of(seeds=1)
    results = [r for n, name in enumerate("abc") for r in results_for(plan, {1: [0.1 * n], 2: [0.2 + 0.11 * n]}, name)]
    (row,) = compare(plan, results, "score")
    assert row.pairs == 3
    assert row.p_value == pytest.approx(stats.ttest_rel([0, 0.1, 0.2], [0.2, 0.31, 0.42]).pvalue)


def test_cells_without_a_shared_seed_are_not_compared():
    plan = plan_of()
    results = [result_of(plan, {"experiment.level": 1}, seed=0), result_of(plan, {"experiment.level": 2}, seed=1)]
    assert compare(plan, results, "score") == []


def test_chance_alone_is_rarely_called_clear(rng):
    """Holm over all pairs of four equal cells: some clear difference in about 1 of 20 studies, or fewer."""
    plan = plan_of(vary={"experiment": {"level": [1, 2, 3, 4]}})
    wrong = 0
    for _ in range(200):
        values = {level: rng.normal(0, 1, 5) for level in (1, 2, 3, 4)}
        wrong += any(row.clear for row in compare(plan, results_for(plan, values), "score"))
    assert wrong / 200 < 0.09


def test_the_best_may_be_the_lowest():
    plan = plan_of(minimise=True)
    results = results_for(plan, {1: [0.1, 0.2], 2: [0.3, 0.5]})
    assert tables.best_configuration(plan, results) == "1"
    assert tables.best_configuration(plan_of(), results) == "2"
    assert tables.best_configuration(plan, []) is None


def test_grids_and_lines():
    plan = plan_of(vary={"experiment": {"level": [1, 2], "other": ["a", "b"]}})
    results = [
        result_of(plan, {"experiment.level": level, "experiment.other": other}, score=level + (other == "b"))
        for level in (1, 2)
        for other in "ab"
        if (level, other) != (2, "b")
    ]
    rows, columns, means = tables.grid(results, "experiment.other", "experiment.level", "score")
    assert (rows, columns) == (["a", "b"], ["1", "2"])
    np.testing.assert_array_equal(means, [[1, 2], [2, np.nan]])
    assert tables.sensitivity(results, "experiment.level", "score") == {"a": [(1, 1), (2, 2)], "b": [(1, 2)]}
    assert tables.sensitivity(results, "experiment.other", "score") == {}


def test_means_are_over_the_sets_that_every_cell_has_measured():
    """A cell that failed on the hard set must not win by the easy one."""
    plan = plan_of(vary={"experiment.level": [1, 2]}, seeds=2)
    easy = results_for(plan, {1: [0.95, 0.95], 2: [0.93, 0.93]}, "easy")
    hard = results_for(plan, {1: [0.60, 0.60]}, "hard")
    found = tables.summary([*easy, *hard], "score")
    assert [round(estimate.value, 2) for estimate in found.values()] == [0.95, 0.93]


def test_what_a_cell_measured_is_looked_up_once_however_many_pairs_there_are(monkeypatch):
    plan = plan_of(vary={"experiment": {"level": list(range(12))}})
    results = results_for(plan, {level: [level + 0.1, level + 0.3] for level in range(12)})
    asked, look_up = [], tables._paired_values
    monkeypatch.setattr(tables, "_paired_values", lambda *words: asked.append(words[-1]) or look_up(*words))
    assert compare(plan, results, "score")
    assert len(asked) == len(set(asked)) == 12
