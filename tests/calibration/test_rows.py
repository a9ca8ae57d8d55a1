"""The one schema of a verdict's row, as every table has it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from unlike.calibration.rows import EVALUATED, JUDGED, SCORED, cells, verdict_row
from unlike.records import Region, Sample, Verdict

VERDICT = Verdict("a.png", 1 / 3, 0.25, 0.01, anomalous=True, regions=(Region(1, 2, 3, 4, 5, 0.5),))
SAMPLE = Sample("a.png", anomalous=False, category="bolt", kind="good")


def test_columns_and_their_order_are_what_programs_rely_on():
    assert SCORED == ("id", "score", "threshold", "p_value", "anomalous")
    assert (*SCORED, "regions") == JUDGED
    assert EVALUATED == ("id", "category", "kind", "label", "score", "p_value", "anomalous")
    for columns in (SCORED, JUDGED, EVALUATED):
        assert tuple(verdict_row(VERDICT, SAMPLE, columns)) == columns


def test_a_row_for_spreadsheets_has_nine_digits():
    assert cells(verdict_row(VERDICT, SAMPLE, SCORED)) == ["a.png", "0.333333333", "0.25", "0.01", 1]
    assert cells(verdict_row(VERDICT, SAMPLE, EVALUATED)) == ["a.png", "bolt", "good", 0, "0.333333333", "0.01", 1]
    assert cells(verdict_row(VERDICT, Sample("a.png"), ("label",))) == [None]
    assert cells({"score": np.float64(0.5)}) == ["0.5"]


def test_a_row_for_programs_is_json_with_its_regions():
    written = json.loads(json.dumps(verdict_row(VERDICT, SAMPLE)))
    assert written == {
        "id": "a.png",
        "score": 1 / 3,
        "threshold": 0.25,
        "p_value": 0.01,
        "anomalous": True,
        "regions": [{"x": 1, "y": 2, "width": 3, "height": 4, "area": 5, "peak": 0.5}],
    }


def test_a_column_that_no_row_has_is_a_mistake_of_ours():
    with pytest.raises(KeyError, match="colour"):
        verdict_row(VERDICT, SAMPLE, ("colour",))
