"""The proof that a graph says what the detector says: the same images through both, a few at a time and one by one. No torch here."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unlike._version import __version__
from unlike.artifacts import EXPORT, find_folder, misfits_refused, printable, read_folder
from unlike.calibration.decision import Decision, is_anomalous
from unlike.calibration.stored import unpack_arrays
from unlike.errors import ExportError
from unlike.records import Bools, Floats, Pixels, Rows
from unlike.runtime.manifest import PROOF, read_manifest
from unlike.runtime.sessions import PACKAGES, SINGLE_PRECISION, Session, open_session

BATCHES = (1, 2, 7)  # images at once
TOLERANCE = 1e-4  # how far scores and maps may be from the detector's, as a share of them
TOLERANCE_INT8 = 0.02  # the same in integers, where another processor rounds some values the other way
TINY = 1e-30
LEAST = 0.1  # of the threshold: what is smaller is held against this; the score of an image that was fitted on is all rounding


@dataclass(frozen=True, slots=True, eq=False)
class Proof:
    """Images, with what the detector's own pipeline says of each alone."""

    ids: tuple[str, ...]  # N
    pixels: Pixels  # (N, H, W, C) as a graph takes them
    maps: Floats  # (N, h, w)
    scores: Floats  # (N,)
    missing: Bools | None = None  # (N, H, W)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What is kept on disk."""
        kept: dict[str, npt.NDArray[Any]] = {"ids": np.array(self.ids, np.str_), "pixels": self.pixels}
        kept |= {"maps": self.maps.astype(np.float32), "scores": self.scores.astype(np.float64)}
        return kept if self.missing is None else {**kept, "missing": self.missing}

    @classmethod
    def restore(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Proof:
        """From what `arrays` gave."""
        ids = tuple(arrays["ids"].tolist())
        return cls(ids, arrays["pixels"], arrays["maps"], arrays["scores"], arrays.get("missing"))


@dataclass(frozen=True, slots=True)
class Gap:
    """How far a graph is from the detector at worst, as a share of what the detector says, and for which image."""

    score: float = 0.0
    map: float = 0.0
    verdicts: int = 0  # that differ, of images that are not within the tolerance of their threshold
    worst: str = ""  # the id of the image that is farthest off
    batch: int = 1  # how many images were seen at once

    @property
    def size(self) -> float:
        return float("inf") if self.verdicts else max(self.score, self.map)


def measure_gap(session: Session, proof: Proof, decision: Decision, tolerance: float = TOLERANCE) -> Gap:
    """How far a graph is at worst from what is known of the images of a proof, for every number of images at once.

    >>> maps, scores = np.ones((2, 3, 3), np.float32), np.array([1.0, 2.0])
    >>> proof = Proof(("a", "b"), np.zeros((2, 6, 6, 1), np.uint8), maps, scores)
    >>> from unlike.calibration.decision import Threshold
    >>> from unlike.calibration.thresholds import Promise
    >>> decision = Decision(scores, scores, np.full(2, ""), {"": Threshold(1.5, 1.5, Promise(None, ""))})
    >>> gap = measure_gap(lambda pixels, missing: (np.ones((len(pixels), 3, 3)), np.full(len(pixels), 1.1)), proof, decision)
    >>> gap.worst, round(gap.score, 2), gap.map, gap.verdicts
    ('b', 0.45, 0.0, 1)
    """
    least = [max(LEAST * number, TINY) for number in (decision.threshold, decision.region_threshold)]
    score = map_ = 0.0
    differ: set[int] = set()
    worst, place = -1.0, (0, 1)
    for rows in _batches(len(proof.ids)):
        maps, scores = session(proof.pixels[rows], None if proof.missing is None else proof.missing[rows])
        _check_shape(maps, scores, proof, rows)
        known, heights = proof.scores[rows], np.asarray(proof.maps[rows].max(axis=(1, 2)))
        off = _no_number_is_far(np.abs(scores - known) / np.maximum(np.abs(known), least[0]))
        spread = np.abs(maps - proof.maps[rows]).max(axis=(1, 2))
        off_maps = _no_number_is_far(spread / np.maximum(heights, least[1]))
        other = is_anomalous(scores, decision.threshold) != is_anomalous(known, decision.threshold)
        close = np.abs(known - decision.threshold) <= tolerance * abs(decision.threshold)
        differ |= set(rows[other & ~close].tolist())
        both = np.maximum(off, off_maps) + (other & ~close)
        score, map_ = max(score, float(off.max())), max(map_, float(off_maps.max()))
        if both.max() > worst:
            worst, place = float(both.max()), (int(rows[both.argmax()]), len(rows))
    return Gap(score, map_, len(differ), proof.ids[place[0]], place[1])


def check_gap(gap: Gap, what: str, tolerance: float = TOLERANCE) -> None:
    """Raise ExportError where a graph is too far off; `what` says whose graph it is, and what follows."""
    if not gap.size <= tolerance:
        verdicts = f", and {gap.verdicts} verdicts differ" if gap.verdicts else ""
        raise ExportError(
            f"{what}: expected the detector's scores and maps within {tolerance:g}, came {gap.score:.2g} for scores and {gap.map:.2g} for "
            f"maps{verdicts}; the worst image is {printable(gap.worst)}, {gap.batch} at once"
        )


def verify_export(folder: Path, *, threads: int | None = None, precision: str = SINGLE_PRECISION) -> Gap:
    """Repeat the proof of an export on this machine, from the images and results that lie in its folder.

    An ExportError says that it does not hold here, an ArtifactError what is wrong with the folder.
    """
    manifest = read_manifest(folder)
    content = read_folder(folder, (PROOF,), EXPORT)[PROOF]
    with misfits_refused(folder, EXPORT):
        proof = Proof.restore(unpack_arrays(content))
    session = open_session(find_folder(folder, EXPORT), manifest.to, threads, precision)
    tolerance = float(manifest.proof["tolerance"])
    gap = measure_gap(session, proof, manifest.decision, tolerance)
    what = f"{folder}: is not equal to its detector on this machine ({describe_machine(manifest.to)})"
    check_gap(gap, what, tolerance)
    return gap


def describe_machine(to: str) -> str:
    """What ran a graph: release of the runtime, and processor."""
    return f"{PACKAGES[to]} {versions_for(to)[PACKAGES[to]]}, {processor()}"


def versions_for(to: str) -> dict[str, str]:
    """The releases of what an export depends on, as far as they are installed."""
    found = {"unlike": __version__, "python": platform.python_version(), "numpy": np.__version__}
    for name in (PACKAGES[to], "onnx", "onnxscript", "torch", "nncf"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """What the processor is called."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:  # no Linux
        pass
    return platform.processor() or platform.machine() or os.name


def _batches(count: int) -> Iterator[Rows]:
    """All images, so many at once, from the first again where there are too few."""
    for size in BATCHES:
        for start in range(0, count, size):
            yield (start + np.arange(size)) % count


def _check_shape(maps: Floats, scores: Floats, proof: Proof, rows: Rows) -> None:
    expected = (len(rows), *proof.maps.shape[1:])
    if maps.shape != expected or scores.shape != (len(rows),):
        raise ExportError(
            f"a graph gave maps of {maps.shape} and scores of {scores.shape} for {len(rows)} images; expected {expected} and {(len(rows),)}"
        )


def _no_number_is_far(gaps: Floats) -> Floats:
    return np.where(np.isfinite(gaps), gaps, np.inf)
