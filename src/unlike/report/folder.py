"""What `evaluate` leaves behind: metrics.json for programs, scores.csv for spreadsheets, report.html for people."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from unlike.artifacts import write_file
from unlike.evaluation import to_json
from unlike.records import Evaluation
from unlike.report.latent import Encoder, Notify
from unlike.report.page import write_report

if TYPE_CHECKING:
    from unlike.detector.detector import Detector

COLUMNS = ("id", "category", "kind", "label", "score", "p_value", "anomalous")


def write_evaluation(
    detector: Detector,
    evaluation: Evaluation,
    folder: Path,
    beside: Mapping[str, Encoder] = MappingProxyType({}),
    notify: Notify | None = None,
) -> None:
    """Write metrics.json, scores.csv and report.html into `folder`, each whole; `beside` as for `write_report`."""
    metrics = json.dumps(to_json(evaluation), indent=2, allow_nan=False)
    write_file(folder / "metrics.json", f"{metrics}\n".encode())
    write_file(folder / "scores.csv", scores_table(evaluation).encode(errors="surrogateescape"))
    write_report(detector, evaluation, folder / "report.html", beside, notify)


def scores_table(evaluation: Evaluation) -> str:
    """A row for each image: what was known of it, and what the detector said. Label 1 is anomalous."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    rows = zip(evaluation.samples, evaluation.scores.image, evaluation.p_values, evaluation.alarms, strict=True)
    for sample, score, chance, alarm in rows:
        known = (sample.id, sample.category, sample.kind, int(bool(sample.anomalous)))
        table.writerow((*known, f"{score:.9g}", f"{chance:.9g}", int(alarm)))
    return text.getvalue()
