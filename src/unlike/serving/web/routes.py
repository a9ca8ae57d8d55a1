"""The pages, under /ui/. They change nothing: what people do there goes by REST, as it does for programs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import func, select

from unlike.detector.presets import DEFAULT_PRESET, PRESETS
from unlike.errors import ServiceError
from unlike.serving import history, pictures
from unlike.serving.api import jobs as jobs_rest
from unlike.serving.api import outbox as outbox_rest
from unlike.serving.api import users as users_rest
from unlike.serving.api.answers import ImageId, Name
from unlike.serving.api.detectors import describe_detectors
from unlike.serving.database.tables import User
from unlike.serving.jobs import normals, store
from unlike.serving.security import audit
from unlike.serving.security.roles import Actor, current_actor
from unlike.serving.web import rendering, views
from unlike.serving.web.drift import view_drift
from unlike.serving.web.rendering import PageRoute, show, visible_to
from unlike.serving.web.threshold import judged_of, view_threshold
from unlike.serving.web.views import Filters

router = APIRouter(route_class=PageRoute, include_in_schema=False)
Viewer = Annotated[Actor, Depends(visible_to("viewer"))]
Admin = Annotated[Actor, Depends(visible_to("admin"))]
ON_A_PAGE = 48  # images
RECENT = 5000  # images of which scores are drawn


def _filters(
    detector: Annotated[str, Query(max_length=100)] = "",
    verdict: Annotated[str, Query(max_length=20)] = "",
    reviewed: Annotated[str, Query(max_length=5)] = "",
    day_from: Annotated[str, Query(alias="from", max_length=10)] = "",
    day_to: Annotated[str, Query(alias="to", max_length=10)] = "",
) -> Filters:
    return Filters(detector, verdict, reviewed, day_from, day_to)


Chosen = Annotated[Filters, Depends(_filters)]
Cursor = Annotated[str | None, Query(max_length=200)]


@router.get("/")
def begin() -> Response:
    """The list of what comes."""
    return RedirectResponse("/ui/", 303)


@router.get("/ui/static/{version}/{name}")
def load_static(version: str, name: str) -> Response:  # noqa: ARG001 (another version has another address)
    """A style or script."""
    return rendering.serve_static(name)


@router.get("/ui/login")
def log_in(request: Request, after: Annotated[str, Query(max_length=500)] = "/ui/") -> Response:
    """Name and password."""
    inside = after if after.startswith("/ui/") and not after.startswith("/ui/login") else "/ui/"
    if current_actor(request) is not None:
        return RedirectResponse(inside, 303)
    return show(request, None, "login.html.j2", after=inside)


@router.get("/ui/")
def list_live(request: Request, actor: Viewer, chosen: Chosen, cursor: Cursor = None) -> Response:
    """What comes, the newest first; without a detector, how to make one."""
    services = request.app.state.services
    detectors = describe_detectors(services.database)
    if not detectors:
        return show(request, actor, "empty.html.j2", folder=services.settings.folder, presets=_presets())
    with services.database.readers() as session:
        page = history.list_images(session, chosen.wanted(), ON_A_PAGE, cursor)
        waiting = views.next_unreviewed(session, Filters(chosen.detector, chosen.verdict))
        unreviewed = len(
            history.list_images(session, Filters(chosen.detector, "anomalous", "false").wanted(), 100).rows
        )
    shown: dict[str, Any] = {
        "rows": page.rows,
        "next": page.next,
        "chosen": chosen,
        "detectors": detectors,
        "waiting": waiting,
    }
    return show(
        request,
        actor,
        "live.html.j2",
        **shown,
        first=cursor is None,
        unreviewed=unreviewed,
        keeps=services.store is not None,
        origin=str(request.base_url).rstrip("/"),
    )


@router.get("/ui/cards")
def list_cards(
    request: Request, actor: Viewer, chosen: Chosen, after: Annotated[str, Query(max_length=40)] = ""
) -> Response:
    """The newest images as cards, to be put into the list that is shown."""
    with request.app.state.services.database.readers() as session:
        rows = (
            views.newer_than(session, chosen, after, ON_A_PAGE)
            if after
            else history.list_images(session, chosen.wanted(), ON_A_PAGE).rows
        )
    return show(request, actor, "cards.html.j2", rows=rows, chosen=chosen)


@router.get("/ui/review")
def review_next(request: Request, actor: Viewer, chosen: Chosen) -> Response:  # noqa: ARG001
    """The newest image that nobody has reviewed, or the list where there is none."""
    with request.app.state.services.database.readers() as session:
        found = views.next_unreviewed(session, chosen)
    query = chosen.query()
    return RedirectResponse(f"/ui/images/{found}?{query}" if found else f"/ui/?{chosen.query(reviewed='false')}", 303)


@router.get("/ui/images/{image_id}")
def show_image(image_id: ImageId, request: Request, actor: Viewer, chosen: Chosen) -> Response:
    """One image large: what was said of it, and what a person says."""
    services = request.app.state.services
    with services.database.readers() as session:
        image = history.read_image(session, image_id)
        row = history.find_rows(session, [image_id])[image_id]
        said, kinds = views.reviews_of(session, image_id), views.kinds_of(session, row["detector"])
        following = views.next_unreviewed(session, chosen, image)
    size, promise = _size(services, row), _promise(services, image.version_id)
    shown: dict[str, Any] = {"row": row, "said": said, "kinds": kinds, "following": following, "chosen": chosen}
    return show(request, actor, "image.html.j2", **shown, size=size, promise=promise)


@router.get("/ui/detectors")
def list_detectors(request: Request, actor: Viewer) -> Response:
    """All detectors."""
    services = request.app.state.services
    rows = describe_detectors(services.database)
    with services.database.readers() as session:
        counts = {row["name"]: history.count_images(session, row["name"]) for row in rows}
    return show(request, actor, "detectors.html.j2", rows=rows, counts=counts)


@router.get("/ui/detectors/{name}")
def show_detector(name: Name, request: Request, actor: Viewer) -> Response:
    """A detector: its versions beside each other, a refit, and the way back."""
    services = request.app.state.services
    row = _with_facts(services, _detector(services, name))
    with services.database.readers() as session:
        counts = history.count_images(session, name)
        jobs = store.read_jobs(session, detector=name, limit=20)
    compared = next((job for job in jobs if (job["result"] or {}).get("comparison")), None)
    return show(
        request,
        actor,
        "detector.html.j2",
        row=row,
        counts=counts,
        jobs=jobs,
        compared=compared,
        uploads=normals.list_uploads(services.settings.folder, name),
        presets=_presets(),
    )


@router.get("/ui/detectors/{name}/threshold")
def show_threshold(name: Name, request: Request, actor: Viewer) -> Response:
    """The histogram, and what another threshold would change."""
    services = request.app.state.services
    known = services.catalogue.current(name)
    decision = services.catalogue.runner(known).judging.decision
    with services.database.readers() as session:
        series = history.read_series(session, known.version_id, RECENT)
        judged = judged_of(history.reviewed_images(session, name), known.version_id)
    view = view_threshold(decision, series.scores, judged)
    return show(request, actor, "threshold.html.j2", row=_detector(services, name), known=known, view=view)


@router.get("/ui/detectors/{name}/drift")
def show_drift(name: Name, request: Request, actor: Viewer) -> Response:
    """Whether what comes has changed."""
    services = request.app.state.services
    known = services.catalogue.current(name)
    decision = services.catalogue.runner(known).judging.decision
    with services.database.readers() as session:
        series = history.read_series(session, known.version_id, RECENT)
    return show(
        request, actor, "drift.html.j2", row=_detector(services, name), known=known, view=view_drift(decision, series)
    )


@router.get("/ui/new")
def make_new(request: Request, actor: Admin) -> Response:
    """A detector from a folder of normal images."""
    return show(request, actor, "new.html.j2", presets=_presets())


@router.get("/ui/jobs")
def list_jobs(
    request: Request, actor: Viewer, before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None
) -> Response:
    """What runs, waits, and has ended."""
    found = jobs_rest.list_jobs(request, actor, before=before, limit=50)
    return show(request, actor, "jobs.html.j2", jobs=found["items"], next=found["next"])


@router.get("/ui/jobs/{job_id}")
def show_job(job_id: jobs_rest.Id, request: Request, actor: Viewer, part: bool = False) -> Response:
    """A job: how far it is, and what it found; `part` is what changes of the page."""
    services = request.app.state.services
    with services.database.readers() as session:
        job = store.read_job(session, job_id)
    rows = {row["name"]: row for row in describe_detectors(services.database)}
    made = (job["result"] or {}).get("version")
    version = next(
        (one for one in rows.get(job["detector"], {"versions": []})["versions"] if one["number"] == made), None
    )
    template = "job_part.html.j2" if part else "job.html.j2"
    return show(request, actor, template, job=job, version=version, known=job["detector"] in rows)


@router.get("/ui/connections")
def show_connections(request: Request, actor: Viewer) -> Response:
    """Other programs that results go to, and what could not be sent."""
    found = outbox_rest.list_messages(request, actor, state="dead", limit=100)
    connections = request.app.state.services.settings.connections
    return show(
        request,
        actor,
        "connections.html.j2",
        dead=found["items"],
        counts=found["counts"],
        sinks=connections.sinks,
        sources=connections.sources,
    )


@router.get("/ui/people")
def show_people(request: Request, actor: Admin) -> Response:
    """Users, tokens, and who did what."""
    services = request.app.state.services
    with services.database.readers() as session:
        some = bool(session.scalar(select(func.count()).select_from(User)))
        record = audit.read_audit(session, limit=60)
    people = users_rest.list_users(request, actor)["items"]
    return show(
        request,
        actor,
        "people.html.j2",
        people=people,
        tokens=users_rest.list_tokens(request, actor)["items"],
        some=some,
        record=record,
    )


@router.get("/ui/account")
def show_account(request: Request, actor: Viewer) -> Response:
    """One's own password and tokens."""
    tokens = [one for one in users_rest.list_tokens(request, actor)["items"] if one["user"] == actor.name]
    return show(request, actor, "account.html.j2", tokens=tokens)


