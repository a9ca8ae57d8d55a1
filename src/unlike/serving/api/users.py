"""Logging in and out, users, tokens, and the record of who did what."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as InPath
from pydantic import BaseModel, Field
from sqlalchemy import select

from unlike.errors import ConfigError, ServiceError
from unlike.serving.database.tables import Token, User
from unlike.serving.security import audit, sessions, tokens, users
from unlike.serving.security.gate import address_of
from unlike.serving.security.roles import Actor, Role, require

router = APIRouter(tags=["users"])
NOBODY: dict[int | str, dict[str, Any]] = {
    401: {"description": "Not logged in, or another password"},
    403: {"description": "May not"},
}
MOST_ID = 2**31 - 1
Id = Annotated[int, InPath(ge=1, le=MOST_ID)]
Name = Annotated[str, InPath(max_length=64, pattern=users.NAME.pattern)]
Viewer = Annotated[Actor, Depends(require("viewer"))]
Admin = Annotated[Actor, Depends(require("admin"))]


class Login(BaseModel):
    """Who wants to come in."""

    name: str = Field(max_length=64)
    password: str = Field(max_length=1_000)


class NewUser(BaseModel):
    """A user to add."""

    name: str = Field(max_length=64)
    password: str = Field(max_length=1_000)
    role: Role = "viewer"


class UserChange(BaseModel):
    """What is to be another; what is left out stays."""

    role: Role | None = None
    password: str | None = Field(default=None, max_length=1_000)
    disabled: bool | None = None


class PasswordChange(BaseModel):
    """A new password of one's own."""

    old: str = Field(max_length=1_000)
    new: str = Field(max_length=1_000)


class NewToken(BaseModel):
    """A token to make, and what it is for."""

    name: str = Field(max_length=100)
    user: str | None = Field(default=None, max_length=64, description="An admin may make one for somebody else")


