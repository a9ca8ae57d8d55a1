"""What is checked of every request before anything else, and what is sent with every answer (an ASGI middleware)."""

from __future__ import annotations

import ipaddress
import json
import math
from collections.abc import Iterable, MutableMapping
from typing import Any

from unlike.serving.security.csrf import came_from_elsewhere
from unlike.serving.security.rate import REQUESTS, Rate, RateLimiter

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; "
    "manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
STATIC = "/ui/static/"  # which anybody may keep; all else is no-store, unless it says otherwise
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})
ANSWERED = ("/health", "/ready")  # however often they are asked

Scope = MutableMapping[str, Any]


class Guard:
    """Refuses strange hosts, other sites' requests, floods and bodies that are too large; adds headers to every answer.

    On a loopback address only `Host`s that mean this machine are answered: a page of a site whose name is pointed at 127.0.0.1
    (DNS rebinding) gets nothing. `hosts` are names beside those. Bodies are counted as they come, whatever they say of their length.
    """

    def __init__(
        self,
        app: Any,
        *,
        loopback: bool,
        request_bytes: int,
        hosts: Iterable[str] = (),
        rate: Rate = REQUESTS,
    ) -> None:
        self._app, self._loopback, self._request_bytes = app, loopback, request_bytes
        self._hosts = LOOPBACK_NAMES | set(hosts)
        self._limiter = RateLimiter(rate)

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        limited = _Limited(receive, self._request_bytes)
        sending = _Sending(scope, send, limited)
        refused = self._refuse(scope, headers)
        if refused is not None:
            await sending.refuse(*refused)
            return
        try:
            await self._app(scope, limited, sending)
        except Exception:
            if not limited.exceeded:
                raise
        if limited.exceeded and not sending.started:
            await sending.refuse(413, self._too_large())

    def _refuse(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | tuple[int, str, float] | None:
        """Status, sentence and perhaps the seconds to wait, where the request goes no further."""
        host = headers.get("host", "")
        if self._loopback and host_name(host) not in self._hosts:
            return 421, f"this service answers on this machine only, as localhost; came for {host[:80]!r}"
        if came_from_elsewhere(scope["method"], headers):
            return 403, "a page of another site asked for a change; use the page of this service, or a program"
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return 400, f"Content-Length: expected a number of bytes, came {length[:40]!r}"
        if int(length) > self._request_bytes:
            return 413, self._too_large()
        client = (scope.get("client") or ("", 0))[0]
        if not is_loopback(client) and scope["path"] not in ANSWERED and (wait := self._limiter.wait_seconds(client)):
            return 429, "too many requests from this address; ask more slowly", wait
        return None

    def _too_large(self) -> str:
        return f"the request has more than {self._request_bytes:,} bytes; send it in parts"


def host_name(host: str) -> str:
    """The name of a Host header without its port.

    >>> host_name("LOCALHOST:8000"), host_name("[::1]:80"), host_name("")
    ('localhost', '[::1]', '')
    """
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdigit() and (name.endswith("]") or ":" not in name) else host.lower()


def is_loopback(address: str) -> bool:
    """Whether an address, or localhost, is of this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("192.168.1.7"), is_loopback("localhost")
    (True, True, False, False, True)
    """
    if address == "localhost":
        return True
    try:
        found = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


class _BodyTooLargeError(Exception):
    """More came than is taken."""


class _Limited:
    """Counts a body as it comes."""

    def __init__(self, receive: Any, most: int) -> None:
        self._receive, self._left, self.exceeded = receive, most, False

    async def __call__(self) -> Any:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.exceeded = True
            raise _BodyTooLargeError
        return message


class _Sending:
    """Adds the headers to an answer; what an app says of a body that was cut off is not sent."""

    def __init__(self, scope: Scope, send: Any, limited: _Limited) -> None:
        self._scope, self._send, self._limited, self.started = scope, send, limited, False

    async def __call__(self, message: Any) -> None:
        if self._limited.exceeded and not self.started:
            return
        await self._start(message)

    async def refuse(self, status: int, detail: str, wait: float = 0.0) -> None:
        """Answer with a sentence instead."""
        body = json.dumps({"detail": detail}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if wait:
            headers.append((b"retry-after", str(math.ceil(wait)).encode()))
        if status == 413:
            headers.append((b"connection", b"close"))  # what else comes is not read
        await self._start({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def _start(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            message = {**message, "headers": self._add(list(message.get("headers", [])))}
        await self._send(message)

    def _add(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        given = {name.lower() for name, _ in headers}
        more = dict(HEADERS)
        if not self._scope["path"].startswith(STATIC):
            more["cache-control"] = "no-store"
        if self._scope.get("scheme") == "https":
            more["strict-transport-security"] = "max-age=31536000"
        return headers + [(name.encode(), value.encode()) for name, value in more.items() if name.encode() not in given]
