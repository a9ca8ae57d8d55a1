"""Report: an evaluation as one page to read, send and print; and pictures of the code space."""

from __future__ import annotations

from unlike.report.clusters import alpha_sweep
from unlike.report.edits import edit_strips
from unlike.report.extremes import score_extremes
from unlike.report.folder import write_evaluation
from unlike.report.histograms import score_spreads
from unlike.report.page import write_report
from unlike.report.pictures import write_picture
from unlike.report.projection import project, projections
from unlike.report.residuals import residual_page

__all__ = [
    "alpha_sweep",
    "edit_strips",
    "project",
    "projections",
    "residual_page",
    "score_extremes",
    "score_spreads",
    "write_evaluation",
    "write_picture",
    "write_report",
]
