"""Report: an evaluation as one page to read, send and print."""

from __future__ import annotations

from unlike.report.folder import write_evaluation
from unlike.report.page import write_report

__all__ = ["write_evaluation", "write_report"]
