"""From pixels to verdicts, whatever sees the pixels: a pipeline in torch, or a graph that was exported. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import repeat
from typing import Protocol

import numpy as np
import numpy.typing as npt

from unlike.calibration.decision import Decision
from unlike.calibration.discoveries import check_fdr, judge_together
from unlike.data.batches import Batch, digest
from unlike.data.input_spec import InputSpec, restore_map
from unlike.errors import none_usable
from unlike.records import Bools, Floats, Pixels, ScoredBatch, Scores, Unreadable, Verdict

# pixels (B, H, W, C) in the spec, and where values are missing (B, H, W) -> maps (B, h, w) and scores (B,)
See = Callable[[Pixels, Bools | None], tuple[Floats, Floats]]
NOTHING: tuple[Floats, Floats] = (np.empty((0, 1, 1), np.float32), np.empty(0))  # maps and scores of no image


class Judging(Protocol):
    """What a verdict takes beside scores and maps."""

    @property
    def spec(self) -> InputSpec: ...  # the form that images were brought to
    @property
    def decision(self) -> Decision: ...  # where normal ends


def score_batches(batches: Iterable[Batch], see: See) -> Iterator[ScoredBatch]:
    """Images as a source streams them, with what is seen in each; those whose score is no number are set aside."""
    for batch in batches:
        maps, scores = see(batch.pixels, batch.missing) if len(batch.samples) else NOTHING
        digests = np.fromiter(map(digest, batch.pixels), np.uint64, len(batch.samples))
        scored = ScoredBatch(batch.samples, scores, maps, batch.shapes, digests, batch.unreadable, batch.clipped)
        yield scored if np.isfinite(scores).all() else _set_aside(scored)


def gather_scores(stream: Iterable[ScoredBatch], *, maps: bool) -> Scores:
    """All of a stream in one; a DataError says that nothing could be scored."""
    batches = list(stream if maps else (replace(batch, maps=NOTHING[0]) for batch in stream))
    unreadable = tuple(item for batch in batches for item in batch.unreadable)
    clipped = tuple(name for batch in batches for name in batch.clipped)
    batches = [batch for batch in batches if len(batch.samples)]
    if not batches:
        raise none_usable("no image", "scored", unreadable)
    ids = tuple(sample.id for batch in batches for sample in batch.samples)
    image = np.concatenate([batch.image for batch in batches])
    return Scores(ids, image, np.concatenate([b.maps for b in batches]) if maps else None, unreadable, clipped)


def judge_batch(judging: Judging, batch: ScoredBatch, *, regions: bool = True) -> list[Verdict]:
    """What is said of each image of a batch."""
    maps = map(restore_map, batch.maps, batch.shapes, repeat(judging.spec)) if regions else None
    ids, categories = ([sample.id for sample in batch.samples], [sample.category for sample in batch.samples])
    return judging.decision.judge(ids, batch.image, categories, maps)


def known_images(digests: npt.NDArray[np.uint64], batch: ScoredBatch) -> list[str]:
    """Of a batch of a stream, the ids of images that a detector was fitted on, by digests (N,) of their content."""
    known = np.isin(batch.digests, digests)
    return [sample.id for sample, seen in zip(batch.samples, known, strict=True) if seen]


def judge_all(
    judging: Judging, stream: Iterable[ScoredBatch], *, regions: bool, fdr: float | None = None
) -> list[Verdict]:
    """What is said of each image of a stream; with `fdr`, of all together. A DataError says that none could be judged."""
    if fdr is not None:
        check_fdr(fdr)
    verdicts: list[Verdict] = []
    unreadable: list[Unreadable] = []
    for batch in stream:
        verdicts += judge_batch(judging, batch, regions=regions)
        unreadable += batch.unreadable
    if not verdicts:
        raise none_usable("no image", "judged", unreadable)
    return verdicts if fdr is None else judge_together(verdicts, fdr)


def _set_aside(batch: ScoredBatch) -> ScoredBatch:
    """The batch without images whose score is no number: their values are beyond what the model can compute with."""
    good = np.flatnonzero(np.isfinite(batch.image)).tolist()
    reason = "its score is not a finite number: its values are far outside what the detector was fitted on"
    lost = tuple(
        Unreadable(sample.id, reason)
        for sample, score in zip(batch.samples, batch.image, strict=True)
        if not np.isfinite(score)
    )
    return ScoredBatch(
        [batch.samples[row] for row in good],
        batch.image[good],
        batch.maps[good],
        [batch.shapes[row] for row in good],
        batch.digests[good],
        batch.unreadable + lost,
        batch.clipped,
    )
