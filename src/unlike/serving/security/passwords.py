"""Passwords: kept as argon2id digests, which take long to guess by, and compared without telling who exists."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING

from unlike.errors import ConfigError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SHORTEST, LONGEST = 10, 1_000  # characters
AT_ONCE = threading.BoundedSemaphore(2)  # digests take 64 MB each: many logins at once wait for each other


def check_password(password: str, name: str) -> None:
    """Raise ConfigError where a password is too easy to guess.

    >>> check_password("short", "ann")
    Traceback (most recent call last):
    unlike.errors.ConfigError: password: expected at least 10 characters, came 5; a few words in a row are easy to remember
    """
    if len(password) < SHORTEST:
        raise ConfigError(
            f"password: expected at least {SHORTEST} characters, came {len(password)}; a few words in a row are easy to remember"
        )
    if len(password) > LONGEST:
        raise ConfigError(f"password: expected at most {LONGEST:,} characters, came {len(password):,}")
    if name.casefold() in password.casefold() or len(set(password)) < 4:
        raise ConfigError(
            "password: expected one that is neither the name nor a few letters over and over; take some words"
        )


def hash_password(password: str) -> str:
    """What is kept of a password (argon2id with a salt of its own).

    >>> matches(hash_password("four words in a row"), "four words in a row")
    True
    """
    with AT_ONCE:
        return _hasher().hash(password)


def matches(digest: str | None, password: str) -> bool:
    """Whether the password is the one; takes as long where there is no such user (None) as where there is."""
    from argon2.exceptions import InvalidHashError, VerificationError

    with AT_ONCE:
        try:
            found = _hasher().verify(digest or _nobody(), password[: LONGEST + 1])
        except (VerificationError, InvalidHashError):
            return False
    return found and digest is not None


@functools.cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher()  # argon2id, 64 MiB, 3 passes: RFC 9106, second recommended option


@functools.cache
def _nobody() -> str:
    """A digest that no password matches, for names that do not exist."""
    import secrets

    return _hasher().hash(secrets.token_hex())
