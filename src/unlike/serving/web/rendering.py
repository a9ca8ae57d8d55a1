"""How a page is made: its templates, the files it loads, and what becomes of a refusal."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Annotated, Any
from urllib.parse import quote

import jinja2
from fastapi import Depends, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.routing import APIRoute

from unlike._version import __version__
from unlike.errors import ServiceError, UnlikeError
from unlike.serving.security.roles import Actor, Role, current_actor

TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}  # another content has another address
WORDS = {  # of states and verdicts, as people say them
    "right": "right",
    "false_alarm": "false alarm",
    "missed": "missed defect",
    "done": "done",
    "queued": "waiting",
    "current": "scores now",
    "candidate": "candidate",
    "retired": "retired",
    "discarded": "discarded",
}


class PageRoute(APIRoute):
    """A page whose refusals are pages, too; who is not known is sent to the login."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of FastAPI, with what it refuses shown to people."""
        handle = super().get_route_handler()

        async def handle_page(request: Request) -> Response:
            try:
                return await handle(request)
            except HTTPException as error:
                return _refuse(request, error.status_code, str(error.detail))
            except RequestValidationError:
                return _refuse(request, 422, "this address has a part that is not understood; begin at the list")
            except ServiceError as error:
                return _refuse(request, error.status or 422, str(error))
            except UnlikeError as error:
                folder = request.app.state.services.settings.folder
                return _refuse(request, 422, str(error).replace(f"{folder}/", ""))

        return handle_page


def visible_to(role: Role) -> Callable[..., Actor]:
    """A dependency that lets in who has this role or a higher one."""

    def allow(actor: Annotated[Actor | None, Depends(current_actor)]) -> Actor:
        if actor is None:
            raise HTTPException(401, "log in")
        if not actor.may(role):
            raise HTTPException(
                403, f"this page is for the role {role} or higher, and {actor.name} is {actor.role}; ask an admin"
            )
        return actor

    return allow


def show(request: Request, actor: Actor | None, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page, or a part of one."""
    text = (
        environment()
        .get_template(template)
        .render(
            actor=actor, path=request.url.path, static=f"/ui/static/{static_version()}", release=__version__, **values
        )
    )
    return HTMLResponse(text, status)


@cache
def environment() -> jinja2.Environment:
    """The templates, in which everything is escaped."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("unlike.serving.web", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.ChainableUndefined,  # what a version or job does not say is shown as a dash
    )
    found.filters |= {"time": say_time, "share": say_share, "number": say_number, "word": say_word, "part": quote_part}
    return found


@cache
def static_files() -> dict[str, bytes]:
    """The style and the scripts, by name."""
    folder = resources.files("unlike.serving.web") / "static"
    return {one.name: one.read_bytes() for one in sorted(folder.iterdir(), key=lambda one: one.name) if one.is_file()}


@cache
def static_version() -> str:
    """Part of the address of those files, which is another when one of them is."""
    whole = hashlib.blake2b(digest_size=6)
    for name, content in static_files().items():
        whole.update(name.encode() + b"\0" + content)
    return whole.hexdigest()


def serve_static(name: str) -> Response:
    """A file that pages load; a ServiceError (404) where there is none of that name."""
    content = static_files().get(name)
    kind = TYPES.get(name[name.rfind(".") :])
    if content is None or kind is None:
        raise ServiceError("there is no such file", status=404)
    return Response(content, media_type=kind, headers=FOR_EVER)


def say_time(at: datetime | str) -> str:
    """A time in ISO 8601; the page says it in the viewer's own way."""
    return at if isinstance(at, str) else at.isoformat()


def say_share(share: Any) -> str:
    """A share in percent, as precise as it is small.

    >>> say_share(0.01), say_share(0.0025), say_share(1.0), say_share(None)
    ('1 %', '0.25 %', '100 %', '-')
    """
    return f"{100 * share:.3g} %" if isinstance(share, int | float) else "-"


def say_number(number: Any) -> str:
    """A score as people read it: four digits.

    >>> say_number(0.123456), say_number(1234567.0), say_number(None)
    ('0.1235', '1.235e+06', '-')
    """
    return f"{number:.4g}" if isinstance(number, int | float) else "-"


def say_word(name: str) -> str:
    """A state or verdict in plain words.

    >>> say_word("false_alarm"), say_word("running")
    ('false alarm', 'running')
    """
    return WORDS.get(name, name.replace("_", " "))


def quote_part(text: str) -> str:
    """Text as one part of an address.

    >>> quote_part("a b/c")
    'a%20b%2Fc'
    """
    return quote(text, safe="")


def _refuse(request: Request, status: int, detail: str) -> Response:
    if status == 401:
        after = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/ui/login?after={quote_part(after)}", 303)
    return show(request, None, "error.html.j2", status, code=status, detail=detail)
