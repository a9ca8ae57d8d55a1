"""Numbers and names in the words of the person who reads a report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scipy.stats import betabinom

from unlike.artifacts import printable
from unlike.records import Estimate, Evaluation, Metrics

SPACE = "\u00a0"  # does not break between a number and its unit
FEW = 20  # images of a class below which a reader is warned
LEAKED = (
    "Identical to what the detector was fitted on, which makes the metrics below better than they should be. "
    "Remove them from one side and evaluate again."
)
SYNTHETIC = (
    "Nobody had defective images: the anomalous ones are copies of the normal ones with defects drawn by chance. Compare "
    "detectors and settings by these metrics; how many real defects will be found, they cannot say."
)
BROKEN_PROMISE = (
    "The normal images here differ from those the detector was fitted on, in light, position or product, or some are not "
    "normal. Look at the worst false alarms below, and fit again with normal images such as these."
)


@dataclass(frozen=True, slots=True)
class Term:
    """What a figure of `metrics.json` is called, and what it says, in one line."""

    label: str
    meaning: str
    share: bool = False  # shown in percent
    oracle: bool = False  # its threshold was chosen on the test labels

    @property
    def title(self) -> str:
        """The label, and a word of caution where a threshold was chosen on the test labels."""
        return f"{self.label}{' (oracle)' * self.oracle}"


TERMS = {  # every figure that an evaluation has, in the order in which a person is told
    "image.auroc": Term("AUROC", "Chance that an anomalous image scores higher than a normal one; 0.5 is guessing, 1 is perfect."),
    "image.average_precision": Term("Average precision", "Area under the precision-recall curve; guessing gives the share of anomalous images."),
    "image.detection_rate": Term("Detection rate", "Share of the anomalous images that score above the threshold.", share=True),
    "image.false_alarm_rate": Term("False-alarm rate", "Share of the normal images that score above the threshold.", share=True),
    "image.detection_rate_at_1": Term("Found at 1 %", "Share of the anomalous images that score above the threshold that promises at most 1 % false alarms.", share=True),
    "image.false_alarm_rate_at_1": Term("False alarms at 1 %", "Share of the normal images that score above that threshold.", share=True),
    "image.detection_rate_at_2": Term("Found at 2 %", "Share of the anomalous images that score above the threshold that promises at most 2 % false alarms.", share=True),
    "image.false_alarm_rate_at_2": Term("False alarms at 2 %", "Share of the normal images that score above that threshold.", share=True),
    "image.detection_rate_at_5": Term("Found at 5 %", "Share of the anomalous images that score above the threshold that promises at most 5 % false alarms.", share=True),
    "image.false_alarm_rate_at_5": Term("False alarms at 5 %", "Share of the normal images that score above that threshold.", share=True),
    "image.accuracy": Term("Accuracy", "Share of the images judged rightly at the threshold.", share=True),
    "image.accuracy_all_anomalous": Term(
        "Accuracy of calling all anomalous", "Share of the images judged rightly by calling all of them so.", share=True
    ),
    "image.improvement": Term("Improvement over that", "Accuracy minus the accuracy of calling all anomalous.", share=True),
    "image.f1_max": Term("Best F1", "Highest F1 of any threshold.", oracle=True),
    "image.accuracy_max": Term("Best accuracy", "Highest accuracy of any threshold.", share=True, oracle=True),
    "pixel.auroc": Term("Pixel AUROC", "Chance that a defective pixel has a higher map value than a normal one."),
    "pixel.aupro": Term("AUPRO", "Mean share of each defect region that is covered, over false-positive rates up to 30 %."),
}  # fmt: skip


def term(key: str) -> Term:
    """What the figure `key` is called; one that nobody described is called by its key.

    >>> term("image.auroc").label, term("image.top_speed_max")
    ('AUROC', Term(label='Top speed max', meaning='', share=False, oracle=True))
    """
    key = key if "." in key else f"image.{key}"
    fallback = key.partition(".")[2].replace("_", " ").capitalize()
    return TERMS.get(key) or Term(fallback, "", oracle=key.endswith("_max") or "oracle" in key)


def number(value: float, digits: int = 4) -> str:
    """The digits that tell something.

    >>> number(0.0123456), number(1234567.0), number(0.0123456, 2), number(float("nan"))
    ('0.01235', '1,234,567', '0.012', '—')
    >>> number(1030.4, 3)
    '1,030'
    """
    if 10 ** min(digits, 4) <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}" if math.isfinite(value) else "—"


def percent(share: float, decimals: int | None = None) -> str:
    r"""A share in percent, with a decimal near the ends, where it matters.

    >>> percent(0.007), percent(0.62), percent(0.995), percent(1.0)
    ('0.7\xa0%', '62\xa0%', '99.5\xa0%', '100\xa0%')
    """
    return f"{_hundredths(share, _decimals(share) if decimals is None else decimals)}{SPACE}%"


def exact_percent(share: float) -> str:
    r"""A share that somebody chose, in percent, as they would write it.

    >>> exact_percent(0.01), exact_percent(0.0476), exact_percent(0.0005)
    ('1\xa0%', '4.76\xa0%', '0.05\xa0%')
    """
    return f"{100 * share:.3g}{SPACE}%"


def share_with_interval(estimate: Estimate) -> str:
    r"""A share and its interval in percent.

    >>> share_with_interval(Estimate(0.62, 0.55, 0.69)), share_with_interval(Estimate(1.0, 0.912, 1.0))
    ('62\xa0% [55, 69]', '100\xa0% [91.2, 100]')
    """
    shares = (estimate.value, *interval(estimate))
    decimals = max(map(_decimals, shares))
    value, *bounds = (_hundredths(share, 0 if share in (0, 1) else decimals) for share in shares)
    return f"{value}{SPACE}%" + (f" [{', '.join(bounds)}]" if bounds else "")


def interval(estimate: Estimate) -> tuple[float, ...]:
    """Both bounds, or none."""
    bounds = tuple(bound for bound in (estimate.low, estimate.high) if bound is not None and math.isfinite(bound))
    return bounds if len(bounds) == 2 else ()


def value_text(key: str, estimate: Estimate) -> str:
    r"""The value of a figure as its table shows it.

    >>> value_text("image.auroc", Estimate(0.93)), value_text("image.accuracy", Estimate(0.93))
    ('0.930', '93.0\xa0%')
    """
    if not math.isfinite(estimate.value):
        return "—"
    return percent(estimate.value, 1) if term(key).share else f"{estimate.value:.3f}"


def interval_text(key: str, estimate: Estimate) -> str:
    """The interval of a figure as its table shows it.

    >>> interval_text("image.auroc", Estimate(0.93, 0.9, 0.95)), interval_text("image.auroc", Estimate(0.93))
    ('0.900 to 0.950', '—')
    """
    texts = [_hundredths(bound, 1) if term(key).share else f"{bound:.3f}" for bound in interval(estimate)]
    return " to ".join(texts) + (f"{SPACE}%" if texts and term(key).share else "") if texts else "—"


def count(many: int, thing: str) -> str:
    """Some things.

    >>> count(1, "image"), count(1720, "image")
    ('1 image', '1,720 images')
    """
    return f"{many:,} {thing}{'s' * (many != 1)}"


def shorten(text: str, most: int) -> str:
    """The end of a long text: of a path, the part that tells files apart.

    >>> shorten("a/very/long/path/bent/003.png", 16)
    '…th/bent/003.png'
    """
    return text if len(text) <= most else f"…{text[len(text) - most + 1 :]}"


def plain(value: Any) -> str:
    """A setting or a fitted fact as one line of text.

    >>> plain((12, 24)), plain(None), plain(0.1 + 0.2), plain(True), plain({"a": 1})
    ('12, 24', '—', '0.3', 'yes', 'a = 1')
    """
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{plain(key)} = {plain(item)}" for key, item in value.items()) or "—"
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return ", ".join(map(plain, value)) or "—"
    return shorten(printable(str(value)), 400)


def headline(evaluation: Evaluation) -> list[str]:
    """The verdict, in sentences that need no statistics."""
    overall, promised = evaluation.overall, evaluation.promised_false_alarms
    found, alarms = (overall.image.get(key) for key in ("detection_rate", "false_alarm_rate"))
    where = "its threshold" if promised is None else f"the promised {exact_percent(promised)} false alarms"
    return [
        _found(f"At {where} it finds", found, overall.anomalous),
        f"It {_alarms(alarms, overall.normal)}{_kept(evaluation)}.",
    ]


@dataclass(frozen=True, slots=True)
class Caution:
    """What a reader must know before believing a figure, and the images or figures it is about."""

    title: str
    text: str
    names: tuple[str, ...] = ()
    grave: bool = True  # a figure may mislead; otherwise something is merely absent


def cautions(evaluation: Evaluation) -> Iterator[Caution]:
    """Everything in an evaluation that should make its reader careful."""
    overall, leaked = evaluation.overall, evaluation.leaked
    if evaluation.synthetic:
        yield Caution("The defects are synthetic", SYNTHETIC)
    if leaked:
        title = f"{count(len(leaked), 'test image')} {'were' if len(leaked) > 1 else 'was'} also used in fitting"
        yield Caution(title, LEAKED, leaked)
    if _beyond(evaluation):
        yield Caution("More false alarms than promised", BROKEN_PROMISE)
    if evaluation.scores.unreadable:
        names = tuple(f"{item.id}: {item.reason}" for item in evaluation.scores.unreadable)
        text = "An image that cannot be read is left out of every metric; one whose mask cannot, of the pixels' metrics only."
        yield Caution(f"{count(len(names), 'image')} could not be used, or not in full", text, names)
    small = [many for many in (overall.normal, overall.anomalous) if 0 < many < FEW]
    if small:
        yield Caution(
            "Few images", f"With {count(min(small), 'image')} of a class, metrics are rough: mind the intervals."
        )
    if overall.left_out:
        yield Caution("Metrics left out", "They need what these images do not have.", _left_out(overall), grave=False)


def _left_out(metrics: Metrics) -> tuple[str, ...]:
    """Which figures have no value, and why: a line for each reason."""
    reasons: dict[str, list[str]] = {}
    for key, reason in metrics.left_out.items():
        reasons.setdefault(reason, []).append(term(key).label)
    return tuple(f"{', '.join(labels)}: {reason}" for reason, labels in reasons.items())


def _found(where: str, found: Estimate | None, many: int) -> str:
    if not many:
        return "How many anomalous images it finds cannot be said: there were none."
    rate = "an unknown share" if found is None else share_with_interval(found)
    return f"{where} {rate} of the {count(many, 'anomalous image')}."


def _alarms(alarms: Estimate | None, many: int) -> str:
    if not many:
        return "could raise no false alarm: there was no normal image"
    rate = "an unknown share" if alarms is None else share_with_interval(alarms)
    return f"raised a false alarm on {rate} of the {count(many, 'normal image')}"


def _kept(evaluation: Evaluation) -> str:
    alarms, promised = evaluation.overall.image.get("false_alarm_rate"), evaluation.promised_false_alarms
    if alarms is None or promised is None:
        return ""
    if alarms.value <= promised:
        return ", as promised"
    return ", more than promised" if _beyond(evaluation) else ", within what chance allows"


def _beyond(evaluation: Evaluation) -> bool:
    """More false alarms than chance allows if the normal images are like those held out: less than 1 in 40 as many.

    The promise is kept on average over the n images held out. For those at hand the true rate is Beta(k, n + 1 - k) with
    k = floor(promise x (n + 1)), so the count among N test images is beta-binomial.
    """
    alarms, tested = evaluation.overall.image.get("false_alarm_rate"), evaluation.overall.normal
    held_out, promised = evaluation.calibrated_on, evaluation.promised_false_alarms
    if promised is None:
        return False
    allowed = math.floor(promised * (held_out + 1) + 1e-9)
    if alarms is None or alarms.value <= promised or not 0 < allowed <= held_out:
        return False
    seen = round(alarms.value * tested)
    return bool(betabinom.sf(seen - 1, tested, allowed, held_out + 1 - allowed) < 1 / 40)


def _decimals(share: float) -> int:
    nearest = min(share, 1 - share)
    return 0 if not 0 < nearest < 0.0995 else 1 if nearest > 0.001 else 2


def _hundredths(share: float, decimals: int) -> str:
    return f"{100 * share:.{decimals}f}" if math.isfinite(share) else "—"
