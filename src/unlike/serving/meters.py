"""What a monitoring system is told: images by verdict, refusals, what waits, and how long things take (Prometheus)."""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Meters:
    """The figures of one service, since it started.

    >>> meters = Meters()
    >>> meters.images.labels("cells", "normal").inc()
    >>> b'unlike_images_total{detector="cells",verdict="normal"} 1.0' in meters.tell()
    True
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.images = Counter(
            "unlike_images", "Images that were scored", ["detector", "verdict"], registry=self.registry
        )
        self.refused = Counter("unlike_refused", "Requests that were refused", ["status"], registry=self.registry)
        self.requests = Histogram(
            "unlike_request_seconds", "Time to answer", ["route"], buckets=SECONDS, registry=self.registry
        )

    def watch(self, name: str, description: str, value: Callable[[], float]) -> None:
        """A figure that is asked for when it is told."""
        Gauge(name, description, registry=self.registry).set_function(value)

    def tell(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self.registry)


class Metered:
    """Counts how long each kind of request takes, and how many are refused (an ASGI middleware)."""

    def __init__(self, app: Any, *, meters: Meters) -> None:
        self._app, self._meters = app, meters

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                route = getattr(scope.get("route"), "path", "none")
                self._meters.requests.labels(route).observe(time.perf_counter() - start)
                if message["status"] >= 400:
                    self._meters.refused.labels(str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, sending)
