"""The service: REST, a page to review, a history, where images come from and where results go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlike.serving.client import Client

__all__ = ["Client"]


def __getattr__(name: str) -> Any:
    """Load the client when it is asked for: who only watches a folder needs nothing that speaks HTTP."""
    if name == "Client":
        from unlike.serving.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
