"""Rows of results in a file that grows: csv or jsonl, each row whole, none written twice after a stop in between."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

from unlike.artifacts import output_errors, write_file
from unlike.calibration.rows import JUDGED, SCORED, cells
from unlike.errors import ConfigError

Form = Literal["csv", "jsonl"]


class RowFile:
    """Appends rows, with the names of `calibration.rows`, and makes them safe before it returns.

    A row that a kill cut short is cut off when the file is opened again. Beside the file lies a note of the rows that are under
    way, until `settle` says that whoever gave the images has crossed them off: `written` are the keys of such rows of an
    earlier run, which are not to be written again. Without a path rows go to standard output.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     rows = RowFile(Path(folder, "scores.jsonl"), "jsonl")
    ...     rows.append({"a.png:3:1": {"id": "a.png", "score": 2, "threshold": 1, "p_value": 0.1, "anomalous": True, "regions": ()}})
    ...     again = RowFile(Path(folder, "scores.jsonl"), "jsonl")  # after a kill before `settle`
    ...     again.written
    {'a.png:3:1'}
    """

    def __init__(self, path: Path | None, form: Form) -> None:
        self.path, self._form = path, form
        self._columns = SCORED if form == "csv" else JUDGED
        self.written: set[str] = set()
        if path is None:
            self._begun = False
            return
        self._note = path.with_name(f".{path.name}.under-way")
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._mend(path)
            self.written = self._read_note(path)

    def append(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Write rows, by the keys of their images, and wait until they are on the disk; an OutputError says why they are not."""
        chosen = [{name: row[name] for name in self._columns} for row in rows.values()]
        lines = [cells(row) for row in chosen] if self._form == "csv" else chosen
        if self.path is None:
            self._print(lines)
            return
        note = {"from": self.path.stat().st_size if self.path.exists() else 0, "keys": list(rows)}
        write_file(self._note, json.dumps(note).encode())
        with (
            output_errors(self.path),
            self.path.open("a", newline="", encoding="utf-8", errors="surrogateescape") as file,
        ):
            self._write(file, lines)
            file.flush()
            os.fsync(file.fileno())

    def settle(self) -> None:
        """The images of all rows are crossed off."""
        if self.path is not None:
            self._note.unlink(missing_ok=True)

    def _print(self, lines: Sequence[Any]) -> None:
        if self._form == "csv" and not self._begun:
            self._write(sys.stdout, [self._columns])
        self._begun = True
        self._write(sys.stdout, lines)
        sys.stdout.flush()

    def _read_note(self, path: Path) -> set[str]:
        """The keys of the rows that were written, but perhaps not crossed off."""
        if not self._note.exists():
            return set()
        note = json.loads(self._note.read_bytes())
        with path.open("rb") as file:
            file.seek(note["from"])
            text = file.read().decode("utf-8", errors="surrogateescape").splitlines(keepends=True)
        rows = len(text) if self._form == "jsonl" else sum(row[:1] != [self._columns[0]] for row in csv.reader(text))
        return set(note["keys"][:rows])

    def _write(self, file: TextIO, lines: Sequence[Any]) -> None:
        if self._form == "csv":
            csv.writer(file, lineterminator="\n").writerows(lines)
        else:
            file.writelines(f"{json.dumps(_listed(line))}\n" for line in lines)

    def _mend(self, path: Path) -> None:
        """Cut off a row that is not whole; begin a new file with the names of its columns."""
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        head = ",".join(self._columns).encode() + b"\n"
        if whole and not (whole.startswith(head) if self._form == "csv" else whole.startswith(b"{")):
            raise ConfigError(
                f"{path}: is there already, and is no {self._form} table of `unlike watch`; choose another name with -o"
            )
        with path.open("ab") as file:
            file.truncate(len(whole))
            if not whole and self._form == "csv":
                file.write(head)
            file.flush()
            os.fsync(file.fileno())


def _listed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in row.items()}
