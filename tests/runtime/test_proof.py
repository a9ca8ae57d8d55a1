"""A proof that does not hold says for which image, and how far off."""

from __future__ import annotations

import numpy as np
import pytest

from unlike.calibration.decision import Decision, Threshold
from unlike.calibration.thresholds import Promise
from unlike.errors import ExportError
from unlike.runtime.proof import BATCHES, Proof, check_gap, measure_gap, processor, versions_for

COUNT = 5
SCORES = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
DECISION = Decision(SCORES, SCORES, np.full(COUNT, ""), {"": Threshold(3.5, 3.5, Promise(0.2, ""))})
PROOF = Proof(
    tuple("abcde"),
    np.arange(COUNT, dtype=np.uint8).reshape(COUNT, 1, 1, 1),
    np.repeat(SCORES, 4).reshape(COUNT, 2, 2).astype(np.float32),
    SCORES,
)


def graph(change=lambda scores, maps: None, asked=None):
    """A graph that knows the images by their one pixel, and is then changed."""

    def run(pixels, missing):
        if asked is not None:
            asked.append(len(pixels))
        rows = pixels[:, 0, 0, 0].astype(int)
        scores, maps = SCORES[rows].copy(), PROOF.maps[rows].copy()
        change(scores, maps)
        return maps, scores

    return run


def test_every_image_is_seen_in_batches_of_every_size():
    asked = []
    assert measure_gap(graph(asked=asked), PROOF, DECISION).size == 0
    assert set(asked) == set(BATCHES)
    assert all(size * asked.count(size) >= COUNT for size in BATCHES)


def test_a_gap_in_scores_is_measured_as_a_share_and_named():
    def change(scores, maps):
        scores[scores == 2.0] *= 1.01

    gap = measure_gap(graph(change), PROOF, DECISION)
    assert gap.score == pytest.approx(0.01)
    assert (gap.map, gap.worst, gap.batch) == (0, "b", 1)
    with pytest.raises(
        ExportError,
        match=r"^mine: expected .* within 0.0001, came 0.01 for scores and 0 for maps; the worst image is b, 1 at once",
    ):
        check_gap(gap, "mine")
    check_gap(gap, "mine", tolerance=0.02)


def test_a_gap_that_only_batches_have_is_found():
    def change(scores, maps):
        if len(maps) == 7:
            maps[3, 0, 0] += 0.5

    gap = measure_gap(graph(change), PROOF, DECISION)
    assert gap.map == pytest.approx(0.125)
    assert (gap.worst, gap.batch) == ("d", 7)


def test_a_verdict_that_differs_is_never_small_but_beside_the_threshold():
    def change(scores, maps):
        scores[scores == 3.0] = 3.6

    gap = measure_gap(graph(change), PROOF, DECISION)
    assert gap.verdicts == 1
    with pytest.raises(ExportError, match="and 1 verdicts differ; the worst image is c"):
        check_gap(gap, "mine", tolerance=1.0)
    near = Decision(SCORES, SCORES, np.full(COUNT, ""), {"": Threshold(3.0 + 1e-7, 3.5, Promise(0.2, ""))})

    def nudge(scores, maps):
        scores[scores == 3.0] += 2e-7

    assert measure_gap(graph(nudge), PROOF, near).verdicts == 0


def test_what_is_no_number_is_infinitely_far():
    def change(scores, maps):
        maps[:] = np.nan

    assert measure_gap(graph(change), PROOF, DECISION).map == np.inf


def test_maps_of_another_size_are_refused():
    with pytest.raises(
        ExportError, match=r"a graph gave maps of \(1, 3, 3\) and scores of \(1,\) for 1 images; expected"
    ):
        measure_gap(lambda pixels, missing: (np.zeros((len(pixels), 3, 3)), np.zeros(len(pixels))), PROOF, DECISION)


def test_a_proof_is_the_same_from_disk():
    again = Proof.restore(
        Proof(PROOF.ids, PROOF.pixels, PROOF.maps, PROOF.scores, np.ones((COUNT, 1, 1), bool)).arrays()
    )
    assert again.ids == PROOF.ids
    assert again.missing is not None
    assert again.missing.all()
    np.testing.assert_array_equal(again.maps, PROOF.maps)


def test_the_machine_is_named():
    assert processor()
    assert {"unlike", "numpy", "onnxruntime"} <= set(versions_for("onnx"))
