"""One shard: what a detector, or an export of one, says of some images, as the bytes of a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlike.artifacts import EXPORT, kind_of
from unlike.batch.shards import REASON, About, pack_shard
from unlike.calibration.rows import SCORED, verdict_row
from unlike.data.source import Source
from unlike.errors import ConfigError
from unlike.records import Unreadable
from unlike.runtime.streams import judge_batch, known_images

if TYPE_CHECKING:
    from unlike.detector.detector import Detector
    from unlike.runtime.exported import ExportedDetector


def load_scoring(folder: Path, device: str = "auto") -> Detector | ExportedDetector:
    """A detector, or an export of one, which needs no torch and runs on the CPU."""
    if kind_of(folder) is EXPORT:
        from unlike.runtime.exported import load

        if device not in ("auto", "cpu"):
            raise ConfigError(
                f"--device {device}: an export runs on the CPU; expected cpu, or a detector in place of its export"
            )
        return load(folder)
    from unlike.detector.detector import Detector

    return Detector.load(folder, device)


def score_shard(detector: Detector | ExportedDetector, source: Source) -> bytes:
    """All images of a source, in their order, as a Parquet file; those that cannot be read as rows with their reason."""
    rows: dict[str, dict[str, Any]] = {}
    unreadable: list[Unreadable] = []
    clipped: list[str] = []
    known: list[str] = []
    for batch in detector.stream(source):
        verdicts = judge_batch(detector.fitted_, batch, regions=False)
        for sample, verdict in zip(batch.samples, verdicts, strict=True):
            rows[sample.id] = verdict_row(verdict, sample, SCORED)
        unreadable += batch.unreadable
        clipped += batch.clipped
        known += known_images(detector.fitted_.digests, batch)
    about = About(
        len(rows), sum(row["anomalous"] for row in rows.values()), tuple(unreadable), tuple(clipped), tuple(known)
    )
    rows |= {lost.id: {"id": lost.id, REASON: lost.reason} for lost in unreadable}
    return pack_shard(_in_order(source, rows), about)


def _in_order(source: Source, rows: dict[str, dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """A row for each image of a source; those of its pages, where a file turned out to have several, after all others."""
    own = [rows.pop(sample.id) for sample in source.samples if sample.id in rows]
    return [*own, *rows.values()]