@router.post("/login", responses=NOBODY)
def log_in(login: Login, request: Request, response: Response) -> dict[str, Any]:
    """Log in by name and password: sets the cookie of a session. `csrf` is to come back as X-CSRF-Token with each change."""
    actor, cookie = request.app.state.services.security.log_in(login.name, login.password, address_of(request))
    response.set_cookie(
        sessions.COOKIE,
        cookie,
        max_age=int(sessions.LASTS.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return _describe(actor)


@router.post("/logout", responses=NOBODY)
def log_out(request: Request, response: Response, actor: Viewer) -> dict[str, Any]:
    """End this session."""
    request.app.state.services.security.log_out(request.cookies.get(sessions.COOKIE, ""))
    response.delete_cookie(sessions.COOKIE, httponly=True, samesite="strict")
    return {"name": actor.name}


@router.get("/me", responses=NOBODY)
def who_am_i(actor: Viewer) -> dict[str, Any]:
    """Who is asking, in which role, and the CSRF token of a session."""
    return _describe(actor)


@router.post("/me/password", responses=NOBODY)
def change_password(change: PasswordChange, request: Request, actor: Viewer) -> dict[str, Any]:
    """Take another password; all sessions of that user end."""
    security = request.app.state.services.security
    if actor.by == "local":
        raise ServiceError("there are no users yet, so no password; add a user", status=422)
    security.log_in(actor.name, change.old, address_of(request))
    with request.app.state.services.database.sessions.begin() as session:
        with _refusing():
            users.change_user(session, actor.name, password=change.new)
        audit.record(session, actor.name, "change password")
    return _describe(actor)


@router.get("/users", responses=NOBODY)
def list_users(request: Request, actor: Admin) -> dict[str, Any]:  # noqa: ARG001
    """All users, by name."""
    with request.app.state.services.database.readers() as session:
        return {"items": [users.describe(user) for user in session.scalars(select(User).order_by(User.name))]}


@router.post("/users", status_code=201, responses=NOBODY)
def add_user(new: NewUser, request: Request, actor: Admin) -> dict[str, Any]:
    """Add a user. The first one is to be an admin; from then on nobody is let in without being a user."""
    services = request.app.state.services
    with services.database.sessions.begin() as session:
        with _refusing():
            user = users.add_user(session, new.name, new.password, new.role)
        audit.record(session, actor.name, "add user", user=user.name, role=user.role)
        told = users.describe(user)
    services.security.added_user()
    return told


@router.patch("/users/{name}", responses=NOBODY)
def change_user(name: Name, change: UserChange, request: Request, actor: Admin) -> dict[str, Any]:
    """Another role or password, or disable a user; whoever is logged in as that user is logged out."""
    with request.app.state.services.database.sessions.begin() as session:
        with _refusing():
            user = users.change_user(session, name, **change.model_dump())
        changed = change.model_dump(exclude={"password"}, exclude_none=True)
        audit.record(session, actor.name, "change user", user=name, password=change.password is not None, **changed)
        return users.describe(user)


@router.get("/tokens", responses=NOBODY)
def list_tokens(request: Request, actor: Viewer) -> dict[str, Any]:
    """One's own tokens, and all for an admin; what they are is not kept."""
    query = select(Token, User.name).join(User, User.id == Token.user_id).order_by(Token.id.desc())
    if not actor.may("admin"):
        query = query.where(User.name == actor.name)
    with request.app.state.services.database.readers() as session:
        return {"items": [tokens.describe(token, name) for token, name in session.execute(query)]}


@router.post("/tokens", status_code=201, responses=NOBODY)
def add_token(new: NewToken, request: Request, actor: Viewer) -> dict[str, Any]:
    """Make a token for a program, which acts as its user. `token` is shown this once."""
    name = new.user or actor.name
    if name != actor.name and not actor.may("admin"):
        raise ServiceError("only an admin makes tokens for others", status=403)
    if actor.by == "token":
        raise ServiceError("a token makes no tokens; log in, or run `unlike serve FOLDER --add-token NAME`", status=403)
    with request.app.state.services.database.sessions.begin() as session:
        with _refusing():
            token, secret = tokens.add_token(session, users.find_user(session, name), new.name)
        audit.record(session, actor.name, "add token", user=name, token=token.name)
        return {**tokens.describe(token, name), "token": secret}


@router.delete("/tokens/{token_id}", responses=NOBODY)
def revoke_token(token_id: Id, request: Request, actor: Viewer) -> dict[str, Any]:
    """Let nobody in by a token any more: one's own, or any for an admin."""
    with request.app.state.services.database.sessions.begin() as session:
        token = session.get(Token, token_id)
        owner = None if token is None else session.get_one(User, token.user_id)
        if token is None or owner is None or not (owner.name == actor.name or actor.may("admin")):
            raise ServiceError(f"there is no token {token_id} of {actor.name}; see GET /tokens", status=404)
        token.revoked = True
        audit.record(session, actor.name, "revoke token", user=owner.name, token=token.name)
        return tokens.describe(token, owner.name)


@router.get("/audit", responses=NOBODY)
def read_audit(
    request: Request,
    actor: Admin,  # noqa: ARG001
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="Rows older than the one of this id")] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    who: Annotated[str | None, Query(max_length=64)] = None,
    action: Annotated[str | None, Query(max_length=64)] = None,
) -> dict[str, Any]:
    """Who did what, the newest first; it is only ever added to."""
    with request.app.state.services.database.readers() as session:
        rows = audit.read_audit(session, before=before, limit=limit, who=who, action=action)
    return {"items": rows, "next": rows[-1]["id"] if len(rows) == limit else None}


def _describe(actor: Actor) -> dict[str, Any]:
    by: Literal["local", "session", "token"] = actor.by
    return {"name": actor.name, "role": actor.role, "by": by, "csrf": actor.csrf}


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """What is wrong with a choice, as an answer."""
    try:
        yield
    except ConfigError as error:
        raise ServiceError(str(error), status=422) from None
