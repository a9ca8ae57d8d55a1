"""The service: REST, a page to review, a history, where images come from and where results go."""

from __future__ import annotations

from unlike.serving.client import Client

__all__ = ["Client"]
