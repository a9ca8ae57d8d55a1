"""Who is asking, and what that one may do.

An endpoint says whom it lets in, and is told who came:

    @router.post("/images/{image_id}/review")
    def review(image_id: str, actor: Annotated[Actor, Depends(require("reviewer"))]) -> ...:
        audit.record(session, actor, "review", image=image_id)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, HTTPException, Request

Role = Literal["viewer", "reviewer", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "reviewer", "admin")  # each may do what those before it may
By = Literal["local", "session", "token"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who was let in.

    >>> Actor("ann", "reviewer").may("viewer"), Actor("ann", "reviewer").may("admin")
    (True, False)
    """

    name: str  # of the user; "local" where there are no users yet
    role: Role
    by: By = "local"  # how it is known who this is
    csrf: str = ""  # what a page sends back as X-CSRF-Token with whatever changes something; only of a session

    def may(self, role: Role) -> bool:
        """Whether what this role may do is allowed."""
        return ROLES.index(self.role) >= ROLES.index(role)


def current_actor(request: Request) -> Actor | None:
    """Who is asking; None where nobody is logged in. For pages, which then show the login."""
    found: Actor | None = request.app.state.services.security.identify(request)
    return found


def require(role: Role) -> Callable[..., Actor]:
    """A dependency that lets in who has this role or a higher one: 401 to strangers, 403 to those who may not."""

    def allow(actor: Annotated[Actor | None, Depends(current_actor)]) -> Actor:
        if actor is None:
            raise HTTPException(
                401,
                "log in by POST /login, or send a token as Authorization: Bearer TOKEN",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if not actor.may(role):
            raise HTTPException(403, f"expected the role {role} or higher, {actor.name} is {actor.role}; ask an admin")
        return actor

    return allow
