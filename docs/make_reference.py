"""Write docs/reference.md from the code: commands, settings, names, errors, figures; `--check` fails where it is stale."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import typer
from make_page import write_page

import unlike
from unlike import errors
from unlike.cli.app import COMMANDS, LATENT_COMMANDS, build_app
from unlike.cli.catalogue import Setting, describe, list_entries, list_presets, settings_table
from unlike.report.wording import TERMS

PAGE = Path(__file__).parent / "reference.md"
NAMES = (*COMMANDS, *(f"latent {name}" for name in LATENT_COMMANDS))


def command_section(name: str) -> str:
    """One command: what its help says, from its parameters rather than from a help text whose form may change."""
    command = typer.main.get_command(build_app())
    for word in name.split():
        command = command.commands[word]
    words = inspect.cleandoc(command.callback.__doc__ or "")
    lines, example = words.split("\n\n")[0], words.split("Example: ")[1]
    rows = []
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
        rows.append((label, shown, parameter.help))
    described = table(("argument or option", "default", "what it is"), rows)
    return f"### unlike {name}\n\n{lines}\n\n{block(example)}\n{described}"


def setting_row(setting: Setting) -> tuple[str, str, str]:
    return f"`{setting.name}`", f"`{setting.value}`", setting.words


def part_rows(what: str) -> Iterator[tuple[str, str, str]]:
    """Each model or scorer, and its settings below it."""
    for entry in list_entries(what):
        yield f"**{entry.name}**", "", f"**{entry.about}**"
        yield from map(setting_row, entry.settings)


def preset_rows(*, report: bool) -> Iterator[tuple[str, str, str]]:
    for entry in list_presets(report=report):
        yield f"`{entry.name}`", entry.about, ", ".join(f"`{setting.assignment}`" for setting in entry.settings)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (f"| {' | '.join(row)} |" for row in (head, *rows))
    return "\n".join([next(lines), "|---" * len(head) + "|", *lines]) + "\n"


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
    parts += [command_section(name) for name in NAMES]
    parts += ["Exit codes: 0 done; 1 done, but some inputs could not be used (each is named, the rest is complete); "]
    parts[-1] += "2 wrong use, in one line; 130 stopped by Ctrl-C.\n"
    parts += ["## Settings", "For `--set section.key=value`, `--config FILE.toml` and `Detector(settings=...)`; "]
    parts[-1] += (
        "`finetune`, `augment`, `corruption` and `training` are also those of `unlike finetune` and `Classifier`.\n"
    )
    parts += [table(("setting", "default", "what it is"), map(setting_row, settings_table()))]
    for what in ("models", "scorers"):
        parts += [f"### {what}", table((what.removesuffix("s"), "default", "what it is"), part_rows(what))]
    columns = ("preset", "what it is for", "settings")
    parts += ["### presets", table(columns, preset_rows(report=False))]
    parts += ["### presets of published reports", table(columns, preset_rows(report=True))]
    parts += ["### thresholds", block("\n".join(describe("thresholds")))]
    parts += ["## Python", public_names()]
    oracle = " An oracle's: that threshold was chosen on the labels of the test."
    figures = ((f"`{name}`", term.meaning + oracle * term.oracle) for name, term in TERMS.items())
    parts += ["## Figures in metrics.json", table(("name", "what it is"), figures)]
    parts += ["## Errors", block(inspect.cleandoc(errors.__doc__ or ""))]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


if __name__ == "__main__":
    sys.exit(write_page(PAGE, page()))
