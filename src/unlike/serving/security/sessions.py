"""Browsers that are logged in: a random cookie, of which only a digest is kept, and a token that the page sends with changes."""

from __future__ import annotations

import secrets
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from unlike.serving.database.tables import LoginSession, User, now
from unlike.serving.security.tokens import digest_of

COOKIE = "unlike_session"
LASTS = timedelta(hours=12)  # a shift


def start_session(session: Session, user: User) -> tuple[str, str]:
    """The cookie and the CSRF token of a browser that has just logged in; sessions that have ended are forgotten."""
    session.execute(delete(LoginSession).where(LoginSession.expires < now()))
    cookie, csrf = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    session.add(LoginSession(digest=digest_of(cookie), user_id=user.id, csrf=csrf, expires=now() + LASTS))
    return cookie, csrf


def find_session(session: Session, cookie: str) -> tuple[User, str] | None:
    """Who is logged in by that cookie, and the CSRF token; None where nobody is."""
    query = select(User, LoginSession).join(LoginSession, LoginSession.user_id == User.id)
    query = query.where(LoginSession.digest == digest_of(cookie), LoginSession.expires > now())
    row = session.execute(query.where(User.disabled.is_(False))).first()
    return None if row is None else (row[0], row[1].csrf)


def end_session(session: Session, cookie: str) -> None:
    """Forget a browser."""
    session.execute(delete(LoginSession).where(LoginSession.digest == digest_of(cookie)))


def end_sessions(session: Session, user: User) -> None:
    """Forget all browsers of a user, whose password or role is another now."""
    session.execute(delete(LoginSession).where(LoginSession.user_id == user.id))
