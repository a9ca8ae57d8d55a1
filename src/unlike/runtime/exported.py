"""An exported detector as an object: it reads, scores and judges images as the detector does that it was made of."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from unlike.artifacts import EXPORT, find_folder
from unlike.calibration.decision import Decision
from unlike.calibration.explaining import explain_verdict
from unlike.data.batches import Batch
from unlike.data.input_spec import InputSpec
from unlike.data.pages import Pages
from unlike.data.pixels import promote
from unlike.data.source import Images, open_source
from unlike.errors import ConfigError
from unlike.records import Bools, Floats, Pixels, ScoredBatch, Scores, Unreadable, Verdict
from unlike.runtime.manifest import Manifest, read_manifest
from unlike.runtime.sessions import Session, open_session
from unlike.runtime.streams import gather_scores, judge_all, score_batches

WIDENED = 257  # times an 8-bit value is the same in 16 bits
DEEPER = "holds 16-bit values where the export takes 8-bit ones; export with --depth uint16, which takes both"


def load(folder: str | os.PathLike[str], *, threads: int | None = None) -> ExportedDetector:
    """Read what `unlike export` wrote. Runs no code from the folder; an ArtifactError says what is wrong with it.

    `threads` is how many a graph runs on; by default OMP_NUM_THREADS, or the cores that there are.
    """
    manifest = read_manifest(Path(folder))
    return ExportedDetector(manifest, open_session(find_folder(Path(folder), EXPORT), manifest.to, threads))


@dataclass(frozen=True, slots=True, eq=False)
class ExportedDetector:
    """A detector without torch: `score`, `stream` and `judge` are those of `Detector`, and give what it gives."""

    manifest: Manifest
    session: Session

    @property
    def fitted_(self) -> Manifest:
        """What was learned, as far as an export has it."""
        return self.manifest

    @property
    def spec(self) -> InputSpec:
        """The form that images are brought to."""
        return self.manifest.spec

    @property
    def decision(self) -> Decision:
        """Where normal ends."""
        return self.manifest.decision

    @property
    def pages(self) -> Pages:
        """What a file of several pages is."""
        return self.manifest.pages

    def score(self, images: Images, *, maps: bool = False) -> Scores:
        """How unusual each image is; with `maps`, also where, at the size the detector works at."""
        return gather_scores(self.stream(images), maps=maps)

    def stream(self, images: Images, batch_size: int | None = None) -> Iterator[ScoredBatch]:
        """Score images a batch at a time, in order: memory does not grow with their number."""
        source = open_source(images, pages=self.pages)
        batches = source.stream(self.spec, batch_size or self.manifest.batch_size)
        return score_batches((fit_depth(batch, self.manifest.depth) for batch in batches), self.see)

    def judge(self, images: Images, *, regions: bool = True, fdr: float | None = None) -> list[Verdict]:
        """Say of each image whether it is anomalous, how sure that is, and where it looks strange.

        With `fdr` the images are judged together: of those called anomalous at most that share is normal, on average.
        """
        return judge_all(self, self.stream(images), regions=regions, fdr=fdr)

    def see(self, pixels: Pixels, missing: Bools | None = None) -> tuple[Floats, Floats]:
        """Pixels (B, H, W, C) in the spec -> maps (B, h, w) and scores (B,): for a camera, whose images are in memory.

        A ConfigError says what the graph takes where they are none.
        """
        spec, depth = self.spec, self.manifest.depth
        if pixels.ndim != 4 or pixels.shape[1:] != (*spec.size, spec.channels) or pixels.dtype != depth:
            came = " x ".join(map(str, pixels.shape))
            raise ConfigError(
                f"pixels: expected B x {spec.height} x {spec.width} x {spec.channels} of {depth}, came {came} of {pixels.dtype}; "
                "`score` and `judge` bring images of any size to that"
            )
        return run_in_blocks(self.session, pixels, self._holes(pixels, missing), self.manifest.images_at_once)

    def explain(self, images: Images, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """The verdicts, each with a line that says why; an export does not know which normal images one is most like."""
        samples = {sample.id: sample for sample in open_source(images, pages=self.pages).samples}
        promises = [self.decision.threshold_of(samples[verdict.id].category).promise for verdict in verdicts]
        return [
            replace(verdict, explanation=explain_verdict(verdict, promise))
            for verdict, promise in zip(verdicts, promises, strict=True)
        ]

    def _holes(self, pixels: Pixels, missing: Bools | None) -> Bools | None:
        """Where values are missing, for a graph that asks for it."""
        if self.spec.missing is None or missing is not None:
            return missing
        return np.zeros(pixels.shape[:3], np.bool_)


def run_in_blocks(
    session: Session, pixels: Pixels, missing: Bools | None, images_at_once: int
) -> tuple[Floats, Floats]:
    """What a graph says of pixels (B, H, W, C), some images at a time."""
    found = [
        session(pixels[start : start + images_at_once], None if missing is None else missing[start:][:images_at_once])
        for start in range(0, len(pixels), images_at_once)
    ]
    return np.concatenate([maps for maps, _ in found]), np.concatenate([scores for _, scores in found])


def fit_depth(batch: Batch, depth: str) -> Batch:
    """A batch in the number type of a graph: where it takes 16 bits 8-bit images are widened, where it takes 8 others are left out.

    Images of 16 bits that 8-bit ones were widened to, as beside others in a batch, are narrowed again and lose nothing.
    """
    if batch.pixels.dtype == depth:
        return batch
    if depth != "uint8":
        return replace(batch, pixels=promote(batch.pixels, np.dtype(depth)))
    narrow = np.array([not (image % WIDENED).any() for image in batch.pixels], np.bool_)
    rows = np.flatnonzero(narrow).tolist()
    lost = tuple(Unreadable(batch.samples[row].id, DEEPER) for row in np.flatnonzero(~narrow).tolist())
    return Batch(
        [batch.samples[row] for row in rows],
        (batch.pixels[rows] // WIDENED).astype(np.uint8),
        [batch.shapes[row] for row in rows],
        batch.unreadable + lost,
        None if batch.missing is None else batch.missing[rows],
        batch.clipped,
    )
