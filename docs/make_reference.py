"""Write docs/reference.md from the code: commands, settings, names, errors, figures; `--check` fails where it is stale."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import typer
from make_page import write_page

import unlike
from unlike import errors
from unlike.cli.app import app
from unlike.cli.catalogue import describe, settings_table
from unlike.cli.console import FIGURES, PIXEL_FIGURES

PAGE = Path(__file__).parent / "reference.md"
LATENT = ("project", "edit", "gallery", "histograms", "clusters", "residuals")
COMMANDS = ("fit", "score", "evaluate", *(f"latent {name}" for name in LATENT), "study", "finetune", "classify")
COMMANDS += ("demo", "list")


def command_section(name: str) -> str:
    """One command: what its help says, from its parameters rather than from a help text whose form may change."""
    command = typer.main.get_command(app)
    for word in name.split():
        command = command.commands[word]
    words = inspect.cleandoc(command.callback.__doc__ or "")
    lines, example = words.split("\n\n")[0], words.split("Example: ")[1]
    rows = ["| argument or option | default | what it is |", "|---|---|---|"]
    for parameter in command.params:
        if "--help" in parameter.opts:
            continue
        takes = (getattr(parameter, "metavar", None) or parameter.name.upper()).replace("|", " or ")
        named = getattr(parameter, "metavar", None) is not None
        argument = parameter.param_type_name == "argument"
        label = (
            f"`{takes}`"
            if argument
            else ", ".join(f"`{option}`" for option in [*parameter.opts, *parameter.secondary_opts])
        )
        label += f" `{takes}`" if named and not argument else ""
        default = parameter.default
        empty = default is None or default is False or default is ... or parameter.required
        shown = "" if empty else f"`{'on' if default is True else default}`"
        rows.append(f"| {label} | {shown} | {parameter.help} |")
    return f"### unlike {name}\n\n{lines}\n\n{block(example)}\n" + "\n".join(rows) + "\n"


def block(text: str) -> str:
    return f"```\n{text}\n```\n"


def public_names() -> str:
    parts = []
    for name in unlike.__all__:
        thing = getattr(unlike, name)
        doc = inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        parts.append(f"- **`unlike.{name}`**: {doc}")
        if inspect.isclass(thing):
            for method, member in vars(thing).items():
                if (not method.startswith("_") and callable(getattr(thing, method))) or isinstance(member, property):
                    line = inspect.cleandoc(getattr(member, "__doc__", None) or "").split("\n")[0]
                    if line:
                        parts.append(f"  - `{method}`: {line}")
    return "\n".join(parts) + "\n"


def page() -> str:
    parts = ["# Reference", "Written from the code by `make docs`.", "## Commands"]
    parts += [command_section(name) for name in COMMANDS]
    parts += ["Exit codes: 0 done; 1 done, but some inputs could not be used (each is named, the rest is complete); "]
    parts[-1] += "2 wrong use, in one line; 130 stopped by Ctrl-C.\n"
    parts += ["## Settings", "For `--set section.key=value`, `--config FILE.toml` and `Detector(settings=...)`; "]
    parts[-1] += (
        "`finetune`, `augment`, `corruption` and `training` are also those of `unlike finetune` and `Classifier`.\n"
    )
    rows = [f"| `{name}` | `{value}` | {words} |" for name, value, words in settings_table()]
    parts += ["\n".join(["| setting | default | what it is |", "|---|---|---|", *rows]) + "\n"]
    for what in ("models", "scorers", "presets", "thresholds"):
        parts += [f"### {what}", block("\n".join(describe(what)))]
    parts += ["## Python", public_names()]
    figures = [f"| `image.{name}` | {words} |" for name, words in FIGURES.items()]
    figures += [f"| `pixel.{name}` | {words} |" for name, words in PIXEL_FIGURES.items()]
    parts += ["## Figures in metrics.json", "\n".join(["| name | what it is |", "|---|---|", *figures]) + "\n"]
    parts += ["## Errors", block(inspect.cleandoc(errors.__doc__ or ""))]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


if __name__ == "__main__":
    sys.exit(write_page(PAGE, page()))
