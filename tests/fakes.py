"""What a detector has learned, made of numbers alone: for tests of what asks a detector and knows none."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from unlike.calibration.decision import Decision, Threshold
from unlike.calibration.thresholds import Promise


def decision_of(thresholds, scores, categories=None, *, false_alarms=0.05, region=1.0):
    """A decision with these thresholds, by category and under "" for all others, and these scores of held-out images."""
    scores, promise = np.asarray(scores, np.float64), Promise(false_alarms, "what a test promises")
    return Decision(
        scores=scores,
        peaks=scores,
        categories=np.full(len(scores), "") if categories is None else np.asarray(categories),
        thresholds={name: Threshold(score, region, promise) for name, score in thresholds.items()},
    )


def fitted_of(decision, spec, *, digests=(), counts=None, history=(), strangest=(), warnings=()):
    """What `detector.fitted_` is, as far as evaluations and reports ask."""
    return SimpleNamespace(
        decision=decision,
        spec=spec,
        digests=np.asarray(digests, np.uint64),
        counts=counts or {},
        history=list(history),
        strangest=strangest,
        warnings=tuple(warnings),
        distrusted=None,
    )
