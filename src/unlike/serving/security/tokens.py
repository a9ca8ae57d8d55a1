"""What programs show instead of a password: long random words, of which only a digest is kept."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from unlike.errors import ConfigError
from unlike.serving.database.tables import Token, User, now

MARK = "unlike_"  # before a token, so that people and scanners of repositories know one
USED_EVERY = timedelta(minutes=1)  # that it is written down when a token was used
LONGEST_NAME = 100


def digest_of(secret: str) -> str:
    """What is kept of a token or cookie: its 256 random bits cannot be guessed, so that a plain digest will do.

    >>> digest_of("a")[:8]
    'ca978112'
    """
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def add_token(session: Session, user: User, name: str) -> tuple[Token, str]:
    """A token of that user, with the role that the user has; the second value is shown once, and never again."""
    if not 0 < len(name.strip()) <= LONGEST_NAME or not name.isprintable():
        raise ConfigError(
            f"token: expected a name of 1 to {LONGEST_NAME} characters that says what it is for, such as line-3"
        )
    secret = MARK + secrets.token_urlsafe(32)
    token = Token(user_id=user.id, digest=digest_of(secret), name=name.strip())
    session.add(token)
    session.flush()
    return token, secret


def find_user(session: Session, secret: str) -> tuple[User, Token] | None:
    """Whose token this is; None where it is none, was revoked, or its user is disabled."""
    query = select(User, Token).join(Token, Token.user_id == User.id).where(Token.digest == digest_of(secret))
    row = session.execute(query.where(Token.revoked.is_(False), User.disabled.is_(False))).first()
    return None if row is None else (row[0], row[1])


def is_stale(token: Token) -> bool:
    """Whether it is to be written down that it was used."""
    return token.last_used is None or now() - token.last_used > USED_EVERY


def describe(token: Token, user: str) -> dict[str, Any]:
    """A token as others may see it."""
    used = token.last_used
    return {
        "id": token.id,
        "user": user,
        "name": token.name,
        "created": token.created.isoformat(),
        "last_used": None if used is None else used.isoformat(),
        "revoked": token.revoked,
    }
