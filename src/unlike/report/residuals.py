"""The residuals of held-out normal images and of anomalous ones, by a detector and after fine-tuning, on one page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unlike.data.batches import Batch, digest
from unlike.data.input_spec import InputSpec
from unlike.data.source import Source
from unlike.errors import DataError
from unlike.evaluation.residuals import Gap, measure_gap
from unlike.records import Bools, Estimate, Floats, Pixels, Sample, Unreadable
from unlike.report.figures import ANOMALOUS, INK, NORMAL, bin_edges, plain_log_ticks, styled
from unlike.report.gallery import displayable, shades
from unlike.report.latent import Notify, draw_rows
from unlike.report.tiles import SOFT, sheet, tile, tile_height, title_width, write
from unlike.report.wording import interval, number, shorten

EXAMPLES = 2  # of the normal images, and of the anomalous ones
DOTS = 400  # of a group that are drawn; means and intervals are of all
GAP, CAPTION, LARGEST = 0.06, 0.36, 1.5  # inches: beside a picture, below it, and its width at most
MARGIN, TITLE, HEADING, NOTE = 0.18, 0.36, 0.3, 0.3  # inches that words take
CHART, LABELS, FIGURES, WIDE = 1.25, 0.95, 2.6, 4.1  # inches: high; left of it, right of it, and wide
FULL_SCALE = 0.98  # quantile of the residuals that are shown from which all are the brightest colour
NOT_FINITE = "its residual is not a finite number: its values are far outside what the detector was fitted on"


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """A model at one time of its life, such as after fine-tuning: how it reconstructs images, and what it learned from."""

    title: str
    find_maps: Callable[[Pixels], Floats]  # (B, H, W, C) -> residuals (B, h, w)
    reconstruct: Callable[[Pixels], Pixels]  # (B, H, W, C) -> (B, H, W, C)
    digests: npt.NDArray[np.uint64]  # (M,) of the images it learned from
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Labelled images from which no stage has learned, and how large the residuals of each stage are."""

    samples: tuple[Sample, ...]  # N
    residuals: Floats  # (S, N) mean over the pixels
    known: tuple[str, ...] = ()  # ids left out, because a stage has learned from them
    unreadable: tuple[Unreadable, ...] = ()

    @property
    def anomalous(self) -> Bools:
        """(N,) the labels."""
        return np.array([bool(sample.anomalous) for sample in self.samples])

    def measure(self) -> list[Gap]:
        """What each stage makes of the two groups."""
        return [measure_gap(residuals, self.anomalous) for residuals in self.residuals]


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One image with what each stage makes of it."""

    sample: Sample
    image: Pixels  # (H, W, C)
    reconstructions: Sequence[Pixels]  # S of (H, W, C)
    maps: Sequence[Floats]  # S residuals (h, w)


def hold_out(source: Source, spec: InputSpec, stages: Sequence[Stage], notify: Notify | None = None) -> HeldOut:
    """Measure the residuals of labelled images in each stage, of all but those from which one of them has learned.

    What a model was trained on it reconstructs better than what it will meet, so such images are left out and named. A
    DataError says that no normal image, or no anomalous one, remains.
    """
    known = np.unique(np.concatenate([stage.digests for stage in stages]))
    samples: list[Sample] = []
    residuals: list[Floats] = []
    left_out: list[str] = []
    unreadable: list[Unreadable] = []
    done = 0
    for batch in source.stream(spec):
        fresh, learned = _part(batch, known)
        found = np.stack([_mean_residuals(stage, fresh.pixels) for stage in stages])
        finite = np.isfinite(found).all(axis=0)
        samples += [fresh.samples[row] for row in np.flatnonzero(finite).tolist()]
        residuals.append(found[:, finite])
        left_out += learned
        lost = [Unreadable(fresh.samples[row].id, NOT_FINITE) for row in np.flatnonzero(~finite).tolist()]
        unreadable += [*batch.unreadable, *lost]
        done += len(batch.samples) + len(batch.unreadable)
        if notify:
            notify(done, len(source))
    _check_both(source.name, samples, left_out, unreadable)
    return HeldOut(tuple(samples), np.concatenate(residuals, axis=1), tuple(left_out), tuple(unreadable))


def choose_examples(held_out: HeldOut) -> list[Sample]:
    """Typical images, normal ones first: of each group those whose residual in the first stage divides it evenly.

    Two stand at one and at two thirds of their group, so that nobody has picked what looks best.

    >>> samples = tuple(Sample(str(row), anomalous=row > 3) for row in range(8))
    >>> [sample.id for sample in choose_examples(HeldOut(samples, np.arange(8.0)[None]))]
    ['1', '2', '5', '6']
    """
    chosen = []
    for wanted in (False, True):
        rows = np.flatnonzero(held_out.anomalous == wanted)
        order = rows[np.argsort(held_out.residuals[0][rows], kind="stable")]
        positions = np.rint(np.linspace(0, len(order) - 1, EXAMPLES + 2)[1:-1]).astype(np.intp)
        chosen += [held_out.samples[row] for row in order[np.unique(positions)]]
    return chosen


def show_examples(source: Source, spec: InputSpec, stages: Sequence[Stage], samples: Sequence[Sample]) -> list[Example]:
    """Reconstruct some samples of a source by each stage, to be looked at."""
    examples = []
    for batch in source.with_samples(list(samples)).stream(spec):
        if not len(batch.samples):
            continue
        reconstructions = [stage.reconstruct(batch.pixels) for stage in stages]
        maps = [stage.find_maps(batch.pixels) for stage in stages]
        rows = zip(
            batch.samples, batch.pixels, zip(*reconstructions, strict=True), zip(*maps, strict=True), strict=True
        )
        examples += [Example(*row) for row in rows]
    return examples


@styled
def residual_page(
    held_out: HeldOut, gaps: Sequence[Gap], stages: Sequence[Stage], examples: Sequence[Example], title: str = ""
) -> Figure:
    """Show the residuals of both groups in each stage, on one scale, with means; below them examples, one row each.

    A dot is an image, the diamond the mean of its group, the line through it the mean's interval.

    >>> samples = (Sample("a", anomalous=False), Sample("b", anomalous=True))
    >>> held_out = HeldOut(samples, np.array([[0.1, 0.4]]))
    >>> image, map_ = np.zeros((8, 8, 1), np.uint8), np.ones((8, 8))
    >>> stage = Stage("the detector", lambda pixels: map_[None], lambda pixels: pixels, np.zeros(0, np.uint64))
    >>> figure = residual_page(held_out, held_out.measure(), [stage], [Example(samples[0], image, [image], [map_])])
    >>> [text.get_text() for text in figure.axes[0].texts][:3]
    ['the detector', 'ratio of the means 4', 'AUROC 1.000 [0.207, 1.000]']
    """
    width = max(2 * MARGIN + LABELS + WIDE + FIGURES, title_width(title))
    side = min(LARGEST, (width - 2 * MARGIN + GAP) / (1 + 2 * len(stages)) - GAP)
    height = tile_height(side, [example.image for example in examples]) if examples else 0.0
    top = MARGIN + (TITLE if title else 0)
    examples_top = top + len(stages) * (HEADING + CHART) + (2 * HEADING if examples else 0)
    figure, axes = sheet(width, examples_top + len(examples) * (height + CAPTION) + NOTE)
    write(axes, title, MARGIN, MARGIN, fontsize=11)
    span, logarithmic = bin_edges(held_out.residuals.ravel(), float(np.median(held_out.residuals)))
    for row, (stage, gap) in enumerate(zip(stages, gaps, strict=True)):
        y = top + row * (HEADING + CHART)
        _write_gap(axes, stage, gap, y, width)
        chart = _add_chart(figure, y + HEADING, last=row == len(stages) - 1)
        if logarithmic:
            chart.set_xscale("log")
            plain_log_ticks(chart, "x", span[[0, -1]])
        chart.set_xlim(span[0], span[-1])
        _draw_groups(chart, held_out.residuals[row], held_out.anomalous, gap)
    if examples:
        _draw_examples(axes, stages, examples, examples_top, (side, height))
    return figure


def gap_words(gap: Gap) -> tuple[str, str]:
    """The ratio and the AUROC of a gap, as they are printed.

    >>> gap_words(Gap(Estimate(1.0), Estimate(2.0), Estimate(2.0, 1.75, 2.25), Estimate(0.75, 0.5, 1.0)))
    ('ratio of the means 2 [1.75, 2.25]', 'AUROC 0.750 [0.500, 1.000]')
    """
    return f"ratio of the means {estimate_words(gap.ratio)}", f"AUROC {gap.auroc}"


def estimate_words(estimate: Estimate) -> str:
    """A figure and its interval, in the digits that tell something.

    >>> estimate_words(Estimate(0.012345, 0.01, 0.02))
    '0.0123 [0.01, 0.02]'
    """
    bounds = ", ".join(number(bound, 3) for bound in interval(estimate))
    return number(estimate.value, 3) + (f" [{bounds}]" if bounds else "")


def _part(batch: Batch, known: npt.NDArray[np.uint64]) -> tuple[Batch, list[str]]:
    """The batch without the images that are known, and the ids of those."""
    twins = np.isin(np.fromiter(map(digest, batch.pixels), np.uint64, len(batch.samples)), known)
    fresh = np.flatnonzero(~twins)
    kept = [batch.samples[row] for row in fresh.tolist()]
    shapes = [batch.shapes[row] for row in fresh.tolist()]
    return Batch(kept, batch.pixels[fresh], shapes), [batch.samples[row].id for row in np.flatnonzero(twins).tolist()]


def _mean_residuals(stage: Stage, pixels: Pixels) -> Floats:
    """(B, H, W, C) -> (B,)"""
    if not len(pixels):
        return np.empty(0)
    return np.asarray(stage.find_maps(pixels).mean(axis=(1, 2), dtype=np.float64))


def _check_both(source: str, samples: Sequence[Sample], known: Sequence[str], unreadable: Sequence[Unreadable]) -> None:
    for wanted, word in ((False, "normal"), (True, "anomalous")):
        if not any(sample.anomalous is wanted for sample in samples):
            lost = f"; {len(known):,} left out, because the model has learned from them" if known else ""
            lost += f"; {len(unreadable):,} could not be used" if unreadable else ""
            raise DataError(f"{source}: no {word} image to compare{lost}. Give some that were held out")


def _write_gap(axes: Axes, stage: Stage, gap: Gap, y: float, width: float) -> None:
    """A stage's name above its chart, and on the right the figures that compare its groups."""
    write(axes, stage.title, MARGIN, y, fontsize=10, fontweight="bold")
    for line, words in enumerate(gap_words(gap)):
        write(axes, words, width - MARGIN, y + HEADING + CHART - 0.62 + 0.18 * line, ha="right", color=SOFT)
    write(axes, stage.note, width - MARGIN, y + 0.02, ha="right", fontsize=8, color=SOFT)
    for line, (word, colour, mean) in enumerate(
        (("normal", NORMAL, gap.normal), ("anomalous", ANOMALOUS, gap.anomalous))
    ):
        words = f"{word}: mean {estimate_words(mean)}"
        write(axes, words, width - MARGIN, y + HEADING + 0.1 + 0.2 * line, ha="right", color=colour, fontweight="bold")


