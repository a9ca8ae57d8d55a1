"""A threshold rule: the strangest held-out normal image."""

from __future__ import annotations

import numpy as np

from unlike.calibration.thresholds import NoSettings, Promise


class HighestThreshold:
    """The highest score of the held-out normal images, which one new normal image in n + 1 exceeds."""

    Config = NoSettings
    needs_labels = False

    def __init__(self, false_alarms="auto", config=None) -> None:
        self.false_alarms = false_alarms

    def fit(self, scores, weights=None, anomalous=None):
        self.threshold_ = float(np.max(scores))
        share = 1 / ((len(scores) if weights is None else np.sum(weights)) + 1)
        self.promise_ = Promise(share, f"at most {share:.1%} false alarms")
        return self
