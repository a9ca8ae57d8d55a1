"""What the process of a job does, by kind: inspect, fit, calibrate, compare."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from unlike.data.source import Source
from unlike.detector.detector import Detector
from unlike.errors import DataError, ServiceError
from unlike.serving.catalogue import EXPORTED, Catalogue
from unlike.serving.database.engine import Database
from unlike.serving.database.tables import Detector as Product
from unlike.serving.database.tables import Job, Version
from unlike.serving.jobs import store
from unlike.serving.jobs.comparing import compare, look_at
from unlike.serving.jobs.evidence import Evidence, read_evidence
from unlike.serving.jobs.fitting import FitChoices, export_beside, facts_of, fit, look_first, within
from unlike.serving.jobs.normals import open_normals
from unlike.serving.jobs.orders import WORKSHOPS
from unlike.serving.pictures import ImageStore
from unlike.serving.security import audit

TOLD_SECONDS = 0.5  # between two words of progress


class CancelledError(Exception):
    """Somebody has cancelled the job."""


@dataclass(slots=True)
class Work:
    """One job under way: what it is told, and whom it tells."""

    database: Database
    folder: Path
    images: Path | None
    job_id: int
    detector: str
    arguments: Mapping[str, Any]
    by: str
    result: dict[str, Any] = field(default_factory=dict)
    _told: float = 0.0

    @property
    def shop(self) -> Path:
        """Where this job keeps what it has made so far; it is gone when the job has ended."""
        return self.folder / WORKSHOPS / str(self.job_id)

    @property
    def catalogue(self) -> Catalogue:
        """The detectors as this process sees them."""
        return Catalogue(self.folder, self.database)

    def tell(self, progress: float, message: str, *, at_once: bool = False) -> None:
        """How far it is; a CancelledError where nobody wants it any more."""
        if not at_once and time.monotonic() - self._told < TOLD_SECONDS:
            return
        self._told = time.monotonic()
        with self.database.sessions.begin() as session:
            if not store.tell(session, self.job_id, progress=round(progress, 4), message=message, result=self.result):
                raise CancelledError

    def note(self, *sentences: str) -> None:
        """Say something that stays with the result."""
        self.result.setdefault("notes", []).extend(sentence for sentence in sentences if sentence)

    def evidence(self) -> Evidence:
        """What people said of images of this detector."""
        kept = None if self.images is None else ImageStore(self.images)
        with self.database.readers() as session:
            product = session.scalar(select(Product).where(Product.name == self.detector))
            if product is None:
                return Evidence(())
            return read_evidence(session, product.id, lambda name: None if kept is None else kept.find(name))

    def version(self, number: int | None) -> tuple[Version, Path]:
        """A version of the detector, the current one without a number, and where it lies."""
        with self.database.readers() as session:
            query = (
                select(Version).join(Product, Version.detector_id == Product.id).where(Product.name == self.detector)
            )
            query = query.where(
                Version.id == Product.current_version_id if number is None else Version.number == number
            )
            found = session.scalar(query)
        if found is None or found.state == "discarded":
            which = "no version yet" if number is None else f"no version {number}"
            raise DataError(f"{self.detector} has {which}; see GET /detectors/{self.detector}")
        return found, self.folder / found.path

    def load(self, number: int | None) -> tuple[Version, Detector]:
        """A version of the detector, loaded."""
        version, path = self.version(number)
        return version, Detector.load(path)


def run_inspect(work: Work) -> str:
    """Look at the normal images, and fit nothing."""
    _, _, refusal = _look(work, 0.0, 1.0)
    return f"fit would take none of these: {refusal}" if refusal else "looked at; nothing was fitted"


def run_fit(work: Work) -> str:
    """Look at the normal images, fit, make an export, and compare the new version with the one that scores now."""
    made = work.shop / "detector"
    if (made / "detector.toml").is_file():  # fitted before the service stopped
        detector = Detector.load(made)
        work.result = _kept_result(work)
    else:
        source, detector, refusal = _look(work, 0.0, 0.25)
        if refusal:
            raise DataError(refusal)
        resume = bool(work.arguments.get(store.RESTARTS))
        started = time.monotonic()
        notes = fit(source, detector, work.shop / "training", resume=resume, notify=within(work.tell, 0.25, 0.8))
        work.note(*notes)
        work.result["seconds"] = round(time.monotonic() - started, 1)
        detector.save(made)
    if work.arguments.get("export", True):
        work.tell(0.8, "making an export, and proving that it says the same", at_once=True)
        work.note(export_beside(detector, made.with_name(made.name + EXPORTED)))
    figures = {"facts": facts_of(detector), "job": work.job_id}
    comparison = _beside_current(work, detector)
    if comparison is not None:
        work.result["comparison"] = comparison
        figures["reviewed"] = {**comparison["versions"][-1], "images": comparison["images"]}
    return _add(work, made, figures, str(work.arguments.get("note", "")))


def run_calibrate(work: Work) -> str:
    """Draw the threshold of a version anew: another promise or rule, fresh normal images, or some left out."""
    from unlike.detector.calibrating import recalibrate

    chosen = work.arguments
    version, before = work.load(chosen.get("version"))
    work.tell(0.2, "drawing the threshold", at_once=True)
    good = _fresh_normals(work, before) if chosen.get("reviewed") else None
    after = recalibrate(
        before,
        good,
        threshold=chosen.get("threshold"),
        false_alarms=chosen.get("false_alarms"),
        without=chosen.get("without") or [],
        drop=int(chosen.get("drop") or 0),
    )
    made = work.shop / "detector"
    after.save(made)
    old, new = before.fitted_.decision, after.fitted_.decision
    work.result |= {
        "threshold": {"before": float(old.threshold), "after": float(new.threshold)},
        "promise": {"before": old.false_alarms, "after": new.false_alarms},
        "of_version": version.number,
    }
    if chosen.get("export", True):
        work.tell(0.5, "making an export, and proving that it says the same", at_once=True)
        work.note(export_beside(after, made.with_name(made.name + EXPORTED)))
    note = str(chosen.get("note") or f"version {version.number} with another threshold")
    return _add(work, made, {"facts": facts_of(after), "job": work.job_id}, note, promote=bool(chosen.get("promote")))


def run_compare(work: Work) -> str:
    """Hold versions against each other on the same reviewed images."""
    evidence = work.evidence()
    work.result["reviewed"] = evidence.describe()
    source = evidence.source()
    if not evidence.images:
        raise DataError(_no_evidence(evidence))
    numbers = list(work.arguments["versions"])
    seen = {}
    for place, number in enumerate(numbers):
        _, detector = work.load(number)

        def told(done: int, total: int, place: int = place, number: int = number) -> None:
            work.tell((place + done / total) / len(numbers), f"version {number}: {done:,} of {total:,} images")

        seen[str(number)] = look_at(detector, source, told)
    work.result["comparison"] = compare(seen, source)
    return f"compared on {sum(work.result['comparison']['images'].values()):,} reviewed images"


KINDS: dict[str, Callable[[Work], str]] = {
    "inspect": run_inspect,
    "fit": run_fit,
    "calibrate": run_calibrate,
    "compare": run_compare,
}


def _look(work: Work, low: float, high: float) -> tuple[Source, Detector, str]:
    """The normal images, a detector that is not fitted, and why no image would be taken."""
    arguments = work.arguments
    detector = FitChoices.of(arguments.get("choices") or {}).detector()
    evidence = work.evidence() if arguments.get("reviewed") else Evidence(())
    source = open_normals(
        work.folder, work.detector, arguments.get("uploads"), evidence.normals_to_learn(), detector.pages
    )
    work.result = {"notes": list(source.notes)}
    if arguments.get("reviewed"):
        work.result["reviewed"] = evidence.describe()
    if arguments.get("inspect", True):
        work.tell(low, "looking at the images", at_once=True)
        found, refusal = look_first(source, detector, within(work.tell, low, high))
        work.result["inspection"] = found
        work.tell(high, "looked at the images", at_once=True)
        return source, detector, refusal
    return source, detector, ""


def _beside_current(work: Work, detector: Detector) -> dict[str, Any] | None:
    """The new version beside the one that scores now, on reviewed images; None where that cannot be, and it is said why."""
    evidence = work.evidence()
    if not evidence.images:
        work.note(_no_evidence(evidence))
        return None
    source = evidence.source()
    seen = {}
    try:
        with work.database.readers() as session:
            current = session.scalar(select(Product.current_version_id).where(Product.name == work.detector))
        if current is not None:
            version, before = work.load(None)
            seen[str(version.number)] = look_at(before, source)
        work.tell(0.9, "comparing on reviewed images", at_once=True)
        seen["new"] = look_at(detector, source)
        return compare(seen, source)
    except DataError as error:
        work.note(f"Versions were not compared: {error}")
        return None


def _no_evidence(evidence: Evidence) -> str:
    if evidence.lost:
        return (
            f"{evidence.lost:,} images were reviewed, but none of them was kept: start the service with --images DIR to compare "
            "versions on what comes."
        )
    return "No image was reviewed yet, so versions cannot be compared; review some."


def _fresh_normals(work: Work, detector: Detector) -> Source:
    """Images that were reviewed as normal, and that the detector does not know."""
    evidence = work.evidence()
    normal = evidence.source().where(lambda sample: sample.anomalous is False)
    if not len(normal):
        raise DataError("no image was reviewed as normal; review some, or calibrate without `reviewed`")
    known = look_at(detector, normal).known
    fresh = normal.where(lambda sample: sample.id not in known)
    if not len(fresh):
        raise DataError(
            f"the detector was fitted on all {len(known):,} images that were reviewed as normal; review some that came since"
        )
    work.note(
        f"Calibrated on {len(fresh):,} reviewed normal images. Where people review mostly what was flagged, those are stranger than most, "
        "and the threshold is higher than it need be."
    )
    return fresh


def _kept_result(work: Work) -> dict[str, Any]:
    """What the job had found out before the service stopped."""
    with work.database.readers() as session:
        return dict(store.find(session, work.job_id).result)


def _add(work: Work, made: Path, figures: dict[str, Any], note: str, *, promote: bool = False) -> str:
    """Move what was made to its place, and tell the database of it, all in one transaction."""
    catalogue = work.catalogue
    with catalogue.changing() as session:
        if not store.tell(session, work.job_id, progress=0.99):
            raise CancelledError
        number, target = catalogue.new_folder(session, work.detector)
        target.parent.mkdir(parents=True, exist_ok=True)
        exported = made.with_name(made.name + EXPORTED)
        if exported.is_dir():
            exported.rename(target.with_name(target.name + EXPORTED))
        made.rename(target)
        version = catalogue.add_version(
            session, work.detector, number, target, made_by=work.by, note=note, figures=figures
        )
        if promote and version.state != "current":
            catalogue.promote(session, work.detector, number)
        audit.record(session, work.by, "new version", detector=work.detector, version=number, job=work.job_id)
        work.result["version"] = number
        _bind(session, work, version.detector_id)
        state = "scores now" if version.state == "current" else "is a candidate: promote it, or discard it"
    return f"version {number} {state}"


def _bind(session: Session, work: Work, detector_id: int) -> None:
    """Of a first fit: the detector is there now."""
    session.get_one(Job, work.job_id).detector_id = detector_id


def read_work(database: Database, folder: Path, images: Path | None, job_id: int) -> tuple[Work, str]:
    """What a job is to do, and its kind."""
    with database.readers() as session:
        job = store.find(session, job_id)
        name = session.scalar(select(Product.name).where(Product.id == job.detector_id)) or job.arguments.get(
            "detector"
        )
        if job.kind not in KINDS or not name:
            raise ServiceError(f"job {job_id} is of a kind that is not known here: {job.kind}", status=422)
        return Work(database, folder, images, job_id, str(name), job.arguments, job.by), job.kind
