"""What answers look like, as the OpenAPI description tells it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, Field

Name = Annotated[str, Path(max_length=100, description="Of a detector")]
ImageId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="Of an image")]


class Detail(BaseModel):
    """Why not, in a sentence."""

    detail: str


class ReviewRow(BaseModel):
    """What a person said of a verdict."""

    verdict: Literal["right", "false_alarm", "missed"]
    kind: str
    note: str
    by: str
    at: str


class ImageRow(BaseModel):
    """An image and what was said of it; the names are those of every table of `unlike`."""

    id: str | None = Field(description="Nothing where the image was refused, and so is not in the history")
    name: str
    score: float | None
    threshold: float | None
    p_value: float | None
    anomalous: bool | None
    regions: list[dict[str, Any]] = Field(description="x, y, width, height and area in pixels of the image, and peak")
    detector: str
    version: int
    client_id: str
    received_at: str | None
    error: str | None = Field(description="Why there is no score")
    image: str | None
    map: str | None
    overlay: str | None
    review: ReviewRow | None


class Items(BaseModel):
    """Rows, in the order in which the images were sent."""

    items: list[ImageRow]


class PageOfImages(BaseModel):
    """Rows, the newest first, and the cursor of those after them."""

    items: list[ImageRow]
    next: str | None


class VersionRow(BaseModel):
    """A version of a detector."""

    number: int
    state: str
    made_by: str
    made_at: str
    note: str
    figures: dict[str, Any]


class DetectorRow(BaseModel):
    """A detector, the number of the version that scores, and all its versions."""

    name: str
    version: int | None
    versions: list[VersionRow]


class Detectors(BaseModel):
    """All detectors, by name."""

    items: list[DetectorRow]


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Which refusals an endpoint knows, for the description."""
    return {status: {"model": Detail} for status in (401, 403, *statuses)}
