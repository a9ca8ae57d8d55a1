"""Evaluation: scores and labels to figures with intervals."""

from unlike.evaluation.evaluate import evaluate as evaluate
from unlike.evaluation.evaluate import to_json as to_json
