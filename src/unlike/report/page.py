"""The page: everything an evaluation says about a detector, in one file that needs no network."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jinja2
import numpy as np

from unlike._version import __version__
from unlike.artifacts import printable, write_file
from unlike.calibration.contamination import worst_promise
from unlike.calibration.decision import Decision, is_anomalous
from unlike.calibration.diagnosis import find_suspects
from unlike.records import Estimate, Evaluation, Floats, Metrics, kept_epoch
from unlike.report import codespace, figures, gallery, wording
from unlike.report.latent import Notify
from unlike.report.subject import Described, FittedHistory, Reportable, StrangeNormal, Subject, subject_of

MOST_NAMED = 12  # images that a caution lists
FOUND_AT = ("image.detection_rate_at_1", "image.detection_rate_at_2", "image.detection_rate_at_5")
KIND_COLUMNS = (
    "image.detection_rate",
    *FOUND_AT,
    "image.auroc",
    "image.average_precision",
    "pixel.auroc",
    "pixel.aupro",
)
CATEGORY_COLUMNS = (*KIND_COLUMNS, "image.false_alarm_rate", "image.accuracy", "image.improvement")
SECTIONS = (
    ("Ranking, whatever the threshold", ("image.auroc", "image.average_precision")),
    ("At the threshold", ("image.detection_rate", "image.false_alarm_rate")),
    (
        "At other promises",
        tuple(f"image.{rate}_at_{share}" for share in (1, 2, 5) for rate in ("detection_rate", "false_alarm_rate")),
    ),
    ("Of those called anomalous", ("image.precision", "image.recall", "image.f1")),
    ("Right and wrong", ("image.accuracy", "image.accuracy_all_anomalous", "image.improvement")),
    ("Where in the image", ("pixel.auroc", "pixel.aupro")),
)
PACKAGES = ("unlike", "numpy", "scikit-learn", "opencv-python-headless", "matplotlib")


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure on the page, and what it says in words."""

    source: str
    alt: str


def write_report(
    detector: Reportable,
    evaluation: Evaluation,
    path: str | os.PathLike[str],
    beside: Mapping[str, Reportable] = MappingProxyType({}),
    notify: Notify | None = None,
) -> None:
    """Write one self-contained HTML page that shows how good a detector is, where it errs and what it was made of.

    Other detectors, `beside` it by name, score the same images and are compared with it; `notify` is called with the number
    of images done and of all. An OutputError says why the page could not be written; an older page is then left as it was.
    """
    others = {name: subject_of(other) for name, other in beside.items()}
    write_page(subject_of(detector), evaluation, Path(path), others, notify)


def write_page(
    subject: Subject,
    evaluation: Evaluation,
    path: Path,
    beside: Mapping[str, Subject] = MappingProxyType({}),
    notify: Notify | None = None,
) -> None:
    """`write_report` for whatever answers as a detector does."""
    write_file(path, render(subject, evaluation, beside, notify).encode())


def render(
    subject: Subject,
    evaluation: Evaluation,
    beside: Mapping[str, Subject] = MappingProxyType({}),
    notify: Notify | None = None,
) -> str:
    """The page as HTML; whatever comes from a file name or a setting is escaped."""
    selections = gallery.choose(evaluation)
    pictures = gallery.picture(partial(subject.explain, evaluation.source), evaluation, list(gallery.flat(selections)))
    seen, absent = codespace.rate_all(subject, evaluation, beside, notify)
    fitted, described = subject.fitted_, subject.describe()
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            cautions=list(wording.cautions(evaluation, fitted.warnings)),
            code_space=list(codespace.explore(seen)),
            compared=codespace.compare(seen, absent),
            evaluated="" if evaluation.source is None else evaluation.source.name,
            curves=list(_curves(evaluation, fitted.history, described)),
            evaluation=evaluation,
            gallery=pictures,
            groups=list(_groups(evaluation)),
            headline=wording.headline(evaluation),
            histograms=_histograms(fitted.decision, evaluation),
            key=_key(pictures) if pictures.cards else None,
            layers=subject.layers(),
            metric_sections=list(_metric_sections(evaluation.overall)),
            most_dots=figures.MOST_DOTS,
            most_named=MOST_NAMED,
            scope=_scope(evaluation),
            settings=settings_tables(described),
            strangest=list(_strangest(fitted)),
            distrusted=_distrusted(fitted),
            selections=selections,
            threshold=_threshold_facts(fitted),
            **signature(),
        )
    )