def _add_chart(figure: Figure, y: float, *, last: bool) -> Axes:
    """Axes whose upper left corner is that many inches from the top."""
    width, height = figure.get_size_inches()
    inside = CHART - 0.42
    bounds = ((MARGIN + LABELS) / width, 1 - (y + inside) / height, WIDE / width, inside / height)
    chart = figure.add_axes(bounds)
    chart.set(ylim=(1.6, -0.6))
    chart.set_yticks([0, 1], ["normal", "anomalous"])
    chart.grid(visible=False, axis="y")
    chart.tick_params(axis="y", length=0)
    if last:
        chart.set_xlabel("Residual of an image: mean squared difference, from black (-1) to white (1)")
    return chart


def _draw_groups(chart: Axes, residuals: Floats, anomalous: Bools, gap: Gap) -> None:
    """One row a group: a dot an image, scattered in height so that they can be told apart, and the mean."""
    groups = ((~anomalous, NORMAL, "o", gap.normal), (anomalous, ANOMALOUS, "^", gap.anomalous))
    for row, (chosen, colour, marker, mean) in enumerate(groups):
        values = residuals[chosen]
        values = values[draw_rows(len(values), DOTS, seed=0)]
        heights = row + np.random.default_rng(0).uniform(-0.32, 0.32, len(values))
        chart.plot(values, heights, marker, color=colour, markersize=2.6, alpha=0.35, markeredgewidth=0)
        chart.plot(interval(mean), [row] * len(interval(mean)), color=INK, linewidth=1.6)
        chart.plot([mean.value], [row], "D", color="white", markeredgecolor=INK, markersize=6, markeredgewidth=1.4)


