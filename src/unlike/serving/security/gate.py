"""Who is behind a request: by a token, by a session, or, where there are no users yet, by being on this machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import select

from unlike.errors import ConfigError, ServiceError
from unlike.serving.database.engine import Database
from unlike.serving.database.tables import Token, User, now
from unlike.serving.security import audit, passwords, sessions, tokens
from unlike.serving.security.csrf import lacks_token
from unlike.serving.security.headers import is_loopback
from unlike.serving.security.rate import LOGINS, LOGINS_OF_NAME, STRANGERS, Rate, RateLimiter
from unlike.serving.security.roles import Actor

if TYPE_CHECKING:
    from starlette.requests import Request

LOCAL = Actor("local", "admin")
FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")  # what a proxy says: the request came from elsewhere
REMEMBERED_SECONDS = 1.0  # that there are no users


class Security:
    """Lets in, or not. `loopback` says that the service is bound to this machine alone."""

    def __init__(
        self, database: Database, *, loopback: bool, logins: Rate = LOGINS, strangers: Rate = STRANGERS
    ) -> None:
        self._database, self._loopback = database, loopback
        self._logins, self._of_name = RateLimiter(logins), RateLimiter(LOGINS_OF_NAME)
        self._strangers = RateLimiter(strangers)
        self._users = False  # once there are some, there always are
        self._asked = -REMEMBERED_SECONDS

    @property
    def has_users(self) -> bool:
        """Whether there is any user, disabled ones too: then nobody is let in without being one."""
        if not self._users and time.monotonic() - self._asked >= REMEMBERED_SECONDS:
            with self._database.readers() as session:
                self._users = session.scalar(select(User.id).limit(1)) is not None
            self._asked = time.monotonic()
        return self._users

    def added_user(self) -> None:
        """There is one now."""
        self._users = True

    def check_start(self) -> None:
        """Raise ConfigError where others could come in whom nobody knows."""
        if not self._loopback and not self.has_users:
            raise ConfigError(
                "--host: others could reach this service, and it has no users yet; add one by `unlike serve FOLDER --add-user NAME "
                "--role admin`, or leave --host out"
            )

    def identify(self, request: Request) -> Actor | None:
        """Who is asking; None where nobody knows. A ServiceError of 403 or 429 where a session or address is refused."""
        kind, _, secret = request.headers.get("authorization", "").partition(" ")
        if kind:
            return self._by_token(secret.strip(), address_of(request)) if kind.lower() == "bearer" else None
        if cookie := request.cookies.get(sessions.COOKIE, ""):
            found = self._by_session(cookie)
            if found is not None:
                self._check_csrf(request, found)
                return found
        return LOCAL if self._is_local(request) else None

    def log_in(self, name: str, password: str, address: str) -> tuple[Actor, str]:
        """Who has just logged in, and the cookie; a ServiceError of 401 or 429, which does not say whether there is such a user."""
        waits = max(self._logins.wait_seconds(address), self._of_name.wait_seconds(name.casefold()[:100]))
        if waits:
            raise ServiceError(
                f"too many tries to log in; wait {waits:.0f} seconds", status=429, passing=True, wait_seconds=waits
            )
        with self._database.readers() as session:
            user = session.scalar(select(User).where(User.name == name, User.disabled.is_(False)))
        if not passwords.matches(None if user is None else user.password_hash, password) or user is None:
            self._note_failure(name, address)
            raise ServiceError("no such user, or another password", status=401)
        self._logins.forget(address)
        self._of_name.forget(name.casefold()[:100])
        with self._database.sessions.begin() as session:
            cookie, csrf = sessions.start_session(session, user)
            audit.record(session, user.name, "log in", address=address)
        return Actor(user.name, user.role, "session", csrf), cookie  # type: ignore[arg-type]

    def log_out(self, cookie: str) -> None:
        """Forget a browser."""
        with self._database.sessions.begin() as session:
            found = sessions.find_session(session, cookie)
            if found is not None:
                sessions.end_session(session, cookie)
                audit.record(session, found[0].name, "log out")

    def _note_failure(self, name: str, address: str) -> None:
        with self._database.sessions.begin() as session:
            audit.record(session, "", "refused log in", name=name[:64], address=address)

    def _by_token(self, secret: str, address: str) -> Actor | None:
        self._check_stranger(address)
        with self._database.readers() as session:
            found = tokens.find_user(session, secret)
        if found is None:
            self._strangers.wait_seconds(address)
            return None
        user, token = found
        if tokens.is_stale(token):
            with self._database.sessions.begin() as session:
                session.get_one(Token, token.id).last_used = now()
        return Actor(user.name, user.role, "token")  # type: ignore[arg-type]

    def _by_session(self, cookie: str) -> Actor | None:
        with self._database.readers() as session:
            found = sessions.find_session(session, cookie)
        return None if found is None else Actor(found[0].name, found[0].role, "session", found[1])  # type: ignore[arg-type]

    def _check_stranger(self, address: str) -> None:
        if self._strangers.is_empty(address):
            raise ServiceError(
                "too many tokens that are not known from this address; wait a few seconds",
                status=429,
                passing=True,
                wait_seconds=2.0,
            )

    def _check_csrf(self, request: Request, actor: Actor) -> None:
        if lacks_token(request.method, request.headers, actor.csrf):
            raise ServiceError(
                "a change by a session needs its token in the header X-CSRF-Token (GET /me has it); load the page again",
                status=403,
            )

    def _is_local(self, request: Request) -> bool:
        """Whether this comes from a program on this machine, and there is nobody to log in as."""
        passed_on = any(name in request.headers for name in FORWARDED)
        return self._loopback and not passed_on and is_loopback(address_of(request)) and not self.has_users


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else ""
