"""Another threshold, promise or rule for a fitted detector, without fitting again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from unlike.artifacts import printable
from unlike.calibration.decision import ALL, WORST_OF_CATEGORY, Decision, Names, Threshold, calibrate
from unlike.calibration.groups import connect, pairs_of
from unlike.calibration.thresholds import THRESHOLDS, ThresholdRule
from unlike.data.groups import group_samples
from unlike.data.source import Images, Source, labelled, open_source, training
from unlike.detector.detector import Detector
from unlike.detector.settings import DecisionConfig
from unlike.errors import ConfigError, DataError, none_usable
from unlike.records import Bools, Floats, Rows, Sample, Unreadable

NAMED = 5  # images that a message names


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Images with what a detector says of them, or said of those that it held out."""

    ids: Names  # (n,)
    scores: Floats  # (n,)
    peaks: Floats  # (n,) largest map value of each
    categories: Names  # (n,)
    groups: Rows  # (n,) what counts as one
    anomalous: Bools  # (n,)
    digests: npt.NDArray[np.uint64]  # (n,) of the pixels; none of images that were held out by the fit
    unreadable: tuple[Unreadable, ...] = ()

    def take(self, rows: Rows) -> Judged:
        """Some of them."""
        return replace(
            self,
            ids=self.ids[rows],
            scores=self.scores[rows],
            peaks=self.peaks[rows],
            categories=self.categories[rows],
            groups=self.groups[rows],
            anomalous=self.anomalous[rows],
            digests=self.digests[rows] if len(self.digests) else self.digests,
        )


def recalibrate(
    detector: Detector,
    good: Images | None = None,
    labels: Images | None = None,
    *,
    threshold: str | None = None,
    false_alarms: float | Literal["auto"] | None = None,
    settings: Mapping[str, Any] | None = None,
    without: Sequence[str] = (),
    drop: int = 0,
) -> Detector:
    """A detector that decides otherwise by the same scores: by another rule or promise, or by other normal images.

    `good` are fresh normal images; without any, those count that the detector held out when it was fitted. `labels` are images
    with labels, for a `threshold` that chooses by them. `threshold`, `false_alarms` and `settings` are as in the section
    `decision`; what is not named stays, but for the settings of another rule. `without` names normal images that are not to
    count, `drop` leaves out so many of the strangest: what is promised is then of normal images that are not like those.
    A DataError names images that the detector was fitted on, for they look more normal than new ones.

    >>> images = np.random.default_rng(0).integers(100, 120, (40, 16, 16), dtype=np.uint8)
    >>> detector = Detector("pixels", "gaussian", false_alarms=0.1).fit(images)
    >>> bolder = recalibrate(detector, false_alarms=0.3, drop=1)
    >>> bolder.fitted_.decision.threshold < detector.fitted_.decision.threshold
    True
    >>> bolder.fitted_.calibrated
    'on 39 normal images of its own (1 left out by hand: 4)'
    """
    decision = _choose(detector.settings.decision, threshold, false_alarms, settings)
    rule = decision.make_rule()
    if rule.needs_labels and labels is None:
        good, labels = None, good
    _check_labels(decision.threshold, rule, labels)
    every, which = _normal_images(detector, good)
    rows = _keep(every, without, drop)
    normal, words = every.take(rows), f"on {len(rows):,} {which}"
    if len(rows) < len(every.ids):
        left = np.delete(every.ids, rows)
        words += f" ({len(left):,} left out by hand: {_name(left)})"
    found = _draw(decision, rule, normal)
    unreadable = normal.unreadable
    if labels is not None:
        known = _labelled_images(detector, labels)
        _check_agreement(normal, known)
        found = replace(found, **_draw_by_labels(decision, rule, known))
        words += f", the threshold by {len(known.ids):,} images with labels"
        unreadable += known.unreadable
    fitted = replace(
        detector.fitted_,
        decision=found,
        digests=np.union1d(detector.fitted_.digests, normal.digests),
        counts={**detector.fitted_.counts, "calibration": len(normal.ids)},
        calibrated=words,
        strangest=tuple(one for one in detector.fitted_.strangest if good is None and one.id in normal.ids),
        unreadable=unreadable,
    )
    return detector.replaced(replace(detector.settings, decision=decision), fitted)


