"""Requests that another site makes a browser send: refused by where they come from, and by a token that only our page knows."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # methods that change nothing
HEADER = "x-csrf-token"


def came_from_elsewhere(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser says that a page of another site makes this change; programs, which say nothing, are let through.

    >>> came_from_elsewhere("POST", {"host": "cam:8000", "origin": "http://evil.example"})
    True
    >>> came_from_elsewhere("POST", {"host": "cam:8000", "origin": "http://cam:8000"})
    False
    """
    if method in SAFE:
        return False
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


def lacks_token(method: str, headers: Mapping[str, str], expected: str) -> bool:
    """Whether a change by a session comes without its token in the header X-CSRF-Token.

    >>> lacks_token("GET", {}, "k3"), lacks_token("POST", {}, "k3"), lacks_token("POST", {"x-csrf-token": "k3"}, "k3")
    (False, True, False)
    """
    return method not in SAFE and not hmac.compare_digest(headers.get(HEADER, "").encode(), expected.encode())
