"""Evaluation: scores and labels to figures with intervals."""
