"""A threshold rule: the strangest held-out normal image."""

from __future__ import annotations

import numpy as np


class HighestThreshold:
    """The highest score of the held-out normal images, which one new normal image in n + 1 exceeds."""

    def __init__(self, false_alarms="auto") -> None:
        self.false_alarms = false_alarms

    def fit(self, scores):
        self.threshold_ = float(np.max(scores))
        self.false_alarms_ = 1 / (len(scores) + 1)
        return self

    def can_promise(self, count: int) -> bool:
        return count > 0

    def predict(self, scores):
        return np.asarray(scores > self.threshold_)
