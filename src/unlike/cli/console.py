"""What the command line says: to people on stderr, so that results on stdout can be piped."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unlike.artifacts import is_first_process

if TYPE_CHECKING:
    from unlike.calibration.decision import Decision
    from unlike.calibration.diagnosis import Diagnosis
    from unlike.detector.detector import Detector
    from unlike.detector.storage import Distrusted
    from unlike.records import Evaluation, Metrics, Unreadable
    from unlike.runtime.exported import ExportedDetector

STAGES = {"read": "Reading", "train": "Training", "score": "Scoring"}
UNITS = {"read": "images", "train": "epochs", "score": "images"}
QUIET_SECONDS = 10.0  # between two lines of progress where there is no terminal
PROMISES = (0.01, 0.02, 0.05)  # for each of which it is said what it rests on
BASIS_NAMED = 3  # images on which a threshold rests
NAMED = 20  # images or categories that are listed; the rest are counted
Notify = Callable[[str, int, int, Mapping[str, float]], None]


class Console:
    """Lines for people, and progress: a bar on a terminal, a quiet line now and then otherwise.

    Of several processes that train together, only the first one speaks.
    """

    def say(self, text: str = "") -> None:
        """One line to stderr."""
        if is_first_process():
            print(text, file=sys.stderr, flush=True)  # noqa: T201

    @contextlib.contextmanager
    def progress(self) -> Iterator[Notify]:
        """A function to call with (stage, done, total, figures) as work goes on."""
        if sys.stderr.isatty() and is_first_process():
            with _bars() as notify:
                yield notify
        else:
            yield _QuietLines(self.say)

    def say_notes(self, notes: Sequence[str]) -> None:
        """What was understood of the images that were named, and what is left aside."""
        for note in notes:
            self.say(note)

    def say_fit(self, detector: Detector, folder: Path) -> None:
        """What was learned, from what, and what is promised."""
        from unlike.records import kept_epoch

        fitted = detector.fitted_
        images, spec = fitted.counts, fitted.spec
        parts = f"{images['train']:,} images to train, {images['validation']:,} to validate, {images['calibration']:,} to calibrate"
        if not images["validation"]:
            parts = f"{plural(images['train'], 'image')}, none held back: each calibrates by what the others show"
        self.say(
            f"Fitted {detector.settings.model_name} by {_name_scorer(detector)} at {spec.height} x {spec.width} x "
            f"{spec.channels}: {parts}" + (f" ({images['copies']:,} copies left out)." if images["copies"] else ".")
        )
        for note in fitted.notes:
            self.say(note)
        if weights := fitted.pipeline.scorer.learned_weights:
            self.say(_weights_sentence(weights, on_average=bool(fitted.pipeline.scorer.categories)))
        if fitted.distrusted is not None:
            self._say_distrusted(fitted.distrusted, fitted.decision.false_alarms, folder)
        if best := kept_epoch(fitted.history, detector.settings.training.keep):
            of = len(fitted.history)
            self.say(f"Kept epoch {best['epoch']:.0f} of {of}: validation loss {best['validation']:.4g}.")
        for warning in fitted.warnings:
            self.say(f"Warning: {warning}")
        self._say_promise(detector)
        self.say(f"Detector: {folder}")

    def _say_distrusted(self, distrusted: Distrusted, promised: float | None, folder: Path) -> None:
        """Which images were not learned from, what that does to the promise, and the way out."""
        from unlike.artifacts import printable
        from unlike.calibration.contamination import worst_promise

        count = len(distrusted.ids)
        if not count:
            self.say(
                f"None of {plural(distrusted.of, 'image')} is so unlike the others that it was left out (contamination)."
            )
            return
        worst = zip(distrusted.ids[:NAMED], distrusted.scores.tolist(), strict=False)
        named = ", ".join(f"{printable(name)} (score {score:.3g})" for name, score in worst)
        more = f", and {count - NAMED:,} more in {folder / 'detector.toml'}" if count > NAMED else ""
        self.say(
            f"Distrusted {count:,} of {plural(distrusted.of, 'image')}, unlike the others and not learned from: {named}{more}."
        )
        if promised is not None:
            most = 100 * worst_promise(promised, count, distrusted.of)
            self.say(
                f"The promise is of normal images that are not like those: were all of them normal, up to {most:.2g} % of normal images "
                "would be called anomalous."
            )
        self.say(
            "Look at them, in the report of `unlike evaluate` too; if they are normal, fit with --contamination none."
        )

    def _say_promise(self, detector: Detector) -> None:
        from unlike.artifacts import printable

        fitted = detector.fitted_
        kind = "held-out normal image" if fitted.counts["validation"] else "normal image"
        found = diagnose_detector(detector)
        own, for_all = found.own, found.threshold
        says = _promise_sentence(fitted.decision, of_a_category=bool(own))
        images, independent = fitted.counts["calibration"], fitted.decision.independent
        groups = f" in {plural(independent, 'group')}" if independent < images else ""
        self.say(
            f"{says} ({plural(images, kind)}{groups}); "
            + (f"thresholds: {_thresholds(own, for_all)}." if own else f"threshold {for_all:.4g}.")
        )
        self._say_basis(fitted.decision, found)
        if parts := fitted.pipeline.scorer.categories:
            together = [_list([*map(printable, names)]) for names in parts if len(names) > 1]
            alone = f"{plural(len(parts) - len(together), 'category', 'categories')}, each by itself"
            shared = "".join(f"; together: {names}" for names in together)
            self.say(f"Learned {alone}{shared}. An image is held against what it looks like.")
        if few := found.too_few:
            counted = [f"{printable(name)} ({count:,})" for name, count in few.items()]
            self.say(
                f"Too few held-out images for a threshold of their own: {_list(counted)}; the one for all is theirs."
            )
        if doubtful := found.doubtful:
            where = f" of {_list([*map(printable, doubtful)])}" if own else ""
            name = _strangest_of(fitted.decision, doubtful[0])
            self.say(
                f"The threshold{where} is the strangest of them, {printable(name)}, far above the next: if that image is not really "
                "normal, defects will be missed. Look at it, or accept more false alarms with --false-alarms."
            )

    def _say_basis(self, decision: Decision, found: Diagnosis) -> None:
        """At several promises the threshold, and the normal images on which it rests; and what other counting would give."""
        promised = decision.false_alarms if len(decision.thresholds) == 1 else None
        for share in sorted({*PROMISES} if promised is None else {*PROMISES, promised}):
            if line := basis_line(decision, share):
                self.say(f"  {line}")
        if (other := decision.otherwise) is not None:
            word = other.by.removesuffix("s")
            self.say(
                f"If {other.by} counted: threshold {other.threshold.score:.4g}, {other.threshold.promise} "
                f"({plural(other.independent, word)})."
            )
        if (others := other_rules(decision)) and len(decision.thresholds) == 1:
            self.say(f"By other rules (`unlike calibrate --threshold NAME`): {'; '.join(others)}.")
        if found.suspects:
            from unlike.artifacts import printable

            names = [f"{printable(name)} ({times:.2g} times the next)" for name, times in found.suspects]
            self.say(
                f"Suspect among the normal images, far stranger than the next: {_list(names)}. Look whether they are normal."
            )

    def say_calibration(self, before: Detector, after: Detector, folder: Path) -> None:
        """What decides now, by which images and which rule, and what did before."""
        was, now = before.fitted_.decision, after.fitted_.decision
        self.say(
            f"Calibrated {after.fitted_.calibrated}, by rule {after.settings.decision.threshold}: threshold {now.threshold:.4g}; it was "
            f"{was.threshold:.4g} by {before.settings.decision.threshold} ({_promise(was)})."
        )
        self._say_promise(after)
        self.say(f"Detector: {folder}")

    def say_scores(
        self,
        detector: Detector | ExportedDetector,
        rows: int,
        anomalous: int,
        output: Path | None,
        fdr: float | None = None,
    ) -> None:
        """How many images are anomalous, and by which rule."""
        where = f"; scores in {output}" if output else ""
        decision = detector.fitted_.decision
        several = len(decision.thresholds) > 1
        threshold = "the threshold of its category" if several else f"{decision.threshold:.4g}"
        rule = f"score above {threshold}, {_promise(decision)}"
        if fdr is not None:
            rule = f"of those named at most {100 * fdr:.3g} % normal, on average"
        self.say(f"{anomalous:,} of {plural(rows, 'image')} anomalous ({rule}){where}.")

    def say_reach(self, detector: Detector | ExportedDetector, categories: Sequence[str], fdr: float) -> None:
        """What a batch that is judged together must hold for anything to be named."""
        from unlike.calibration.discoveries import say_reach

        names = sorted(set(categories))
        import numpy as np  # not before it is needed: help is there at once

        smallest = detector.fitted_.decision.p_values(np.full(len(names), np.inf), names).max()
        self.say(say_reach(float(smallest), len(categories), fdr))

    def say_clipped(self, clipped: Sequence[str], detector: Detector | ExportedDetector) -> None:
        """How many images have values that the images to fit on did not have, and that were cut off."""
        from unlike.artifacts import printable

        if clipped:
            bits = detector.fitted_.spec.bits
            self.say(
                f"{plural(len(clipped), 'image')} with values beyond {2**bits - 1:,} ({bits} bits, as the images to fit on have), "
                f"such as {printable(clipped[0])}: cut off there. Where that may hide a defect, fit with --set data.bits=16."
            )

    def say_known(self, known: Sequence[str]) -> None:
        """Which images were fitted on: what is said of them is too good."""
        from unlike.artifacts import printable

        if known:
            self.say(
                f"{plural(len(known), 'image')} identical to {'one' if len(known) == 1 else 'some'} that the detector was fitted on, such "
                f"as {printable(known[0])}: they look more usual than they would as new ones, and their p-values promise nothing."
            )

    def say_unreadable(self, unreadable: Sequence[Unreadable]) -> None:
        """Each image that was left out, and why."""
        from unlike.artifacts import printable

        self.say(f"{plural(len(unreadable), 'image')} could not be used:")
        reasons: dict[str, list[str]] = {}
        for item in unreadable:
            reasons.setdefault(item.reason, []).append(printable(item.id))
        for reason, names in reasons.items():
            self.say(f"  {_list(names)}: {reason}")

    def say_scorers(self, evaluations: Mapping[str, Evaluation]) -> None:
        """The figures of several scorers, on stdout."""
        for line in scorer_lines(evaluations):
            print(line)  # noqa: T201

    def say_evaluation(self, evaluation: Evaluation, folder: Path) -> None:
        """The figures, with their intervals, on stdout; and where the rest is."""
        from unlike.artifacts import printable

        for line in evaluation_lines(evaluation):
            print(line)  # noqa: T201
        if evaluation.leaked:
            self.say(
                f"Warning: {plural(len(evaluation.leaked), 'test image')} identical to images the detector was fitted on, "
                f"such as {printable(evaluation.leaked[0])}: the figures flatter."
            )
        self.say(f"Report: {folder / 'report.html'}")


def scorer_lines(evaluations: Mapping[str, Evaluation]) -> list[str]:
    """A table of several scorers of one model on the same images; nothing where there are none."""
    if not evaluations:
        return []
    widest = max(len(label) for label in evaluations)
    lines = ["", f"  {'scorer of the same model':{max(widest, 24)}}  {'AUROC':22}  average precision"]
    for label, found in evaluations.items():
        image = found.overall.image
        cells = [str(image.get(name, "-")) for name in ("auroc", "average_precision")]
        lines.append(f"  {label:{max(widest, 24)}}  {cells[0]:22}  {cells[1]}")
    return lines


def evaluation_lines(evaluation: Evaluation) -> list[str]:
    """The figures of an evaluation as a table to print."""
    from unlike.report.wording import TERMS

    overall = evaluation.overall
    lines = [f"{overall.normal:,} normal and {overall.anomalous:,} anomalous images; 95 % intervals in brackets"]
    if evaluation.synthetic:
        lines = [
            f"SYNTHETIC: {overall.normal:,} normal images, {overall.anomalous:,} copies with made defects; 95 % intervals in brackets",
            "  good for comparing detectors; says little of how many real defects will be found",
        ]
    figures = overall.figures
    lines += [f"  {term.title:36} {figures[name]}" for name, term in TERMS.items() if name in figures]
    lines += [f"  without {', '.join(names)}: {reason}" for reason, names in _by_reason(overall.left_out).items()]
    if evaluation.thresholds:
        lines += [
            f"  judged by the threshold of each category: {_thresholds(evaluation.thresholds, evaluation.threshold)}"
        ]
    for groups in (evaluation.categories, evaluation.kinds):
        if len(groups) > 1:
            lines += ["", f"  {'':36} {'normal':>8} {'anomalous':>10}  {'AUROC':21}  found at 1, 2, 5 %"]
            lines += [_group_line(name, group) for name, group in groups.items()]
    return lines


def basis_line(decision: Decision, share: float) -> str:
    """At a promise of that share, the threshold, and the normal images on which it rests; empty where it cannot be held."""
    from unlike.artifacts import printable

    basis = decision.at(share).get("")
    if basis is None:
        return ""
    named = ", ".join(printable(name) for name in basis.ids[-1 : -1 - BASIS_NAMED : -1])
    more = ", ..." * (len(basis.ids) > BASIS_NAMED)
    return (
        f"{100 * share:.3g} %: threshold {basis.score:.4g}, rests on {plural(len(basis.ids), 'image')} ({named}{more})"
    )


def other_rules(decision: Decision) -> list[str]:
    """For the same promise the thresholds by other rules that need normal images alone, with what those say."""
    from unlike.calibration.thresholds import THRESHOLDS, make_rule
    from unlike.errors import UnlikeError

    lines: list[str] = []
    if (promised := decision.false_alarms) is None:
        return lines
    for name in THRESHOLDS:
        rule = make_rule(name, promised)
        if rule.needs_labels:
            continue
        try:
            rule.fit(decision.scores, decision.weights)
        except UnlikeError:  # it takes more images, or another question
            continue
        if str(rule.promise_) != str(decision.threshold_of("").promise):
            lines.append(f"{name} {rule.threshold_:.4g} ({rule.promise_})")
    return lines


def _strangest_of(decision: Decision, category: str) -> str:
    """What the held-out image with the highest score is called, of a category, or of all."""
    import numpy as np  # not before it is needed: help is there at once

    own = np.flatnonzero(decision.categories == category) if category else np.arange(len(decision.scores))
    return str(decision.ids[own[int(decision.scores[own].argmax())]])


def _by_reason(left_out: Mapping[str, str]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        names.setdefault(reason, []).append(name)
    return names


def _group_line(name: str, group: Metrics) -> str:
    found = [group.image.get(f"detection_rate_at_{share}") for share in (1, 2, 5)]
    at = ", ".join("-" if one is None else f"{one.value:.2f}" for one in found)
    from unlike.artifacts import printable

    return f"  {printable(name):36} {group.normal:8,} {group.anomalous:10,}  {group.image.get('auroc', '-')!s:21}  {at}"


def diagnose_detector(detector: Detector) -> Diagnosis:
    """What to tell of the thresholds of a fitted detector."""
    from unlike.calibration.diagnosis import diagnose

    decision = detector.fitted_.decision
    thresholds = {name: threshold.score for name, threshold in decision.thresholds.items()}
    return diagnose(thresholds, decision.scores, decision.categories, decision.too_few, decision.ids)


def _weights_sentence(weights: Mapping[str, float], *, on_average: bool) -> str:
    """How much each of several scorers counts, by what normal images show.

    >>> _weights_sentence({"neighbours": 0.7512, "pca": 0.2488}, on_average=False)
    'Scorers count by how steady they are on normal images: neighbours 75 %, pca 25 %.'
    """
    shares = ", ".join(f"{name} {100 * weight:.0f} %" for name, weight in weights.items())
    return (
        f"Scorers count by how steady they are on normal images{', on average over categories' * on_average}: {shares}."
    )


def _promise_sentence(decision: Decision, *, of_a_category: bool) -> str:
    if decision.false_alarms is None:
        return f"No promise: {_promise(decision)}"
    words, share = _promise(decision), f"{100 * decision.false_alarms:.3g} %"
    if words != f"at most {share} false alarms":  # a rule that promises otherwise says how
        return f"Promise: {words}"
    return f"Promise: at most {share} of normal images{' of a category' * of_a_category} are called anomalous"


def _promise(decision: Decision) -> str:
    """What the thresholds promise, or what their rule says in the place of a promise."""
    if decision.false_alarms is None:
        return str(decision.threshold_of("").promise)
    weakest = max(decision.thresholds.values(), key=lambda one: one.false_alarms or 0.0)
    return str(weakest.promise)


def _thresholds(own: Mapping[str, float], for_all: float) -> str:
    from unlike.artifacts import printable

    named = [f"{printable(name)} {threshold:.4g}" for name, threshold in own.items()]
    return f"{_list(named)}; all others {for_all:.4g}"


def _list(names: Sequence[str]) -> str:
    """The first names, and how many more there are.

    >>> _list(["a", "b"])
    'a, b'
    """
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def plural(count: int, word: str, words: str = "") -> str:
    """A count with its word.

    >>> plural(1, "image"), plural(2000, "image"), plural(2, "category", "categories")
    ('1 image', '2,000 images', '2 categories')
    """
    return f"{count:,} {word if count == 1 else words or word + 's'}"


def fail(message: str, code: int) -> int:
    """Say what went wrong in one line, and give back the exit code."""
    print(f"unlike: {message}", file=sys.stderr)  # noqa: T201
    return code


class _QuietLines:
    """A line when a stage begins to take long, then one now and then."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._last = time.monotonic()

    def __call__(self, stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        if time.monotonic() - self._last < QUIET_SECONDS:
            return
        self._last = time.monotonic()
        self._say(f"{STAGES[stage]}: {done:,} of {total:,} {UNITS[stage]}{_figures(figures)}")


@contextlib.contextmanager
def _bars() -> Iterator[Notify]:
    from rich.console import Console as RichConsole
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:9}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[figures]}"), console=RichConsole(stderr=True)) as bars:
        tasks = {}

        def notify(stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(STAGES[stage], total=total, figures="")
            bars.update(tasks[stage], completed=done, total=total, figures=_figures(figures))

        yield notify


def _figures(figures: Mapping[str, float]) -> str:
    shown = [f"{name} {figures[name]:.4g}" for name in ("train", "validation") if name in figures]
    return f" loss: {', '.join(shown)}" if shown else ""


def _name_scorer(detector: Detector) -> str:
    """Its name; of several at once, theirs too."""
    settings = detector.settings
    *others, last = getattr(settings.scorer, "scorers", (None,))
    return f"{settings.scorer_name} of {', '.join(others)} and {last}" if last else settings.scorer_name
