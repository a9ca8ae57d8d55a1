"""A verdict in one line."""

from __future__ import annotations

from dataclasses import replace

from unlike.calibration.explaining import explain_verdict
from unlike.calibration.thresholds import Promise
from unlike.records import Region, Verdict

PROMISE = Promise(None, "nothing is promised")
VERDICT = Verdict("a.png", 2.5, 3.0, 0.25, anomalous=False)


def test_only_what_is_known_is_said():
    assert explain_verdict(VERDICT, PROMISE) == "normal: score 2.5, not above 3 (nothing is promised); p = 0.25"


def test_some_regions_are_named_and_the_others_counted():
    regions = tuple(Region(n, 2, 5, 6, 30, 9.0 - n) for n in range(5))
    said = explain_verdict(replace(VERDICT, regions=regions, q_value=0.3, anomalous=True), PROMISE, ["n.png", "m.png"])
    assert "5 x 6 pixels at (0, 2), 5 x 6 pixels at (1, 2), 5 x 6 pixels at (2, 2) and 2 more" in said
    assert "p = 0.25, q = 0.3 of all judged together" in said
    assert said.startswith("anomalous: ")
    assert said.endswith("most like normal n.png, m.png")
