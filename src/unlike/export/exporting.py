"""From a detector to a folder that runs without torch: a graph, what it needs beside it, and the proof that both say the same."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tomli_w

from unlike.artifacts import EXPORT, Content, check_replaceable, output_errors, write_folder
from unlike.calibration.decision import Decision
from unlike.calibration.stored import ARRAYS, decision_arrays, describe_decision, pack_arrays
from unlike.data.source import Images
from unlike.detector.detector import Detector
from unlike.detector.storage import describe_detector
from unlike.errors import ConfigError
from unlike.export.graph import PixelGraph, by_torch
from unlike.export.images import choose_depth, look_at, made_images, named_images
from unlike.export.readme import write_readme
from unlike.export.writers import OPSET, check_installed, write_graph
from unlike.runtime.manifest import DEPTHS, FORMAT, PROOF
from unlike.runtime.proof import (
    BATCHES,
    TOLERANCE,
    Gap,
    Proof,
    check_gap,
    measure_gap,
    processor,
    versions_for,
)
from unlike.runtime.sessions import GRAPHS, open_session

AT_ONCE = 4  # images that a graph is given: more do not fit the processor's caches
Depth = Literal["auto", "uint8", "uint16", "float32"]


@dataclass(frozen=True, slots=True, eq=False)
class Export:
    """What was written, and how it was proven."""

    folder: Path
    to: str  # the runtime
    depth: str  # number type of its pixels
    shape: tuple[int, int, int]  # height, width and channels of its images
    images: int  # of the proof
    gap: Gap
    megabytes: float  # of the graph


def export_detector(
    detector: Detector, folder: Path, to: str = "onnx", *, check: Images | None = None, depth: Depth = "auto"
) -> Export:
    """Write a fitted detector as one graph, from pixels (B, H, W, C) to maps and scores, with all that `unlike.runtime` needs.

    `to` is "onnx" or "openvino". Before anything is written the graph has said of the images to `check` with, or of made and
    normal ones, what the detector says, 1, 2 and 7 at once; an ExportError names the worst image where it has not.
    `depth` is the number type of the graph's pixels; "auto" takes that of the images.
    """
    if to not in GRAPHS:
        raise ConfigError(f"to: expected {' or '.join(GRAPHS)}, came {to!r}")
    check_installed(to)
    check_replaceable(folder, EXPORT)
    fitted, pages = detector.fitted_, detector.pages
    seen = [] if check is None else look_at(check, fitted.spec, pages)
    chosen = check_depth(depth, choose_depth(fitted.spec, seen))
    ids, pixels, missing = named_images(seen, chosen) if seen else made_images(fitted, chosen, pages)
    holes = None if fitted.spec.missing is None else missing
    with by_torch(fitted.pipeline) as pipeline, _workshop(folder) as shop:
        graph = PixelGraph(pipeline, fitted.spec, chosen).eval()
        write_graph(graph, to, shop)
        proof = Proof(ids, pixels, *graph.see(pixels, holes), holes)
        gap = measure_gap(open_session(shop, to), proof, fitted.decision)
        check_gap(gap, f"the graph for {to} is not equal to the detector, so nothing was written")
        files = _files(detector, fitted.decision, to, chosen, proof, gap)
        size = sum((shop / name).stat().st_size for name in GRAPHS[to]) / 1e6
        write_folder(folder, {**files, **{name: partial(shutil.move, shop / name) for name in GRAPHS[to]}}, EXPORT)
    spec = fitted.spec
    return Export(folder, to, chosen, (spec.height, spec.width, spec.channels), len(ids), gap, size)


def check_depth(depth: str, usual: str) -> str:
    """The number type of a graph's pixels, or a ConfigError where that is none for such a detector.

    >>> check_depth("auto", "uint8"), check_depth("uint16", "uint8")
    ('uint8', 'uint16')
    """
    if depth not in ("auto", *DEPTHS):
        raise ConfigError(f"depth: expected auto, {', '.join(DEPTHS[:-1])} or {DEPTHS[-1]}, came {depth!r}")
    if depth == "auto":
        return usual
    if (depth == "float32") != (usual == "float32"):
        kind = "floats" if usual == "float32" else "whole numbers"
        raise ConfigError(f"depth: the detector was fitted on {kind}, so expected {usual}, came {depth}")
    return depth


@contextlib.contextmanager
def _workshop(folder: Path) -> Iterator[Path]:
    """A folder beside the target, so that what is made in it can be moved there; it goes in the end."""
    with output_errors(folder):
        parent = folder.resolve().parent
        parent.mkdir(parents=True, exist_ok=True)
        shop = Path(tempfile.mkdtemp(prefix=f".{folder.name}.making-", dir=parent))
    try:
        yield shop
    finally:
        shutil.rmtree(shop, ignore_errors=True)


def _files(detector: Detector, decision: Decision, to: str, depth: str, proof: Proof, gap: Gap) -> dict[str, Content]:
    """All but the graph, by name."""
    fitted = detector.fitted_
    facts = _facts(detector, decision, to, depth, proof, gap)
    return {
        EXPORT.facts: tomli_w.dumps(facts).encode(errors="surrogateescape"),
        "detector.toml": describe_detector(detector.settings, detector.seed, fitted),
        ARRAYS: pack_arrays(decision_arrays(decision)),
        PROOF: pack_arrays(proof.arrays()),
        "README.md": write_readme(facts).encode(errors="surrogateescape"),
    }


def _facts(detector: Detector, decision: Decision, to: str, depth: str, proof: Proof, gap: Gap) -> dict[str, Any]:
    """What the manifest says."""
    fitted = detector.fitted_
    spec, tiling = fitted.spec, fitted.pipeline.tiling
    graph: dict[str, Any] = {
        "runtime": to,
        "files": list(GRAPHS[to]),
        "opset": OPSET,
        "pixels": depth,
        "shape": ["batch", spec.height, spec.width, spec.channels],
        "maps": ["batch", *map(int, proof.maps.shape[1:])],
        "images_at_once": max(1, AT_ONCE // (1 if tiling is None else len(tiling))),
    }
    if fitted.batch_size is not None:
        graph["stream"] = fitted.batch_size
    return {
        "format": FORMAT,
        "graph": graph,
        "data": {"pages": detector.pages},
        "fitted": {"source": fitted.source, **spec.describe(), **describe_decision(decision)},
        "proof": {
            "images": list(proof.ids),
            "batches": list(BATCHES),
            "tolerance": TOLERANCE,
            **asdict(gap),
            "processor": processor(),
        },
        "versions": versions_for(to),
    }
