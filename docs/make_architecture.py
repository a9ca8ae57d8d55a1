"""Write docs/pictures/architecture.svg from the imports of the code; with `--check` say whether it is out of date."""

from __future__ import annotations

import ast
import functools
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

from make_page import write_page

SOURCE = Path(__file__).parent.parent / "src" / "unlike"
PICTURE = Path(__file__).parent / "pictures" / "architecture.svg"

Imports = Mapping[tuple[str, str], int]  # (who, what) -> import statements

BASE = {  # what nearly everything uses: one band at the foot, without arrows
    "errors": "raised on purpose",
    "records": "values that cross layers",
    "config": "TOML and dataclasses",
    "registry": "names, and plug-ins",
    "artifacts": "files whole or absent",
    "cache": "the user's cache folder",
    "allocation": "memory that a training reuses",
    "_version": "said in one place",
}
PACKAGES = {  # name -> column, what it does, where it is on the way of an image
    "cli": (1, "the commands that people type", "8"),
    "study": (0, "many fits, one table with intervals", ""),
    "demo": (1, "solar cells, from fit to report", ""),
    "batch": (1, "shards, here or on Ray", ""),
    "export": (0, "one graph, proven equal", ""),
    "report": (2, "figures on one page of HTML", "7"),
    "testing": (1, "promises as checks, for parts of your own", ""),
    "detector": (1, "fits; one pipeline from image to score", "4"),
    "runtime": (0, "exports at work, without torch", ""),
    "evaluation": (2, "scores and labels to metrics", "6"),
    "calibration": (2, "thresholds, p-values, verdicts", "5"),
    "training": (0, "images and a model to weights", ""),
    "scoring": (1, "how far from normal: the scorers", "3"),
    "models": (1, "images to features, and back", "2"),
    "backbones": (1, "pretrained networks, if a model has one", ""),
    "data": (1, "files or arrays: one source of images", "1"),
    "cluster": (2, "equilibrium k-means, by itself", ""),
}
WAY = (  # from, to, and what goes there
    ("data", "backbones", "images (B, C, H, W)"),
    ("backbones", "models", "what a network sees"),
    ("models", "scoring", "features, reconstruction"),
    ("scoring", "detector", "a map (B, h, w)"),
    ("detector", "calibration", "scores (B,)"),
    ("calibration", "evaluation", "verdicts"),
    ("evaluation", "report", "metrics, intervals"),
    ("report", "cli", "pages, tables"),
)
PATH_BOXES = {name for step in WAY for name in step[:2]}

WIDTH, BOX, TALL, PITCH, TOP, GUTTER = 1180, 316, 56, 100, 96, 66
INK, QUIET, EDGE, WARM, PALE = "#1f2933", "#5d6b7a", "#8496a9", "#e07b00", "#fff4e2"
FONT = "'DejaVu Sans', Verdana, 'Segoe UI', sans-serif"


def imports() -> Imports:
    """How many import statements of one package of ours, or module beside them, name another; type-checking ones too."""
    found: Counter[tuple[str, str]] = Counter()
    for path in sorted(SOURCE.rglob("*.py")):
        who = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        if who not in ("__init__", "__main__"):
            found.update((who, what) for what in _named(ast.parse(path.read_text())) if what != who)
    return found


