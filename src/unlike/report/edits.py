"""Codes changed on purpose and decoded again: what an element of a code, or a direction in its space, stands for."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unlike.errors import ConfigError, DataError
from unlike.records import Floats, Pixels
from unlike.report.figures import styled
from unlike.report.gallery import displayable, shades
from unlike.report.projection import check_spread
from unlike.report.tiles import SOFT, mean_gap, sheet, tile, tile_height, title_width, write
from unlike.report.wording import shorten

TILE, GAP, GROUP_GAP = 0.85, 0.06, 0.24  # inches: the width of a picture, between two, and between two groups
MARGIN, TITLE, HEADING, LINE, CAPTION = 0.15, 0.32, 0.26, 0.15, 0.15  # inches that words take
STEPS = (-2.0, -1.0, 1.0, 2.0)  # standard deviations along a direction; 0 is the reconstruction itself
DIRECTIONS = 2  # that are shown where nobody says how many
ASSIGNMENT = re.compile(r"(?P<element>\d+)=(?P<sign>[x=+-]?)(?P<number>.+)")
TIMES, MINUS = "\N{MULTIPLICATION SIGN}", "\N{MINUS SIGN}"
SIGNS = {"x": TIMES, "+": "+", "-": MINUS, "": "=", "=": "="}


@dataclass(frozen=True, slots=True)
class Assignment:
    """One change of one element of a code."""

    element: int  # of the flattened code, from 0
    sign: str  # one of SIGNS: multiplies, adds, subtracts, or sets
    number: float

    def __str__(self) -> str:
        return f"[{self.element}] {self.sign} {self.number:g}".replace("-", MINUS)

    def apply(self, values: Floats) -> Floats:
        """(N,) what becomes of the element's values."""
        changes = {TIMES: values * self.number, "+": values + self.number, MINUS: values - self.number}
        return np.asarray(changes.get(self.sign, np.full_like(values, self.number)))


@dataclass(frozen=True, slots=True)
class ElementEdit:
    """Chosen elements of a code, changed together.

    >>> ElementEdit((Assignment(1, TIMES, 3.0), Assignment(0, "=", 0.0))).apply(np.array([[5.0, 2.0]]))
    array([[0., 6.]])
    """

    assignments: tuple[Assignment, ...]
    group: str = "elements"

    @property
    def label(self) -> str:
        """What stands above the pictures."""
        return "\n".join(map(str, self.assignments))

    def apply(self, codes: Floats) -> Floats:
        """(N, D) -> (N, D)"""
        changed = codes.copy()
        for assignment in self.assignments:
            changed[:, assignment.element] = assignment.apply(changed[:, assignment.element])
        return changed


@dataclass(frozen=True, slots=True, eq=False)
class DirectionEdit:
    """All elements of a code, moved along one direction."""

    steps: float  # standard deviations of the codes along it
    shift: Floats  # (D,) what is added
    group: str = ""

    @property
    def label(self) -> str:
        """What stands above the pictures."""
        return f"{self.steps:+g} sd".replace("-", MINUS)

    def apply(self, codes: Floats) -> Floats:
        """(N, D) -> (N, D)"""
        return np.asarray(codes + self.shift, codes.dtype)


Edit = ElementEdit | DirectionEdit


@dataclass(frozen=True, slots=True, eq=False)
class Strip:
    """What the images became by one edit: a column of the picture."""

    label: str
    images: Pixels  # (N, H, W, C)
    group: str = ""  # strips with the same one stand under it as their heading


def parse_edit(text: str) -> ElementEdit:
    r"""Read `2=x3` (multiply), `7=+1.5`, `7=-1.5` (add, subtract), `4=0` (set), `4==-1` (set to a negative number).

    Several with commas between them change together.

    >>> ascii(parse_edit("2=x3,7=-1.5").label)
    "'[2] \\xd7 3\\n[7] \\u2212 1.5'"
    """
    return ElementEdit(tuple(_parse_assignment(part.strip(), text) for part in text.split(",")))


def _parse_assignment(part: str, text: str) -> Assignment:
    found = ASSIGNMENT.fullmatch(part.replace(" ", ""))
    try:
        number = float(found["number"]) if found else math.nan
    except ValueError:
        number = math.nan
    if found is None or not math.isfinite(number):
        raise ConfigError(
            f"--set: expected ELEMENT=xFACTOR, =+NUMBER, =-NUMBER or =NUMBER, came {text!r}; for instance 2=x3 or 2=x3,7=+1.5"
        )
    return Assignment(int(found["element"]), SIGNS[found["sign"]], number)


def check_elements(edits: Sequence[ElementEdit], size: int) -> None:
    """Raise ConfigError unless a code of `size` elements has every one that is to be changed.

    >>> check_elements([parse_edit("9=0")], size=4)
    Traceback (most recent call last):
    unlike.errors.ConfigError: --set: there is no element 9; the code has 4, numbered from 0 to 3
    """
    for edit in edits:
        for assignment in edit.assignments:
            if assignment.element >= size:
                raise ConfigError(
                    f"--set: there is no element {assignment.element}; the code has {size:,}, numbered from 0 to {size - 1}"
                )


