"""A small client of the service, for programs: score, review, fit, promote; it waits and tries again where that helps."""

from __future__ import annotations

import datetime as dt
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import httpx
import numpy as np

from unlike.errors import DataError, ServiceError
from unlike.serving.sources.base import Arrival

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Client", "ServiceError"]

Picture = Literal["image", "map", "overlay"]
FILES_AT_ONCE = 16  # in one request
LONGEST_WAIT = 30.0  # seconds between two tries
PASSING = (429, 502, 503, 504)  # answers after which the same request may be taken
FINISHED = ("done", "failed", "interrupted")  # states of a job that will not change
Image = str | os.PathLike[str] | bytes | np.ndarray[Any, Any] | tuple[str, bytes]


class Client:
    """Talks to `unlike serve`.

    `token` is what `unlike serve --add-token` printed; none is needed on the machine that serves, as long as the service has
    no users. A service that is busy or away is tried again up to `retries` times, after as many seconds as it asks for.
    Results are rows with the names of every table (`score`, `threshold`, `p_value`, `anomalous`, `regions`).

    >>> import httpx  # an example without a service: it answers what is written here
    >>> answer = {"items": [{"id": "7f", "name": "a.png", "score": 2.5, "threshold": 1.0, "p_value": 0.02, "anomalous": True}]}
    >>> client = Client("http://127.0.0.1:8000", transport=httpx.MockTransport(lambda request: httpx.Response(200, json=answer)))
    >>> [row["anomalous"] for row in client.score("cells", [np.zeros((8, 8), np.uint8)])]
    [True]
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        token: str | None = None,
        *,
        timeout_seconds: float = 60.0,
        retries: int = 5,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ServiceError(f"expected the address of a service, such as http://127.0.0.1:8000, came {url!r}")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._retries, self._url = retries, url.rstrip("/")
        self._http = httpx.Client(base_url=self._url, headers=headers, timeout=timeout_seconds, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    # ---- images

    def score(
        self, detector: str, images: Image | Sequence[Image], *, client_ids: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """A row for each image, in order: of paths, the bytes of files, arrays (H, W) or (H, W, C), or (name, bytes).

        `client_ids` are names of yours, one for each image: the same image sent again under the same name is counted once.
        Without them each call is new, though never counted twice by tries of its own. The row of an image that cannot be
        used has an `error`.
        """
        named = [_name_and_content(image, number) for number, image in enumerate(_several(images))]
        call = uuid.uuid4().hex
        ids = list(client_ids) if client_ids is not None else [f"{call}:{number}" for number in range(len(named))]
        if len(ids) != len(named):
            raise DataError(f"client_ids: expected one for each of {len(named)} images, came {len(ids)}")
        rows: list[dict[str, Any]] = []
        for start in range(0, len(named), FILES_AT_ONCE):
            part = slice(start, start + FILES_AT_ONCE)
            files = [("file", (name, content, "application/octet-stream")) for name, content in named[part]]
            answer = self._ask(
                "POST", f"/detectors/{_quoted(detector)}/score", files=files, data={"client_id": ids[part]}
            )
            rows += answer["items"]
        return rows

    def images(
        self,
        *,
        detector: str | None = None,
        verdict: Literal["anomalous", "normal"] | None = None,
        reviewed: bool | None = None,
        since: dt.datetime | str | None = None,
        until: dt.datetime | str | None = None,
        page: int = 100,
    ) -> Iterator[dict[str, Any]]:
        """The rows of the history, the newest first; as many as are asked for are fetched, a `page` at a time."""
        asked = {
            "detector": detector,
            "verdict": verdict,
            "reviewed": reviewed,
            "from": _time(since),
            "to": _time(until),
        }
        params = {name: _word(value) for name, value in asked.items() if value is not None} | {"limit": str(page)}
        while True:
            answer = self._ask("GET", "/images", params=params)
            yield from answer["items"]
            if not answer.get("next"):
                return
            params["cursor"] = str(answer["next"])

    def image(self, image_id: str) -> dict[str, Any]:
        """One row of the history."""
        return dict(self._ask("GET", f"/images/{_quoted(image_id)}"))

    def picture(self, image_id: str, which: Picture = "overlay") -> bytes:
        """The picture of an image as a file holds it: itself, its map, or both."""
        return self._send("GET", f"/images/{_quoted(image_id)}/{which}").content

    def review(
        self, image_id: str, verdict: Literal["right", "false_alarm", "missed"], *, kind: str = "", note: str = ""
    ) -> dict[str, Any]:
        """Say whether the detector was right about an image."""
        body = {"verdict": verdict, "kind": kind, "note": note}
        return dict(self._ask("POST", f"/images/{_quoted(image_id)}/review", json=body))

    # ---- detectors

    def detectors(self) -> list[dict[str, Any]]:
        """What is served."""
        found = self._ask("GET", "/detectors")
        return list(found["items"] if isinstance(found, Mapping) else found)

    def detector(self, name: str) -> dict[str, Any]:
        """One detector with its versions."""
        return dict(self._ask("GET", f"/detectors/{_quoted(name)}"))

    def add_detector(self, name: str, images: Image | Sequence[Image]) -> dict[str, Any]:
        """Begin to fit a first detector on normal images, or one zip of them; gives the job, for `wait`."""
        return dict(self._ask("POST", "/detectors", files=_files(images), data={"name": name}))

    def add_normals(self, detector: str, images: Image | Sequence[Image]) -> dict[str, Any]:
        """Add normal images for the next fit."""
        return dict(self._ask("POST", f"/detectors/{_quoted(detector)}/normals", files=_files(images)))

    def fit(
        self, detector: str, *, reviewed: bool = True, choices: Mapping[str, Any] | None = None, note: str = ""
    ) -> dict[str, Any]:
        """Begin to fit anew, on what was `reviewed` too; gives the job, for `wait`. `choices` are those of `unlike fit`."""
        return self._begin(detector, "fit", reviewed=reviewed, choices=dict(choices or {}), note=note)

    def calibrate(
        self,
        detector: str,
        *,
        false_alarms: float | Literal["auto"] | None = None,
        threshold: str | None = None,
        reviewed: bool = False,
        note: str = "",
    ) -> dict[str, Any]:
        """Begin to calibrate a new threshold; gives the job, for `wait`."""
        return self._begin(
            detector, "calibrate", false_alarms=false_alarms, threshold=threshold, reviewed=reviewed, note=note
        )

    def compare(self, detector: str, versions: Sequence[int]) -> dict[str, Any]:
        """Begin to hold versions against each other on the same reviewed images; gives the job, for `wait`."""
        return self._begin(detector, "compare", versions=list(versions))

    def promote(self, detector: str, version: int, *, note: str = "") -> dict[str, Any]:
        """Have a version decide from now on."""
        return self._begin(detector, "promote", version=version, note=note)

    def rollback(self, detector: str, *, note: str = "") -> dict[str, Any]:
        """Go back to the version that decided before."""
        return self._begin(detector, "rollback", note=note)

    def discard(self, detector: str, version: int, *, note: str = "") -> dict[str, Any]:
        """Give a version up."""
        return self._begin(detector, "discard", version=version, note=note)

    def _begin(self, detector: str, what: str, **body: Any) -> dict[str, Any]:
        return dict(self._ask("POST", f"/detectors/{_quoted(detector)}/{what}", json=body))

    # ---- jobs and health

    def job(self, job_id: str | int) -> dict[str, Any]:
        """How far a job is."""
        return dict(self._ask("GET", f"/jobs/{_quoted(str(job_id))}"))

    def wait(
        self,
        job: Mapping[str, Any] | str | int,
        *,
        timeout_seconds: float = 3600.0,
        poll_seconds: float = 1.0,
        notify: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Wait until a job is done; a ServiceError says that it failed, or takes longer than that.

        `notify` is called with the job whenever there is something new.
        """
        number = job["id"] if isinstance(job, Mapping) else job
        until = time.monotonic() + timeout_seconds
        before: dict[str, Any] = {}
        while True:
            found = self.job(number)
            if notify is not None and found != before:
                notify(found)
            before = found
            if found["state"] == "done":
                return found
            if found["state"] in FINISHED:
                raise ServiceError(f"job {number} {found['state']}: {found.get('message') or 'no reason given'}")
            if time.monotonic() > until:
                raise ServiceError(
                    f"job {number}: not done after {timeout_seconds:g} s; ask again with wait({number!r})"
                )
            time.sleep(poll_seconds)

    def ready(self) -> bool:
        """Whether the service can take images now."""
        try:
            return self._http.get("/ready").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    # ---- how requests are sent

    def _ask(self, method: str, path: str, **parts: Any) -> Any:
        response = self._send(method, path, **parts)
        try:
            return response.json()
        except ValueError:
            raise ServiceError(
                f"{self._url}{path}: expected an answer of `unlike serve`, came {response.headers.get('content-type')}"
            ) from None

    def _send(self, method: str, path: str, **parts: Any) -> httpx.Response:
        """Send, and send again where the service is busy or away; a ServiceError says what it answered."""
        for tries in range(self._retries + 1):
            last = tries == self._retries
            try:
                response = self._http.request(method, path, **parts)
            except httpx.TransportError as error:
                if last or not _repeatable(method, path, error):
                    reason = str(error) or type(error).__name__
                    raise ServiceError(f"{self._url}: no service answers ({reason}).", passing=True) from None
                time.sleep(min(0.5 * 2**tries, LONGEST_WAIT))
                continue
            if response.is_success:
                return response
            wait = _wait_seconds(response)
            if response.status_code not in PASSING or last:
                raise _refusal(f"{self._url}{path}", response, wait)
            time.sleep(min(wait if wait is not None else 0.5 * 2**tries, LONGEST_WAIT))
        raise AssertionError