def _named(tree: ast.Module) -> Iterator[str]:
    """Our packages in the import statements of a module, one for each statement."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            parts = node.module.split(".")
            if parts[0] == "unlike":
                yield from parts[1:2] or [name.name for name in node.names if (SOURCE / name.name).exists()]
        elif isinstance(node, ast.Import):
            yield from (name.name.split(".")[1] for name in node.names if name.name.startswith("unlike."))


def levels(found: Imports) -> dict[str, int]:
    """How high each package is: one above the highest of those that it imports. A circle of imports is an error."""
    below = {who: {what for other, what in found if other == who} for pair in found for who in pair}

    @functools.cache
    def level(name: str, above: tuple[str, ...] = ()) -> int:
        if name in above:
            raise SystemExit(f"imports go in a circle: {' -> '.join([*above, name])}")
        return 1 + max((level(other, (*above, name)) for other in below[name]), default=-1)

    return {name: level(name) for name in sorted(below)}


def direct(found: Imports) -> Imports:
    """The imports between boxes without those that a way over other boxes implies, which would only be in the way."""
    between = {pair: count for pair, count in found.items() if pair[0] in PACKAGES and pair[1] in PACKAGES}

    @functools.cache
    def reached(name: str) -> frozenset[str]:
        nexts = {what for who, what in between if who == name}
        return frozenset(nexts).union(*map(reached, nexts))

    def implied(who: str, what: str) -> bool:
        return any(what in reached(other) for first, other in between if first == who and other != what)

    return {pair: count for pair, count in between.items() if not implied(*pair)}


class Layout:
    """Where each box is: its column is chosen, its row follows from the imports."""

    def __init__(self, found: Imports) -> None:
        height = levels(found)
        missing = {name for name in height if name not in PACKAGES and name not in BASE}
        if missing:
            raise SystemExit(f"make_architecture.py does not say what these do: {', '.join(sorted(missing))}")
        self.rows = sorted({height[name] for name in PACKAGES}, reverse=True)
        self.row = {name: self.rows.index(height[name]) for name in PACKAGES}
        taken = Counter((self.row[name], PACKAGES[name][0]) for name in PACKAGES)
        if max(taken.values()) > 1:
            raise SystemExit("make_architecture.py: two packages are in one place; choose other columns for them")
        self.foot = TOP + len(self.rows) * PITCH + 14  # of the boxes, where the band begins

    def corner(self, name: str) -> tuple[float, float]:
        """The upper left corner of a box."""
        column = PACKAGES[name][0]
        return (WIDTH - 3 * BOX - 2 * GUTTER) / 2 + column * (BOX + GUTTER), TOP + self.row[name] * PITCH

    def arrow(self, who: str, what: str, count: int) -> str:
        """From the foot of a box to the head of a lower one, as thick as there are imports."""
        (x, y), (to_x, to_y) = self.corner(who), self.corner(what)
        start, end = y + TALL, to_y - 9
        columns = PACKAGES[what][0] - PACKAGES[who][0]
        shift = 46 * max(-1, min(1, columns))
        to_x += BOX * 0.30 - shift
        bend = max(30.0, (end - start) / 2)
        thick = 1.4 + count**0.5
        if columns > 0 and self.row[what] > self.row[who] + 2:  # past other boxes: out at the side
            x, start = x + BOX, y + TALL / 2
            line = f"M{x:.0f} {start:.0f} C{to_x:.0f} {start:.0f} {to_x:.0f} {start:.0f} {to_x:.0f} {end:.0f}"
        else:
            x += BOX * 0.30 + shift
            line = f"M{x:.0f} {start:.0f} C{x:.0f} {start + bend:.0f} {to_x:.0f} {end - bend:.0f} {to_x:.0f} {end:.0f}"
        head = f"M{to_x - 4 - thick:.1f} {end - 1:.0f} h{8 + 2 * thick:.1f} l-{4 + thick:.1f} 9 z"
        title = f"<title>{who} imports {what}: {count} times</title>"
        return (
            f'<g>{title}<path d="{line}" fill="none" stroke="{EDGE}" stroke-width="{thick:.1f}"/>'
            f'<path d="{head}" fill="{EDGE}"/></g>'
        )

    def step(self, start: str, end: str, words: str) -> str:
        """A step on the way of an image, and what goes there."""
        (x, y), (to_x, to_y) = self.corner(start), self.corner(end)
        columns = PACKAGES[end][0] - PACKAGES[start][0]
        if columns == 0:  # straight up
            x, low, high = x + BOX * 0.60, y, to_y + TALL + 10
            return _way(f"M{x:.0f} {low} V{high}", (x, high), "up") + _words(
                x + 12, (low + high) / 2 + 2 if low - high < PITCH else low - 48, words
            )
        if to_y > y:  # to the side and down
            x, y, to_y = x + BOX, y + TALL / 2, to_y + TALL / 2
            line = f"M{x:.0f} {y:.0f} h{GUTTER / 2:.0f} V{to_y:.0f} H{to_x - 10:.0f}"
            return _way(line, (to_x - 10, to_y), "right") + _words(x + GUTTER / 2 - 10, to_y - 18, words, "end")
        x, to_x, to_y = x + BOX * 0.60, to_x + BOX + 10, to_y + TALL / 2  # up and to the side
        return _way(f"M{x:.0f} {y} V{to_y:.0f} H{to_x:.0f}", (to_x, to_y), "left") + _words(
            x + 12, (y + to_y) / 2 + 4, words
        )

    def box(self, name: str) -> str:
        """Its name, what it does, and its number on the way of an image."""
        (x, y), (_, does, number) = self.corner(name), PACKAGES[name]
        warm = name in PATH_BOXES
        edge, fill = (WARM, PALE) if warm else (EDGE, "#f6f8fa")
        parts = [
            f'<rect x="{x:.0f}" y="{y}" width="{BOX}" height="{TALL}" rx="9" fill="{fill}" stroke="{edge}" stroke-width="1.6"/>',
            f'<text x="{x + 16:.0f}" y="{y + 24}" font-size="17" font-weight="bold" fill="{INK}">{escape(name)}</text>',
            f'<text x="{x + 16:.0f}" y="{y + 44}" font-size="13" fill="{QUIET}">{escape(does)}</text>',
        ]
        if number:
            parts.append(f'<circle cx="{x + BOX - 22:.0f}" cy="{y + 20}" r="12" fill="{WARM}"/>')
            parts.append(_centred(x + BOX - 22, y + 25, number, 13, "#ffffff", bold=True))
        return "".join(parts)

    def band(self) -> list[str]:
        """What nearly all others use, at the foot."""
        (left, _), y = self.corner("training"), self.foot
        whole = 3 * BOX + 2 * GUTTER
        words = "What all of the above stand on, and import without an arrow here:"
        parts = [
            f'<rect x="{left:.0f}" y="{y}" width="{whole}" height="124" rx="9" fill="#eef2f6" stroke="{EDGE}" stroke-width="1.2"/>',
            f'<text x="{left + 16:.0f}" y="{y + 22}" font-size="13" fill="{QUIET}">{words}</text>',
        ]
        for place, (name, does) in enumerate(BASE.items()):
            x, row = left + 16 + (place % 4) * (whole - 20) / 4, y + 52 + (place // 4) * 44
            parts.append(f'<text x="{x:.0f}" y="{row}" font-size="15" font-weight="bold" fill="{INK}">{name}</text>')
            parts.append(f'<text x="{x:.0f}" y="{row + 18}" font-size="12.5" fill="{QUIET}">{escape(does)}</text>')
        return parts


def _centred(x: float, y: float, words: str, size: float, colour: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="middle" fill="{colour}"{weight}>{words}</text>'
    )


def _words(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="12.5" font-style="italic" text-anchor="{anchor}" fill="{WARM}">{escape(words)}</text>'


def _way(line: str, end: tuple[float, float], towards: str) -> str:
    turn = {"up": 0, "right": 90, "left": -90}[towards]
    head = (
        f'<path d="M-9 1 h18 l-9 -11 z" transform="translate({end[0]:.0f} {end[1]:.0f}) rotate({turn})" fill="{WARM}"/>'
    )
    return f'<path d="{line}" fill="none" stroke="{WARM}" stroke-width="5" stroke-linejoin="round"/>{head}'


def picture(found: Imports) -> str:
    """The whole picture as SVG."""
    layout = Layout(found)
    left, height = layout.corner("training")[0], layout.foot + 124 + 24
    title = "The way of an image goes up, imports go down"
    legend = (
        f'<text x="{left:.0f}" y="40" font-size="21" font-weight="bold" fill="{INK}">{title}</text>'
        f'<path d="M{left:.0f} 63 h34" stroke="{WARM}" stroke-width="5"/>{_words(left + 44, 68, "the way of an image, 1 to 8")}'
        f'<path d="M{left + 262:.0f} 63 h34" stroke="{EDGE}" stroke-width="4"/>'
        f'<text x="{left + 306:.0f}" y="68" font-size="12.5" fill="{QUIET}">imports: the more, the thicker '
        "(those that a longer way down implies are left out)</text>"
    )
    parts = [legend]
    parts += [layout.arrow(*pair, count) for pair, count in sorted(direct(found).items())]
    parts += [layout.step(*step) for step in WAY]
    parts += [layout.box(name) for name in PACKAGES]
    parts += layout.band()
    x, y = layout.corner("data")
    parts.append(_way(f"M{x - GUTTER:.0f} {y + 28} H{x - 10:.0f}", (x - 10, y + 28), "right"))
    parts.append(_words(x - GUTTER - 12, y + 24, "what you name: a folder,", "end"))
    parts.append(_words(x - GUTTER - 12, y + 41, "files, an array, a manifest", "end"))
    frame = f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="{FONT}">'
    return "\n".join([head, f"<title>{title}</title>", frame, *parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    sys.exit(write_page(PICTURE, picture(imports())))
