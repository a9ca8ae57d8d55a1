"""Users: who they are, what they may do, and that there is always an admin."""

from __future__ import annotations

import getpass
import os
import re
import sys
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from unlike.errors import ConfigError
from unlike.serving.database.engine import open_database
from unlike.serving.database.tables import User
from unlike.serving.security.audit import record
from unlike.serving.security.passwords import check_password, hash_password
from unlike.serving.security.roles import ROLES
from unlike.serving.security.sessions import end_sessions
from unlike.serving.security.tokens import add_token

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
RESERVED = ("local", "service", "command-line")  # who else stands in the audit
PASSWORD = "UNLIKE_PASSWORD"  # noqa: S105 - where a script hands over a password
COMMAND_LINE = "command-line"


def add_user(session: Session, name: str, password: str, role: str) -> User:
    """A new user; a ConfigError says what is wrong with the name, the password or the role."""
    check_role(role)
    if not NAME.fullmatch(name) or name in RESERVED:
        raise ConfigError(
            f"user: expected a name of at most 64 letters, digits and . _ @ -, and none of {', '.join(RESERVED)}; came {name[:80]!r}"
        )
    check_password(password, name)
    if session.scalar(select(User).where(func.lower(User.name) == name.lower())) is not None:
        raise ConfigError(f"user: there is one called {name}; take another name, or change that one")
    if role != "admin" and not _count_admins(session):
        raise ConfigError(f"user: the first is to be an admin, who adds the others; came {role}")
    user = User(name=name, role=role, password_hash=hash_password(password))
    session.add(user)
    session.flush()
    return user


def change_user(
    session: Session, name: str, *, role: str | None = None, password: str | None = None, disabled: bool | None = None
) -> User:
    """Another role or password, or whether one may come in at all; who is logged in by the old ones is logged out."""
    user = find_user(session, name)
    if role is not None:
        check_role(role)
    falls = (role is not None and role != "admin") or disabled is True
    if user.role == "admin" and not user.disabled and falls and _count_admins(session) == 1:
        raise ConfigError(f"user: {name} is the only admin; make another one first")
    if password is not None:
        check_password(password, name)
        user.password_hash = hash_password(password)
    user.role = user.role if role is None else role
    user.disabled = user.disabled if disabled is None else disabled
    end_sessions(session, user)
    return user


def find_user(session: Session, name: str) -> User:
    """The user of that name; a ConfigError where there is none."""
    user = session.scalar(select(User).where(User.name == name))
    if user is None:
        raise ConfigError(f"user: there is none called {name[:80]!r}; add one, or see GET /users")
    return user


def check_role(role: str) -> None:
    """Raise ConfigError unless it is a role."""
    if role not in ROLES:
        raise ConfigError(f"role: expected {', '.join(ROLES[:-1])} or {ROLES[-1]}, came {role[:80]!r}")


def describe(user: User) -> dict[str, Any]:
    """A user as an admin may see one."""
    return {"name": user.name, "role": user.role, "disabled": user.disabled}


def add_user_by_hand(url: str, name: str, role: str, password: str | None = None) -> str:
    """`unlike serve --add-user`: add a user to the database at that URL, or change the role and password of one; a sentence.

    Whoever may write the database may do that, as a way back for who has lost a password. It stands in the audit.
    """
    secret = ask_password(name) if password is None else password
    database = open_database(url)
    try:
        with database.sessions.begin() as session:
            there = session.scalar(select(User).where(User.name == name)) is not None
            if there:
                change_user(session, name, role=role, password=secret, disabled=False)
            else:
                add_user(session, name, secret, role)
            record(session, COMMAND_LINE, "change user" if there else "add user", user=name, role=role)
    finally:
        database.close()
    return f"{name} is {role} now" + (", with another password." if there else ".")


def add_token_by_hand(url: str, name: str, purpose: str) -> str:
    """`unlike serve --add-token`: a token of that user for a program, which is shown this once."""
    database = open_database(url)
    try:
        with database.sessions.begin() as session:
            token, secret = add_token(session, find_user(session, name), purpose)
            record(session, COMMAND_LINE, "add token", user=name, token=token.name)
    finally:
        database.close()
    return secret


def ask_password(name: str) -> str:
    """Of a terminal, twice; else from the variable UNLIKE_PASSWORD, or a line of what is piped in."""
    if (given := os.environ.get(PASSWORD)) is not None:
        return given
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass(f"Password of {name}: ")
    check_password(first, name)
    if getpass.getpass("Once more: ") != first:
        raise ConfigError("password: the two differ; try again")
    return first


def _count_admins(session: Session) -> int:
    query = select(func.count()).select_from(User).where(User.role == "admin", User.disabled.is_(False))
    return int(session.scalar(query) or 0)
