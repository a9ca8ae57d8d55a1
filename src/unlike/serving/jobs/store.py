"""Jobs in the database: put in line, taken, told of, and ended; each step is one short transaction."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from unlike.errors import ServiceError
from unlike.serving.database.tables import Detector, Job, now

QUEUED, RUNNING, DONE, FAILED, INTERRUPTED = "queued", "running", "done", "failed", "interrupted"
STATES = (QUEUED, RUNNING, DONE, FAILED, INTERRUPTED)
MOST_WAITING = 50  # jobs in line; one more is refused
MOST_RESTARTS = 3  # after which a job that the service does not survive is given up
RESTARTS = "restarts"  # among the arguments: how often it was started again


def put_in_line(session: Session, kind: str, detector_id: int | None, arguments: dict[str, Any], who: str) -> Job:
    """A new job; a ServiceError (503) where too many are waiting."""
    waiting = session.scalars(select(Job.id).where(Job.state == QUEUED).limit(MOST_WAITING)).all()
    if len(waiting) >= MOST_WAITING:
        raise ServiceError(
            f"{MOST_WAITING} jobs are waiting; wait until some are done, or cancel some",
            status=503,
            passing=True,
            wait_seconds=60.0,
        )
    job = Job(kind=kind, detector_id=detector_id, arguments=arguments, by=who, state=QUEUED, message="waiting")
    session.add(job)
    session.flush()
    return job


def take_next(session: Session) -> int | None:
    """The id of the job that has waited longest, which is running now; None where none waits."""
    job_id = session.scalar(select(Job.id).where(Job.state == QUEUED).order_by(Job.id).limit(1))
    if job_id is None:
        return None
    taken = session.execute(
        update(Job)
        .where(Job.id == job_id, Job.state == QUEUED)
        .values(state=RUNNING, started_at=now(), message="starting")
    )
    return job_id if taken.rowcount else None  # type: ignore[attr-defined]


def tell(session: Session, job_id: int, **values: Any) -> bool:
    """Write down how far a job is, or how it ended; False where it is no longer running, for it was cancelled."""
    told = session.execute(update(Job).where(Job.id == job_id, Job.state == RUNNING).values(**values))
    return bool(told.rowcount)  # type: ignore[attr-defined]


def end(session: Session, job_id: int, state: str, message: str, **values: Any) -> bool:
    """A job has come to an end; False where it had before."""
    return tell(session, job_id, state=state, message=message, finished_at=now(), **values)


def cancel(session: Session, job_id: int, who: str) -> Job:
    """End a job that waits or runs; a ServiceError says that there is none, or that it has ended."""
    job = find(session, job_id)
    if job.state not in (QUEUED, RUNNING):
        raise ServiceError(f"job {job_id} is {job.state} already; there is nothing to cancel", status=409)
    job.state, job.message, job.finished_at = INTERRUPTED, f"cancelled by {who}", now()
    return job


def recover(session: Session) -> list[str]:
    """What was running when the service stopped waits again, or is given up; sentences that say so."""
    told = []
    for job in session.scalars(select(Job).where(Job.state == RUNNING).order_by(Job.id)):
        restarts = int(job.arguments.get(RESTARTS, 0)) + 1
        if restarts > MOST_RESTARTS:
            job.state, job.finished_at = INTERRUPTED, now()
            job.message = f"the service stopped {restarts} times while this ran; it is not tried again"
        else:
            job.arguments = {**job.arguments, RESTARTS: restarts}
            job.state, job.message = QUEUED, "the service was restarted; goes on from what is kept"
        told.append(f"Job {job.id} ({job.kind}): {job.message}.")
    return told


def find(session: Session, job_id: int) -> Job:
    """A job; a ServiceError (404) where there is none."""
    job = session.get(Job, job_id)
    if job is None:
        raise ServiceError(f"there is no job {job_id}; see GET /jobs", status=404)
    return job


def read_jobs(
    session: Session,
    *,
    detector: str | None = None,
    state: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Jobs as JSON holds them, the newest first."""
    query = select(Job, Detector.name).join(Detector, Detector.id == Job.detector_id, isouter=True)
    for column, value in ((Detector.name, detector), (Job.state, state)):
        if value is not None:
            query = query.where(column == value)
    if before is not None:
        query = query.where(Job.id < before)
    return [describe(job, name) for job, name in session.execute(query.order_by(Job.id.desc()).limit(limit))]


def read_job(session: Session, job_id: int) -> dict[str, Any]:
    """One job as JSON holds it."""
    job = find(session, job_id)
    name = session.scalar(select(Detector.name).where(Detector.id == job.detector_id))
    return describe(job, name)


def describe(job: Job, detector: str | None) -> dict[str, Any]:
    """A job as JSON holds it."""
    return {
        "id": job.id,
        "kind": job.kind,
        "detector": detector or job.arguments.get("detector"),
        "state": job.state,
        "progress": job.progress,
        "message": job.message,
        "arguments": {name: value for name, value in job.arguments.items() if name != RESTARTS},
        "result": job.result,
        "by": job.by,
        "created_at": job.created_at.isoformat(),
        "started_at": None if job.started_at is None else job.started_at.isoformat(),
        "finished_at": None if job.finished_at is None else job.finished_at.isoformat(),
    }
