"""From a detector to a folder that runs without torch: a graph, what it needs beside it, and the proof that both say the same."""

from __future__ import annotations

import contextlib
import glob
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tomli_w

from unlike.artifacts import EXPORT, Content, check_replaceable, output_errors, write_folder
from unlike.calibration.decision import Decision
from unlike.calibration.stored import ARRAYS, decision_arrays, describe_decision, pack_arrays
from unlike.data.source import Images, Source
from unlike.detector.detector import Detector
from unlike.detector.storage import describe_detector
from unlike.errors import ConfigError
from unlike.export.graph import PixelGraph, by_torch
from unlike.export.images import choose_depth, look_at, made_images, named_images
from unlike.export.quantise import (
    Quantised,
    check_quantisable,
    compare_quality,
    normal_source,
    recalibrate_quantised,
    write_quantised,
)
from unlike.export.readme import write_readme
from unlike.export.writers import OPSET, check_installed, convert_to_openvino, write_onnx
from unlike.runtime.exported import run_in_blocks
from unlike.runtime.manifest import DEPTHS, FORMAT, PROOF
from unlike.runtime.proof import (
    BATCHES,
    TOLERANCE,
    TOLERANCE_INT8,
    Gap,
    Proof,
    check_gap,
    measure_gap,
    processor,
    versions_for,
)
from unlike.runtime.sessions import GRAPHS, open_session

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "lock"  # held by the process that works in a folder
AT_ONCE = 1  # images that a graph is given: 2 of 256 x 256 take as long each, and 28 MB more
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
    quantised: Quantised | None = None  # how good it is in integers, where that was asked for


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A graph that was made and proven, with the decision by its scores."""

    folder: Path
    decision: Decision
    proof: Proof
    gap: Gap
    tolerance: float


def export_detector(
    detector: Detector,
    folder: Path,
    to: str = "onnx",
    *,
    check: Images | None = None,
    depth: Depth = "auto",
    int8: bool = False,
    normals: Images | None = None,
) -> Export:
    """Write a fitted detector as one graph, from pixels (B, H, W, C) to maps and scores, with all that `unlike.runtime` needs.

    `to` is "onnx" or "openvino". Before anything is written the graph has said of the images to `check` with, or of made and
    normal ones, what the detector says, 1, 2 and 7 at once; an ExportError names the worst image where it has not.
    `depth` is the number type of the graph's pixels; "auto" takes that of the images.

    With `int8` convolutions are in integers, if AUROC falls by less than .005: of the images to `check` with, where those are
    labelled, or else of made defects. The threshold is calibrated anew. That takes the `normals` that it was fitted on.
    """
    if to not in GRAPHS:
        raise ConfigError(f"to: expected {' or '.join(GRAPHS)}, came {to!r}")
    check_installed(to)
    check_replaceable(folder, EXPORT)
    fitted, pages = detector.fitted_, detector.pages
    if int8:
        check_quantisable(detector)
    normal = normal_source(detector, normals) if int8 else None
    seen = [] if check is None else look_at(check, fitted.spec, pages)
    chosen = check_depth(depth, choose_depth(fitted.spec, seen))
    ids, pixels, missing = named_images(seen, chosen) if seen else made_images(fitted, chosen, pages)
    holes = None if fitted.spec.missing is None else missing
    with by_torch(fitted.pipeline) as pipeline, _workshop(folder) as shop:
        graph = PixelGraph(pipeline, fitted.spec, chosen).eval()
        source = write_onnx(graph, shop / "graph")
        proof = Proof(ids, pixels, *graph.see(pixels, holes), holes)
        made = _prove(_for_runtime(source, to), to, proof, fitted.decision, TOLERANCE)
        quantised = None
        if normal is not None:
            made, quantised = _in_integers(detector, normal, check, chosen, to, source, made)
        files: dict[str, Content] = _files(detector, made, to, chosen)
        size = sum((made.folder / name).stat().st_size for name in GRAPHS[to]) / 1e6
        graphs = {name: partial(shutil.move, made.folder / name) for name in GRAPHS[to]}
        write_folder(folder, {**files, **graphs}, EXPORT)
    shape = (*fitted.spec.size, fitted.spec.channels)
    return Export(folder, to, chosen, shape, len(ids), made.gap, size, quantised)


def _for_runtime(source: Path, to: str) -> Path:
    """The folder of an ONNX graph as a runtime takes it."""
    return source if to == "onnx" else convert_to_openvino(source, source.with_name(f"{source.name}-{to}"))


def _prove(folder: Path, to: str, proof: Proof, decision: Decision, tolerance: float) -> Made:
    gap = measure_gap(open_session(folder, to), proof, decision, tolerance)
    check_gap(gap, f"the graph for {to} is not equal to the detector, so nothing was written", tolerance)
    return Made(folder, decision, proof, gap, tolerance)


def _in_integers(
    detector: Detector, normal: Source, check: Images | None, depth: str, to: str, source: Path, whole: Made
) -> tuple[Made, Quantised]:
    """The graph in integers where that costs next to nothing, or else the one there is; and what it would have cost."""
    folder = _for_runtime(write_quantised(source, source.with_name("int8"), normal, detector, depth), to)
    before, integers = open_session(whole.folder, to), open_session(folder, to)
    found = compare_quality(detector, normal, check, depth, before, integers)
    if not found.kept:
        return whole, found
    decision = recalibrate_quantised(detector, normal, depth, before, integers)
    known = whole.proof  # what this graph says of each image alone is what it is to say anywhere
    maps, scores = run_in_blocks(integers, known.pixels, known.missing, 1)
    proof = replace(known, maps=maps, scores=scores)
    return _prove(folder, to, proof, decision, TOLERANCE_INT8), found


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
        parent, name = folder.resolve().parent, folder.resolve().name
        parent.mkdir(parents=True, exist_ok=True)
        _clear_killed(parent, name)
        shop = Path(tempfile.mkdtemp(prefix=f".{name}.making-", dir=parent))
        lock = (shop / LOCK).open("w")
    try:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield shop
    finally:
        lock.close()
        shutil.rmtree(shop, ignore_errors=True)


def _clear_killed(parent: Path, name: str) -> None:
    """Remove what exports to this name left beside it when they were killed; what one still works in is let be."""
    beside = glob.escape(f".{name}.")
    shops = list(parent.glob(f"{beside}making-*"))
    killed = [shop for shop in shops if _is_free(shop / LOCK)]
    if killed == shops:  # of what is being written now there is no lock, but of where it is made
        killed += parent.glob(f"{beside}new-*")
    for left in killed:
        shutil.rmtree(left, ignore_errors=True)


def _is_free(path: Path) -> bool:
    """Whether no process has the lock any more: the system frees it whatever ended that."""
    if fcntl is not None:  # elsewhere it cannot be told, and all is let be
        with contextlib.suppress(OSError), path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False


def _files(detector: Detector, made: Made, to: str, depth: str) -> dict[str, Content]:
    """All but the graph, by name."""
    facts = _facts(detector, made, to, depth)
    return {
        EXPORT.facts: tomli_w.dumps(facts).encode(errors="surrogateescape"),
        "detector.toml": describe_detector(detector.settings, detector.seed, detector.fitted_),
        ARRAYS: pack_arrays({"digests": detector.fitted_.digests, **decision_arrays(made.decision)}),
        PROOF: pack_arrays(made.proof.arrays()),
        "README.md": write_readme(facts).encode(errors="surrogateescape"),
    }


def _facts(detector: Detector, made: Made, to: str, depth: str) -> dict[str, Any]:
    """What the manifest says."""
    fitted = detector.fitted_
    spec, tiling = fitted.spec, fitted.pipeline.tiling
    graph: dict[str, Any] = {
        "runtime": to,
        "files": list(GRAPHS[to]),
        "opset": OPSET,
        "integers": made.tolerance != TOLERANCE,
        "pixels": depth,
        "shape": ["batch", spec.height, spec.width, spec.channels],
        "maps": ["batch", *map(int, made.proof.maps.shape[1:])],
        "images_at_once": max(1, AT_ONCE // (1 if tiling is None else len(tiling))),
    }
    if fitted.batch_size is not None:
        graph["stream"] = fitted.batch_size
    return {
        "format": FORMAT,
        "graph": graph,
        "data": {"pages": detector.pages},
        "fitted": {"source": fitted.source, **spec.describe(), **describe_decision(made.decision)},
        "proof": {
            "images": list(made.proof.ids),
            "batches": list(BATCHES),
            "tolerance": made.tolerance,
            **asdict(made.gap),
            "processor": processor(),
        },
        "versions": versions_for(to),
    }