@router.get("/ui/{rest:path}")
def miss(rest: str, actor: Viewer) -> Response:  # noqa: ARG001
    """No such page."""
    raise ServiceError("there is no such page; the list of images is a good place to begin", status=404)


def _detector(services: Any, name: str) -> dict[str, Any]:
    found = next((row for row in describe_detectors(services.database) if row["name"] == name), None)
    if found is None:
        raise ServiceError(
            f"there is no detector {name[:100]!r}; the page of detectors has those that are there", status=404
        )
    return found


def _with_facts(services: Any, row: dict[str, Any]) -> dict[str, Any]:
    """What the version that scores promises, asked of itself where a fit by hand has told the history nothing."""
    for one in row["versions"]:
        if one["number"] != row["version"] or one["figures"].get("facts"):
            continue
        try:
            decision = services.catalogue.runner(services.catalogue.current(row["name"])).judging.decision
        except ServiceError:
            return row
        facts = {"promise": decision.false_alarms, "threshold": decision.threshold}
        one["figures"] = {**one["figures"], "facts": facts}
    return row


def _presets() -> list[dict[str, str]]:
    """What a first fit may be made with, the default first."""
    offered = [(name, preset) for name, preset in PRESETS.items() if not preset.report]
    ordered = sorted(offered, key=lambda one: one[0] != DEFAULT_PRESET)
    return [{"name": name, "text": preset.purpose} for name, preset in ordered]


def _size(services: Any, row: dict[str, Any]) -> tuple[int, int] | None:
    """Width and height of an image, in whose pixels its regions are; None where it was not kept."""
    if row["image"] is None:
        return None
    try:
        shape = pictures.read_kept(services.store, row["id"], services.settings.limits.pixels).shape
    except ServiceError:
        return None
    return shape[1], shape[0]


def _promise(services: Any, version_id: int) -> float | None:
    """What share of normal images a version promises to call anomalous at most; None where it cannot be said."""
    try:
        share: float | None = services.catalogue.runner(
            services.catalogue.find(version_id)
        ).judging.decision.false_alarms
    except ServiceError:
        return None
    return share