def _repeatable(method: str, path: str, error: httpx.TransportError) -> bool:
    """Whether to send again may not do the same thing twice: questions, images with their ids, what never arrived."""
    return method == "GET" or path.endswith("/score") or isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)


def _refusal(where: str, response: httpx.Response, wait: float | None) -> ServiceError:
    """What a service answered, in a sentence."""
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = response.reason_phrase
    if isinstance(detail, list):  # of a request that is not what the description says
        detail = "; ".join(f"{'.'.join(map(str, one.get('loc', ())))}: {one.get('msg')}" for one in detail)
    hint = (
        "; a program gives a token (Client(token=...), UNLIKE_TOKEN for `unlike watch`), which `unlike serve --add-token` makes"
        if response.status_code == 401
        else ""
    )
    return ServiceError(
        f"{where}: {response.status_code}: {detail}{hint}",
        status=response.status_code,
        passing=response.status_code in PASSING,
        wait_seconds=wait,
        detail=str(detail),
    )


def _wait_seconds(response: httpx.Response) -> float | None:
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):  # none, or a date
        return None


def _files(images: Any) -> list[tuple[str, tuple[str, bytes, str]]]:
    return _parts([_name_and_content(image, number) for number, image in enumerate(_several(images))])


def _parts(named: Sequence[tuple[str, bytes]]) -> list[tuple[str, tuple[str, bytes, str]]]:
    """Fields of a form, one for each file."""
    return [("file", (name, content, "application/octet-stream")) for name, content in named]


def _several(images: Any) -> list[Image]:
    """What was named as a list: one image, or several, also as one array (N, H, W, C)."""
    pair = isinstance(images, tuple) and len(images) == 2 and isinstance(images[1], bytes)
    if isinstance(images, list | tuple) and not pair:
        return list(images)
    return list(images) if isinstance(images, np.ndarray) and images.ndim == 4 else [images]


def _name_and_content(image: Image, number: int) -> tuple[str, bytes]:
    if isinstance(image, tuple):
        return image
    if isinstance(image, bytes):
        return f"{number}", image
    if isinstance(image, np.ndarray):
        return f"{number}.png", Arrival(f"{number}", "", pixels=image).content()
    path = Path(image)
    try:
        return path.name, path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); expected an image, its bytes, or an array"
        ) from None


def _quoted(part: str) -> str:
    from urllib.parse import quote

    return quote(part, safe="")


def _time(moment: dt.datetime | str | None) -> str | None:
    return moment.astimezone(dt.UTC).isoformat() if isinstance(moment, dt.datetime) else moment


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
