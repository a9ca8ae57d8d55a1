"""Studies: many cells (a setting of a detector, a data set, a seed each), run by many hands, and compared with care.

`plan` says which cells there are, `ledger` who runs which, `run` runs them, `tables` compares, `page` shows.
"""

from __future__ import annotations

from unlike.study.plan import Plan, read_plan
from unlike.study.run import Running, run_study

__all__ = ["Plan", "Running", "read_plan", "run_study"]