def _choose(
    before: DecisionConfig,
    threshold: str | None,
    false_alarms: float | Literal["auto"] | None,
    settings: Mapping[str, Any] | None,
) -> DecisionConfig:
    """The section `decision` with what was chosen; the settings of one rule are not those of another."""
    name = before.threshold if threshold is None else threshold
    kept = before.settings if name == before.threshold else {}
    share = before.false_alarms if false_alarms is None else false_alarms
    if false_alarms is None and name in THRESHOLDS and THRESHOLDS[name].needs_labels:
        share = "auto"  # no promise can be asked of it
    return replace(before, threshold=name, false_alarms=share, settings=kept if settings is None else dict(settings))


def _check_labels(name: str, rule: ThresholdRule, labels: Images | None) -> None:
    if rule.needs_labels and labels is None:
        raise ConfigError(
            f"decision.threshold = {name!r} chooses by images with labels, and none came; name a set that has normal and anomalous ones"
        )
    if not rule.needs_labels and labels is not None:
        having = [other for other in THRESHOLDS if THRESHOLDS[other].needs_labels]
        raise ConfigError(
            f"decision.threshold = {name!r} does not look at labels: leave the images with labels out, or choose one of "
            f"{', '.join(having)}"
        )


def _normal_images(detector: Detector, good: Images | None) -> tuple[Judged, str]:
    """The normal images to calibrate on, and what they are in words."""
    decision = detector.fitted_.decision
    if good is not None:
        source = training(_fresh(open_source(good, pages=detector.settings.data.pages)))
        told = detector.settings.decision.group_by
        judged = _look_at(detector, group_samples(source, told) if told else source)
        judged = judged.take(np.sort(np.unique(judged.digests, return_index=True)[1]))
        return judged, f"fresh normal images of {source.name}"
    count = len(decision.scores)
    none = np.empty(0, np.uint64)
    own = Judged(
        decision.ids, decision.scores, decision.peaks, decision.categories, decision.groups, np.zeros(count, bool), none
    )
    return own, "normal images of its own"


def _fresh(source: Source) -> Source:
    """The same images, those of a test split among them: what was not fitted on may calibrate."""
    return source.with_samples([replace(sample, split="") for sample in source.samples])


def _labelled_images(detector: Detector, labels: Images) -> Judged:
    return _look_at(detector, labelled(open_source(labels, pages=detector.settings.data.pages)))


def _look_at(detector: Detector, source: Source) -> Judged:
    """Score images that the detector does not know; a DataError names those that it does."""
    samples: list[Sample] = []
    scores: list[Floats] = []
    peaks: list[Floats] = []
    digests: list[npt.NDArray[np.uint64]] = []
    unreadable: list[Unreadable] = []
    for batch in detector.stream(source):
        samples += batch.samples
        scores.append(batch.image)
        peaks.append(batch.maps.max(axis=(1, 2), initial=0.0))
        digests.append(batch.digests)
        unreadable += batch.unreadable
    if not samples:
        raise none_usable(f"{source.name}: no image", "scored", unreadable)
    found = Judged(
        np.array([sample.id for sample in samples]),
        np.concatenate(scores),
        np.concatenate(peaks),
        np.array([sample.category for sample in samples]),
        _group(samples, detector.settings.decision),
        np.array([bool(sample.anomalous) for sample in samples]),
        np.concatenate(digests),
        tuple(unreadable),
    )
    known = found.ids[np.isin(found.digests, detector.fitted_.digests)]
    if len(known):
        raise DataError(
            f"{source.name}: expected images that the detector does not know, came {len(known):,} that it was fitted or calibrated on "
            f"({_name(known)}), which look more normal than new ones; leave them out, or name no images to calibrate on those that it "
            "held out itself"
        )
    return found


def _group(samples: Sequence[Sample], decision: DecisionConfig) -> Rows:
    """(n,) which of fresh images count as one: those of a group that is given, unless groups are not to count."""
    names = np.array([sample.group for sample in samples])
    named = np.flatnonzero(names != "") if decision.groups in ("auto", "given") else np.empty(0, np.intp)
    return connect(named[pairs_of(names[named])], len(names)).numbers


