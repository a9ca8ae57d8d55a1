"""`python -m unlike` is `unlike`."""

from __future__ import annotations

from unlike.cli import main

main()