def environment() -> jinja2.Environment:
    """Where the templates are, with everything escaped, and the words they may use."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words: list[Callable[..., object]] = [wording.count, wording.exact_percent, wording.interval_text, wording.number]
    words += [
        wording.plain,
        printable,
        wording.share_with_interval,
        wording.shorten,
        wording.term,
        wording.value_text,
    ]
    environment.filters.update({word.__name__: word for word in words})
    return environment


def signature() -> dict[str, str]:
    """When a page was written, and by what."""
    return {"written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "version": __version__}


def _scope(evaluation: Evaluation) -> str:
    """What was evaluated, in a line.

    >>> import numpy as np
    >>> from unlike.records import Scores
    >>> nothing = np.zeros(0)
    >>> _scope(Evaluation(Metrics(1, 2), {}, {}, Scores((), nothing), (), nothing, nothing, nothing > 0, 1.0, 0.01))
    '3 images: 1 normal, 2 anomalous'
    """
    overall, unreadable = evaluation.overall, len(evaluation.scores.unreadable)
    total = wording.count(overall.normal + overall.anomalous, "image")
    parts = [f"{overall.normal:,} normal", f"{overall.anomalous:,} anomalous"]
    parts += [f"{unreadable:,} more could not be read"] * bool(unreadable)
    names = [wording.shorten(printable(name), 60) for name in evaluation.categories if name]
    of = f" of {names[0]}" if len(names) == 1 else f" of {len(names)} categories" if names else ""
    return f"{total}{of}: {', '.join(parts)}"


def _metric_sections(metrics: Metrics) -> Iterator[tuple[str, list[tuple[str, Estimate]]]]:
    """The figures under their headings, in the order of importance; oracle figures last."""
    known = metrics.figures
    oracle = [key for key in known if wording.term(key).oracle]
    named = {key for _, keys in SECTIONS for key in keys} | set(oracle)
    sections = [*SECTIONS, ("More", tuple(key for key in known if key not in named)), ("Oracle", tuple(oracle))]
    for title, keys in sections:
        rows = [(key, known[key]) for key in keys if key in known]
        if rows:
            yield title, rows


def _groups(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """The table and the chart of each way to divide the images, where there is more than one group."""
    kinds = {name: metrics for name, metrics in evaluation.kinds.items() if metrics.anomalous}
    ways: list[tuple[str, str, Mapping[str, Metrics], tuple[str, ...]]] = []
    ways += [("Per category", "category", evaluation.categories, CATEGORY_COLUMNS)]
    ways += [("Per kind of defect", "kind", kinds, KIND_COLUMNS)]  # false alarms and accuracy say nothing of a kind
    for title, noun, parts, keys in ways:
        if len(parts) > 1 or (parts and noun == "kind"):
            known = {name: metrics.figures for name, metrics in parts.items()}
            yield {
                "title": title,
                "noun": noun,
                "columns": [key for key in keys if any(key in values for values in known.values())],
                "rows": [(name, metrics, known[name]) for name, metrics in figures.hardest_first(parts)],
                "chart": _dots(parts, evaluation.overall, noun) if len(parts) > 1 else None,
            }


def _dots(parts: Mapping[str, Metrics], overall: Metrics, noun: str) -> Picture | None:
    figure = figures.dots(parts, overall)
    alt = f"Detection rate and AUROC with intervals, by {noun}; the table below has the same numbers."
    return None if figure is None else Picture(figures.svg(figure), alt)


def _histograms(decision: Decision, evaluation: Evaluation) -> Picture:
    scores, anomalous, threshold = evaluation.scores.image, evaluation.anomalous, evaluation.threshold
    calibration, quantity, alarms = decision.scores, "Score", evaluation.alarms
    if evaluation.thresholds:  # no two categories need have the same scale
        scores, threshold = scores / _divisors(evaluation.image_thresholds), 1.0
        calibration = calibration / _divisors(_calibration_thresholds(decision))
        quantity = "Score, in thresholds of its category"
    figure = figures.score_histograms(scores, anomalous, threshold, calibration, quantity)
    alt = (
        f"Histograms of scores in {figures.BINS} bins; threshold {wording.number(threshold)}. Above it: {alarms[~anomalous].sum()} "
        f"of {(~anomalous).sum()} normal and {alarms[anomalous].sum()} of {anomalous.sum()} anomalous images."
    )
    return Picture(figures.svg(figure), alt)


def _curves(evaluation: Evaluation, history: Sequence[Mapping[str, Any]], described: Described) -> Iterator[Picture]:
    """The curves that can be drawn: two need both classes, one needs a model that was trained."""
    scores, anomalous, threshold = evaluation.scores.image, evaluation.anomalous, evaluation.image_thresholds
    if anomalous.any() and not anomalous.all():
        alarms = evaluation.alarms
        point = f"{wording.percent(alarms[~anomalous].mean())} false alarms and {wording.percent(alarms[anomalous].mean())} detected"
        yield Picture(
            figures.svg(figures.roc(scores, anomalous, threshold)), f"ROC curve; the threshold gives {point}."
        )
        curve = figures.precision_recall(scores, anomalous, threshold)
        yield Picture(
            figures.svg(curve),
            f"Precision-recall curve; {wording.percent(anomalous.mean())} of the images are anomalous.",
        )
    if history:
        yield draw_losses(history, described["training"]["keep"])


def draw_losses(history: Sequence[Mapping[str, Any]], keep: str) -> Picture:
    """How the loss fell, and which epoch's weights were kept."""
    kept = kept_epoch(history, keep)
    text = f"Training and validation loss over {wording.count(len(history), 'epoch')}; "
    text += "nothing was validated." if kept is None else f"epoch {kept['epoch']:.0f} was kept."
    return Picture(figures.svg(figures.losses(history, keep)), text)


