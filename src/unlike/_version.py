"""Which unlike this is; apart from the rest, so that saying it imports nothing."""

from __future__ import annotations

__version__ = "0.1.0"
