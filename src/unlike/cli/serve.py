"""`unlike serve`: score by HTTP, review what was flagged, and keep a history."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unlike.cli.console import Console
from unlike.config import need_package
from unlike.errors import ConfigError

if TYPE_CHECKING:
    from unlike.serving.settings import ServeSettings


class Role(StrEnum):
    """What a user may do."""

    VIEWER = "viewer"
    REVIEWER = "reviewer"
    ADMIN = "admin"


def serve(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Of detectors that `unlike fit` wrote; may be empty.")
    ],
    db: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="postgresql://USER:PASSWORD@HOST/DATABASE or sqlite:///FILE; a SQLite file in FOLDER by default.",
            envvar="UNLIKE_DB",
        ),
    ] = "",
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's take a user.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="To listen on.")] = 8000,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="Where to keep images; FOLDER/images by default.")
    ] = None,
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Keep no image: no pictures, no fit on reviews.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Threads that score, in one process.")] = 1,
    backup: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write history, detectors and images to one zip, also while they are served, and stop."
        ),
    ] = None,
    add_user: Annotated[str | None, typer.Option(metavar="NAME", help="Add a user, or change one, and stop.")] = None,
    role: Annotated[Role, typer.Option(help="Of --add-user.")] = Role.VIEWER,
    add_token: Annotated[
        str | None, typer.Option(metavar="NAME", help="Print a token with which programs are that user, and stop.")
    ] = None,
    watch: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="Have a detector score what comes into a folder; may be repeated."),
    ] = None,
    webhook: Annotated[
        str | None, typer.Option(metavar="URL", help="Send each result there, signed by UNLIKE_WEBHOOK_SECRET.")
    ] = None,
    mqtt: Annotated[
        str | None, typer.Option(metavar="HOST[:PORT]", help="Publish each result to that broker, as unlike/NAME.")
    ] = None,
    connections: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="More of these, with all settings; FOLDER/connections.toml by default."),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Make a detector of real solar cells where there is none, and score some.")
    ] = False,
) -> None:
    """Score images by HTTP, show what was flagged to be reviewed, and keep a history of it all.

    Example: unlike serve detectors/ --images kept/ && curl -F file=@new.png localhost:8000/detectors/bottle/score
    """
    need_package("fastapi", "serve", "unlike serve needs FastAPI")
    from unlike.serving.database.engine import default_url
    from unlike.serving.settings import ServeSettings

    console = Console()
    if demo:
        folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: expected a folder of detectors; mkdir {folder} makes an empty one")
    if images is not None and no_images:
        raise ConfigError("--images keeps images and --no-images keeps none; take one of them")
    url = db or default_url(folder)
    if backup is not None:
        from unlike.serving.backup import write_backup

        for line in write_backup(url, folder, None if no_images else images or folder / "images", backup):
            console.say(line)
    elif add_user is not None or add_token is not None:
        _add(url, add_user, role, add_token, console)
    else:
        from unlike.serving.connections import FILE, read_connections

        kept = None if no_images else images or folder / "images"
        watched = [*(watch or ()), *([_prepare_demo(folder, console)] if demo else ())]
        found = connections or (folder / FILE if (folder / FILE).is_file() else None)
        connected = read_connections(found, watch=watched, webhook=webhook, mqtt=mqtt)
        _run(ServeSettings(folder, url, host, port, (), kept, connected, workers=workers), console)


def _prepare_demo(folder: Path, console: Console) -> str:
    from unlike.demo import SERVED, prepare_service

    return f"{SERVED}={prepare_service(folder, 0, console)}"


def _add(url: str, user: str | None, role: Role, token: str | None, console: Console) -> None:
    from unlike.serving.security.users import add_token_by_hand, add_user_by_hand

    if user is not None:
        console.say(add_user_by_hand(url, user, role.value))
    if token is not None:
        typer.echo(add_token_by_hand(url, token, "command line"))


def _run(settings: ServeSettings, console: Console) -> None:
    import logging

    import uvicorn

    from unlike.serving.app import create_app

    logging.basicConfig(format="%(message)s")
    logging.getLogger("unlike").setLevel(logging.INFO)
    app = create_app(settings)
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    console.say(f"Serving {settings.folder} on http://{shown}:{settings.port}/ ; Ctrl-C stops.")
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=30,
    )