def _key(pictures: gallery.Gallery) -> Picture:
    bar = figures.colour_bar(pictures.start, pictures.limit, gallery.overlay_colours())
    return Picture(
        figures.svg(bar),
        f"Colours of the maps: up to {wording.number(pictures.start)} grey, as most of the images that are called normal; "
        f"{wording.number(pictures.limit)} or more, bright yellow.",
    )


def _threshold_facts(fitted: FittedHistory) -> dict[str, Any]:
    decision = fitted.decision
    held_out, cross_conformal = (
        "held out when the detector was fitted",
        "of the fit, each scored by what the others show",
    )
    return {
        "how": held_out if fitted.counts["validation"] else cross_conformal,
        "value": decision.threshold,
        "categories": {name: own.score for name, own in decision.thresholds.items() if name},
        "held_out": Counter(decision.categories.tolist()),
        "promised": decision.false_alarms,
        "normals": len(decision.scores),
        "above": int(is_anomalous(decision.scores, _calibration_thresholds(decision)).sum()),
    }


def _strangest(fitted: FittedHistory) -> Iterator[dict[str, Any]]:
    """The normal images on which the threshold rests, with their maps, all in one range of colours."""
    items, decision = fitted.strangest, fitted.decision
    suspects = dict(find_suspects(decision.scores, decision.ids))
    resting = {share: basis.ids for share in (0.01, 0.02, 0.05) if (basis := decision.at(share).get("")) is not None}
    for item, card in _pictured(items):
        rests = [f"{100 * share:g} %" for share, ids in resting.items() if item.id in ids]
        yield {**card, "times": suspects.get(item.id), "rests": ", ".join(rests)}


def _distrusted(fitted: FittedHistory) -> dict[str, Any] | None:
    """The images that were not learned from, as far as they have pictures, all maps in one range of colours."""
    doubtful = fitted.distrusted
    if doubtful is None or not doubtful.ids:
        return None
    promised, count = fitted.decision.false_alarms, len(doubtful.ids)
    return {
        "count": count,
        "of": doubtful.of,
        "worst": None if promised is None else worst_promise(promised, count, doubtful.of),
        "cards": [card for _, card in _pictured(doubtful.shown)],
    }


def _pictured(items: Sequence[StrangeNormal]) -> Iterator[tuple[StrangeNormal, dict[str, Any]]]:
    """Each image with what a card shows of it."""
    limit = gallery.colour_limit([item.map for item in items])
    start = gallery.colour_start([item.map for item in items], limit)
    for item in items:
        image = gallery.displayable(item.picture, 0.0, 255.0)
        overlay = gallery.data_uri(gallery.overlay(image, item.map, limit, start))
        yield item, {"id": item.id, "score": item.score, "image": gallery.data_uri(image), "overlay": overlay}


def _calibration_thresholds(decision: Decision) -> Floats:
    """(n,) the threshold of each held-out normal image."""
    return np.array([decision.threshold_of(name).score for name in decision.categories.tolist()])


def _divisors(thresholds: Floats) -> Floats:
    """Thresholds that one can divide by."""
    return np.maximum(thresholds, np.finfo(np.float32).tiny)


def settings_tables(described: Described) -> dict[str, Mapping[str, Any]]:
    """Every setting and fitted fact, then what wrote the page."""
    return dict(described) | {
        "This report was written with": {"Python": platform.python_version()} | dict(_versions(PACKAGES))
    }


def _versions(packages: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The version of each package that is installed.

    >>> [name for name, _ in _versions(["numpy", "no-such-package"])]
    ['numpy']
    """
    for package in packages:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