def _draw_examples(
    axes: Axes, stages: Sequence[Stage], examples: Sequence[Example], y: float, size: tuple[float, float]
) -> None:
    """One row an image, as wide and at most as high as `size`: itself, then its reconstruction and its residual in each stage."""
    side, height = size
    low, high, _ = shades([example.image for example in examples])
    limit = _brightest(examples)
    words = [
        "original",
        *(f"{part}\n{stage.title}" for part in ("reconstruction by", "residual of") for stage in stages),
    ]
    lefts = [MARGIN + column * (side + GAP) for column in range(len(words))]
    for left, word in zip(lefts, words, strict=True):
        write(axes, word, left + side / 2, y - 0.04, ha="center", va="bottom", fontsize=7.5)
    for row, example in enumerate(examples):
        top = y + row * (height + CAPTION)
        pictures = [displayable(image, low, high) for image in (example.image, *example.reconstructions)]
        pictures += [_heat(map_, limit) for map_ in example.maps]
        for left, picture in zip(lefts, pictures, strict=True):
            tile(axes, picture, left, top, side)
        for left, map_ in zip(lefts[1 + len(stages) :], example.maps, strict=True):
            write(axes, number(float(map_.mean()), 3), left, top + height + 0.03, fontsize=7.5, fontweight="bold")
        _write_name(axes, example.sample, top + height)
    note = f"Typical images, at even positions in their group. Residuals: black is 0, pale yellow {number(limit, 2)} or more."
    write(axes, note, MARGIN, y + len(examples) * (height + CAPTION), fontsize=7.5, color=SOFT)


def _write_name(axes: Axes, sample: Sample, y: float) -> None:
    word, colour = (sample.kind or "anomalous", ANOMALOUS) if sample.anomalous else ("normal", NORMAL)
    write(axes, shorten(word, 20), MARGIN, y + 0.03, color=colour, fontsize=8)
    write(axes, shorten(sample.id, 26), MARGIN, y + 0.17, fontsize=6.5, color=SOFT)


def _brightest(examples: Sequence[Example]) -> float:
    """The residual from which the colour no longer changes, the same for all pictures."""
    values = np.concatenate([map_.ravel() for example in examples for map_ in example.maps])
    return float(np.quantile(values, FULL_SCALE)) or float(values.max()) or 1.0


def _heat(map_: Floats, limit: float) -> Pixels:
    """A residual (h, w) as a picture (h, w, 3)."""
    shares = np.clip(np.nan_to_num(map_) / limit, 0, 1)
    return np.asarray(np.rint(255 * colormaps["inferno"](shares)[..., :3]), np.uint8)
