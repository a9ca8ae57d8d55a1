"""Results by HTTP to an address that an admin has configured: signed, and tried again until they are taken."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from unlike._version import __version__
from unlike.errors import ConfigError
from unlike.serving.sinks.base import Delivery, Fate, Message, read_secret

SECRET = "UNLIKE_WEBHOOK_SECRET"  # noqa: S105 (the name of the variable, not a secret)
SHORTEST_SECRET = 16  # characters
NEVER = (400, 410, 413, 414, 415, 422)  # answers that say that this message will never be taken
EXCERPT = 200  # characters of an answer that are kept
TOLERANCE_SECONDS = 300.0  # how old a signature may be


@dataclass(frozen=True, slots=True)
class WebhookConfig:
    """Where to, and by which secret messages are signed."""

    url: str
    secret_file: str = ""  # holds the secret; empty: the environment's UNLIKE_WEBHOOK_SECRET
    timeout_seconds: float = 10.0


class Webhook:
    """POST of one JSON object an image; a 2xx answer is a receipt.

    Every request has `Unlike-Delivery`, the same at each try, and `Unlike-Signature`, which `verify_signature` checks. Only
    whoever writes the configuration names addresses; redirects are not followed, and addresses of the link itself, where
    clouds keep their secrets, are refused.
    """

    Config = WebhookConfig

    def __init__(self, config: WebhookConfig) -> None:
        check_url(config.url)
        self.config = config
        self._secret = (
            read_secret(config.secret_file, "secret_file") if config.secret_file else os.environ.get(SECRET, "")
        )
        if len(self._secret) < SHORTEST_SECRET:
            raise ConfigError(
                f"{config.url}: messages are signed by a secret of at least {SHORTEST_SECRET} characters, came {len(self._secret)}; "
                f"give secret_file = FILE, or set {SECRET}"
            )
        agent = {"User-Agent": f"unlike/{__version__}"}
        self._http = httpx.Client(timeout=config.timeout_seconds, follow_redirects=False, headers=agent)

    def send(self, messages: Sequence[Message]) -> list[Delivery]:
        """One after the other; where nobody is there, the others wait."""
        found: list[Delivery] = []
        until = time.monotonic() + 20.0
        for message in messages:
            if time.monotonic() > until or (found and found[-1].error.startswith("no answer")):
                found.append(Delivery(Fate.AWAY, found[-1].error if found else ""))
            else:
                found.append(self._send_one(message))
        return found

    def close(self) -> None:
        self._http.close()

    def _send_one(self, message: Message) -> Delivery:
        body = json.dumps(message.payload, ensure_ascii=False).encode()
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "Unlike-Delivery": str(message.id),
            "Unlike-Timestamp": timestamp,
            "Unlike-Signature": f"v1={sign(self._secret, timestamp, body)}",
        }
        try:
            with self._http.stream("POST", self.config.url, content=body, headers=headers) as response:
                said = next(response.iter_bytes(EXCERPT), b"").decode(errors="replace").strip()
        except (httpx.HTTPError, OSError) as error:
            return Delivery(
                Fate.AGAIN, f"no answer from {urlsplit(self.config.url).netloc} ({error or type(error).__name__})"
            )
        if response.is_success:
            return Delivery(Fate.SENT)
        why = f"answered {response.status_code} {response.reason_phrase}{f': {said[:EXCERPT]}' if said else ''}"
        return Delivery(Fate.REFUSED if response.status_code in NEVER else Fate.AGAIN, why)


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 of the time, a point and the body, in hexadecimal.

    >>> sign("a secret of the line", "1767225600", b"{}")[:16]
    '7365c0e554a13ed5'
    """
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def verify_signature(
    secret: str, timestamp: str, body: bytes, signature: str, *, tolerance_seconds: float = TOLERANCE_SECONDS
) -> bool:
    """For receivers: whether a request was signed by whoever knows the secret, and not long ago.

    `timestamp` and `signature` are the headers `Unlike-Timestamp` and `Unlike-Signature`, `body` the bytes as they came.

    >>> now = str(int(time.time()))
    >>> verify_signature("a secret of the line", now, b"{}", "v1=" + sign("a secret of the line", now, b"{}"))
    True
    >>> verify_signature("a secret of the line", "1767225600", b"{}", "v1=" + sign("a secret of the line", "1767225600", b"{}"))
    False
    """
    if not (timestamp.isascii() and timestamp.isdigit()) or abs(time.time() - int(timestamp)) > tolerance_seconds:
        return False
    return hmac.compare_digest(f"v1={sign(secret, timestamp, body)}".encode(), signature.encode(errors="replace"))


def check_url(url: str) -> None:
    """Raise ConfigError unless messages may be sent there.

    >>> check_url("http://169.254.169.254/latest")
    Traceback (most recent call last):
    unlike.errors.ConfigError: http://169.254.169.254/latest: ...
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{url}: expected the address of a webhook, such as https://mes.example/unlike")
    if parts.username or parts.password:
        raise ConfigError(
            f"{parts.hostname}: a password in an address would be shown wherever that is; leave it out, messages are signed"
        )
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:
        return
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        raise ConfigError(f"{url}: is no address of another program (clouds keep their secrets there); name its host")
