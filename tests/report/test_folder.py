"""What an evaluation leaves behind for spreadsheets."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
from report_fakes import evaluate_fake

from unlike.report.folder import scores_table, verdicts_of


def test_a_row_for_each_image_under_the_names_that_all_tables_use():
    evaluation = evaluate_fake(1, 1, scores=[1 / 3, 2.5])
    assert scores_table(replace(evaluation, p_values=np.array([0.75, 0.01]))) == (
        "id,category,kind,label,score,p_value,anomalous\n"
        "test/good/000.png,,good,0,0.333333333,0.75,0\n"
        "test/bent/001.png,,bent,1,2.5,0.01,1\n"
    )


def test_names_with_commas_and_quotes_stay_in_their_cell():
    evaluation = evaluate_fake(1, 0, name=lambda index, kind: f'a, "{kind}" {index}')
    (row,) = csv.DictReader(io.StringIO(scores_table(evaluation)))
    assert row["id"] == 'a, "good" 0'


def test_a_verdict_is_by_the_threshold_of_its_image():
    evaluation = replace(evaluate_fake(1, 1), image_thresholds=np.array([1.0, 3.0]), alarms=np.array([True, False]))
    found = list(verdicts_of(evaluation))
    assert [(verdict.threshold, verdict.anomalous) for verdict in found] == [(1.0, True), (3.0, False)]
    assert [verdict.id for verdict in found] == list(evaluation.scores.ids)
