"""Scores as rows: for people (table), spreadsheets (csv), programs (jsonl) and courses (submission)."""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from unlike.artifacts import output_errors, printable
from unlike.calibration.rows import JUDGED, Q_VALUE, SCORED, cells, verdict_row
from unlike.errors import OutputError
from unlike.records import Sample, Verdict


@dataclass(frozen=True, slots=True)
class Submission:
    """How a course or contest wants its rows."""

    id_column: str = "ID"
    score_column: str = "score"
    first_id: int = 0  # the number of an array's first row; files keep their own names


class Table:
    """Writes a row for each image as it is scored, so that what is finished is there whatever happens."""

    def __init__(
        self, file: TextIO, write_head: Callable[[], None], write_row: Callable[[Sample, Verdict], None]
    ) -> None:
        self._file = file
        self._write_head, self._write_row = write_head, write_row
        self.rows = 0
        self.anomalous = 0

    def write(self, samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> None:
        """Add the rows of one batch."""
        with blamed_on(self._file):
            if verdicts and not self.rows:
                start_over(self._file)
                self._write_head()
            for sample, verdict in zip(samples, verdicts, strict=True):
                self._write_row(sample, verdict)
                self.anomalous += verdict.anomalous
            self._file.flush()
        self.rows += len(verdicts)


@contextlib.contextmanager
def open_table(
    path: Path | None, form: str, submission: Submission | None = None, more: tuple[str, ...] = ()
) -> Iterator[Table]:
    """A table that writes to a file, or to the terminal where there is none; with `more` columns, of `rows`, than are usual."""
    with open_output(path) as file:
        yield _make_table(file, form, submission or Submission(), more)


@contextlib.contextmanager
def open_output(path: Path | None) -> Iterator[TextIO]:
    """A file for rows, or the terminal where there is none. What was in the file stays until `start_over`."""
    if path is None:
        yield sys.stdout
        return
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a", newline="", encoding="utf-8", errors="surrogateescape")
    try:
        yield file
    finally:
        with output_errors(path):
            file.close()
            if path.is_file() and not path.stat().st_size:  # nothing came of it
                path.unlink()


def start_over(file: TextIO) -> None:
    """Drop what is in a file, now that there is something to write in its place; a pipe or a device holds nothing."""
    if file is not sys.stdout and Path(file.name).is_file():
        file.truncate(0)


def blamed_on(file: TextIO) -> contextlib.AbstractContextManager[None]:
    """What the system refuses while rows are written is about the file they go to; about a pipe it is no error of ours."""
    return _pipe_errors_pass() if file is sys.stdout else output_errors(Path(file.name))


@contextlib.contextmanager
def _pipe_errors_pass() -> Iterator[None]:
    """A reader that has enough is no error; a full disk behind the terminal's output is."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output: cannot be written ({error.strerror})") from error


def _make_table(file: TextIO, form: str, submission: Submission, more: tuple[str, ...]) -> Table:
    writer = csv.writer(file, lineterminator="\n")
    scored, judged = (*SCORED, *more), (*JUDGED, *more)
    if form == "csv":
        return Table(
            file,
            lambda: writer.writerow(scored),
            lambda sample, verdict: writer.writerow(cells(verdict_row(verdict, sample, scored))),
        )
    if form == "jsonl":
        return Table(
            file, lambda: None, lambda sample, verdict: _print(file, json.dumps(verdict_row(verdict, sample, judged)))
        )
    if form == "submission":
        head = (submission.id_column, submission.score_column)
        return Table(
            file,
            lambda: writer.writerow(head),
            lambda sample, verdict: writer.writerow((_submission_id(sample, submission), f"{verdict.score:.9g}")),
        )
    head_line = f"{'score':>12}  {'p-value':>8}  {'q-value  ' * (Q_VALUE in more)}{'':9}  id"  # of form "table"
    return Table(file, lambda: _print(file, head_line), lambda _, verdict: _print(file, _line(verdict)))


def _line(verdict: Verdict) -> str:
    together = "" if verdict.q_value is None else f"{verdict.q_value:7.4f}  "
    why = f"\n              {printable(verdict.explanation)}" if verdict.explanation else ""
    return f"{verdict.score:12.6g}  {verdict.p_value:8.4f}  {together}{'anomalous' if verdict.anomalous else '':9}  {printable(verdict.id)}{why}"


def _submission_id(sample: Sample, submission: Submission) -> str | int:
    return sample.id if sample.row is None else sample.row + submission.first_id


def _print(file: TextIO, text: str) -> None:
    file.write(f"{text}\n")
