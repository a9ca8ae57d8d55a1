"""What people said of images, as sets: normal ones to learn from, and those by which versions are told apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from unlike.data.files import FileSource
from unlike.records import Sample
from unlike.serving.database.tables import Image, Review

HELD_BACK = 4  # of so many reviewed normal images one is never learned from, so that false alarms can be measured


@dataclass(frozen=True, slots=True)
class Reviewed:
    """An image of which a person said what it is."""

    id: str
    digest: str  # SHA-256 of its content, in hexadecimal
    path: Path
    anomalous: bool
    kind: str = ""  # of the defect

    @property
    def held_back(self) -> bool:
        """Whether it is never learned from: by its content alone, so the same for all versions."""
        return int(self.digest[:8], 16) % HELD_BACK == 0

    def sample(self) -> Sample:
        """As images are named."""
        kind = (self.kind or "anomalous") if self.anomalous else "good"
        return Sample(f"reviewed/{self.id}", self.path, anomalous=self.anomalous, kind=kind)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All reviewed images of a detector that are still there."""

    images: tuple[Reviewed, ...]
    lost: int = 0  # whose content was not kept

    def normals_to_learn(self) -> list[Sample]:
        """Normal images and false alarms, but for those that are held back."""
        return [image.sample() for image in self.images if not image.anomalous and not image.held_back]

    def source(self) -> FileSource:
        """All of them with what was said; whoever compares leaves out what a version has learned from."""
        return FileSource("reviewed images", [image.sample() for image in self.images])

    def describe(self) -> dict[str, int]:
        """How many there are of what."""
        normal = [image for image in self.images if not image.anomalous]
        return {
            "normal": len(normal),
            "held_back": sum(image.held_back for image in normal),
            "defects": len(self.images) - len(normal),
            "not_kept": self.lost,
        }


def read_evidence(session: Session, detector_id: int, path_of: Callable[[str], Path | None]) -> Evidence:
    """What was said of the images of a detector; of each content the latest review counts, whichever version had scored it."""
    latest = select(func.max(Review.id)).group_by(Review.image_id)
    query = (
        select(Image, Review)
        .join(Review, Review.image_id == Image.id)
        .where(Image.detector_id == detector_id, Review.id.in_(latest))
        .order_by(Review.id)
    )
    return gather([(image, review, path_of(image.id)) for image, review in session.execute(query)])


def gather(rows: Sequence[tuple[Image, Review, Path | None]]) -> Evidence:
    """Each content once, by what was said of it last; only what is still on the disk."""
    found: dict[str, Reviewed] = {}
    lost: set[str] = set()
    for image, review, path in rows:
        if path is None:
            lost.add(image.digest)
            continue
        anomalous = review.verdict == "missed" or (review.verdict == "right" and bool(image.anomalous))
        found[image.digest] = Reviewed(image.id, image.digest, path, anomalous, review.kind if anomalous else "")
    return Evidence(tuple(found.values()), len(lost - set(found)))
