"""A decision from disk is the one that was written."""

from __future__ import annotations

import numpy as np
import pytest

from unlike.calibration import stored
from unlike.calibration.decision import Decision, Otherwise, Threshold
from unlike.calibration.stored import decision_arrays, describe_decision, pack_arrays, rebuild_decision, unpack_arrays
from unlike.calibration.thresholds import Promise


def test_everything_of_it_comes_back():
    scores = np.arange(6.0)
    promise, nothing = Promise(0.2, "at most 20 % false alarms"), Promise(None, "nothing")
    decision = Decision(
        scores,
        scores * 2,
        np.repeat(["cup", "pin"], 3),
        {"": Threshold(4.0, 8.0, promise), "cup": Threshold(2.0, 4.0, nothing)},
        {"pin": 3},
        np.array(list("abcdef")),
        np.array([0, 0, 1, 1, 2, 2]),
        Otherwise("images", Threshold(5.0, 10.0, promise), 6),
    )
    again = rebuild_decision(describe_decision(decision), unpack_arrays(pack_arrays(decision_arrays(decision))))
    assert again.thresholds == decision.thresholds
    assert (again.too_few, again.otherwise) == (decision.too_few, decision.otherwise)
    for name in ("scores", "peaks", "categories", "ids", "groups"):
        np.testing.assert_array_equal(getattr(again, name), getattr(decision, name))
    np.testing.assert_array_equal(again.p_values(scores, ["cup"] * 6), decision.p_values(scores, ["cup"] * 6))


def test_the_same_arrays_have_the_same_bytes_and_no_more_than_fit(monkeypatch):
    arrays = {"a": np.arange(5), "b": np.ones(3, np.float32)}
    assert pack_arrays(arrays) == pack_arrays(arrays)
    monkeypatch.setattr(stored, "MAX_ARRAY_BYTES", 10)
    with pytest.raises(ValueError, match=r"calibration.npz unpacks to more than 0 GB"):
        unpack_arrays(pack_arrays(arrays))