def _check_agreement(normal: Judged, known: Judged) -> None:
    """Raise DataError where the same picture is said to be normal and to be anomalous."""
    said_normal = np.concatenate([normal.digests, known.digests[~known.anomalous]])
    both = known.ids[known.anomalous & np.isin(known.digests, said_normal)]
    if len(both):
        raise DataError(
            f"expected one label for a picture, came both normal and anomalous for {len(both):,} ({_name(both)}); correct the "
            "labels, or leave those images out"
        )


def _keep(normal: Judged, without: Sequence[str], drop: int) -> Rows:
    """Which of the normal images count."""
    left = np.ones(len(normal.ids), bool)
    for name in without:
        left[_find(normal.ids, name)] = False
    if not 0 <= drop < left.sum():
        raise ConfigError(f"drop: expected 0 or more, and fewer than the {left.sum():,} normal images, came {drop}")
    rows = np.flatnonzero(left)
    strangest = rows[np.argsort(-normal.scores[rows], kind="stable")[:drop]]
    return np.setdiff1d(rows, strangest)


def _find(ids: Names, name: str) -> int:
    """The row of the normal image of that name: what it is called, or the end or the beginning of a path of it.

    >>> _find(np.array(["good/a.png", "good/b.png"]), "b.png"), _find(np.array(["a.png", "b.png"]), "shots/b.png")
    (1, 1)
    """
    exact = np.flatnonzero(ids == name)
    ends = [row for row, one in enumerate(ids.tolist()) if f"/{one}".endswith(f"/{name}") or name.endswith(f"/{one}")]
    rows = exact.tolist() or ends
    if len(rows) != 1:
        came = f"{len(rows)} of that name ({_name(ids[rows])})" if rows else "none"
        raise ConfigError(
            f"without: expected one of the {len(ids):,} normal images that calibrate, such as {printable(str(ids[0]))}, came {name!r}: "
            f"there is {came}; `unlike inspect` and the report name the strangest"
        )
    return int(rows[0])


def _draw(decision: DecisionConfig, rule: ThresholdRule, normal: Judged) -> Decision:
    """A decision by normal images alone; where the rule needs labels its thresholds are about to be drawn by others."""
    own = _by_themselves(decision, normal.categories)
    asked = decision.false_alarms
    worst = WORST_OF_CATEGORY if asked == "auto" else asked
    by_normals = DecisionConfig().make_rule() if rule.needs_labels else rule
    return calibrate(
        normal.scores, normal.peaks, normal.categories, by_normals, own, worst, ids=normal.ids, groups=normal.groups
    )


def _draw_by_labels(decision: DecisionConfig, rule: ThresholdRule, known: Judged) -> dict[str, Any]:
    """Thresholds by images with labels, for all and for each category that has images of either kind."""
    thresholds = {ALL: _fit_labelled(rule, known)}
    too_few = {}
    for name in _by_themselves(decision, known.categories):
        own = known.take(np.flatnonzero(known.categories == name))
        if own.anomalous.any() and not own.anomalous.all():
            thresholds[name] = _fit_labelled(rule, own)
        else:
            too_few[name] = len(own.ids)
    return {"thresholds": thresholds, "too_few": too_few}


def _fit_labelled(rule: ThresholdRule, known: Judged) -> Threshold:
    fitted = rule.fit(known.scores, None, known.anomalous)
    score, promise = float(fitted.threshold_), fitted.promise_
    return Threshold(score, float(rule.fit(known.peaks, None, known.anomalous).threshold_), promise)


def _by_themselves(decision: DecisionConfig, categories: Names) -> list[str]:
    """The categories that should have a threshold of their own: all, where there are several."""
    names = np.unique(categories).tolist() if decision.per_category else []
    return [name for name in names if name != ALL] if len(names) > 1 else []


def _name(ids: Names) -> str:
    """The first of some images by name, and how many more there are."""
    more = f" and {len(ids) - NAMED:,} more" if len(ids) > NAMED else ""
    return f"{', '.join(printable(str(one)) for one in ids[:NAMED])}{more}"