def principal_edits(codes: Floats, directions: int | None = None, seed: int = 0) -> list[DirectionEdit]:
    """The directions in which codes (N, D) vary most, 2 unless told, each in steps of -2, -1, 1 and 2 standard deviations.

    >>> edits = principal_edits(np.array([[0.0, 0], [2, 0], [4, 1], [6, 1]]), 1)
    >>> [edit.steps for edit in edits], edits[0].group
    ([-2.0, -1.0, 1.0, 2.0], 'direction 1: 99 % of the variance')
    """
    from sklearn.decomposition import PCA

    most = min(len(codes) - 1, codes.shape[1])
    if most < 1:
        raise DataError(
            f"directions need the codes of 2 images or more, came {len(codes)}; give more, or change elements with --set"
        )
    asked = min(DIRECTIONS, most) if directions is None else directions
    if not 1 <= asked <= most:
        raise ConfigError(
            f"--directions: expected 1 to {most}, came {asked}: {len(codes):,} images with codes of {codes.shape[1]:,} "
            "elements vary in no more; give more images"
        )
    check_spread(codes)
    pca = PCA(asked, svd_solver="randomized", random_state=seed).fit(np.asarray(codes, np.float32))
    found = zip(pca.components_, np.sqrt(pca.explained_variance_), pca.explained_variance_ratio_, strict=True)
    return [
        DirectionEdit(steps, steps * deviation * direction, f"direction {number}: {100 * share:.0f} % of the variance")
        for number, (direction, deviation, share) in enumerate(found, 1)
        for steps in STEPS
    ]


@styled
def edit_strips(
    names: Sequence[str], originals: Pixels, reconstructions: Pixels, strips: Sequence[Strip], title: str = ""
) -> Figure:
    r"""Show images (N, H, W, C), their reconstructions, and what the model makes of each edited code: one row an image.

    Below the name of an edit stands by how much it moves the pixels of the reconstructions, where 100 % is from black to
    white.

    >>> images = np.zeros((2, 8, 8, 1), np.uint8)
    >>> figure = edit_strips(["a", "b"], images, images, [Strip("[2] = 0", images + np.uint8(51))])
    >>> [text.get_text() for text in figure.axes[0].texts][:4]
    ['original', 'reconstruction', '[2] = 0', 'pixels \xb120 %']
    """
    low, high, _ = shades(list(originals))
    stacks = [
        [displayable(image, low, high) for image in stack]
        for stack in (originals, reconstructions, *(strip.images for strip in strips))
    ]
    columns, height = _columns(strips), tile_height(TILE, originals)
    top = _head_height(strips, title)
    row_height = height + CAPTION + GAP
    figure, axes = sheet(
        max(columns[-1] + TILE + MARGIN, title_width(title)), top + len(originals) * row_height + MARGIN
    )
    write(axes, title, MARGIN, MARGIN, fontsize=11)
    _write_groups(axes, strips, columns[2:], MARGIN + (TITLE if title else 0))
    for label, x in zip(("original", "reconstruction"), columns, strict=False):
        write(axes, label, x + TILE / 2, top - LINE - GAP, ha="center", va="bottom")
    for strip, x in zip(strips, columns[2:], strict=True):
        moved = f"pixels \xb1{100 * mean_gap(strip.images, reconstructions, high - low):.2g} %"
        write(axes, strip.label, x + TILE / 2, top - LINE - GAP, ha="center", va="bottom")
        write(axes, moved, x + TILE / 2, top - GAP, ha="center", va="bottom", fontsize=7, color=SOFT)
    for row, name in enumerate(names):
        y = top + row * row_height
        for stack, x in zip(stacks, columns, strict=True):
            tile(axes, stack[row], x, y, TILE)
        write(axes, shorten(name, 40), MARGIN, y + height + 0.02, fontsize=7, color=SOFT)
    return figure


def _columns(strips: Sequence[Strip]) -> list[float]:
    """The left edge of the originals, the reconstructions, and each strip: a new group stands apart."""
    edges = [MARGIN, MARGIN + TILE + GAP]
    group = None
    for strip in strips:
        edges.append(edges[-1] + TILE + (GAP if strip.group == group else GROUP_GAP))
        group = strip.group
    return edges


def _head_height(strips: Sequence[Strip], title: str) -> float:
    lines = max((strip.label.count("\n") + 1 for strip in strips), default=1)
    grouped = any(strip.group for strip in strips)
    return MARGIN + bool(title) * TITLE + grouped * HEADING + lines * LINE + LINE + GAP


def _write_groups(axes: Axes, strips: Sequence[Strip], columns: Sequence[float], y: float) -> None:
    """A heading over each group, and a line as wide as the group below it."""
    for group, members in groupby(zip(strips, columns, strict=True), key=lambda member: member[0].group):
        if group:
            edges = [x for _, x in members]
            write(axes, group, edges[0], y)
            axes.plot((edges[0], edges[-1] + TILE), (y + 0.19, y + 0.19), color="#b5b5b5", linewidth=0.7)
