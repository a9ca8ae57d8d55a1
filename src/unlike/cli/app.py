"""The command line as a whole. Heavy imports happen inside the commands, so that `unlike --help` is there at once."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Annotated, Any

import typer

from unlike.cli.arguments import DONE, INTERRUPTED, WRONG_USE
from unlike.cli.calibrate import calibrate
from unlike.cli.classes import classify, finetune
from unlike.cli.console import fail
from unlike.cli.demo import demo
from unlike.cli.describe import describe
from unlike.cli.evaluate import evaluate
from unlike.cli.export import export
from unlike.cli.fit import fit
from unlike.cli.inspect import inspect
from unlike.cli.latent import clusters, edit, gallery, histograms, points, project, show_help
from unlike.cli.listing import list_names
from unlike.cli.monitor import monitor
from unlike.cli.residuals import residuals
from unlike.cli.score import score
from unlike.cli.serve import serve
from unlike.cli.study import study
from unlike.cli.watch import watch
from unlike.errors import UnlikeError

# what typer raises for arguments it does not understand: click's, or in newer releases its own copy of click's
WrongArguments: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
COMMANDS: dict[str, Callable[..., None]] = {  # in the order in which help names them
    "inspect": inspect,
    "fit": fit,
    "score": score,
    "evaluate": evaluate,
    "calibrate": calibrate,
    "describe": describe,
    "export": export,
    "monitor": monitor,
    "serve": serve,
    "watch": watch,
    "demo": demo,
    "list": list_names,
    "finetune": finetune,
    "classify": classify,
    "study": study,
}
LATENT_COMMANDS: dict[str, Callable[..., None]] = {
    "project": project,
    "edit": edit,
    "gallery": gallery,
    "histograms": histograms,
    "clusters": clusters,
    "points": points,
    "residuals": residuals,
}


def build_app(names: Collection[str] = COMMANDS) -> typer.Typer:
    """The command line with its commands, or some of them.

    >>> [command.name for command in build_app().registered_commands][:3]
    ['inspect', 'fit', 'score']
    """
    app = typer.Typer(
        name="unlike",
        help="Show it what normal looks like; it finds the images that are unlike it.",
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(root)
    for name in names:
        app.command(name=name)(COMMANDS[name])
    app.add_typer(_build_latent(), name="latent")
    return app


def _build_latent() -> typer.Typer:
    latent = typer.Typer(
        help="Pictures of the code space: where a detector sees images, and what its numbers stand for.",
        rich_markup_mode=None,
    )
    latent.callback(invoke_without_command=True)(show_help)
    for name, command in LATENT_COMMANDS.items():
        latent.command(name=name)(command)
    return latent


def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Show it what normal looks like; it finds the images that are unlike it.

    Example: unlike fit good/ -o cells.unlike && unlike score cells.unlike new/
    """
    del debug  # read by `main`, which catches the error
    if version:
        from unlike._version import __version__

        typer.echo(f"unlike {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the command line; every error on purpose is one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):  # file names that are no UTF-8 come out as they are
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")
    sys.exit(run(sys.argv[1:]))


def _command_of(error: WrongArguments) -> str:
    """Which command did not understand."""
    context = getattr(error, "ctx", None)
    return context.command_path if context is not None else "unlike"


def _build_asked_for(arguments: Sequence[str]) -> typer.Typer:
    """What these arguments ask for and no more, for each command takes milliseconds to build."""
    first = arguments[0] if arguments else ""
    return build_app((first,)) if first in COMMANDS else build_app()


def run(arguments: Sequence[str]) -> int:
    """Run the command line with these arguments and return its exit code."""
    try:
        code = typer.main.get_command(_build_asked_for(arguments)).main(
            list(arguments), prog_name="unlike", standalone_mode=False
        )
    except UnlikeError as error:
        if "--debug" in arguments:
            raise
        return fail(str(error), WRONG_USE)
    except WrongArguments as error:
        words = " ".join(error.format_message().replace("Value error, ", "").split())
        return fail(f"{words} (see `{_command_of(error)} --help`)", WRONG_USE)
    except ModuleNotFoundError as error:
        package = (error.name or "unlike").partition(".")[0]
        if "--debug" in arguments or package == "unlike":
            raise
        return fail(
            f"this takes {package}, which is not installed here; unlike-runtime scores exports and no more: pip install unlike "
            "has all the rest",
            WRONG_USE,
        )
    except OSError as error:
        if "--debug" in arguments:
            raise
        return fail(f"{error.filename or 'a file'}: {error.strerror or error}", WRONG_USE)
    except SystemExit:  # the reader of a pipe, `head` say, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    if code == INTERRUPTED:
        fail("stopped", INTERRUPTED)
    return int(code or DONE)
