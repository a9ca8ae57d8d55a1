"""Calibration: from scores of normal images to statements one can rely on: thresholds, p-values, regions."""
