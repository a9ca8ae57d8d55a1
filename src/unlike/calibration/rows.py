"""A verdict as a row: one schema for every table that a program or a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from unlike.records import Sample, Verdict

SCORED = ("id", "score", "threshold", "p_value", "anomalous")  # the columns of images that were scored
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "'")  # how text begins that gets an apostrophe in a CSV file
JUDGED = (*SCORED, "regions")  # the same where a cell can hold a list
Q_VALUE = "q_value"  # one more column, of a batch that was judged together,
EXPLANATION = "explanation"  # and one of images whose verdicts are explained
EVALUATED = ("id", "category", "kind", "label", "score", "p_value", "anomalous")  # of images with labels


def verdict_row(verdict: Verdict, sample: Sample, columns: Sequence[str] = JUDGED) -> dict[str, Any]:
    """What is known of an image, and what the detector said of it, under the names that all tables use.

    `label` is 1 for anomalous, 0 for normal, and None where nobody said.

    >>> verdict = Verdict("a.png", 2.5, 1.0, 0.02, anomalous=True)
    >>> verdict_row(verdict, Sample("a.png", anomalous=True, kind="bent"), EVALUATED)
    {'id': 'a.png', 'category': '', 'kind': 'bent', 'label': 1, 'score': 2.5, 'p_value': 0.02, 'anomalous': True}
    """
    label = None if sample.anomalous is None else int(sample.anomalous)
    known = {"category": sample.category, "kind": sample.kind, "label": label}
    whole = {**known, **asdict(verdict)}
    return {name: whole[name] for name in columns}


def cells(row: Mapping[str, Any]) -> list[Any]:
    """The values of a row as a CSV file holds them: nine digits of a number, 1 and 0 for yes and no.

    >>> cells({"id": "a.png", "score": 1 / 3, "anomalous": True, "label": None})
    ['a.png', '0.333333333', 1, None]
    """
    return [_cell(value) for value in row.values()]


def text_cell(text: str) -> str:
    """Text as a CSV file holds it, so that no spreadsheet computes it: with an apostrophe before what looks like a formula.

    Text that begins with an apostrophe gets another: without its first apostrophe a cell is always what it was.

    >>> text_cell("a.png"), text_cell("=1+1.png"), text_cell("'s.png")
    ('a.png', "'=1+1.png", "''s.png")
    """
    return f"'{text}" if text.startswith(FORMULAS) else text


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        return text_cell(value)
    return f"{value:.9g}" if isinstance(value, float) else value
