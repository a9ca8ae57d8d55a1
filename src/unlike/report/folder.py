"""What `evaluate` leaves behind: metrics.json for programs, scores.csv for spreadsheets, report.html for people."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from unlike.artifacts import write_file
from unlike.calibration.rows import EVALUATED, cells, verdict_row
from unlike.evaluation import to_json
from unlike.records import Evaluation, Verdict
from unlike.report.latent import Notify
from unlike.report.page import write_report
from unlike.report.subject import Reportable


def write_evaluation(
    detector: Reportable,
    evaluation: Evaluation,
    folder: Path,
    beside: Mapping[str, Reportable] = MappingProxyType({}),
    notify: Notify | None = None,
    scorers: Mapping[str, Evaluation] = MappingProxyType({}),
) -> None:
    """Write metrics.json, scores.csv and report.html into `folder`, each whole; `beside` as for `write_report`.

    `scorers` are evaluations of other scorers of the same model, whose figures of whole images go to metrics.json too.
    """
    found = to_json(evaluation)
    if scorers:
        found["scorers"] = {name: to_json(other)["image"] for name, other in scorers.items()}
    metrics = json.dumps(found, indent=2, allow_nan=False)
    write_file(folder / "metrics.json", f"{metrics}\n".encode())
    write_file(folder / "scores.csv", scores_table(evaluation).encode(errors="surrogateescape"))
    write_report(detector, evaluation, folder / "report.html", beside, notify)


def scores_table(evaluation: Evaluation) -> str:
    """A row for each image: what was known of it, and what the detector said. Label 1 is anomalous."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(EVALUATED)
    pairs = zip(verdicts_of(evaluation), evaluation.samples, strict=True)
    table.writerows(cells(verdict_row(verdict, sample, EVALUATED)) for verdict, sample in pairs)
    return text.getvalue()


def verdicts_of(evaluation: Evaluation) -> Iterator[Verdict]:
    """What the detector said of each image, without regions."""
    scores, alarms = evaluation.scores.image.tolist(), evaluation.alarms.tolist()
    columns = (
        evaluation.scores.ids,
        scores,
        evaluation.image_thresholds.tolist(),
        evaluation.p_values.tolist(),
        alarms,
    )
    return (Verdict(*row) for row in zip(*columns, strict=True))
